//! Lists of tasks: the uids of a page and how many tasks match, without reading what does not.
//!
//! - Without filters the page is a walk along the primary key.
//! - By status, kind and index the kept totals tell which (index, status, kind) have tasks at all
//!   and how many; each of them is a walk along an index in the order of uids, and the page is
//!   merged from their first uids.
//! - By uid or canceler the named tasks are looked up and counted.
//! - By time a range of a covering index is counted: it costs what the range holds, but reads no
//!   record.
//!
//! Records are read for the page alone.

use std::fmt::Write as _;

use miroir_api::TaskUid;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_store::{TaskPage, TaskQuery};
use rusqlite::types::Value;
use rusqlite::{Connection, ToSql, params_from_iter};

use super::nanoseconds;
use crate::database::Fault;

/// A page of tasks.
pub(super) fn list(connection: &Connection, query: &TaskQuery) -> Result<TaskPage, Fault> {
    // One more than the page, to know where the next one begins.
    let (total, mut uids) = select(connection, query, query.limit.saturating_add(1))?;
    let next = uids.get(query.limit).copied().map(TaskUid);
    uids.truncate(query.limit);
    let mut tasks = Vec::with_capacity(uids.len());
    for uid in uids {
        tasks.extend(super::get(connection, uid)?);
    }
    Ok(TaskPage { tasks, total: u64::try_from(total)?, next })
}

/// Uids of all tasks that match, ascending.
pub(super) fn all(connection: &Connection, query: TaskQuery) -> Result<Vec<u32>, Fault> {
    let query = TaskQuery { from: None, reverse: true, ..query };
    Ok(select(connection, &query, usize::MAX)?.1)
}

/// How many match, and the first `wanted` uids of the page.
fn select(
    connection: &Connection,
    query: &TaskQuery,
    wanted: usize,
) -> Result<(i64, Vec<u32>), Fault> {
    let named = query.uids.is_some() || query.batches.is_some() || query.canceled_by.is_some();
    if named || timed(query) {
        filtered(connection, query, wanted)
    } else if query.statuses.is_some() || query.kinds.is_some() || query.indexes.is_some() {
        bucketed(connection, query, wanted)
    } else {
        everything(connection, query, wanted)
    }
}

fn timed(query: &TaskQuery) -> bool {
    [
        query.after_enqueued,
        query.before_enqueued,
        query.after_started,
        query.before_started,
        query.after_finished,
        query.before_finished,
    ]
    .iter()
    .any(Option::is_some)
}

/// The condition of a page's begin, the order, and the bound that goes with the condition.
fn begin(query: &TaskQuery) -> (&'static str, &'static str, i64) {
    if query.reverse {
        ("uid >=", "ORDER BY uid ASC", query.from.map_or(0, |from| i64::from(from.0)))
    } else {
        ("uid <=", "ORDER BY uid DESC", query.from.map_or(i64::MAX, |from| i64::from(from.0)))
    }
}

fn limit(wanted: usize) -> i64 {
    i64::try_from(wanted).unwrap_or(i64::MAX)
}

fn uids(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<u32>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map(values, |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn everything(
    connection: &Connection,
    query: &TaskQuery,
    wanted: usize,
) -> Result<(i64, Vec<u32>), Fault> {
    let total = connection
        .prepare_cached("SELECT coalesce(sum(n), 0) FROM task_totals")?
        .query_row([], |row| row.get(0))?;
    let (condition, order, bound) = begin(query);
    let sql = format!("SELECT uid FROM tasks WHERE {condition} ? {order} LIMIT ?");
    Ok((total, uids(connection, &sql, &[&bound, &limit(wanted)])?))
}

fn bucketed(
    connection: &Connection,
    query: &TaskQuery,
    wanted: usize,
) -> Result<(i64, Vec<u32>), Fault> {
    let mut filter = Filter::default();
    filter.one_of("index_uid", query.indexes.as_ref().map(|names| names.iter().cloned()));
    filter.kind(query);
    let (table, index) = if query.indexes.is_some() {
        ("index_task_totals", "index_uid")
    } else {
        ("task_totals", "NULL")
    };
    let sql = format!("SELECT {index}, status, kind, n FROM {table} WHERE n > 0{}", filter.sql);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(filter.values))?;

    let (condition, order, bound) = begin(query);
    let (named, order_limit) = (query.indexes.is_some(), format!("{order} LIMIT ?"));
    let of_index = format!(
        "SELECT uid FROM tasks INDEXED BY tasks_by_index
         WHERE index_uid = ? AND status = ? AND kind = ? AND {condition} ? {order_limit}"
    );
    let of_all = format!(
        "SELECT uid FROM tasks INDEXED BY tasks_by_status
         WHERE status = ? AND kind = ? AND {condition} ? {order_limit}"
    );
    let (mut total, mut page) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        total += row.get::<_, i64>(3)?;
        let (status, kind): (String, String) = (row.get(1)?, row.get(2)?);
        let limit = limit(wanted);
        page.extend(if named {
            let index: String = row.get(0)?;
            uids(connection, &of_index, &[&index, &status, &kind, &bound, &limit])?
        } else {
            uids(connection, &of_all, &[&status, &kind, &bound, &limit])?
        });
        // Keeps memory at two pages however many buckets there are.
        if page.len() > wanted {
            order_page(&mut page, query, wanted);
        }
    }
    order_page(&mut page, query, wanted);
    Ok((total, page))
}

