//! Every example runs and says what it should.
#![allow(clippy::duplicate_mod, reason = "each example is a program with its own copy of `common`")]

#[path = "../slow_queries/capability.rs"]
mod capability;
#[allow(dead_code, unreachable_pub, reason = "a program of its own, with its `main`")]
#[path = "../custom_layer.rs"]
mod custom_layer;
#[allow(dead_code, reason = "the example's `main`")]
#[path = "../custom_stack.rs"]
mod custom_stack;
#[allow(dead_code, reason = "the example's `main`")]
#[path = "../custom_store.rs"]
mod custom_store;
#[allow(dead_code, reason = "the example's `main`")]
#[path = "../in_axum.rs"]
mod in_axum;
#[allow(dead_code, reason = "the example's `main`")]
#[path = "../operations_only.rs"]
mod operations_only;
#[allow(dead_code, reason = "the example's `main`")]
#[path = "../quickstart.rs"]
mod quickstart;
#[path = "../common/readme_tests.rs"]
mod readme;
#[path = "../slow_queries/tests.rs"]
mod slow_queries;

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_finds_the_film() {
    let said = quickstart::run(Vec::new()).await.unwrap();
    assert!(said.starts_with("\"The Third Man\" of "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_layers_see_what_they_should() {
    let said = custom_layer::run(Vec::new()).await.unwrap();
    let refused = "Pages end at hit 500 here. Narrow the search with a filter.";
    assert_eq!(said, format!("0 hits | 0 hits | {refused} | This index is closed."));
}

/// The code of the guide is that of the example, which is compiled and tested.
#[test]
fn the_guide_to_layers_quotes_the_example() {
    let guide = include_str!("../../docs/write-a-layer.md");
    let lines = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let code = [include_str!("../custom_layer.rs"), include_str!("../slow_queries/main.rs")];
    let example = lines(&code.concat());
    let blocks: Vec<&str> = guide
        .split("```rust\n")
        .skip(1)
        .map(|rest| rest.split_once("```").expect("a block has an end").0)
        .collect();
    assert!(blocks.len() > 5, "{} blocks", blocks.len());
    for block in blocks {
        assert!(example.contains(lines(block).trim()), "not in the example:\n{block}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn axum_serves_both() {
    let said = in_axum::run(Vec::new()).await.unwrap();
    assert_eq!(said, "my shop {\"id\":1,\"name\":\"lamp\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_of_ones_own_finds_the_film() {
    let said = custom_stack::run(Vec::new()).await.unwrap();
    assert_eq!(said, "\"M\"");
}

#[tokio::test]
async fn a_store_of_ones_own_keeps_its_promises() {
    let directory = tempfile::tempdir().unwrap();
    let said = custom_store::run(directory.path().join("rules.json")).await.unwrap();
    assert!(said.ends_with("the store keeps its promises"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_need_no_http() {
    let said = operations_only::run(Vec::new()).await.unwrap();
    assert_eq!(said, "\"Solaris\" from 3 nodes");
}
