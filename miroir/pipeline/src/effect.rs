//! What a call, a request or a route does to what is stored.

/// Whether something changes anything, in the stores or on nodes. Only the pod that leads may change
/// something; any pod may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It changes nothing, and may be asked anywhere and again.
    Read,
    /// It may change something.
    Change,
}
