//! Which tenant a request says it is of.

use std::sync::Arc;

use miroir_api::GroupId;
use miroir_pipeline::extension::Extension;

/// The tenant of a request; in its [`Context`](miroir_pipeline::Context). What follows from it for the
/// answer is in the hints, so that requests of two tenants may share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTenant {
    /// Its name.
    pub name: Arc<str>,
    /// Whether the operator named it for this key; a header is whatever the client wrote.
    pub listed: bool,
    /// The group its reads go to, where the operator said which.
    pub group: Option<GroupId>,
}

impl Extension for NamedTenant {}
