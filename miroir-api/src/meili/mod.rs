//! Meilisearch's API as far as Miroir has to understand it.

mod codes;
mod docs;
mod error;
mod error_type;
mod key;
mod task;

pub use codes::{OWN, OwnCode};
pub use docs::{DEFAULT_DOCS_BASE, errors_page, set_docs_base};
pub use error::ApiError;
pub use error_type::ErrorType;
pub use key::{IndexPattern, InvalidIndexPattern, KeyAction, KeyScope};
pub use task::{SummarizedTask, TaskKind, TaskStatus, TaskView};
