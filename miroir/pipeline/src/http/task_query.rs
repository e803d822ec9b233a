//! Parameters that choose tasks and batches.

use std::str::FromStr;

use miroir_api::TaskUid;
use miroir_api::meili::{TaskKind, TaskStatus};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

use super::query::flag;
use crate::query::query_pairs;
use miroir_store::TaskQuery;

/// A comma list; `*` anywhere in it means no restriction. An empty one matches nothing.
fn list<T, C: FromIterator<T>>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Option<C>> {
    if text.is_empty() {
        return Some(Some(std::iter::empty().collect()));
    }
    let items = text.split(',').filter(|item| *item != "*").map(parse);
    let items: C = items.collect::<Option<_>>()?;
    Some((!text.split(',').any(|item| item == "*")).then_some(items))
}

fn uids<C: FromIterator<u32>>(text: &str) -> Option<Option<C>> {
    list(text, |item| u32::from_str(item).ok())
}

fn index(text: &str) -> Option<String> {
    miroir_api::IndexUid::new(text).ok().map(|uid| uid.to_string())
}

fn instant(text: &str, after: bool) -> Option<Option<OffsetDateTime>> {
    if text == "*" {
        return Some(None);
    }
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(Some(at));
    }
    let day = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
    let day = day.with_time(Time::MIDNIGHT).assume_utc();
    let next = day.checked_add(time::Duration::DAY).unwrap_or(day);
    Some(Some(if after { next } else { day }))
}

/// Reads one filter into the query. `None`: a node has to comment on it.
fn filter(out: &mut TaskQuery, key: &str, value: &str) -> Option<()> {
    match key {
        "uids" => out.uids = uids(value)?,
        "batchUids" => out.batches = uids(value)?,
        "canceledBy" => out.canceled_by = uids(value)?,
        "statuses" => out.statuses = list(value, TaskStatus::parse)?,
        "types" => out.kinds = list(value, TaskKind::parse)?,
        "indexUids" => out.indexes = list(value, index)?,
        "afterEnqueuedAt" => out.after_enqueued = instant(value, true)?,
        "beforeEnqueuedAt" => out.before_enqueued = instant(value, false)?,
        "afterStartedAt" => out.after_started = instant(value, true)?,
        "beforeStartedAt" => out.before_started = instant(value, false)?,
        "afterFinishedAt" => out.after_finished = instant(value, true)?,
        "beforeFinishedAt" => out.before_finished = instant(value, false)?,
        _ => return None,
    }
    Some(())
}

/// The parameters of `GET /tasks` and `GET /batches`. `None`: a node has to comment on them.
pub(super) fn page(query: &str) -> Option<TaskQuery> {
    let mut out = TaskQuery { limit: 20, ..TaskQuery::default() };
    for (key, value) in query_pairs(query) {
        match key.as_str() {
            "limit" => out.limit = u32::from_str(&value).ok()? as usize,
            "from" => out.from = Some(TaskUid(value.parse().ok()?)),
            "reverse" => out.reverse = flag(&value)?,
            key => filter(&mut out, key, &value)?,
        }
    }
    Some(out)
}

/// The parameters of a cancelation or deletion, and whether there are any. `None`: a node has to
/// comment on them.
pub(super) fn choice(query: &str) -> Option<(TaskQuery, bool)> {
    let pairs = query_pairs(query);
    let mut out = TaskQuery { limit: usize::MAX, ..TaskQuery::default() };
    for (key, value) in &pairs {
        filter(&mut out, key, value)?;
    }
    Some((out, !pairs.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let query = page("statuses=Failed,enqueued&uids=1,2&limit=5&indexUids=*").unwrap();
        assert_eq!(query.statuses, Some(vec![TaskStatus::Failed, TaskStatus::Enqueued]));
        assert_eq!((query.limit, query.indexes), (5, None));
        assert_eq!(query.uids, Some([1, 2].into()));
        for wrong in
            ["statuses=nope", "statuses=failed,", "uids=1,a", "uids=1,a,*", "limit=-1", "x=1"]
        {
            assert!(page(wrong).is_none(), "{wrong}");
        }
        assert_eq!(page("statuses=").unwrap().statuses, Some(vec![]));
        assert_eq!(page("types=dsrUpdate,*&batchUids=3").unwrap().batches, Some([3].into()));
    }

    #[test]
    fn a_day_is_bounded_outside_of_it() {
        let query = page("afterEnqueuedAt=2024-01-01&beforeFinishedAt=2024-01-01").unwrap();
        assert_eq!(query.after_enqueued.unwrap().to_string(), "2024-01-02 0:00:00.0 +00:00:00");
        assert_eq!(query.before_finished.unwrap().to_string(), "2024-01-01 0:00:00.0 +00:00:00");
        assert_eq!(page("afterStartedAt=*").unwrap().after_started, None);
        assert!(page("afterStartedAt=yesterday").is_none());
    }

    #[test]
    fn a_choice_takes_filters_only() {
        assert!(!choice("").unwrap().1);
        assert!(choice("statuses=*").unwrap().1);
        assert!(choice("statuses=succeeded&limit=1").is_none());
    }
}
