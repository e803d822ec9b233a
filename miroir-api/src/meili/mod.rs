//! Meilisearch's API as far as Miroir has to understand it.

mod error;
mod task;

pub use error::{ApiError, ErrorType};
pub use task::{SummarizedTask, TaskKind, TaskStatus, TaskView};
