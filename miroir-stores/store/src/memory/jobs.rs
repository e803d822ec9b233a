//! Queues.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::Shared;
use crate::{Claim, Job, Jobs, NewJob, StoreFuture};

#[derive(Clone, Debug)]
struct Row {
    job: Job,
    /// The end of its claim, if it is claimed.
    until: Option<OffsetDateTime>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    next: u64,
    /// In the order they came.
    rows: BTreeMap<u64, Row>,
}

impl Rows {
    fn add(&mut self, jobs: Vec<NewJob>) -> u64 {
        let mut new = 0;
        for NewJob { id, kind, payload } in jobs {
            if self.rows.values().any(|row| row.job.id == id) {
                continue;
            }
            let job = Job { id, kind, payload, cursor: Value::Null, attempt: 0, error: None };
            self.rows.insert(self.next, Row { job, until: None });
            self.next += 1;
            new += 1;
        }
        new
    }

    /// The row of a claim that counts.
    fn claimed(&mut self, claim: &Claim, now: OffsetDateTime) -> Option<(u64, &mut Row)> {
        self.rows.iter_mut().map(|(at, row)| (*at, row)).find(|(_, row)| {
            row.job.id == claim.id
                && row.job.attempt == claim.attempt
                && row.until.is_some_and(|until| until > now)
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct JobQueue(pub(super) Shared<Rows>);

impl Jobs for JobQueue {
    fn put(&self, jobs: Vec<NewJob>) -> StoreFuture<'_, u64> {
        self.0.answer(|rows| rows.add(jobs))
    }

    fn claim(
        &self,
        kind: &str,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Option<Job>> {
        let kind = kind.to_owned();
        self.0.answer(move |rows| {
            let open = rows.rows.iter_mut().filter(|(_, row)| {
                row.job.kind == kind
                    && row.job.error.is_none()
                    && row.until.is_none_or(|until| until <= now)
            });
            let (_, row) = open.min_by_key(|(at, row)| (row.until, **at))?;
            row.job.attempt += 1;
            row.until = Some(now + ttl);
            Some(row.job.clone())
        })
    }

    fn advance(
        &self,
        claim: &Claim,
        cursor: Value,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, bool> {
        let claim = claim.clone();
        self.0.answer(move |rows| {
            let Some((_, row)) = rows.claimed(&claim, now) else { return false };
            row.job.cursor = cursor;
            row.until = Some(now + ttl);
            true
        })
    }

    fn finish(
        &self,
        claim: &Claim,
        follow: Vec<NewJob>,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        let claim = claim.clone();
        self.0.answer(move |rows| {
            let Some((at, _)) = rows.claimed(&claim, now) else { return false };
            rows.rows.remove(&at);
            rows.add(follow);
            true
        })
    }

    fn fail(
        &self,
        claim: &Claim,
        reason: String,
        for_good: bool,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        let claim = claim.clone();
        self.0.answer(move |rows| {
            let Some((_, row)) = rows.claimed(&claim, now) else { return false };
            row.until = None;
            row.job.error = for_good.then_some(reason);
            true
        })
    }

    fn list(&self, kind: &str) -> StoreFuture<'_, Vec<Job>> {
        let kind = kind.to_owned();
        self.0.answer(move |rows| {
            let own = rows.rows.values().filter(|row| row.job.kind == kind);
            own.map(|row| row.job.clone()).collect()
        })
    }

    fn remove(&self, id: &str) -> StoreFuture<'_, bool> {
        let id = id.to_owned();
        self.0.answer(move |rows| {
            let before = rows.rows.len();
            rows.rows.retain(|_, row| row.job.id != id);
            rows.rows.len() < before
        })
    }
}
