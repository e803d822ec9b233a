//! The list keeps its own rules, and the scrape shows all of it.

use std::collections::BTreeSet;

use super::*;

/// The lines of a scrape that are samples of `family`.
fn samples<'a>(scrape: &'a str, family: &Family) -> Vec<&'a str> {
    let suffixes: &[&str] = match family.kind {
        Histogram(_) => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    scrape
        .lines()
        .filter(|line| {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(family.name))
        })
        .collect()
}

/// `miroir_<words>`, lower-case words and digits joined by single underscores.
fn is_name(name: &str) -> bool {
    name.strip_prefix("miroir_").is_some_and(|rest| {
        rest.split('_').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
    })
}

#[test]
fn names_are_unique_and_follow_the_convention() {
    let mut seen = BTreeSet::new();
    for family in FAMILIES {
        let name = family.name;
        assert!(seen.insert(name), "{name} is listed twice");
        assert!(is_name(name), "{name}");
        assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{name}");
        // The contract's name for a gauge; alerts compare it with 0.
        let total = name.ends_with("_total") && name != "miroir_degraded_shards_total";
        assert_eq!(total, family.kind == Counter, "{name}: counters, and they only, end in _total");
        let seconds = name.trim_end_matches("_total").ends_with("_seconds");
        assert_eq!(seconds, family.unit == Seconds, "{name}: the unit is in the name");
        if name.ends_with("_ratio") {
            assert_eq!(family.unit, Percent, "{name}");
        }
        let labels: BTreeSet<_> = family.labels.iter().map(|(label, _)| label).collect();
        assert_eq!(labels.len(), family.labels.len(), "{name}: labels are unique");
        for (label, values) in family.labels {
            assert_eq!(values.is_empty(), NAMED.contains(label), "{name}{{{label}}}");
        }
        if let Histogram(buckets) = family.kind {
            let signed = buckets == TAU || buckets == DELTA_SECONDS;
            assert!(buckets.is_sorted_by(|a, b| a < b), "{name}");
            assert!(buckets[0] > 0.0 || signed, "{name}");
        }
    }
    assert!(!is_name("miroir_") && !is_name("miroir__a") && !is_name("other_a"));
}

#[test]
fn contract_families_are_there() {
    let labels = |name: &str| {
        let family = FAMILIES.iter().find(|family| family.name == name);
        let family = family.unwrap_or_else(|| panic!("{name} is missing"));
        family.labels.iter().map(|(label, _)| *label).collect::<Vec<_>>().join(",")
    };
    for (name, expected) in [
        ("miroir_request_duration_seconds", "method,path_template,status"),
        ("miroir_requests_total", "method,path_template,status"),
        ("miroir_requests_in_flight", ""),
        ("miroir_node_healthy", "node_id"),
        ("miroir_node_request_duration_seconds", "node_id,operation"),
        ("miroir_node_errors_total", "node_id,error_type"),
        ("miroir_shard_coverage", ""),
        ("miroir_degraded_shards_total", ""),
        ("miroir_shard_distribution", "node_id"),
        ("miroir_task_processing_age_seconds", ""),
        ("miroir_tasks_total", "status"),
        ("miroir_task_registry_size", ""),
        ("miroir_scatter_fan_out_size", ""),
        ("miroir_scatter_partial_responses_total", ""),
        ("miroir_scatter_retries_total", ""),
        ("miroir_shadow_diff_total", "kind"),
        ("miroir_shadow_kendall_tau", ""),
        ("miroir_shadow_latency_delta_seconds", ""),
        ("miroir_shadow_errors_total", "target,side"),
        ("miroir_rebalance_in_progress", ""),
        ("miroir_rebalance_documents_migrated_total", ""),
        ("miroir_rebalance_duration_seconds", ""),
    ] {
        assert_eq!(labels(name), expected, "{name}");
    }
}

