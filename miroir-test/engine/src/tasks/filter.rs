//! `GET /tasks` and the filters shared with cancelation and deletion of tasks.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, Time};

use super::queue::TaskQueue;
use super::{Status, TYPE_NAMES, Task};
use crate::errors::ApiError;
use crate::params::{QueryString, quoted};

/// Parameters that select tasks.
const FILTERS: [&str; 12] = [
    "uids",
    "batchUids",
    "canceledBy",
    "types",
    "statuses",
    "indexUids",
    "afterEnqueuedAt",
    "beforeEnqueuedAt",
    "afterStartedAt",
    "beforeStartedAt",
    "afterFinishedAt",
    "beforeFinishedAt",
];

/// The same, as the error for a missing filter lists them.
const SHOWN_FILTERS: [&str; 11] = [
    "uids",
    "indexUids",
    "statuses",
    "types",
    "canceledBy",
    "beforeEnqueuedAt",
    "afterEnqueuedAt",
    "beforeStartedAt",
    "afterStartedAt",
    "beforeFinishedAt",
    "afterFinishedAt",
];

/// A selection of tasks. None means "any".
#[derive(Debug, Default)]
pub(crate) struct TaskFilter {
    uids: Option<Vec<u32>>,
    batch_uids: Option<Vec<u32>>,
    canceled_by: Option<Vec<u32>>,
    types: Option<Vec<String>>,
    statuses: Option<Vec<String>>,
    index_uids: Option<Vec<String>>,
    dates: Vec<DateBound>,
}

#[derive(Debug)]
struct DateBound {
    field: fn(&Task) -> Option<OffsetDateTime>,
    after: bool,
    at: OffsetDateTime,
}

impl TaskFilter {
    /// Reads the filters of a query string.
    pub(crate) fn parse(query: &QueryString) -> Result<Self, ApiError> {
        let statuses = names(query, "statuses", &Status::NAMES, "invalid_task_statuses", "status")?;
        let types = names(query, "types", &TYPE_NAMES, "invalid_task_types", "type")?;
        let fields: [(&str, fn(&Task) -> Option<OffsetDateTime>); 3] = [
            ("EnqueuedAt", |task| Some(task.enqueued_at)),
            ("StartedAt", |task| task.started_at),
            ("FinishedAt", |task| task.finished_at),
        ];
        let mut dates = Vec::new();
        for (name, field) in fields {
            for after in [true, false] {
                let key = format!("{}{name}", if after { "after" } else { "before" });
                if let Some(text) = query.get(&key).filter(|text| *text != "*") {
                    dates.push(DateBound { field, after, at: parse_date(&key, text, after)? });
                }
            }
        }
        Ok(Self {
            uids: numbers(query, "uids", "invalid_task_uids")?,
            batch_uids: numbers(query, "batchUids", "invalid_batch_uids")?,
            canceled_by: numbers(query, "canceledBy", "invalid_task_canceled_by")?,
            types,
            statuses,
            index_uids: query.list("indexUids").filter(|list| !list.iter().any(|uid| uid == "*")),
            dates,
        })
    }

    /// Whether a task is selected.
    pub(crate) fn matches(&self, task: &Task) -> bool {
        let has = |list: &Option<Vec<u32>>, value: Option<u32>| {
            list.as_ref().is_none_or(|list| value.is_some_and(|value| list.contains(&value)))
        };
        has(&self.uids, Some(task.uid))
            && has(&self.batch_uids, task.batch_uid)
            && has(&self.canceled_by, task.canceled_by)
            && self
                .types
                .as_ref()
                .is_none_or(|list| list.iter().any(|name| name == task.work.type_name()))
            && self
                .statuses
                .as_ref()
                .is_none_or(|list| list.iter().any(|name| name == task.status.name()))
            && self
                .index_uids
                .as_ref()
                .is_none_or(|list| task.index_uid.as_ref().is_some_and(|uid| list.contains(uid)))
            && self.dates.iter().all(|bound| {
                (bound.field)(task)
                    .is_some_and(|at| if bound.after { at > bound.at } else { at < bound.at })
            })
    }

    /// The uids selected among all tasks.
    pub(crate) fn select(&self, queue: &TaskQueue) -> Vec<u32> {
        queue.with_tasks(|tasks| match &self.uids {
            // The usual poll names its tasks: no walk over the whole history.
            Some(uids) => {
                let mut found: Vec<u32> = uids
                    .iter()
                    .filter(|uid| tasks.get(uid).is_some_and(|task| self.matches(task)))
                    .copied()
                    .collect();
                found.sort_unstable();
                found.dedup();
                found
            }
            None => tasks.values().filter(|task| self.matches(task)).map(|task| task.uid).collect(),
        })
    }
}

