//! Every example runs and says what it should.
#![allow(clippy::duplicate_mod, reason = "each example is a program with its own copy of `common`")]

#[allow(dead_code, reason = "the example's `main`")]
#[path = "../custom_layer.rs"]
mod custom_layer;
#[allow(dead_code, reason = "the example's `main`")]
#[path = "../in_axum.rs"]
mod in_axum;
#[allow(dead_code, reason = "the example's `main`")]
#[path = "../quickstart.rs"]
mod quickstart;

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_finds_the_film() {
    let said = quickstart::run(Vec::new()).await.unwrap();
    assert!(said.starts_with("\"The Third Man\" of "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_layers_see_what_they_should() {
    let said = custom_layer::run(Vec::new()).await.unwrap();
    assert_eq!(said, "3 searches counted; \"This index is closed.\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn axum_serves_both() {
    let said = in_axum::run(Vec::new()).await.unwrap();
    assert_eq!(said, "my shop {\"id\":1,\"name\":\"lamp\"}");
}
