//! What a client and its index say about facets.

use indexmap::IndexMap;

/// `sortFacetValuesBy`: the order in which the values of a facet are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FacetOrder {
    /// By value, ascending.
    #[default]
    Alpha,
    /// By count, largest first.
    Count,
}

/// What the merge of facets needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FacetOptions {
    /// The client's `maxValuesPerFacet`: values a facet shows at most.
    pub max_values_per_facet: usize,
    /// The order per facet; `"*"` for all others (alphabetical when absent).
    pub sort_by: IndexMap<String, FacetOrder>,
    /// The `maxValuesPerFacet` of the nodes, at least the client's.
    pub node_limit: usize,
    /// Whether every document of the index is a candidate.
    pub everything: bool,
    /// Facets Miroir asked for on its own behalf.
    pub drop_facets: Vec<String>,
}

impl FacetOptions {
    /// The order of a facet's values.
    #[must_use]
    pub fn order(&self, facet: &str) -> FacetOrder {
        self.sort_by.get(facet).or_else(|| self.sort_by.get("*")).copied().unwrap_or_default()
    }
}
