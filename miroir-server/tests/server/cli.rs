//! The program as operators start it: refusals, printed answers, log lines, signals.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::{ADMIN, FakeNode, MASTER, NODE};

const PATIENCE: Duration = Duration::from_secs(20);

/// The program with a clean environment and this configuration.
fn program(directory: &std::path::Path, yaml: &str) -> Command {
    let file = directory.join("miroir.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_miroir-server"));
    command.env_clear().current_dir(directory).arg("--config").arg(file).kill_on_drop(true);
    command
}

fn with_keys(command: &mut Command) -> &mut Command {
    command
        .env("MIROIR_MASTER_KEY", MASTER)
        .env("MIROIR_NODE_MASTER_KEY", NODE)
        .env("MIROIR_ADMIN_API_KEY", ADMIN)
}

fn one_node(address: &str) -> String {
    format!(
        "miroir: {{nodes: [{{id: a, address: \"http://{address}\"}}], \
         server: {{bind: 127.0.0.1, port: 0, metrics_port: 0}}}}"
    )
}

#[tokio::test]
async fn a_bad_configuration_is_refused_with_all_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = "miroir: {shards: 0, replication_factor: 3, nodes: [{id: a, address: 'ftp://x'}]}";
    let output = program(directory.path(), yaml).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    for key in [
        "`shards`",
        "`replication_factor`",
        "`master_key`",
        "`admin.api_key`",
        "`nodes[0].address`",
    ] {
        assert!(text.contains(key), "{key} is missing in:\n{text}");
    }

    let unknown = program(directory.path(), "miroir: {sahrds: 4}").output().await.unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("did you mean `shards`?"));
}

#[tokio::test]
async fn a_good_configuration_is_printed_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program(directory.path(), &one_node("127.0.0.1:1"));
    let output = with_keys(&mut command).arg("--check-config").output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("miroir:\n") && text.contains("[redacted]"), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("# ") && last.contains("not in effect"), "{last}");
    for key in ["rebalancer", "resharding", "task_registry.redis_pool_max"] {
        assert!(last.contains(key), "{key}: {last}");
    }
    for secret in [MASTER, NODE, ADMIN] {
        assert!(!text.contains(secret));
    }
}

#[tokio::test]
async fn the_stack_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program(directory.path(), &one_node("127.0.0.1:1"));
    let output = with_keys(&mut command).arg("--describe-stack").output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let stages: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(stages, ["edge", "operation", "index", "leaf", "node"]);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = program(directory.path(), &one_node("127.0.0.1:1"));
    let output = with_keys(&mut command).args(["--port", &port]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("server.port") && text.contains(&port), "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn every_log_line_is_json_without_secrets_and_sigterm_ends_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let node = FakeNode::start().await;
    let mut command = program(directory.path(), &one_node(&node.address.to_string()));
    with_keys(&mut command).env("MIROIR_LOG", "info,miroir=trace,miroir_server=trace");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();

    let mut log: Vec<serde_json::Value> = Vec::new();
    let mut raw = String::new();
    let address = loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("the server tells where it serves");
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
        raw.push_str(&line);
        log.push(entry.clone());
        if entry["message"] == "serving" {
            break entry["client"].as_str().unwrap().to_owned();
        }
    };

    let secret_query = "what-somebody-looks-for";
    let script = format!(
        "curl -s -o /dev/null -H 'Authorization: Bearer {MASTER}' -H 'X-Request-Id: my-own-id' \
         -H 'Content-Type: application/json' -d '{{\"q\":\"{secret_query}\"}}' \
         http://{address}/indexes/movies/search"
    );
    let status = Command::new("sh").arg("-c").arg(script).status().await.unwrap();
    assert!(status.success(), "curl is needed");
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());

    while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap()
    {
        let entry: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        raw.push_str(&line);
        log.push(entry);
    }
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.last().unwrap()["message"], "stopped");

    for secret in [MASTER, NODE, ADMIN, secret_query] {
        assert!(!raw.contains(secret), "{secret} is in the log");
    }
    for entry in &log {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(entry[key].is_string(), "{key}: {entry}");
        }
    }
    let mine: Vec<_> =
        log.iter().filter(|entry| entry["path_template"] == "/indexes/{uid}/search").collect();
    assert_eq!(mine.len(), 1, "one line per request: {mine:?}");
    let mine = mine[0];
    assert_eq!(mine["request_id"], "my-own-id");
    assert_eq!(mine["index"], "movies");
    assert_eq!(mine["method"], "POST");
    assert!(mine["duration_ms"].is_number() && mine["node_count"].is_number());
    assert_eq!(mine["degraded"], false);
}
