//! Miroir's capabilities as tower layers, foldered by stage.
//!
//! Every layer stands alone: it can be mounted in the reference server's stack or in any other one
//! of its stage. What must be outside of it, it says itself ([`miroir_pipeline::Placed`]), and
//! [`miroir_pipeline::Stack::build`] refuses a wrong order.
//!
//! | stage | layer | must be inside of | what it does |
//! | --- | --- | --- | --- |
//! | edge | [`catch_panic`](edge::catch_panic) | | a panic is an answer |
//! | edge | [`request_id`](edge::request_id) | `catch_panic` | gives every request an id |
//! | edge | [`observe`](edge::observe) | `request_id` | a log line and the metrics of a request |
//! | edge | [`cors`](edge::cors) | `observe` | cross-origin requests, as Meilisearch |
//! | edge | [`negotiate`](edge::negotiate) | `cors` | picks the encoding of the answer |
//! | edge | [`compression`](edge::compression) | `negotiate` | encodes answers |
//! | edge | [`decompression`](edge::decompression) | | decodes requests |
//! | edge | [`normalize`](edge::normalize) | | slashes that mean nothing |
//! | edge | [`admission`](edge::admission) | `normalize` | bounds requests at one time |
//! | edge | [`rate_limit`](edge::rate_limit) | `admission` | limits requests of an address |
//! | edge | [`authenticate`](edge::authenticate) | `rate_limit`, `normalize` | says who is asking |
//! | edge | [`forward`](edge::forward) | `authenticate`, `decompression` | changes go to the pod that leads |
//! | operation | [`authorize`](operation::authorize) | | refuses who has no key |
//! | operation | [`rate_limit`](operation::rate_limit) | `authorize` | limits requests of a key and of a tenant |
//! | operation | [`shadow`](operation::shadow) | `rate_limit`, `idempotency` | repeats reads elsewhere and compares the answers |
//! | operation | [`idempotency`](operation::idempotency) | `authorize` | makes a change that is sent twice once |
//! | operation | [`alias`](operation::alias) | `idempotency` | names that stand for indexes |
//! | index | [`session_pinning`](index::session_pinning) | | reads of a session show its writes |
//! | index | [`tenant_affinity`](index::tenant_affinity) | `session_pinning` | sends a tenant's reads to one group |
//! | index | [`reserved_fields`](index::reserved_fields) | | refuses documents with reserved fields |
//! | index | [`query_planner`](index::query_planner) | | asks only the shards a filter can match in |
//! | index | [`query_coalescing`](index::query_coalescing) | `tenant_affinity`, `query_planner` | one scatter for identical reads |
//! | leaf | [`failover`](leaf::failover) | `hedge` | covers failed shards again on other nodes |
//! | leaf | [`query_quarantine`](leaf::query_quarantine) | `hedge`, `failover` | refuses a question that a node did not survive |
//! | node | [`metrics`](node::metrics) | | counts and times calls |
//! | node | [`breaker`](node::breaker) | `metrics` | spares a node that fails |
//! | node | [`load`](node::load) | `breaker` | tells leaves how fast a node is |
//! | node | [`deadline`](node::deadline) | `load` | gives up in time |
//! | node | [`limit`](node::limit) | `deadline` | bounds calls in flight, in two lanes |
//! | node | [`credentials`](node::credentials) | `limit` | signs calls with the node key |
//! | node | [`fault`](node::fault) | `credentials` | injects latency and errors |

pub mod edge;
pub mod index;
pub mod leaf;
pub mod node;
pub mod operation;
mod rate_limits;

pub use rate_limits::{RateLimitBackend, RateLimits};

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
