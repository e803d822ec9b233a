//! Queues, by Redis' own clock: a hash per job, and two sorted sets per queue.

use std::sync::Arc;
use std::time::Duration;

use miroir_store::{Claim, Job, Jobs, NewJob, StoreError, StoreFuture};
use redis::Value;
use serde_json::Value as Json;
use time::OffsetDateTime;

use crate::connection::{Args, SharedConnection, decode, number};
use crate::error::RedisFailure;
use crate::scripts::{
    JOBS_ADVANCE, JOBS_CLAIM, JOBS_FAIL, JOBS_FINISH, JOBS_LIST, JOBS_PUT, JOBS_REMOVE,
};

#[derive(Debug)]
pub(crate) struct RedisJobs(pub(crate) Arc<SharedConnection>);

fn push(args: &mut Args, jobs: &[NewJob]) {
    for job in jobs {
        args.push(&job.id);
        args.push(&job.kind);
        args.push(&job.payload);
    }
}

fn job(row: &[String]) -> Result<Job, StoreError> {
    let [id, kind, payload, cursor, attempt, error] = row else {
        return Err(RedisFailure::odd("a job with other fields").into());
    };
    Ok(Job {
        id: id.clone(),
        kind: kind.clone(),
        payload: decode(payload)?,
        cursor: decode(cursor)?,
        attempt: attempt.parse().map_err(RedisFailure::odd)?,
        error: (!error.is_empty()).then(|| error.clone()),
    })
}

fn named(claim: &Claim) -> Args {
    Args::new().with(&claim.id).with(claim.attempt)
}

impl Jobs for RedisJobs {
    fn put(&self, jobs: Vec<NewJob>) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let mut args = Args::new();
            push(&mut args, &jobs);
            number(self.0.script(&JOBS_PUT, args).await?)
        })
    }

    fn claim(&self, kind: &str, _: OffsetDateTime, ttl: Duration) -> StoreFuture<'_, Option<Job>> {
        let args = Args::new().with(kind).with(ttl.as_millis());
        Box::pin(async move {
            let row = crate::connection::texts(self.0.script(&JOBS_CLAIM, args).await?)?;
            if row.is_empty() { Ok(None) } else { job(&row).map(Some) }
        })
    }

    fn advance(
        &self,
        claim: &Claim,
        cursor: Json,
        _: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, bool> {
        let args = named(claim).with(cursor).with(ttl.as_millis());
        Box::pin(async move { Ok(number(self.0.script(&JOBS_ADVANCE, args).await?)? == 1) })
    }

    fn finish(
        &self,
        claim: &Claim,
        follow: Vec<NewJob>,
        _: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        let mut args = named(claim);
        push(&mut args, &follow);
        Box::pin(async move { Ok(number(self.0.script(&JOBS_FINISH, args).await?)? == 1) })
    }

    fn fail(
        &self,
        claim: &Claim,
        reason: String,
        for_good: bool,
        _: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        // An empty text would be none.
        let reason = if reason.is_empty() { "unknown".to_owned() } else { reason };
        let args = named(claim).with(u8::from(for_good)).with(reason);
        Box::pin(async move { Ok(number(self.0.script(&JOBS_FAIL, args).await?)? == 1) })
    }

    fn list(&self, kind: &str) -> StoreFuture<'_, Vec<Job>> {
        let args = Args::new().with(kind);
        Box::pin(async move {
            let value: Value = self.0.script(&JOBS_LIST, args).await?;
            let rows: Vec<Vec<String>> =
                redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            rows.iter().map(|row| job(row)).collect()
        })
    }

    fn remove(&self, id: &str) -> StoreFuture<'_, bool> {
        let args = Args::new().with(id);
        Box::pin(async move { Ok(number(self.0.script(&JOBS_REMOVE, args).await?)? == 1) })
    }
}
