//! `check`: what is wrong, and what to do about it.

use miroir_api::admin::{PodsView, ReplicasView, TopologyView};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use super::scrape::{Scrape, quoted};
use super::{count, pods, replicas, status, topology};
use crate::client::{Answer, Client};
use crate::error::{Code, CtlError};
use crate::output::{Output, Tone};

/// The Meilisearch that Miroir is compared with.
const ENGINE: &str = "1.50.";
/// How far two clocks may be apart.
const SKEW_SECONDS: i64 = 5;
/// How old a task may be before somebody should look, in seconds.
const OLD_TASK: f64 = 600.0;

/// Something that is wrong.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    problem: String,
    remedy: String,
}

#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
    passed: Vec<(&'static str, String)>,
    /// What could not be looked at.
    skipped: Vec<(&'static str, &'static str)>,
}

impl Report {
    fn find(&mut self, check: &'static str, problem: impl Into<String>, remedy: &str) {
        self.findings.push(Finding { check, problem: problem.into(), remedy: remedy.to_owned() });
    }

    /// What is well, if nothing of this check was found.
    fn pass(&mut self, check: &'static str, text: impl Into<String>) {
        if !self.findings.iter().any(|finding| finding.check == check) {
            self.passed.push((check, text.into()));
        }
    }
}

pub(crate) async fn run(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let mut report = Report::default();
    let ready = client.ready().await?;
    if ready.status != 200 {
        report.find(
            "ready",
            "some shard could not be read since the server started",
            "see `miroir-ctl topology`: start the nodes that are missing, and check `nodes[].address` \
             and MIROIR_NODE_MASTER_KEY of the server",
        );
    }
    report.pass("ready", "every shard could be read");
    clock(&ready, &mut report);
    let metrics = client.get(status::METRICS).await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let scrape = Scrape::new(&metrics);
    versions(client, &scrape, &mut report).await?;
    nodes(&client.get(topology::PATH).await?.read()?, &mut report);
    stale(&client.get(replicas::PATH).await?.read()?, &mut report);
    peers(&client.get(pods::PATH).await?.read()?, &mut report);
    match client_api(client, "/keys?limit=1000").await? {
        Ok(answer) => keys(&answer.read()?, &mut report),
        Err(why) => report.skipped.push(("keys", why)),
    }
    load(&scrape, &mut report);

    let code = if report.findings.is_empty() { Code::Done } else { Code::Findings };
    if output.json() {
        let passed: Vec<&str> = report.passed.iter().map(|(check, _)| *check).collect();
        let skipped: Vec<&str> = report.skipped.iter().map(|(check, _)| *check).collect();
        let all = json!({ "findings": report.findings, "passed": passed, "skipped": skipped });
        output.line(&all.to_string());
        return Ok(code);
    }
    for (check, text) in &report.passed {
        output.marked("ok    ", Tone::Good, &format!("{check}: {text}"));
    }
    for (check, why) in &report.skipped {
        output.marked("skip  ", Tone::Doubtful, &format!("{check}: {why}"));
    }
    for finding in &report.findings {
        output.marked("WRONG ", Tone::Bad, &format!("{}: {}", finding.check, finding.problem));
        output.line(&format!("      remedy: {}", finding.remedy));
    }
    Ok(code)
}

/// Asks what needs a client's key; says why not where there is none, or one that may not.
async fn client_api(client: &Client, path: &str) -> Result<Result<Answer, &'static str>, CtlError> {
    if !client.has_client_key() {
        return Ok(Err("needs a client's key: set MIROIR_MASTER_KEY or MIROIR_CLIENT_KEY"));
    }
    match client.get(path).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) if error.code() == Code::Key => Ok(Err("the client's key may not ask")),
        Err(error) if error.code() == Code::Refused => Ok(Err("no node answers")),
        Err(error) => Err(error),
    }
}

fn clock(answer: &Answer, report: &mut Report) {
    let date = answer.headers.get("date").and_then(|value| value.to_str().ok());
    // HTTP's `GMT` is RFC 2822's `+0000`.
    let date = date.map(|date| date.replace("GMT", "+0000"));
    let Some(there) = date.and_then(|date| OffsetDateTime::parse(&date, &Rfc2822).ok()) else {
        return;
    };
    let skew = (OffsetDateTime::now_utc() - there).whole_seconds();
    if skew.abs() > SKEW_SECONDS {
        report.find(
            "clock",
            format!("the server's clock and this one are {} seconds apart", skew.abs()),
            "let both follow a time server: keys and tenant tokens expire by the server's clock",
        );
    }
    report.pass("clock", "agrees with this one");
}

async fn versions(
    client: &Client,
    scrape: &Scrape<'_>,
    report: &mut Report,
) -> Result<(), CtlError> {
    let own = env!("CARGO_PKG_VERSION");
    let minor = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    let server = scrape.label("miroir_build_info", "version").unwrap_or_default();
    if minor(server) != minor(own) {
        report.find(
            "versions",
            format!("the server is {server} and this program {own}"),
            "use the miroir-ctl of the server's version",
        );
    }
    match client_api(client, "/version").await? {
        Ok(answer) => {
            let version: Value = answer.read()?;
            let engine = version["pkgVersion"].as_str().unwrap_or("unknown").to_owned();
            if !engine.starts_with(ENGINE) {
                report.find(
                    "versions",
                    format!("the nodes are Meilisearch {engine}"),
                    "run Meilisearch 1.50 on all nodes: that is what Miroir is compared with",
                );
            }
            report.pass("versions", format!("Miroir {server}, Meilisearch {engine}"));
        }
        Err(why) => {
            report.pass("versions", format!("Miroir {server}"));
            report.skipped.push(("versions of nodes", why));
        }
    }
    Ok(())
}

