//! Queues, by the caller's clock.

use std::sync::Arc;
use std::time::Duration;

use miroir_store::{Claim, Job, Jobs, NewJob, StoreFuture};
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;
use time::OffsetDateTime;

use crate::database::{Database, Fault, nanoseconds};

#[derive(Debug)]
pub(crate) struct SqliteJobs(pub(crate) Arc<Database>);

/// A claim that still counts: its job is `?1`, its attempt `?2`, now `?3`.
const CLAIMED: &str = "id = ?1 AND attempt = ?2 AND claimed_until > ?3";

const COLUMNS: &str = "id, kind, payload, cursor, attempt, error";

fn job(row: &Row<'_>) -> Result<Job, Fault> {
    Ok(Job {
        id: row.get(0)?,
        kind: row.get(1)?,
        payload: serde_json::from_str(&row.get::<_, String>(2)?)?,
        cursor: serde_json::from_str(&row.get::<_, String>(3)?)?,
        attempt: u64::try_from(row.get::<_, i64>(4)?)?,
        error: row.get(5)?,
    })
}

fn add(connection: &Connection, jobs: &[NewJob]) -> Result<u64, Fault> {
    let mut new = 0;
    for job in jobs {
        new += connection
            .prepare_cached(
                "INSERT INTO jobs (id, kind, payload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            )?
            .execute((&job.id, &job.kind, job.payload.to_string()))? as u64;
    }
    Ok(new)
}

impl Jobs for SqliteJobs {
    fn put(&self, jobs: Vec<NewJob>) -> StoreFuture<'_, u64> {
        Box::pin(self.0.write(move |connection| add(connection, &jobs)))
    }

    fn claim(
        &self,
        kind: &str,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Option<Job>> {
        let kind = kind.to_owned();
        Box::pin(self.0.write(move |connection| {
            let sql = format!(
                "UPDATE jobs SET attempt = attempt + 1, claimed_until = ?3
                 WHERE number = (
                     SELECT number FROM jobs
                     WHERE kind = ?1 AND error IS NULL
                         AND (claimed_until IS NULL OR claimed_until <= ?2)
                     ORDER BY claimed_until IS NOT NULL, claimed_until, number LIMIT 1
                 ) RETURNING {COLUMNS}"
            );
            let (now, until) = (nanoseconds(now)?, nanoseconds(now + ttl)?);
            connection
                .prepare_cached(&sql)?
                .query_row((kind, now, until), |row| Ok(job(row)))
                .optional()?
                .transpose()
        }))
    }

    fn advance(
        &self,
        claim: &Claim,
        cursor: Value,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, bool> {
        let claim = claim.clone();
        Box::pin(self.0.write(move |connection| {
            let sql = format!("UPDATE jobs SET cursor = ?4, claimed_until = ?5 WHERE {CLAIMED}");
            let changed = connection.prepare_cached(&sql)?.execute((
                claim.id,
                i64::try_from(claim.attempt)?,
                nanoseconds(now)?,
                cursor.to_string(),
                nanoseconds(now + ttl)?,
            ))?;
            Ok(changed == 1)
        }))
    }

    fn finish(
        &self,
        claim: &Claim,
        follow: Vec<NewJob>,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        let claim = claim.clone();
        Box::pin(self.0.write(move |connection| {
            let attempt = i64::try_from(claim.attempt)?;
            let deleted = connection
                .prepare_cached(&format!("DELETE FROM jobs WHERE {CLAIMED}"))?
                .execute((claim.id, attempt, nanoseconds(now)?))?;
            if deleted == 1 {
                add(connection, &follow)?;
            }
            Ok(deleted == 1)
        }))
    }

    fn fail(
        &self,
        claim: &Claim,
        reason: String,
        for_good: bool,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        let claim = claim.clone();
        Box::pin(self.0.write(move |connection| {
            let sql = format!("UPDATE jobs SET claimed_until = NULL, error = ?4 WHERE {CLAIMED}");
            let changed = connection.prepare_cached(&sql)?.execute((
                claim.id,
                i64::try_from(claim.attempt)?,
                nanoseconds(now)?,
                for_good.then_some(reason),
            ))?;
            Ok(changed == 1)
        }))
    }

    fn list(&self, kind: &str) -> StoreFuture<'_, Vec<Job>> {
        let kind = kind.to_owned();
        Box::pin(self.0.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM jobs WHERE kind = ? ORDER BY number");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([kind], |row| Ok(job(row)))?;
            rows.map(|row| row?).collect()
        }))
    }

    fn remove(&self, id: &str) -> StoreFuture<'_, bool> {
        let id = id.to_owned();
        Box::pin(self.0.write(move |connection| {
            let deleted =
                connection.prepare_cached("DELETE FROM jobs WHERE id = ?")?.execute([id])?;
            Ok(deleted == 1)
        }))
    }
}
