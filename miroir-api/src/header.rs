//! Names of every header Miroir reads or sets, in lower case.

/// Response. What a write or a read could not reach; absent means complete.
pub const DEGRADED: &str = "x-miroir-degraded";
/// Response. Committed settings version of the index.
pub const SETTINGS_VERSION: &str = "x-miroir-settings-version";
/// Request. Oldest settings version the client accepts.
pub const MIN_SETTINGS_VERSION: &str = "x-miroir-min-settings-version";
/// Request. Each leaf of a search by vector is asked for this many times the hits needed.
pub const OVER_FETCH: &str = "x-miroir-over-fetch";
/// Request. Names a session, whose reads show its writes.
pub const SESSION: &str = "x-miroir-session";
/// Response. A session's last write was waited for in vain and may be missing.
pub const SESSION_STALE: &str = "x-miroir-session-stale";
/// Request. Makes a change that is sent again the same change.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Response. What was answered to the same request before.
pub const IDEMPOTENCY_REPLAYED: &str = "x-miroir-idempotency-replayed";
/// Response. Answered while a settings broadcast was in flight.
pub const SETTINGS_INCONSISTENT: &str = "x-miroir-settings-inconsistent";
/// Response to a search that is explained. Settings are being changed; the plan names the version
/// committed last.
pub const SETTINGS_PENDING: &str = "x-miroir-settings-pending";
/// Request, and response to a request that had it. Id of the request, for logs and traces.
pub const REQUEST_ID: &str = "x-request-id";
/// Response. Id of the request under a name that no other server sets.
pub const MIROIR_REQUEST_ID: &str = "x-miroir-request-id";
/// Request. The operator's key, instead of a bearer token.
pub const ADMIN_KEY: &str = "x-admin-key";
/// Request. Meilisearch's switch for the `metadata` object in search answers.
pub const INCLUDE_METADATA: &str = "meili-include-metadata";
/// Request to nodes. Makes a node attach sort values to fetched documents.
pub const PROXY_SEARCH: &str = "meili-proxy-search";
/// Request. The tenant it is of, unless `tenant_affinity.header_name` is another header.
pub const TENANT: &str = "x-miroir-tenant";
