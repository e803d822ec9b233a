//! Miroir's pure core: values in, values out.
//!
//! Everything that decides what is right lives here, where property tests and golden vectors reach
//! it: which shard a key belongs to, which nodes cover a set of shards, what a filter can match, how
//! the pages of several nodes become one, when a write counts as acknowledged.
//!
//! No I/O, no async, no clock, no randomness: the manifest has no runtime, no HTTP and no metrics,
//! and clippy refuses the types and methods that read a clock or draw a number.
//!
//! | module | what it decides |
//! | --- | --- |
//! | [`anti_entropy`] | which replica of a document is right, where replicas differ |
//! | [`copying`] | copies of shards while writes go on: what is written, when both are equal |
//! | [`documents`] | payloads: formats, ids, reserved fields, what a node would refuse |
//! | [`filter`] | the filter language, and which shards a filter can match in |
//! | [`mod@format`] | marks of a half-typed last word as one node writes them |
//! | [`routing`] | keys to shards, shards to nodes, covers, how replicas compare |
//! | [`topology`] | nodes, groups, statuses and their transitions |
//! | [`view`] | which replicas a request may read, and which come first |
//! | [`merge`] | hits, facets, totals and documents of several nodes as one page |
//! | [`quorum`] | whether a write is acknowledged |
//! | [`hints`] | what layers ask of routing, merged by priority |
//! | [`keys`] | API keys and tenant tokens, derived and judged |
//! | [`options`] | how options are written, checked and switched off |
//! | [`lock`] | nothing: the locks that all crates use |

pub mod anti_entropy;
pub mod copying;
pub mod documents;
pub mod filter;
pub mod format;
pub mod hints;
pub mod keys;
pub mod lock;
pub mod merge;
pub mod options;
pub mod quorum;
pub mod routing;
pub mod topology;
pub mod view;
