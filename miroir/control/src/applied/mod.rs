//! What every node has to have beside its indexes, brought to nodes that lack it.

pub(crate) mod features;
pub(crate) mod search_rules;