#[test]
fn every_family_shows_help_type_and_samples_at_zero_from_the_start() {
    let recorder = recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        touch_nodes(["meili-0", "meili-1"]);
        touch_targets(["staging"]);
    });
    let scrape = handle.render();
    for family in FAMILIES {
        let name = family.name;
        let kind = match family.kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram(_) => "histogram",
        };
        assert!(scrape.contains(&format!("# TYPE {name} {kind}\n")), "{name}:\n{scrape}");
        assert!(scrape.contains(&format!("# HELP {name} {}\n", family.help)), "{name}:\n{scrape}");
        let samples = samples(&scrape, family);
        assert!(!samples.is_empty(), "{name}:\n{scrape}");
        let value = if name == "miroir_build_info" { " 1" } else { " 0" };
        for sample in samples {
            assert!(sample.ends_with(value), "{sample}");
            for (label, _) in family.labels {
                assert!(sample.contains(&format!("{label}=\"")), "{sample}");
            }
        }
    }
    for line in scrape.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        assert!(
            FAMILIES.iter().any(|family| samples(line, family).len() == 1),
            "{line} belongs to no family",
        );
    }
}

#[test]
fn nodes_and_fixed_labels_make_one_series_each() {
    let recorder = recorder();
    let handle = recorder.handle();
    let before = handle.render();
    assert!(!before.contains("node_id"), "{before}");
    metrics::with_local_recorder(&recorder, || touch_nodes(["a", "b"]));
    let scrape = handle.render();
    let count = |name: &str| {
        let family = FAMILIES.iter().find(|family| family.name == name).unwrap();
        samples(&scrape, family).len()
    };
    assert_eq!(count("miroir_node_healthy"), 2);
    assert_eq!(count("miroir_node_errors_total"), 2 * NODE_ERRORS.1.len());
    assert_eq!(count("miroir_tasks_total"), 5);
}

#[test]
fn errors_of_nodes_are_shown_under_names_that_failures_have() {
    let labels = miroir::NodeFailure::ALL.map(miroir::NodeFailure::label);
    assert!(NODE_ERRORS.1.iter().all(|shown| labels.contains(shown)), "{labels:?}");
}

#[test]
fn touching_again_keeps_values() {
    let recorder = recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        touch_nodes(["a"]);
        metrics::gauge!("miroir_node_healthy", "node_id" => "a").set(1.0);
        metrics::counter!("miroir_node_connections_opened_total", "node_id" => "a").increment(3);
        touch_nodes(["a"]);
    });
    let scrape = handle.render();
    assert!(scrape.contains("miroir_node_healthy{node_id=\"a\"} 1\n"), "{scrape}");
    assert!(scrape.contains("miroir_node_connections_opened_total{node_id=\"a\"} 3\n"), "{scrape}");
}

#[test]
fn the_facade_reaches_touched_series() {
    let recorder = recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        metrics::histogram!("miroir_scatter_fan_out_size").record(3.0);
        metrics::counter!(
            "miroir_requests_total",
            "method" => "GET", "path_template" => "/health", "status" => "200",
        )
        .increment(2);
    });
    let scrape = handle.render();
    for line in [
        "miroir_scatter_fan_out_size_bucket{le=\"2\"} 0",
        "miroir_scatter_fan_out_size_bucket{le=\"3\"} 1",
        "miroir_scatter_fan_out_size_bucket{le=\"64\"} 1",
        "miroir_scatter_fan_out_size_count 1",
        "miroir_requests_total{method=\"GET\",path_template=\"/health\",status=\"200\"} 2",
    ] {
        assert!(scrape.lines().any(|other| other == line), "{line}\n{scrape}");
    }
}

#[tokio::test(start_paused = true)]
async fn upkeep_keeps_samples() {
    let recorder = recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        metrics::histogram!("miroir_scatter_fan_out_size").record(1.0);
    });
    let task = tokio::spawn(upkeep(handle.clone()));
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(!task.is_finished());
    task.abort();
    assert!(handle.render().contains("miroir_scatter_fan_out_size_count 1\n"));
}

#[test]
fn installing_twice_gives_one_recorder() {
    let first = install();
    let second = install();
    metrics::counter!("miroir_writes_degraded_total").increment(7);
    assert!(first.render().contains("miroir_writes_degraded_total 7\n"));
    assert!(second.render().contains("miroir_writes_degraded_total 7\n"));
}
