//! Search over real documents: one node with all of them, Miroir over several, and, with real nodes,
//! Meilisearch's own remote federated search over the nodes that Miroir uses.

use std::path::Path;

use serde_json::{Value, json};

use super::load::{Sample, Target, compare};
use super::options::BenchOptions;
use super::table::Row;
use super::{millis, ratio, row, time};
use crate::cluster::{Cluster, MASTER_KEY, NODE_KEY, Node, NodeProgram};
use crate::demo::{self, Corpus, INDEX};
use crate::guard::{self, Scratch};
use crate::http::{Client, render};
use crate::options::Shape;
use crate::{Failure, Outcome};

pub(super) fn run(
    options: &BenchOptions,
    program: &NodeProgram,
    server: &Path,
) -> Outcome<Vec<Row>> {
    eprintln!("search over {} documents", options.documents);
    let shape = Shape { shards: options.shards, groups: 1, factor: 1, nodes: Some(options.nodes) };
    let corpus = Corpus::catalogue(options.documents);
    let scratch = Scratch::new("bench", false)?;
    let cluster = Cluster::start(program, server, shape, None, scratch)?;
    demo::load(&mut cluster.server.client(), &corpus, "loading the cluster")?;
    let single = Node::start(program, "single", cluster.scratch.path())?;
    demo::load(&mut single.client(), &corpus, "loading one plain node")?;

    let bodies = queries();
    let path = format!("/indexes/{INDEX}/search");
    let plain = |name: &str, url: &str, key: &str, processes: Vec<u32>| Target {
        name: name.to_owned(),
        urls: vec![url.to_owned()],
        processes,
        requests: bodies.iter().map(|body| render(url, key, "POST", &path, Some(body))).collect(),
    };
    let nodes: Vec<u32> = cluster.nodes.iter().map(Node::id).collect();
    let all = nodes.iter().copied().chain([cluster.server.id()]).collect();
    let mut targets = vec![
        plain("Miroir", &cluster.server.url, MASTER_KEY, all),
        plain("one node with everything", &single.url, NODE_KEY, vec![single.id()]),
    ];
    if matches!(program, NodeProgram::Meilisearch(_)) {
        targets.push(federated(&cluster, &bodies)?);
    }
    same_answers(&targets)?;
    let mut rows = Vec::new();
    let alone = compare(&targets, 1, time(options))?;
    let busy = compare(&targets, options.connections, time(options))?;
    for other in 1..targets.len() {
        let federated = other == 2;
        let nodes = if federated {
            format!("remote federated search over the same {} nodes", options.nodes)
        } else {
            targets[other].name.clone()
        };
        let p50 = if federated { "≤ 0.7×" } else { "" };
        let rate = if federated { "≥ 1.25×" } else { "" };
        let mut quantile = |name: &str, connections: usize, samples: &[Sample], share, target| {
            let (own, their) = (samples[0].quantile(share), samples[other].quantile(share));
            rows.push(row(
                format!("search {name}, {connections} connection(s)"),
                millis(own),
                format!("{nodes} {}", millis(their)),
                ratio(own.as_secs_f64(), their.as_secs_f64()),
                target,
            ));
        };
        quantile("p50", 1, &alone, 0.5, p50);
        quantile("p99", 1, &alone, 0.99, "");
        quantile("p50", options.connections, &busy, 0.5, "");
        quantile("p99", options.connections, &busy, 0.99, "");
        let (own, their) = (busy[0].throughput(), busy[other].throughput());
        rows.push(row(
            format!("searches/s, {} connections", options.connections),
            format!("{own:.0}"),
            format!("{nodes} {their:.0}"),
            ratio(own, their),
            rate,
        ));
        let (own, their) = (busy[0].processor(), busy[other].processor());
        rows.push(row(
            "processor time of a search, all processes",
            millis(own),
            format!("{nodes} {}", millis(their)),
            ratio(own.as_secs_f64(), their.as_secs_f64()),
            "",
        ));
    }
    rows.extend(together(options, &targets[..2], &bodies)?);
    Ok(rows)
}

/// How many searches one multi-search holds.
const TOGETHER: usize = 5;

