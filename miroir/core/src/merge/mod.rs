//! Merging what leaves answered into what one node holding every document would have answered.
//!
//! Everything here takes values and returns values. Documents stay the bytes they came in as.
//!
//! | file | what it merges |
//! | --- | --- |
//! | `page` | decodes one leaf's search answer |
//! | `details`, `score`, `order` | score details, absolute costs behind them, the order of hits |
//! | `hits`, `distinct`, `write` | the hits of a search |
//! | `looked` | which distinct values one node looks at for a page |
//! | `facets`, `facet_search` | facet distributions, statistics, facet searches |
//! | `frequency` | which words `matchingStrategy: frequency` drops |
//! | `pages` | the whole body of a search answer |
//! | `hybrid`, `similar` | the halves of a hybrid search; documents like another |
//! | `federated`, `values` | hits of different queries as one list |
//! | `documents`, `stats` | document listings, index statistics |

mod details;
mod distinct;
mod documents;
mod facet_search;
mod facet_tree;
mod facets;
mod federated;
mod frequency;
mod hits;
mod hybrid;
mod looked;
mod normal;
mod order;
mod page;
mod pages;
mod scan;
mod score;
mod shape;
mod similar;
mod stats;
#[cfg(test)]
mod tests;
mod values;
mod write;

pub use distinct::distinct_total;
pub use distinct::quoted;
pub use documents::{DocumentOptions, merge_documents, strip_reserved};
pub use facet_search::{FacetSearchOptions, merge_facet_search};
pub use facets::{Answer, FacetOptions, FacetOrder, MergedFacets, OpenValue, merge_facets};
pub use federated::{
    FederatedHits, FederatedOptions, FederatedQuery, merge_federated, write_federated_hit,
};
pub use frequency::{Count, Level, Terms, frequencies, relevel};
pub use hits::{HitOptions, MergedHits, Placed, merge_hits};
pub use hybrid::{Fusion, HybridOptions, merge_hybrid};
pub use looked::{Looked, apportion, hidden_behind, looked_at};
#[cfg(test)]
#[cfg(test)]
pub(crate) use normal::facet as facet_normal_form;
pub use page::{Hit, LeafFacet, Page};
pub use pages::{Facets, MergeRequest, Pagination, merge_search, write_search};
pub use score::RankingInfo;
pub use shape::Shape;
pub use similar::{SimilarRequest, merge_similar};
pub use stats::{IndexStats, merge_stats};
