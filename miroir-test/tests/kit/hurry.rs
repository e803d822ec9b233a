//! Changes of indexes that are sent without waiting for each other: after every one of them, and in
//! whatever order they come, clients see what one node would show.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use miroir_api::IndexUid;
use miroir_api::meili::TaskKind;
use miroir_core::quorum::WriteQuorum;
use miroir_core::topology::NodeStatus;
use miroir_store::task_state::{Move, Renaming};
use miroir_store::{NewTask, TaskState, clock};
use miroir_test::cluster::{Shape, SimCluster};
use miroir_test::faults::Fault;
use miroir_test::node::Disk;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

const PATIENCE: Duration = Duration::from_mins(5);
/// What real nodes gave.
const FACTS: &str = include_str!("../../fixtures/hurry.txt");

async fn cluster(seed: u64) -> SimCluster {
    let quorum = WriteQuorum::Auto;
    SimCluster::new(seed, Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum }).await
}

/// A change of the index `x`, by its name in the facts.
async fn change(cluster: &SimCluster, [x, y, z]: &[String; 3], what: &str) -> u64 {
    let index = format!("/indexes/{x}");
    let documents = format!("{index}/documents");
    let settings = format!("{index}/settings");
    let (method, path, body) = match what {
        "create" => (Method::POST, "/indexes", json!({"uid": x, "primaryKey": "k"})),
        "docs" => (Method::POST, documents.as_str(), json!([{"id": 1, "k": "a"}])),
        "settings" => (
            Method::PATCH,
            settings.as_str(),
            json!({"displayedAttributes": ["k"], "stopWords": ["s"]}),
        ),
        "key" => (Method::PATCH, index.as_str(), json!({"primaryKey": "k"})),
        "swap" => (Method::POST, "/swap-indexes", json!([{"indexes": [x, y]}])),
        "rename" => (Method::PATCH, index.as_str(), json!({"uid": z})),
        "delete" => (Method::DELETE, index.as_str(), Value::Null),
        other => panic!("{other}"),
    };
    send(cluster, method, path, body).await
}

async fn send(cluster: &SimCluster, method: Method, path: &str, body: Value) -> u64 {
    let answer = cluster.request(method.clone(), path, (!body.is_null()).then_some(body)).await;
    assert_eq!(answer.status, 202, "{method} {path}: {}", answer.body);
    answer.body["taskUid"].as_u64().unwrap()
}

/// How a task ends: its status, and its error's code.
async fn outcome(cluster: &SimCluster, task: u64) -> String {
    let status = cluster.wait(task, PATIENCE).await.unwrap_or_else(|| panic!("task {task}"));
    let body = cluster.request(Method::GET, &format!("/tasks/{task}"), None).await.body;
    let code = body.pointer("/error/code").and_then(Value::as_str);
    code.map_or_else(|| status.clone(), |code| format!("{status} {code}"))
}

/// The primary key of an index, the ids of its documents and what it displays.
async fn shown(cluster: &SimCluster, index: &str) -> String {
    let get = async |path: String| cluster.request(Method::GET, &path, None).await;
    let found = get(format!("/indexes/{index}")).await;
    if found.status == 404 {
        return "-".to_owned();
    }
    let documents = get(format!("/indexes/{index}/documents?limit=100")).await;
    assert!(documents.complete(), "{index}: {documents:?}");
    let mut ids: Vec<String> = documents.body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| document["id"].to_string())
        .collect();
    ids.sort();
    let displayed = get(format!("/indexes/{index}/settings/displayed-attributes")).await.body;
    let key = found.body["primaryKey"].as_str().unwrap_or("null").to_owned();
    format!("{key} [{}] {}", ids.join(","), displayed[0].as_str().unwrap())
}

/// The indexes of one pair of changes.
async fn begin(cluster: &SimCluster, number: usize, start: &str) -> [String; 3] {
    let names = ["x", "y", "z"].map(|name| format!("{name}{number}"));
    let made = send(cluster, Method::POST, "/indexes", json!({"uid": names[1]})).await;
    outcome(cluster, made).await;
    let x = &names[0];
    let first = match start {
        "absent" => return names,
        "empty" => send(cluster, Method::POST, "/indexes", json!({"uid": x})).await,
        _ => {
            let path = format!("/indexes/{x}/documents");
            send(cluster, Method::POST, &path, json!([{"id": 7}])).await
        }
    };
    assert_eq!(outcome(cluster, first).await, "succeeded");
    names
}