/// Answers `GET /tasks`.
pub(crate) fn list(queue: &TaskQueue, query: &QueryString) -> Result<Value, ApiError> {
    let mut allowed = vec!["limit", "from", "reverse"];
    allowed.extend(FILTERS);
    query.only(&allowed)?;
    let limit: usize = query.number("limit", "invalid_task_limit")?.unwrap_or(20);
    let from: Option<u32> = query.number("from", "invalid_task_from")?;
    let reverse = query.bool("reverse", "invalid_task_reverse")?.unwrap_or(false);
    let mut uids = TaskFilter::parse(query)?.select(queue);
    let total = uids.len();
    if !reverse {
        uids.reverse();
    }
    if let Some(from) = from {
        uids.retain(|&uid| if reverse { uid >= from } else { uid <= from });
    }
    let next = uids.get(limit).copied();
    uids.truncate(limit);
    let results: Vec<Value> = queue
        .with_tasks(|tasks| uids.iter().filter_map(|uid| tasks.get(uid)).map(Task::view).collect());
    Ok(
        json!({ "results": results, "total": total, "limit": limit, "from": uids.first(), "next": next }),
    )
}

/// The tasks a cancelation or deletion is about; at least one filter must be given.
pub(crate) fn targets(
    queue: &TaskQueue,
    query: &QueryString,
    action: &str,
) -> Result<Vec<u32>, ApiError> {
    query.only(&FILTERS)?;
    if query.pairs().is_empty() {
        return Err(ApiError::new(
            "missing_task_filters",
            format!(
                "Query parameters to filter the tasks to {action} are missing. Available query parameters are: {}.",
                quoted(&SHOWN_FILTERS)
            ),
        ));
    }
    Ok(TaskFilter::parse(query)?.select(queue))
}

fn numbers(query: &QueryString, key: &str, code: &str) -> Result<Option<Vec<u32>>, ApiError> {
    let Some(list) = query.list(key).filter(|list| !list.iter().any(|item| item == "*")) else {
        return Ok(None);
    };
    list.iter()
        .map(|item| {
            item.trim().parse().map_err(|_| {
                ApiError::new(
                    code,
                    format!("Invalid value in parameter `{key}`: could not parse `{item}` as a positive integer"),
                )
            })
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

fn names(
    query: &QueryString,
    key: &str,
    allowed: &[&str],
    code: &str,
    what: &str,
) -> Result<Option<Vec<String>>, ApiError> {
    let Some(list) = query.list(key).filter(|list| !list.iter().any(|item| item == "*")) else {
        return Ok(None);
    };
    list.iter()
        .map(|item| {
            allowed.iter().find(|name| name.eq_ignore_ascii_case(item)).map(|name| (*name).to_owned()).ok_or_else(|| {
                ApiError::new(
                    code,
                    format!(
                        "Invalid value in parameter `{key}`: `{item}` is not a valid task {what}. Available {key} are {}.",
                        quoted(allowed)
                    ),
                )
            })
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

/// A day stands for its end after "after" and for its start after "before".
fn parse_date(key: &str, text: &str, after: bool) -> Result<OffsetDateTime, ApiError> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at);
    }
    let mut parts = text.splitn(3, '-').map(str::parse::<u16>);
    let date = match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(year)), Some(Ok(month)), Some(Ok(day))) => u8::try_from(month)
            .ok()
            .and_then(|month| time::Month::try_from(month).ok())
            .zip(u8::try_from(day).ok())
            .and_then(|(month, day)| Date::from_calendar_date(i32::from(year), month, day).ok()),
        _ => None,
    };
    let Some(date) = date else {
        let snake: String = key
            .chars()
            .flat_map(
                |c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] },
            )
            .collect();
        return Err(ApiError::new(
            format!("invalid_task_{snake}"),
            format!(
                "Invalid value in parameter `{key}`: `{text}` is an invalid date-time. It should follow the YYYY-MM-DD or RFC 3339 date-time format."
            ),
        ));
    };
    let start = date.with_time(Time::MIDNIGHT).assume_utc();
    Ok(if after { start + time::Duration::days(1) - time::Duration::nanoseconds(1) } else { start })
}
