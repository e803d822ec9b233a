//! The index catalogue.

use std::sync::Arc;

use miroir_api::IndexUid;
use miroir_store::{IndexChange, IndexEntry, Indexes, StoreError, StoreFuture};
use redis::cmd;

use crate::connection::{Args, SharedConnection, decode, encode, number, text, texts};
use crate::scripts::{INDEXES_CHANGE, INDEXES_LIST};

#[derive(Debug)]
pub(crate) struct RedisIndexes(pub(crate) Arc<SharedConnection>);

impl RedisIndexes {
    async fn write(&self, changes: Vec<IndexChange>) -> Result<bool, StoreError> {
        let mut args = Args::new();
        for change in &changes {
            args.push(&change.name);
            args.push(change.expected.map(|version| version.to_string()).unwrap_or_default());
            if let Some(entry) = &change.entry {
                args.push(entry.version);
                args.push(encode(entry)?);
            } else {
                args.push("");
                args.push("");
            }
        }
        Ok(number(self.0.script(&INDEXES_CHANGE, args).await?)? == 1)
    }
}

impl Indexes for RedisIndexes {
    fn get(&self, name: &IndexUid) -> StoreFuture<'_, Option<IndexEntry>> {
        let key = self.0.key(format_args!("index:{name}"));
        Box::pin(async move {
            let record = text(self.0.read(cmd("HGET").arg(key).arg("record")).await?)?;
            record.as_deref().map(decode).transpose()
        })
    }

    fn list(&self) -> StoreFuture<'_, Vec<IndexEntry>> {
        Box::pin(async move {
            let records = texts(self.0.script(&INDEXES_LIST, Args::new()).await?)?;
            records.iter().map(|record| decode(record)).collect()
        })
    }

    fn put(&self, entry: IndexEntry, expected: Option<u64>) -> StoreFuture<'_, bool> {
        let change = IndexChange { name: entry.name.clone(), expected, entry: Some(entry) };
        Box::pin(self.write(vec![change]))
    }

    fn delete(&self, name: &IndexUid, expected: u64) -> StoreFuture<'_, bool> {
        let change = IndexChange { name: name.clone(), expected: Some(expected), entry: None };
        Box::pin(self.write(vec![change]))
    }

    fn change(&self, changes: Vec<IndexChange>) -> StoreFuture<'_, bool> {
        Box::pin(self.write(changes))
    }
}