fn order_page(page: &mut Vec<u32>, query: &TaskQuery, wanted: usize) {
    page.sort_unstable();
    if !query.reverse {
        page.reverse();
    }
    page.truncate(wanted);
}

fn filtered(
    connection: &Connection,
    query: &TaskQuery,
    wanted: usize,
) -> Result<(i64, Vec<u32>), Fault> {
    let mut filter = Filter::default();
    let ids = |set: &std::collections::BTreeSet<u32>| set.clone().into_iter();
    filter.one_of("uid", query.uids.as_ref().map(ids));
    filter.batches(query);
    filter.one_of("canceled_by", query.canceled_by.as_ref().map(ids));
    filter.one_of("index_uid", query.indexes.as_ref().map(|names| names.iter().cloned()));
    filter.kind(query);
    let finished = query.after_finished.is_some() || query.before_finished.is_some();
    filter.between("enqueued_at", query.after_enqueued, query.before_enqueued);
    filter.between("started_at", query.after_started, query.before_started);
    filter.between("finished_at", query.after_finished, query.before_finished);

    // SQLite is not asked to guess: it knows nothing of how the columns are distributed.
    let source = if query.uids.is_some() || query.batches.is_some() {
        "tasks NOT INDEXED"
    } else if query.canceled_by.is_some() {
        "tasks INDEXED BY tasks_by_canceler"
    } else if finished {
        "tasks INDEXED BY tasks_by_finished"
    } else {
        filter.sql.push_str(" AND enqueued_at >= -9223372036854775808");
        "tasks INDEXED BY tasks_by_enqueued"
    };
    let Filter { sql: condition, values } = filter;

    let sql = format!("SELECT count(*) FROM {source} WHERE TRUE{condition}");
    let total =
        connection.prepare_cached(&sql)?.query_row(params_from_iter(&values), |row| row.get(0))?;

    let (begin, order, bound) = begin(query);
    // The plus keeps the begin of the page from being taken for the better way in.
    let sql =
        format!("SELECT uid FROM {source} WHERE TRUE{condition} AND +{begin} ? {order} LIMIT ?");
    let bounds = [Value::from(bound), Value::from(limit(wanted))];
    let values: Vec<&dyn ToSql> = values.iter().chain(&bounds).map(|v| v as &dyn ToSql).collect();
    Ok((total, uids(connection, &sql, &values)?))
}

/// Conditions, each beginning with ` AND `, and their values.
#[derive(Default)]
struct Filter {
    sql: String,
    values: Vec<Value>,
}

impl Filter {
    fn one_of<T: Into<serde_json::Value>>(
        &mut self,
        column: &str,
        values: Option<impl Iterator<Item = T>>,
    ) {
        if let Some(values) = values {
            let values = serde_json::Value::Array(values.map(Into::into).collect());
            // One parameter whatever the number, so that the statement can be kept.
            let _ = write!(self.sql, " AND {column} IN (SELECT value FROM json_each(?))");
            self.values.push(Value::Text(values.to_string()));
        }
    }

    /// A batch is a task and what it canceled.
    fn batches(&mut self, query: &TaskQuery) {
        if let Some(batches) = &query.batches {
            let batches = batches.iter().copied().collect::<serde_json::Value>().to_string();
            self.sql.push_str(
                " AND uid IN (SELECT value FROM json_each(?) UNION
                    SELECT uid FROM tasks INDEXED BY tasks_by_canceler
                    WHERE canceled_by IN (SELECT value FROM json_each(?)))
                 AND coalesce(canceled_by, uid) IN (SELECT value FROM json_each(?))
                 AND started_at IS NOT NULL",
            );
            self.values.extend(std::iter::repeat_n(Value::Text(batches), 3));
        }
    }

    fn kind(&mut self, query: &TaskQuery) {
        let statuses = query.statuses.as_ref();
        self.one_of("status", statuses.map(|all| all.iter().copied().map(TaskStatus::as_str)));
        let kinds = query.kinds.as_ref();
        self.one_of("kind", kinds.map(|all| all.iter().copied().map(TaskKind::as_str)));
    }

    fn between(
        &mut self,
        column: &str,
        after: Option<time::OffsetDateTime>,
        before: Option<time::OffsetDateTime>,
    ) {
        for (sign, bound) in [('>', after), ('<', before)] {
            if let Some(bound) = bound {
                let _ = write!(self.sql, " AND {column} {sign} ?");
                self.values.push(Value::from(nanoseconds(bound)));
            }
        }
    }
}
