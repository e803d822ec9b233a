//! Tests, with mocks and paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use miroir_core::documents::{EXPIRES_AT, ORDER, RawDocument, SHARD, UPDATED_AT};
use miroir_pipeline::context::Context;
use miroir_pipeline::index::{Deletion, Method, Response};
use miroir_pipeline::meta::Meta;
use miroir_pipeline::query::ClientRequest;
use miroir_test::contract::contract;
use miroir_test::layered;

use super::*;
use crate::fixtures::{entry, topology};

fn request(write: Write, origin: Origin) -> Request {
    let mut cx = Context::client("1", Duration::from_secs(1));
    cx.origin = origin;
    let original = ClientRequest::new(http::Method::POST, "/documents");
    Request::new(
        Operation::Write { write, custom_metadata: None },
        Arc::new(original),
        Arc::new(entry("a", 4)),
        Arc::new(topology(1, 1)),
        Arc::default(),
        cx,
    )
}

fn add(documents: &[&'static str], origin: Origin) -> Request {
    let documents = documents
        .iter()
        .map(|text| RawDocument::new(&Bytes::from_static(text.as_bytes())).unwrap())
        .collect();
    let write = Write::Add {
        method: Method::Replace,
        documents: Arc::new(documents),
        primary_key: None,
        skip_creation: false,
    };
    request(write, origin)
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    contract(ReservedFieldsLayer::default(), || {
        request(Write::Delete(Deletion::All), Origin::Client)
    })
    .await;
    contract(ReservedFieldsLayer::default(), || add(&["{\"id\":1}"], Origin::Client)).await;
}

/// What the layer says to documents; `None`: it lets them pass.
async fn refusal(
    options: ReservedFieldsOptions,
    documents: &[&'static str],
    origin: Origin,
) -> Option<String> {
    let (mut service, mut inner) = layered(ReservedFieldsLayer::new(options));
    let call = service.spawn_call(add(documents, origin));
    while !call.is_finished() {
        tokio::task::yield_now().await;
        if let Some(exchange) = inner.try_next_request() {
            exchange.respond(Response {
                status: http::StatusCode::ACCEPTED,
                body: Bytes::new(),
                meta: Meta::default(),
            });
        }
    }
    let error = call.await.err()?;
    let (status, body) = error.render();
    assert_eq!(status.as_u16(), 400);
    Some(String::from_utf8(body.unwrap().to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn reserved_fields_are_refused_where_they_are_reserved() {
    let (updated, expires) = (
        ReservedFieldsOptions { updated_at: true, expires_at: false },
        ReservedFieldsOptions { updated_at: false, expires_at: true },
    );
    let none = ReservedFieldsOptions::default();
    for (options, document, field) in [
        (none, "{\"id\":1,\"_miroir_shard\":\"x\"}", Some(SHARD)),
        (none, "{\"_miroir\\u005fshard\":1}", Some(SHARD)),
        (none, "{\"id\":1,\"a\":{\"_miroir_shard\":1}}", None),
        (none, "{\"id\":1,\"a\":\"_miroir_shard\"}", None),
        (none, "{\"id\":1,\"_miroir_order\":1}", Some(ORDER)),
        (none, "{\"id\":1,\"_miroir_other\":1}", None),
        (none, "{\"id\":1,\"_miroir_updated_at\":1,\"_miroir_expires_at\":1}", None),
        (updated, "{\"_miroir_expires_at\":1,\"_miroir_updated_at\":1}", Some(UPDATED_AT)),
        (expires, "{\"_miroir_updated_at\":1,\"_miroir_expires_at\":1}", Some(EXPIRES_AT)),
        (updated, "{\"id\":1,\"_miroir_expires_at\":1}", None),
    ] {
        // Among others, not in the first place.
        let body = refusal(options, &["{\"id\":0}", document], Origin::Client).await;
        match field {
            None => assert_eq!(body, None, "{document}"),
            Some(field) => {
                let body = body.expect(document);
                assert!(body.contains("\"code\":\"miroir_reserved_field\""), "{body}");
                assert!(body.contains(&format!("`{field}`")), "{body}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn workers_may_copy_documents_as_they_are() {
    let document = "{\"id\":1,\"_miroir_shard\":\"x\"}";
    assert_eq!(refusal(ReservedFieldsOptions::default(), &[document], Origin::Repair).await, None);
}
