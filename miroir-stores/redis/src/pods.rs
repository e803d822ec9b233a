//! Pods, by Redis' own clock: two hashes, an epoch and a list of notes.

use std::sync::Arc;
use std::time::Duration;

use miroir_store::{Part, PodReport, Pods, Roster, StoreError, StoreFuture};
use redis::Value;
use serde_json::Value as Json;
use time::OffsetDateTime;

use crate::connection::{Args, SharedConnection, decode, encode, number, texts};
use crate::error::RedisFailure;
use crate::scripts::{NOTES_PUT, NOTES_TAKE, PODS_LEAVE, PODS_RAISE, PODS_REPORT, PODS_ROSTER};

#[derive(Debug)]
pub(crate) struct RedisPods(pub(crate) Arc<SharedConnection>);

fn roster(value: Value) -> Result<Roster, StoreError> {
    let mut lines = texts(value)?.into_iter();
    let epoch = lines.next().ok_or_else(|| RedisFailure::odd("no epoch"))?;
    let epoch = epoch.parse().map_err(RedisFailure::odd)?;
    let accepted = lines.next().is_some_and(|line| line == "1");
    let parts = lines.next().ok_or_else(|| RedisFailure::odd("no parts"))?;
    let part = |text: &str| {
        let (name, epoch) = text.split_once('=')?;
        let part = Part::ALL.into_iter().find(|part| part.as_str() == name)?;
        Some((part, epoch.parse().ok()?))
    };
    // Parts of a newer version are none of this one's.
    let parts = parts.split(' ').filter_map(part).collect();
    let mut pods: Vec<PodReport> = lines.map(|report| decode(&report)).collect::<Result<_, _>>()?;
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Roster { epoch, parts, accepted, pods })
}

impl Pods for RedisPods {
    fn report(
        &self,
        pod: PodReport,
        _now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Roster> {
        Box::pin(async move {
            let seen = pod.seen.map(|seen| seen.to_string()).unwrap_or_default();
            let args = Args::new().with(&pod.name).with(encode(&pod)?).with(seen);
            roster(self.0.script(&PODS_REPORT, args.with(ttl.as_millis())).await?)
        })
    }

    fn roster(&self, _now: OffsetDateTime) -> StoreFuture<'_, Roster> {
        Box::pin(async move { roster(self.0.script(&PODS_ROSTER, Args::new()).await?) })
    }

    fn bump_epoch(&self, parts: &[Part]) -> StoreFuture<'_, u64> {
        let mut args = Args::new();
        for part in parts {
            args.push(part.as_str());
        }
        Box::pin(async move { number(self.0.script(&PODS_RAISE, args).await?) })
    }

    fn leave(&self, name: &str) -> StoreFuture<'_, ()> {
        let args = Args::new().with(name);
        Box::pin(async move { self.0.script(&PODS_LEAVE, args).await.map(|_| ()) })
    }

    fn note(&self, note: Json) -> StoreFuture<'_, ()> {
        let args = Args::new().with(note);
        Box::pin(async move { self.0.script(&NOTES_PUT, args).await.map(|_| ()) })
    }

    fn take_notes(&self) -> StoreFuture<'_, Vec<Json>> {
        Box::pin(async move {
            let notes = texts(self.0.script(&NOTES_TAKE, Args::new()).await?)?;
            notes.iter().map(|note| decode(note)).collect()
        })
    }
}