/// One row of the facts: start, two changes, and what becomes of all.
type Row = (Vec<&'static str>, Vec<String>);

fn rows() -> impl Iterator<Item = Row> {
    let rows = FACTS.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| {
        let mut cells: Vec<&str> = line.split(" | ").collect();
        let rest = cells.split_off(3);
        (cells, rest.into_iter().map(str::to_owned).collect())
    })
}

async fn told(cluster: &SimCluster, names: &[String; 3], tasks: [u64; 2]) -> Vec<String> {
    let mut out = Vec::new();
    for task in tasks {
        out.push(outcome(cluster, task).await);
    }
    for name in names {
        out.push(shown(cluster, name).await);
    }
    out
}

#[tokio::test(start_paused = true)]
async fn changes_sent_without_waiting_give_what_one_node_gives() {
    let cluster = cluster(1).await;
    let mut wrong = Vec::new();
    for (number, (cells, expected)) in rows().enumerate() {
        let names = begin(&cluster, number, cells[0]).await;
        let first = change(&cluster, &names, cells[1]).await;
        let second = change(&cluster, &names, cells[2]).await;
        let given = told(&cluster, &names, [first, second]).await;
        if given != expected {
            wrong.push(format!("{cells:?}: {given:?} and not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    cluster.end();
}

/// With a node down, deleting takes longer: it counts first.
async fn without_a_node(seed: u64) -> SimCluster {
    let cluster = cluster(seed).await;
    cluster.nodes[2].suffer(Fault::Crash);
    loop {
        let topology = cluster.miroir().cluster.state.membership.topology();
        if topology.node(cluster.nodes[2].id()).unwrap().status() == NodeStatus::Failed {
            return cluster;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn changes_at_the_same_time_give_what_one_order_of_them_gives() {
    let facts: BTreeMap<Vec<&str>, Vec<String>> = rows().collect();
    for seed in 0..3 {
        let cluster = if seed == 0 { cluster(seed).await } else { without_a_node(seed).await };
        let mut wrong = Vec::new();
        for (number, (cells, expected)) in rows().enumerate() {
            if cells[1] > cells[2] {
                continue;
            }
            let names = begin(&cluster, number, cells[0]).await;
            let tasks = tokio::join!(
                change(&cluster, &names, cells[1]),
                change(&cluster, &names, cells[2])
            );
            let given = told(&cluster, &names, [tasks.0, tasks.1]).await;
            let mut other = facts[&[cells[0], cells[2], cells[1]][..]].clone();
            other.swap(0, 1);
            if given != expected && given != other {
                wrong.push(format!("{cells:?}: {given:?} and not {expected:?} or {other:?}"));
            }
        }
        assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
        cluster.end();
    }
}

#[tokio::test(start_paused = true)]
async fn a_rename_and_the_first_write_or_the_making_of_its_new_name_keep_both_indexes() {
    for seed in 0..6 {
        for makes in [false, true] {
            for swaps in [false, true] {
                let cluster = without_a_node(seed).await;
                let names = begin(&cluster, 0, "filled").await;
                let [x, _, z] = &names;
                let rename = async {
                    if swaps {
                        let body = json!([{"indexes": [x, z], "rename": true}]);
                        return send(&cluster, Method::POST, "/swap-indexes", body).await;
                    }
                    change(&cluster, &names, "rename").await
                };
                let other = async {
                    if makes {
                        return send(&cluster, Method::POST, "/indexes", json!({"uid": z})).await;
                    }
                    let path = format!("/indexes/{z}/documents");
                    send(&cluster, Method::POST, &path, json!([{"id": 1}])).await
                };
                let tasks = tokio::join!(rename, other);
                let given = told(&cluster, &names, [tasks.0, tasks.1]).await;
                let made = if makes { "null [] *" } else { "id [1] *" };
                let there = "failed index_already_exists";
                let first = if makes {
                    ["succeeded", there, "-", "null [] *", "id [7] *"]
                } else {
                    ["succeeded", "succeeded", "-", "null [] *", "id [1,7] *"]
                };
                let second = [there, "succeeded", "id [7] *", "null [] *", made];
                assert!(given == first || given == second, "{makes} {swaps}: {given:?}");
                cluster.end();
            }
        }
    }
}

/// The task of a swap of `x` and `y` as it is on record before anything was done.
fn intended(cluster: &SimCluster, names: &[String; 3]) -> NewTask {
    let state = cluster.miroir().cluster.state;
    let moves = [(&names[0], &names[1]), (&names[1], &names[0])].map(|(from, to)| {
        let (from, to) = (IndexUid::new(from).unwrap(), IndexUid::new(to).unwrap());
        let entry = state.catalog.get(&from).unwrap();
        Move { incarnation: entry.incarnation, physical: entry.physical.clone(), from, to }
    });
    let intent = Renaming { moves: moves.into(), primary_key: None };
    let swaps = json!({"swaps": [{"indexes": [names[0], names[1]], "rename": false}]});
    NewTask {
        details: swaps.as_object().cloned(),
        protocol: TaskState::Rename { awaits: Vec::new(), intent: Some(intent) }.into(),
        ..NewTask::new(TaskKind::IndexSwap, clock::now())
    }
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_was_cut_off_is_done_once_by_the_next_process() {
    // How far the process had come: only the task was stored, the names were changed, or the tasks
    // before it had followed too.
    for done in 0..3 {
        let cluster = cluster(done).await;
        let names = begin(&cluster, 0, "filled").await;
        let task = intended(&cluster, &names);
        if done == 2 {
            // The same as the swap does, but for the end of its task.
            change(&cluster, &names, "swap").await;
        } else if done == 1 {
            let state = cluster.miroir().cluster.state;
            let [x, y] = [0, 1].map(|at: usize| IndexUid::new(&names[at]).unwrap());
            let swap = |old: &BTreeMap<IndexUid, miroir_store::IndexEntry>| {
                let (a, b) = (old.get(&x).cloned(), old.get(&y).cloned());
                BTreeMap::from([(x.clone(), b), (y.clone(), a)])
            };
            state.catalog.change_many(swap).await.unwrap();
        }
        let stored = cluster.stores.tasks.insert(task).await.unwrap();
        cluster.restart().await;
        assert_eq!(outcome(&cluster, stored.uid.0.into()).await, "succeeded", "done: {done}");
        assert_eq!(shown(&cluster, &names[0]).await, "null [] *", "done: {done}");
        assert_eq!(shown(&cluster, &names[1]).await, "id [7] *", "done: {done}");
        let path = format!("/tasks?indexUids={}&types=documentAdditionOrUpdate", names[1]);
        let tasks = cluster.request(Method::GET, &path, None).await.body;
        assert_eq!(tasks["total"], 1, "its tasks go with it, done: {done}");
        cluster.end();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_no_change_of_an_index_half_done() {
    for what in ["key", "swap", "rename"] {
        for cut in 0..10 {
            let cluster = without_a_node(cut).await;
            let names = ["x0", "y0", "z0"].map(str::to_owned);
            for name in &names[..2] {
                let body = json!({"uid": name, "primaryKey": "id"});
                let made = send(&cluster, Method::POST, "/indexes", body).await;
                outcome(&cluster, made).await;
            }
            let after = Duration::from_micros(300 * cut);
            let _ = timeout(after, change(&cluster, &names, what)).await;
            if cut % 2 == 1 {
                cluster.restart().await;
            }
            cluster.quiesce(PATIENCE).await.unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
            let index = if shown(&cluster, &names[0]).await == "-" { "z0" } else { "x0" };
            let path = format!("/indexes/{index}/documents");
            let body = json!([{"id": 1, "k": 1}, {"id": 2, "k": 2}, {"id": 3, "k": 3}]);
            let written = send(&cluster, Method::POST, &path, body).await;
            let what = format!("{what} cut off after {after:?}");
            assert_eq!(outcome(&cluster, written).await, "succeeded", "{what}");
            cluster.quiesce(PATIENCE).await.unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
            let physical =
                cluster.stores.indexes.get(&IndexUid::new(index).unwrap()).await.unwrap().unwrap();
            let keys = cluster.nodes.iter().map(|node| {
                node.inspect(|disk| disk.indexes[&physical.physical].primary_key.clone())
            });
            let known = physical.primary_key.as_deref();
            assert!(keys.flatten().all(|key| known == Some(key.as_str())), "{what}: {known:?}");
            cluster.end();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_follow_an_index_that_is_renamed_and_gets_its_name_back() {
    let cluster = cluster(8).await;
    let made = send(&cluster, Method::POST, "/indexes", json!({"uid": "y"})).await;
    assert_eq!(outcome(&cluster, made).await, "succeeded");
    let there = send(&cluster, Method::PATCH, "/indexes/y", json!({"uid": "x"})).await;
    let settings = json!({"displayedAttributes": ["k"]});
    let settings = send(&cluster, Method::PATCH, "/indexes/x/settings", settings).await;
    let back = send(&cluster, Method::PATCH, "/indexes/x", json!({"uid": "y"})).await;
    // What a real node gave, waited for or not.
    for (task, index) in [(made, "y"), (there, "x"), (settings, "y"), (back, "x")] {
        assert_eq!(outcome(&cluster, task).await, "succeeded");
        cluster.quiesce(PATIENCE).await.unwrap();
        let body = cluster.request(Method::GET, &format!("/tasks/{task}"), None).await.body;
        assert_eq!(body["indexUid"], index, "{body}");
    }
    assert_eq!(shown(&cluster, "y").await, "null [] k");
    cluster.end();
}

#[tokio::test(start_paused = true)]
async fn an_index_without_documents_gets_another_primary_key() {
    let cluster = cluster(6).await;
    let made =
        send(&cluster, Method::POST, "/indexes", json!({"uid": "a", "primaryKey": "k"})).await;
    assert_eq!(outcome(&cluster, made).await, "succeeded");
    let changed = send(&cluster, Method::PATCH, "/indexes/a", json!({"primaryKey": "other"})).await;
    assert_eq!(outcome(&cluster, changed).await, "succeeded");
    assert_eq!(shown(&cluster, "a").await, "other [] *");
    for node in &cluster.nodes {
        let key = node.inspect(|disk| disk.indexes["a"].primary_key.clone());
        assert_eq!(key.as_deref(), Some("other"), "{}", node.id());
    }
    cluster.end();
}

#[tokio::test(start_paused = true)]
async fn nodes_that_disagree_on_the_primary_key_are_found_and_mended() {
    for known in ["id", "k"] {
        let cluster = cluster(5).await;
        let names = begin(&cluster, 0, "filled").await;
        let x = &names[0];
        // Behind Miroir's back a node without documents gets another key, as by an older version.
        let empty = cluster
            .nodes
            .iter()
            .find(|node| node.inspect(|disk| disk.indexes[x].documents.is_empty()))
            .expect("one document is on two of three nodes");
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("/indexes/{x}"))
            .body(Full::new(Bytes::from_static(b"{\"primaryKey\":\"k\"}")))
            .unwrap();
        empty.clone().oneshot(request).await.unwrap();
        if known == "k" {
            // And the catalogue has it too.
            let state = cluster.miroir().cluster.state;
            let entry = state.catalog.get(&IndexUid::new(x).unwrap()).unwrap();
            let other = |old: &miroir_store::IndexEntry| miroir_store::IndexEntry {
                primary_key: Some("k".to_owned()),
                ..old.clone()
            };
            state.catalog.change(&entry, other).await.unwrap();
        }
        let documents: Value = (10..40).map(|n| json!({"id": n, "k": n})).collect();
        let path = format!("/indexes/{x}/documents");
        let first = send(&cluster, Method::POST, &path, documents.clone()).await;
        outcome(&cluster, first).await;
        cluster.quiesce(PATIENCE).await.unwrap();
        let second = send(&cluster, Method::POST, &path, documents).await;
        assert_eq!(outcome(&cluster, second).await, "succeeded");
        cluster.quiesce(PATIENCE).await.unwrap();
        for node in &cluster.nodes {
            let key = node.inspect(|disk| disk.indexes[x].primary_key.clone());
            assert_eq!(key.as_deref(), Some("id"), "{}", node.id());
        }
        let copies: usize =
            cluster.nodes.iter().map(|n| n.inspect(|d| d.indexes[x].documents.len())).sum();
        assert_eq!(copies, 62, "every document is on two nodes");
        cluster.end();
    }
}

#[tokio::test(start_paused = true)]
async fn no_index_of_a_client_is_what_miroir_probes_with() {
    let cluster = cluster(6).await;
    let probes = ["miroir-nowhere", "miroir-filter-check"];
    for name in probes.iter().chain(&["other"]) {
        let path = format!("/indexes/{name}/documents");
        let body = json!([{"id": 1, "v": 1}, {"id": 2, "v": 2}]);
        let added = send(&cluster, Method::POST, &path, body).await;
        assert_eq!(outcome(&cluster, added).await, "succeeded");
        let settings = json!({"filterableAttributes": ["v"]});
        let path = format!("/indexes/{name}/settings");
        let set = timeout(PATIENCE, send(&cluster, Method::PATCH, &path, settings)).await.unwrap();
        assert_eq!(outcome(&cluster, set).await, "succeeded", "{name}");
    }
    let path = "/indexes/other/documents/delete";
    let deleted = send(&cluster, Method::POST, path, json!({"filter": "v = 1"})).await;
    assert_eq!(outcome(&cluster, deleted).await, "succeeded");
    // Nodes judge what Miroir cannot read, and settings of an index that is not there yet.
    let odd = Some(json!({"filterableAttributes": "v"}));
    cluster.request(Method::PATCH, "/indexes/other/settings", odd).await;
    let new =
        send(&cluster, Method::PATCH, "/indexes/new/settings", json!({"stopWords": []})).await;
    assert_eq!(outcome(&cluster, new).await, "succeeded");
    cluster.quiesce(PATIENCE).await.unwrap();
    for name in probes {
        assert_eq!(shown(&cluster, name).await, "id [1,2] *");
    }
    assert_eq!(shown(&cluster, "other").await, "id [2] *");
    cluster.end();
}

/// While a node is down a deletion is sent in parts, each a task of the node.
#[tokio::test(start_paused = true)]
async fn a_part_of_a_write_that_never_arrived_is_not_taken_for_another_part() {
    for cut in 0..40 {
        let cluster = without_a_node(cut).await;
        let settings = json!({"filterableAttributes": ["v"]});
        let set = send(&cluster, Method::PATCH, "/indexes/m/settings", settings).await;
        outcome(&cluster, set).await;
        let documents: Value = (0..40).map(|n| json!({"id": n, "v": n % 2})).collect();
        let added = send(&cluster, Method::POST, "/indexes/m/documents", documents).await;
        outcome(&cluster, added).await;
        let filter = Some(json!({"filter": "v = 1"}));
        let after = Duration::from_micros(250 * cut);
        let path = "/indexes/m/documents/delete";
        let _ = timeout(after, cluster.request(Method::POST, path, filter)).await;
        cluster.restart().await;
        cluster.quiesce(PATIENCE).await.unwrap();
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        for node in &cluster.nodes {
            let ids: Vec<String> =
                node.inspect(|disk| disk.indexes["m"].documents.keys().cloned().collect());
            for id in ids {
                *copies.entry(id).or_default() += 1;
            }
        }
        assert!(copies.values().all(|count| *count == 2), "cut off after {after:?}: {copies:?}");
        cluster.end();
    }
}

/// A change of settings that another one follows ends when the nodes have done it: they are compared
/// after the last, and a node that is slow has the first one's task end no later.
#[tokio::test(start_paused = true)]
async fn a_change_of_settings_does_not_wait_for_the_one_that_follows() {
    let cluster = cluster(9).await;
    let made = send(&cluster, Method::POST, "/indexes", json!({"uid": "x"})).await;
    outcome(&cluster, made).await;
    let slow = Duration::from_secs(5);
    cluster.nodes[1].suffer(Fault::SlowTasks { from: slow, to: slow });
    let begun = Instant::now();
    let path = "/indexes/x/settings";
    let first = send(&cluster, Method::PATCH, path, json!({"stopWords": ["a"]})).await;
    let second = send(&cluster, Method::PATCH, path, json!({"stopWords": ["b"]})).await;
    assert_eq!(outcome(&cluster, first).await, "succeeded");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(outcome(&cluster, second).await, "succeeded");
    assert!(begun.elapsed() > Duration::from_secs(10), "{:?}", begun.elapsed());
    let words = |disk: &Disk| disk.indexes["x"].settings["stopWords"].clone();
    for node in &cluster.nodes {
        assert_eq!(node.inspect(words), json!(["b"]), "{}", node.id());
    }
    cluster.end();
}