fn nodes(topology: &TopologyView, report: &mut Report) {
    // What a node is for is no fault: it joins, gives its shards away or has none.
    let well = |status: &str| matches!(status, "active" | "joining" | "draining" | "drained");
    for node in topology.nodes.iter().filter(|node| !well(&node.status)) {
        let why = node.error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
        report.find(
            "nodes",
            format!("{} is {}{why}", node.id, node.status),
            match node.error.as_deref() {
                Some("connect") => "start it, or correct its `nodes[].address`",
                Some("tls_untrusted") => {
                    "name the authority of its certificate in the server's `node_tls.ca_file`"
                }
                Some("tls_expired") => "renew its certificate, or check the clocks",
                Some("tls_wrong_name") => {
                    "use a name of its certificate in `nodes[].address`, or set `node_tls.server_name`"
                }
                Some("tls_refused") => {
                    "give the server a certificate that it accepts: `node_tls.cert_file`, `.key_file`"
                }
                Some("tls_handshake") => {
                    "see whether it speaks TLS at its `nodes[].address`: https:// is with, http:// without"
                }
                Some("timeout") => "see what keeps it busy: its log, its disk, its memory",
                Some("refused_key") => "set MIROIR_NODE_MASTER_KEY of the server to its master key",
                Some("server_error") => "see its log",
                _ => "see its log; `miroir-ctl replicas` shows what it has to catch up with",
            },
        );
    }
    report.pass("nodes", format!("{}, all well", count(topology.nodes.len(), "node", "nodes")));
    if !topology.fully_covered {
        report.find(
            "shards",
            "some shards cannot be read: searches are answered without them",
            "bring back a node of each, or raise replication_factor or replica_groups beforehand",
        );
    }
    report.pass("shards", "all can be read");
}

fn stale(replicas: &ReplicasView, report: &mut Report) {
    for row in &replicas.stale {
        let shard = row.shard.map_or_else(String::new, |shard| format!(", shard {shard}"));
        report.find(
            "replicas",
            format!("{} of {}{shard} waits: {}", row.index, row.node, replicas::needs(&row.kind)),
            "none where the node has just come back, or shards move (`miroir-ctl operation list`): it \
             catches up by itself; otherwise see the node's status and the server's log",
        );
    }
    report.pass("replicas", "all up to date");
}

fn peers(pods: &PodsView, report: &mut Report) {
    if pods.pods.is_empty() {
        report.pass("pods", "one, on its own");
        return;
    }
    if !pods.pods.iter().any(|pod| pod.leads) {
        report.find(
            "pods",
            "no pod leads: nothing can be changed",
            "wait for `leader_election.lease_ttl_s`, then see the pods' logs: can they reach Redis?",
        );
    }
    for pod in pods.pods.iter().filter(|pod| pod.epoch.is_none_or(|epoch| epoch < pods.epoch)) {
        report.find(
            "pods",
            format!("{} has not read the newest change", pod.pod),
            "run this again: a moment is nothing; otherwise see whether the pod reaches Redis",
        );
    }
    report.pass("pods", format!("{}, one leads", count(pods.pods.len(), "pod", "pods")));
}

fn keys(keys: &Value, report: &mut Report) {
    let now = OffsetDateTime::now_utc();
    for key in keys["results"].as_array().into_iter().flatten() {
        let expires = key["expiresAt"].as_str();
        let expires = expires.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        if expires.is_some_and(|at| at < now) {
            let name = key["name"].as_str().or(key["uid"].as_str()).unwrap_or("a key");
            report.find(
                "keys",
                format!("the API key {name} has expired"),
                "delete it, or make a new one for whoever still uses it",
            );
        }
    }
    report.pass("keys", "none has expired");
}

fn load(scrape: &Scrape<'_>, report: &mut Report) {
    let value = |name| scrape.value(name).unwrap_or(0.0);
    for (labels, state) in scrape.samples("miroir_breaker_state") {
        if state >= 2.0 {
            let node = quoted(labels, "node_id").unwrap_or("a node");
            report.find(
                "load",
                format!("calls to {node} fail so often that it is spared"),
                "see its log and `miroir_node_errors_total`",
            );
        }
    }
    if value("miroir_memory_pressure") >= 1.0 {
        report.find(
            "load",
            "the server's memory is used to more than 75 %",
            "give it more memory, or add pods",
        );
    }
    if value("miroir_task_processing_age_seconds") > OLD_TASK {
        report.find(
            "load",
            "a task has not ended for more than ten minutes",
            "`miroir-ctl task list --status enqueued,processing`, then `task get` says which node \
             it waits for",
        );
    }
    report.pass("load", "no breaker is open, no task is old");
}
