//! Sends a tenant's reads to one replica group, so that one who asks a lot slows nobody else.
//!
//! Every group holds every document, so which group answers changes no answer; it decides whose
//! machines are busy. Writes go to all groups, as always.
//!
//! | the tenant | its reads |
//! | --- | --- |
//! | has a group, by its API key or the static map | that group |
//! | has a name but no group, mode `header` and fallback `hash` | a group by the hash of its name |
//! | is of an API key that is mapped without a group | a group by the hash of its name |
//! | anybody else | as the fallback says: by hash, in turn, or refused |
//!
//! *Dedicated* groups are for tenants that were given them by name; nobody else reads from one, and
//! neither failover nor hedging goes there for others.
//!
//! A tenant's reads stay in its group as long as that holds every shard on a node that is up, also
//! where the group is slow: otherwise a tenant that floods its own group would go on in the next one.
//! For what has no node left in it, groups that are not dedicated stand in.
//!
//! # Stage
//! Index, reads of clients. Writes and Miroir's own requests pass untouched.
//!
//! # Order
//! Inside of `session_pinning`: a session's `Must` wins, and is counted here. `query_coalescing`
//! and whatever else compares hints belongs inside.
//!
//! # Context
//! Reads `origin` and [`NamedTenant`], which its codec leaves there: from the header of
//! [`TenantAffinityOptions::header_name`], or from the API key
//! ([`TenantAffinityLayer::keys`]). Writes the hints `group` (as `tenant_affinity`, `Pin`; `Prefer` while
//! the group lacks a shard) and `excluded`.
//!
//! # Errors
//! With `Fallback::Reject`: 400 `miroir_unknown_tenant`, or 401 `miroir_unmapped_key` where tenants
//! are told by their API keys.
//!
//! # Metrics
//! `miroir_tenant_queries_total{tenant,group}`: reads, `group` being `any` where none was chosen.
//! `miroir_tenant_pinned_groups{tenant}`: groups the tenant was sent to since the start.
//! `miroir_tenant_fallback_total{reason}`: `no_tenant`, `unknown`, `no_such_group`, `group_down`.
//! `miroir_tenant_session_pin_override_total{tenant}`: reads that a session took elsewhere.
//!
//! A tenant is shown by name if the operator named it, at most [`MAX_LABELS`] of them besides the
//! static map; the others are `other`, and reads without one `none`.
//!
//! # Example
//! ```
//! use miroir_pipeline::Stack;
//! use miroir_api::GroupId;
//! use miroir_layers::index::{TenantAffinityLayer, TenantAffinityOptions};
//!
//! let options = TenantAffinityOptions {
//!     static_map: [("enterprise-co".to_owned(), GroupId(0))].into(),
//!     dedicated_groups: vec![GroupId(0)],
//!     ..TenantAffinityOptions::default()
//! };
//! let stack = Stack::<miroir_pipeline::index::Request>::new().push(TenantAffinityLayer::new(options));
//! assert_eq!(stack.describe().layers, ["tenant_affinity"]);
//! ```

mod choice;
mod directory;
mod layer;
mod options;
mod source;
mod tenant;
#[cfg(test)]
mod tests;

pub use choice::{Choice, Place, Reason, choose};
pub use directory::{MAX_NAME, TenantDirectory, hash_of, is_name};
pub use layer::{MAX_LABELS, TenantAffinityLayer};
pub use options::{Fallback, Mode, TenantAffinityOptions};
pub use source::TenantSource;
pub use tenant::NamedTenant;
