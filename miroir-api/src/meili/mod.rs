//! Meilisearch's API as far as Miroir has to understand it.

mod error;
mod key;
mod task;

pub use error::{ApiError, ErrorType};
pub use key::{IndexPattern, InvalidIndexPattern, KeyAction, KeyScope};
pub use task::{SummarizedTask, TaskKind, TaskStatus, TaskView};
