//! Merging what leaves answered into what one node holding every document would have answered.
//!
//! Everything here takes values and returns values. Documents stay the bytes they came in as.
//!
//! | file | what it merges |
//! | --- | --- |
//! | `page`, `hit` | one leaf's search answer: where its hits are, and what is behind them |
//! | `scan`, `lex` | finds the pieces of an answer |
//! | `details`, `entry` | score details |
//! | `score`, `order` | absolute costs behind details, the order of hits |
//! | `hits`, `distinct`, `render` | the hits of a search |
//! | `distinct_scan` | which distinct values one node looks at for a page |
//! | `distinct_count` | which candidates are left of a list of all of them |
//! | `facets`, `facet_options`, `namesakes`, `spellings`, `disputed` | facet distributions and statistics |
//! | `facet_search` | facet searches |
//! | `normalize`, `facet_value` | when values are equal, and filters that mean them |
//! | `frequency` | which words `matchingStrategy: frequency` drops |
//! | `threshold` | how many hits `rankingScoreThreshold` leaves |
//! | `response` | the whole body of a search answer |
//! | `hybrid`, `similar` | the halves of a hybrid search; documents like another |
//! | `federated`, `cross_query` | hits of different queries as one list |
//! | `documents`, `stats` | document listings, index statistics |

mod cross_query;
mod details;
mod disputed;
mod distinct;
mod distinct_count;
mod distinct_scan;
mod documents;
mod entry;
mod facet_options;
mod facet_search;
mod facet_tree;
mod facet_value;
mod facets;
mod federated;
mod frequency;
mod hit;
mod hits;
mod hybrid;
mod lex;
mod namesakes;
mod normalize;
mod order;
mod page;
mod query_shape;
mod render;
mod response;
mod scan;
mod score;
mod similar;
mod spellings;
mod stats;
#[cfg(test)]
mod tests;
mod threshold;

pub use disputed::{Disputed, first_spelling};
pub use distinct::distinct_total;
pub use distinct_count::candidates_left;
pub use distinct_scan::{ScannedHits, apportion, hidden_behind, scan_hits, total_at_the_end};
pub use documents::{DocumentOptions, merge_documents, strip_reserved};
pub use facet_options::{FacetOptions, FacetOrder};
pub use facet_search::{FacetHits, FacetSearchOptions};
pub use facet_value::{FacetValue, any_of, none_of, numeral_strings, quoted};
pub use facets::{
    ClosedCount, MergedFacets, OpenValue, count_facets, merge_facets, merge_facets_apart,
};
pub use federated::{
    FederatedHits, FederatedOptions, FederatedQuery, merge_federated, write_federated_hit,
};
pub use frequency::{Count, Level, QueryTerms, frequencies, relevel};
pub use hit::Hit;
pub use hits::{HitOptions, MergedHits, Placed, merge_hits};
pub use hybrid::{Fusion, HybridOptions, merge_hybrid};
pub use namesakes::{FacetList, Namesakes, ToldApart, counts_of, doubtful_numbers, tell_apart};
#[cfg(test)]
pub(crate) use normalize::facet as facet_normal_form;
pub use page::{LeafFacet, Page};
pub use query_shape::QueryShape;
pub use response::{Facets, MergeRequest, Pagination, merge_search, write_search};
pub use score::RankingInfo;
pub use similar::{SimilarRequest, merge_similar};
pub use stats::{IndexStats, merge_stats};
pub use threshold::{Judged, judge};