/// Several searches in one request, against as many requests to Miroir, and against one node.
fn together(options: &BenchOptions, targets: &[Target], bodies: &[Value]) -> Outcome<Vec<Row>> {
    let requests = |url: &str, key: &str| -> Vec<Vec<u8>> {
        let groups = bodies.chunks_exact(TOGETHER);
        groups
            .map(|group| {
                let queries: Vec<Value> = group
                    .iter()
                    .map(|body| {
                        let mut query = body.clone();
                        query["indexUid"] = json!(INDEX);
                        query
                    })
                    .collect();
                render(url, key, "POST", "/multi-search", Some(&json!({ "queries": queries })))
            })
            .collect()
    };
    let all = [
        Target { requests: requests(&targets[0].urls[0], MASTER_KEY), ..targets[0].clone() },
        Target { requests: requests(&targets[1].urls[0], NODE_KEY), ..targets[1].clone() },
        targets[0].clone(),
    ];
    let samples = compare(&all, 1, time(options))?;
    let [own, node, alone] = [0, 1, 2].map(|at: usize| samples[at].p50());
    let alone = alone * TOGETHER as u32;
    Ok(vec![
        row(
            format!("multi-search of {TOGETHER}, p50, 1 connection"),
            millis(own),
            format!("{} {}", all[1].name, millis(node)),
            ratio(own.as_secs_f64(), node.as_secs_f64()),
            "",
        ),
        row(
            format!("multi-search of {TOGETHER}, p50, 1 connection"),
            millis(own),
            format!("{TOGETHER} searches one after the other {}", millis(alone)),
            ratio(own.as_secs_f64(), alone.as_secs_f64()),
            "",
        ),
    ])
}

/// A contender that leaves something out is fast for the wrong reason: every query has to find as
/// many documents everywhere, and show as many.
fn same_answers(targets: &[Target]) -> Outcome<()> {
    let mut clients: Vec<Client> =
        targets.iter().map(|target| Client::new(&target.urls[0], "")).collect();
    for number in 0..targets[0].requests.len() {
        guard::check_stop()?;
        let mut expected = None;
        for (target, client) in targets.iter().zip(&mut clients) {
            let answer = client.exchange(&target.requests[number])?.json();
            let shown = answer["hits"].as_array().map(Vec::len);
            let found = (shown, answer["estimatedTotalHits"].as_u64());
            let failed = answer.get("remoteErrors").is_some_and(|errors| errors != &json!({}));
            if shown.is_none() || failed || *expected.get_or_insert(found) != found {
                let request = String::from_utf8_lossy(&target.requests[number]).into_owned();
                let body = request.split("\r\n\r\n").nth(1).unwrap_or_default();
                return Err(Failure::Message(format!(
                    "{} answers {body} with {found:?} (hits shown, hits found) instead of \
                     {expected:?}: {}",
                    target.name,
                    answer.get("remoteErrors").unwrap_or(&answer["message"]),
                )));
            }
        }
    }
    Ok(())
}

/// Queries that all contenders can be asked: the demo's, without facets, pages and filters that a
/// federated search has no words for.
fn queries() -> Vec<Value> {
    let areas = ["text", "typos", "prefix", "filters", "sort", "geo"];
    demo::search_bodies(&areas)
        .into_iter()
        .filter(|body| body.get("facets").is_none())
        .map(|mut body| {
            body["limit"] = json!(20);
            body
        })
        .collect()
}

/// One query of the federated form per node, over the indexes Miroir filled.
fn federated(cluster: &Cluster, bodies: &[Value]) -> Outcome<Target> {
    let mut remotes = serde_json::Map::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        let remote = json!({ "url": node.url, "searchApiKey": NODE_KEY });
        remotes.insert(format!("node-{number}"), remote);
    }
    for (number, node) in cluster.nodes.iter().enumerate() {
        let mut client = node.client();
        let network = json!({ "self": format!("node-{number}"), "remotes": remotes });
        for (path, body) in
            [("/experimental-features", &json!({ "network": true })), ("/network", &network)]
        {
            let reply = client.json("PATCH", path, body)?;
            if reply.status != 200 {
                let text = format!("PATCH {path} answered {}: {}", reply.status, reply.text());
                return Err(Failure::Message(text));
            }
        }
    }
    let url = cluster.nodes[0].url.clone();
    let requests = bodies
        .iter()
        .map(|body| {
            let mut query = body.clone();
            if let Some(fields) = query.as_object_mut() {
                fields.remove("limit");
            }
            query["indexUid"] = json!(INDEX);
            let queries: Vec<Value> = (0..cluster.nodes.len())
                .map(|number| {
                    let mut query = query.clone();
                    query["federationOptions"] = json!({ "remote": format!("node-{number}") });
                    query
                })
                .collect();
            let body = json!({ "federation": { "limit": 20 }, "queries": queries });
            render(&url, NODE_KEY, "POST", "/multi-search", Some(&body))
        })
        .collect();
    let processes = cluster.nodes.iter().map(Node::id).collect();
    Ok(Target { name: "federated".to_owned(), urls: vec![url], requests, processes })
}

#[cfg(test)]
mod tests {
    use super::queries;

    #[test]
    fn there_are_queries_of_every_kind() {
        let all = queries();
        assert!(all.len() >= 40, "{}", all.len());
        assert!(all.iter().any(|body| body.get("sort").is_some()));
        assert!(all.iter().all(|body| body["limit"] == 20));
    }
}
