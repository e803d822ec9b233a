//! Commands that change the topology: what they ask, show, begin and follow.

use insta::assert_snapshot;
use miroir_ctl::Code;
use serde_json::{Value, json};

use super::support::{Canned, ctl};

const ID: &str = "0190a1b2-0000-7000-8000-000000000001";

/// An answer to what begins an operation.
fn started(id: Option<&str>, blockers: &[&str]) -> String {
    json!({
        "operation_id": id,
        "plan": {
            "operation": "join", "version": 3,
            "moves": [
                { "index": "movies", "target": "d", "shards": [1, 5, 9], "documents": 1200,
                  "bytes": 4_800_000 },
                { "index": "shoes", "target": "d", "shards": [2], "documents": 7, "bytes": 700 },
            ],
            "shards": 4, "documents": 1207, "bytes": 4_800_700,
            "blockers": blockers,
        }
    })
    .to_string()
}

fn operation(state: &str, phase: Option<&str>, reason: Option<(&str, &str)>) -> String {
    let mut view = json!({
        "id": ID, "operation": "join", "state": state, "nodes": ["d"],
        "began_at": "2026-01-02T03:04:05.678Z",
    });
    if let Some(phase) = phase {
        view["phase"] = phase.into();
    } else {
        view["ended_at"] = "2026-01-02T03:14:05.678Z".into();
    }
    if let Some((kind, detail)) = reason {
        view["reason"] = json!({ "kind": kind, "detail": detail });
    }
    view.to_string()
}

const ADD: [&str; 4] = ["node", "add", "d", "http://10.0.0.4:7700"];

fn and<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, more].concat()
}

#[tokio::test]
async fn a_plan_is_shown_and_nothing_begun_without_yes() {
    let plan = started(None, &[]);
    let server = Canned::start(&[("POST /_miroir/nodes", 200, &plan)]).await;
    let ran = ctl(&server.url, &and(&ADD, &["--dry-run"])).await;
    assert_eq!((ran.code, ran.err.as_str()), (Code::Done, ""));
    assert_snapshot!("plan", ran.out);
    let json = ctl(&server.url, &and(&ADD, &["--dry-run", "--json"])).await;
    assert_eq!((json.code, json.out), (Code::Done, format!("{plan}\n")));
    for more in [&[][..], &["--wait"]] {
        let asked = ctl(&server.url, &and(&ADD, more)).await;
        assert_eq!((asked.code, &asked.out), (Code::Usage, &ran.out));
        for says in [
            "node d would get shards of group 0: 4 replicas of shards to copy, about 1207 \
             documents, 4.8 MB",
            "give --yes",
        ] {
            assert!(asked.err.contains(says), "{asked:?}");
        }
    }
    let got = server.got();
    assert_eq!(got.len(), 4);
    assert!(got.iter().all(|one| one.line == "POST /_miroir/nodes?dry_run=true"), "{got:?}");
}

#[tokio::test]
async fn what_keeps_a_change_from_beginning_is_shown_and_it_is_not_begun() {
    let plan = started(None, &["The node `d` has 2 index(es).\u{1b}[2J", "Another reason."]);
    let server = Canned::start(&[("POST /_miroir/nodes", 200, &plan)]).await;
    let ran = ctl(&server.url, &and(&ADD, &["--dry-run"])).await;
    assert_eq!((ran.code, ran.err.as_str()), (Code::Findings, ""));
    assert_snapshot!("plan_blocked", ran.out);
    let json = ctl(&server.url, &and(&ADD, &["--dry-run", "--json"])).await;
    assert_eq!(json.code, Code::Findings);
    let begun = ctl(&server.url, &and(&ADD, &["--yes"])).await;
    assert_eq!((begun.code, begun.out), (Code::Findings, ran.out));
    assert!(begun.err.contains("cannot begin: The node `d` has 2 index(es)"), "{}", begun.err);
    assert!(server.got().iter().all(|one| one.line.ends_with("?dry_run=true")));
}

