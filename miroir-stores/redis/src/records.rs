//! Tables of JSON records: a text each, which Redis forgets by itself, and an index per table.

use std::sync::Arc;

use miroir_store::records::{Expected, PutOptions, Record, Records, Table, expect_feature};
use miroir_store::{StoreError, StoreFuture};
use redis::cmd;
use time::OffsetDateTime;

use crate::connection::{Args, SharedConnection, decode, number, text};
use crate::error::RedisFailure;
use crate::scripts::{
    RECORDS_COUNT, RECORDS_DELETE, RECORDS_DELETE_ANY, RECORDS_LIST, RECORDS_PRUNE, RECORDS_PUT,
    RECORDS_PUT_ANY,
};

#[derive(Debug)]
pub(crate) struct RedisRecords {
    pub(crate) connection: Arc<SharedConnection>,
    /// The features whose tables are there.
    pub(crate) features: Vec<&'static str>,
}

/// What the names of a table's keys begin with.
fn stem(table: Table) -> &'static str {
    match table {
        Table::Sessions => "session",
        Table::Idempotency => "idemp",
        Table::Canaries => "canary",
        Table::CdcCursors => "cdc_cursor",
        Table::RolloverPolicies => "rollover",
        Table::AdminSessions => "admin_session",
        Table::AdminLoginBackoff => "ratelimit:adminlogin:backoff",
        table => table.name(),
    }
}

fn record(key: String, version: &str, value: &str) -> Result<Record, StoreError> {
    Ok(Record { key, version: version.parse().map_err(RedisFailure::odd)?, value: decode(value)? })
}

impl Records for RedisRecords {
    fn get(&self, table: Table, key: &str, _: OffsetDateTime) -> StoreFuture<'_, Option<Record>> {
        let key = key.to_owned();
        Box::pin(async move {
            expect_feature(&self.features, table.feature())?;
            let name = self.connection.key(format_args!("{}:{key}", stem(table)));
            let Some(stored) = text(self.connection.read(cmd("GET").arg(name)).await?)? else {
                return Ok(None);
            };
            let odd = || RedisFailure::odd("a record without a version");
            let (version, value) = stored.split_once(' ').ok_or_else(odd)?;
            record(key, version, value).map(Some)
        })
    }

    fn list(&self, table: Table, _: OffsetDateTime) -> StoreFuture<'_, Vec<Record>> {
        Box::pin(async move {
            expect_feature(&self.features, table.feature())?;
            let value =
                self.connection.script(&RECORDS_LIST, Args::new().with(stem(table))).await?;
            let rows: Vec<(String, String, String)> =
                redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            let mut records = rows
                .into_iter()
                .map(|(key, version, value)| record(key, &version, &value))
                .collect::<Result<Vec<_>, _>>()?;
            records.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            Ok(records)
        })
    }

    fn put(
        &self,
        table: Table,
        key: &str,
        value: serde_json::Value,
        terms: PutOptions,
        _: OffsetDateTime,
    ) -> StoreFuture<'_, Option<u64>> {
        let mut args = Args::new().with(stem(table)).with(key).with(value);
        args.push(match terms.expected {
            Expected::Anything => String::new(),
            Expected::Nothing => "0".to_owned(),
            Expected::Version(version) => version.to_string(),
        });
        // At least one: nothing lives for no time.
        args.push(terms.ttl.map_or_else(String::new, |ttl| ttl.as_millis().max(1).to_string()));
        args.push(terms.max_records.map_or_else(String::new, |most| most.to_string()));
        let script = if table.is_the_leaders() { &RECORDS_PUT } else { &RECORDS_PUT_ANY };
        Box::pin(async move {
            expect_feature(&self.features, table.feature())?;
            let version = number(self.connection.script(script, args).await?)?;
            Ok((version > 0).then_some(version))
        })
    }

    fn delete(
        &self,
        table: Table,
        key: &str,
        version: Option<u64>,
        _: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        let mut args = Args::new().with(stem(table)).with(key);
        args.push(version.map_or_else(String::new, |version| version.to_string()));
        let script = if table.is_the_leaders() { &RECORDS_DELETE } else { &RECORDS_DELETE_ANY };
        Box::pin(async move {
            expect_feature(&self.features, table.feature())?;
            Ok(number(self.connection.script(script, args).await?)? == 1)
        })
    }

    fn count(&self, table: Table, _: OffsetDateTime) -> StoreFuture<'_, u64> {
        let args = Args::new().with(stem(table));
        Box::pin(async move {
            expect_feature(&self.features, table.feature())?;
            number(self.connection.script(&RECORDS_COUNT, args).await?)
        })
    }

    fn prune(&self, table: Table, _: OffsetDateTime) -> StoreFuture<'_, u64> {
        let args = Args::new().with(stem(table));
        Box::pin(async move {
            expect_feature(&self.features, table.feature())?;
            number(self.connection.script(&RECORDS_PRUNE, args).await?)
        })
    }
}
