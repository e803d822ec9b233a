//! How far each sink has read the changes of each index.

use super::{ALWAYS, PutOptions, Table, Typed};
use crate::{StoreError, StoreFuture};

/// Cursors of sinks. One per sink and index.
pub trait Cursors: Send + Sync + std::fmt::Debug {
    /// The number of the last change a sink has taken; `None` if it took none.
    fn get(&self, sink: &str, index: &str) -> StoreFuture<'_, Option<u64>>;
    /// Says that it has taken changes up to this one. Never goes backwards.
    fn advance(&self, sink: &str, index: &str, number: u64) -> StoreFuture<'_, ()>;
    /// All cursors: sink, index, number.
    fn list(&self) -> StoreFuture<'_, Vec<(String, String, u64)>>;
    /// Forgets a cursor.
    fn forget(&self, sink: &str, index: &str) -> StoreFuture<'_, ()>;
}

/// Names of indexes have no colon.
fn key(sink: &str, index: &str) -> String {
    format!("{sink}:{index}")
}

impl Cursors for Typed {
    fn get(&self, sink: &str, index: &str) -> StoreFuture<'_, Option<u64>> {
        let key = key(sink, index);
        Box::pin(async move { self.one(Table::CdcCursors, &key, ALWAYS).await })
    }

    fn advance(&self, sink: &str, index: &str, number: u64) -> StoreFuture<'_, ()> {
        let key = key(sink, index);
        Box::pin(async move {
            let decide =
                |found: Option<u64>| found.is_none_or(|known| known < number).then_some(number);
            self.change(Table::CdcCursors, &key, PutOptions::default(), ALWAYS, decide).await
        })
    }

    fn list(&self) -> StoreFuture<'_, Vec<(String, String, u64)>> {
        Box::pin(async move {
            let records = self.records.list(Table::CdcCursors, ALWAYS).await?;
            let row = |record: super::Record| {
                let odd = || StoreError::Backend("a cursor without an index".into());
                let (sink, index) = record.key.rsplit_once(':').ok_or_else(odd)?;
                let number = record.value.as_u64().ok_or_else(odd)?;
                Ok((sink.to_owned(), index.to_owned(), number))
            };
            records.into_iter().map(row).collect()
        })
    }

    fn forget(&self, sink: &str, index: &str) -> StoreFuture<'_, ()> {
        let key = key(sink, index);
        Box::pin(async move {
            self.records.delete(Table::CdcCursors, &key, None, ALWAYS).await.map(drop)
        })
    }
}