#[tokio::test]
async fn every_change_is_asked_for_as_it_was_meant() {
    let (plan, begun) = (started(None, &[]), started(Some(ID), &[]));
    let one = json!({ "id": "d", "address": "http://h:1", "replica_group": 0 });
    let in_two = json!({ "id": "d", "address": "http://h:1", "replica_group": 2 });
    let other = json!({ "id": "e", "address": "http://h:2", "replica_group": 2 });
    let new = json!({ "id": "d", "address": "http://h:1" });
    for (arguments, line, body) in [
        (&["node", "add", "d", "http://h:1"][..], "POST /_miroir/nodes", one),
        (
            &["node", "add", "d", "http://h:1", "--group", "2"],
            "POST /_miroir/nodes",
            in_two.clone(),
        ),
        (&["node", "drain", "a b"], "POST /_miroir/nodes/a%20b/drain", Value::Null),
        (&["node", "replace", "a", "d", "http://h:1"], "POST /_miroir/nodes/a/replace", new),
        (
            &["group", "add", "--group", "2", "d=http://h:1", "e=http://h:2"],
            "POST /_miroir/groups",
            json!({ "nodes": [in_two, other] }),
        ),
        (&["group", "remove", "1"], "DELETE /_miroir/groups/1", Value::Null),
        (
            &["topology", "replication-factor", "3"],
            "PUT /_miroir/replication-factor",
            json!({ "replication_factor": 3 }),
        ),
    ] {
        let server = Canned::start(&[(line, 200, &plan), (line, 202, &begun)]).await;
        let ran = ctl(&server.url, &and(arguments, &["--yes"])).await;
        assert_eq!((ran.code, ran.err.as_str()), (Code::Done, ""), "{arguments:?}");
        let says = format!("operation {ID} begins\n`miroir-ctl operation watch {ID}` follows it\n");
        assert!(ran.out.ends_with(&says), "{ran:?}");
        let got = server.got();
        let lines: Vec<&str> = got.iter().map(|one| one.line.as_str()).collect();
        assert_eq!(lines, [format!("{line}?dry_run=true").as_str(), line]);
        for one in &got {
            let sent: Value = serde_json::from_str(&one.body).unwrap_or_default();
            assert_eq!(sent, body, "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn waiting_shows_every_step_and_ends_with_the_operation() {
    let (plan, begun) = (started(None, &[]), started(Some(ID), &[]));
    let copies = "12 replica(s) are not up to date, such as index `movies` on `d`";
    let moving = operation("moving", Some("copying"), Some(("copies", copies)));
    let (switched, done) =
        (operation("moving", Some("switched"), None), operation("committed", None, None));
    let shown = format!("GET /_miroir/operations/{ID}");
    let server = Canned::start(&[
        ("POST /_miroir/nodes", 200, &plan),
        ("POST /_miroir/nodes", 202, &begun),
        (&shown, 200, &moving),
        (&shown, 200, &moving),
        // A pod that is just restarted is asked again.
        (&shown, 503, "starting"),
        (&shown, 200, &switched),
        (&shown, 200, &done),
    ])
    .await;
    let ran = ctl(&server.url, &and(&ADD, &["--yes", "--wait"])).await;
    assert_eq!((ran.code, ran.err.as_str()), (Code::Done, ""));
    assert_snapshot!("begun_and_waited_for", ran.out);
}

#[tokio::test]
async fn an_operation_that_was_taken_back_is_a_finding() {
    let back = operation("rolled_back", None, None);
    let shown = format!("GET /_miroir/operations/{ID}");
    let server = Canned::start(&[(&shown, 200, &back)]).await;
    let ran = ctl(&server.url, &["operation", "watch", ID]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Code::Findings, "rolled_back\n"));
    let json = ctl(&server.url, &["operation", "watch", ID, "--json"]).await;
    assert_eq!((json.code, json.out), (Code::Findings, format!("{back}\n")));
}

#[tokio::test]
async fn an_operation_that_is_not_there_is_not_waited_for() {
    let error = json!({
        "message": "There is no operation `x`.", "code": "miroir_operation_not_found",
        "type": "invalid_request", "link": "",
    });
    let server = Canned::start(&[("GET /_miroir/operations/x", 404, &error.to_string())]).await;
    let ran = ctl(&server.url, &["operation", "watch", "x"]).await;
    assert_eq!((ran.code, server.got().len()), (Code::Refused, 1));
    assert!(ran.err.contains("miroir_operation_not_found"), "{ran:?}");
}

#[tokio::test]
async fn operations_are_listed_and_shown() {
    let moving = operation("paused", Some("copying"), Some(("paused", "by an operator")));
    let done = operation("committed", None, None);
    let all = format!(r#"{{"operations":[{moving},{done}]}}"#);
    let shown = format!("GET /_miroir/operations/{ID}");
    let server = Canned::start(&[
        ("GET /_miroir/operations", 200, &all),
        ("GET /_miroir/operations", 200, r#"{"operations":[]}"#),
        (&shown, 200, &moving),
        (&shown, 200, &done),
    ])
    .await;
    assert_snapshot!("operation_list", ctl(&server.url, &["operation", "list"]).await.out);
    assert_eq!(ctl(&server.url, &["operation", "list"]).await.out, "no operations\n");
    assert_snapshot!("operation_show", ctl(&server.url, &["operation", "show", ID]).await.out);
    assert_snapshot!("operation_ended", ctl(&server.url, &["operation", "show", ID]).await.out);
}

#[tokio::test]
async fn operations_are_told_what_to_do() {
    for (verb, says) in [("pause", "is paused"), ("resume", "goes on"), ("rollback", "taken back")]
    {
        let line = format!("POST /_miroir/operations/{ID}/{verb}");
        let server = Canned::start(&[(&line, 204, "")]).await;
        let ran = ctl(&server.url, &["operation", verb, ID]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Code::Done, ""), "{verb}");
        assert!(ran.out.contains(says), "{ran:?}");
        assert_eq!(server.got().pop().unwrap().line, line);
    }
}

#[tokio::test]
async fn a_node_is_forgotten_only_with_yes() {
    let server = Canned::start(&[("DELETE /_miroir/nodes/d", 204, "")]).await;
    let asked = ctl(&server.url, &["node", "remove", "d"]).await;
    assert_eq!((asked.code, server.got().len()), (Code::Usage, 0));
    assert!(asked.err.contains("would be forgotten") && asked.err.contains("--yes"), "{asked:?}");
    let ran = ctl(&server.url, &["node", "remove", "d", "--yes"]).await;
    assert_eq!((ran.code, server.got().len()), (Code::Done, 1));
    assert!(ran.out.contains("node d is forgotten"), "{ran:?}");
}

/// What is lost on the way may have been begun.
#[tokio::test]
async fn an_operation_whose_beginning_was_not_answered_may_be_there() {
    let plan = started(None, &[]);
    let server = Canned::start(&[
        ("POST /_miroir/nodes", 200, &plan),
        ("POST /_miroir/nodes", 404, ""),
        ("GET /_miroir/ready", 404, ""),
    ])
    .await;
    let ran = ctl(&server.url, &and(&ADD, &["--yes"])).await;
    assert_eq!(ran.code, Code::Connection);
    assert!(ran.err.starts_with("note: the operation may have begun"), "{ran:?}");
}
