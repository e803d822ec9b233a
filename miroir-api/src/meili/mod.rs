//! Meilisearch's API as far as Miroir has to understand it.

mod codes;
mod error;
mod key;
mod task;

pub use codes::{OWN, OwnCode};
pub use error::{ApiError, ErrorType};
pub use key::{IndexPattern, InvalidIndexPattern, KeyAction, KeyScope};
pub use task::{SummarizedTask, TaskKind, TaskStatus, TaskView};
