//! Knows the other pods of a cluster, and what they pass on.
//!
//! Pods find each other by addresses in a store, and whoever can write there could name an address
//! of their own. So no key of a client is ever sent to another pod. A pod that is about to
//! [pass on](super::forward) a change first asks who is there ([`HELLO`]), and goes on only if the
//! answer proves a pod of this cluster that is reached at this address. The change then goes without
//! the client's key, with a statement in [`FORWARDED`]: who asks, for what, signed by the pod.
//!
//! Both are HMAC-SHA256 under a key that is derived from the master key ([`PodProof`]). A *hello* is
//! about the random number of whoever asks, the address of whoever answers and a number of its
//! process, so that nobody can fetch it elsewhere. A *statement* is about that process, the time of
//! that process, a random number, method, path, query, the headers that matter, SHA-256 of the body
//! and the caller. It is taken once, within half a minute, by that process alone. Wall clocks are not
//! asked.
//!
//! A text in [`FORWARDED`] that is no statement, as a client may send it, is taken off and has no
//! effect.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at: `forward` compares it with the
//! statement.
//!
//! # Order
//! Inside of `normalize`: statements are about paths as they are read. Outside of `rate_limit`:
//! what one pod counted is not counted again.
//!
//! # Context
//! Takes [`FORWARDED`] off, and leaves what it proves in the request's extensions, for
//! `rate_limit`, `authenticate` and `forward`.
//!
//! # Errors
//! `miroir_no_leader` for a statement that is not to be believed: the pod that sent it says hello
//! again, and sends a new one.
//!
//! # Metrics
//! `miroir_pod_proofs_failed_total{of}`: `statement`, one that is not to be believed; `leader`,
//! counted by `forward`: who answers at the leader's address is no pod of this cluster.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use miroir_layers::edge::pod_auth::{CHALLENGE, HELLO, PROOF};
//! use miroir_layers::edge::{PodAuthLayer, PodProof};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let proof = Arc::new(PodProof::new(b"the master key"));
//! let service = ServiceBuilder::new()
//!     .layer(PodAuthLayer::new(proof, Some("http://10.0.0.7:7700".into())))
//!     .service_fn(|_: http::Request<()>| async move {
//!         let body = http_body_util::Empty::<bytes::Bytes>::new();
//!         Ok::<_, std::convert::Infallible>(http::Response::new(body))
//!     });
//! let request = http::Request::get(HELLO).header(CHALLENGE, "00112233445566778899aabbccddeeff");
//! let answer = service.oneshot(request.body(()).unwrap()).await.unwrap();
//! assert!(answer.headers().contains_key(PROOF));
//! # }
//! ```

mod claim;
mod layer;
mod proof;
#[cfg(test)]
mod tests;

use http::HeaderName;

pub(crate) use claim::Claim;
pub use layer::PodAuthLayer;
pub use proof::PodProof;
pub(crate) use proof::{Proven, Statement, digest, nonce};

/// Where a pod proves that it is one, without a key.
pub const HELLO: &str = "/_miroir/pods/hello";
/// 16 random bytes in hexadecimal, of a pod that asks at [`HELLO`].
pub const CHALLENGE: HeaderName = HeaderName::from_static("x-miroir-challenge");
/// The answer to [`CHALLENGE`].
pub const PROOF: HeaderName = HeaderName::from_static("x-miroir-proof");
/// The statement of a pod that passes something on.
pub const FORWARDED: HeaderName = HeaderName::from_static("x-miroir-forwarded");

/// What another pod says of a request, proven. In its extensions, where only this crate can put it.
#[derive(Clone, Debug)]
pub(crate) struct Vouched(pub(crate) Statement);
