//! Marks of a half-typed last word: `_formatted` and `_matchesPosition` as one node writes them.
//!
//! A node marks words that begin with the unfinished last word of a query. If it knows many words
//! with that beginning it keeps a table of them, and then marks them only if the beginning is a word
//! of its own. Nodes that hold a part of an index know fewer words, so they decide differently from
//! each other and from one node with everything. What the whole decides is settled here, and hits
//! whose node decided otherwise are marked anew, from the node's own positions. What a node's text
//! cannot be reproduced from stays as the node wrote it.
//!
//! | file | |
//! | --- | --- |
//! | `words` | how an index's texts are cut into words |
//! | `typed` | the words of a query, and the beginnings among them |
//! | `matches` | matches in one text, read from positions and settled |
//! | `crop` | which part of a text is shown |
//! | `render` | one text with marks and crops |
//! | `tree` | JSON whose scalars stay as they were written |
//! | `hit` | a hit's marks: corrected, or read for what its node decided |
//! | `shown` | what a client asked to see of a hit |

mod crop;
mod hit;
mod matches;
mod render;
mod shown;
#[cfg(test)]
mod tests;
mod tree;
mod typed;
mod words;

pub use hit::{Marking, rewrite};
pub use render::Formatting;
pub use shown::Shown;
pub use typed::{Beginning, Mark, Typed};
pub use words::WordRules;
