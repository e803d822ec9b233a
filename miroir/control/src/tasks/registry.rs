//! Reading the registry in pages, so that no call holds more than a page of it.

use std::sync::Arc;

use miroir_api::meili::TaskStatus;
use miroir_store::open_tasks::OpenTasks;
use miroir_store::{StoreError, TaskQuery, Tasks};

/// Tasks per call.
const PAGE: usize = 1000;

/// Reads all unfinished tasks into memory.
///
/// # Errors
/// When the store fails. What was read until then stays.
pub(crate) async fn read(tasks: &Arc<dyn Tasks>, open: &OpenTasks) -> Result<(), StoreError> {
    let mut from = None;
    loop {
        let query = TaskQuery {
            statuses: Some(vec![TaskStatus::Enqueued, TaskStatus::Processing]),
            reverse: true,
            limit: PAGE,
            from,
            ..TaskQuery::default()
        };
        let page = tasks.list(query).await?;
        open.read(&page.tasks);
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(()),
        }
    }
}
