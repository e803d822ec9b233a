//! Which paths are whose.

/// Below it the operator's API lies.
pub(super) const ADMIN: &str = "/_miroir";

/// Whether a path belongs to the operator's API.
pub(super) fn is_admin(path: &str) -> bool {
    path.strip_prefix(ADMIN).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether an orchestrator asks there how the process is doing.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(path, "/health" | "/_miroir/ready")
}
