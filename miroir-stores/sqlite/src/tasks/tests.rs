//! How much a list reads, and that totals follow the rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use miroir_api::TaskUid;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_store::TaskQuery;
use rusqlite::Connection;
use time::OffsetDateTime;

use super::list::list;
use crate::migrations;

/// Every hundredth task failed, every tenth is a settings update, ten indexes in turn; one task
/// finished per second.
fn filled(tasks: u32) -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    migrations::migrate(&mut connection, migrations::ALL, &[]).unwrap();
    let fill = "
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
        INSERT INTO tasks
        SELECT i,
            iif(i % 100 = 7, 'failed', 'succeeded'),
            iif(i % 10 = 3, 'settingsUpdate', 'documentAdditionOrUpdate'),
            'index' || (i % 10),
            iif(i % 5000 = 8, i + 1, NULL),
            i * 1000000000, i * 1000000000, i * 1000000000,
            json_object(
                'uid', i, 'index', 'index' || (i % 10),
                'kind', iif(i % 10 = 3, 'settingsUpdate', 'documentAdditionOrUpdate'),
                'status', iif(i % 100 = 7, 'failed', 'succeeded'),
                'enqueued_at', '1970-01-01T00:00:00Z',
                'started_at', '1970-01-01T00:00:00Z',
                'finished_at', '1970-01-01T00:00:00Z',
                'nodes', json_array()
            )
        FROM n";
    connection.execute(fill, [tasks]).unwrap();
    connection
}

/// Steps of SQLite's machine for one list, to the hundred.
fn steps(connection: &mut Connection, query: &TaskQuery) -> (u64, u64) {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let count = move || {
        counted.fetch_add(100, Ordering::Relaxed);
        false
    };
    connection.progress_handler(100, Some(count)).unwrap();
    let page = list(connection, query).unwrap();
    connection.progress_handler(100, None::<fn() -> bool>).unwrap();
    (steps.load(Ordering::Relaxed), page.total)
}

#[test]
fn a_page_does_not_read_the_table() {
    let mut connection = filled(50_000);
    let page = TaskQuery { limit: 20, ..TaskQuery::default() };
    let at = |seconds| Some(OffsetDateTime::from_unix_timestamp(seconds).unwrap());
    let queries = [
        (page.clone(), 50_000),
        (TaskQuery { reverse: true, from: Some(TaskUid(25_000)), ..page.clone() }, 50_000),
        (TaskQuery { statuses: Some(vec![TaskStatus::Failed]), ..page.clone() }, 500),
        (TaskQuery { statuses: Some(TaskStatus::ALL.to_vec()), ..page.clone() }, 50_000),
        (TaskQuery { kinds: Some(vec![TaskKind::SettingsUpdate]), ..page.clone() }, 5_000),
        (
            TaskQuery {
                statuses: Some(vec![TaskStatus::Failed]),
                kinds: Some(vec![TaskKind::SettingsUpdate]),
                ..page.clone()
            },
            0,
        ),
        (
            TaskQuery {
                indexes: Some(["index3", "index7", "none"].map(str::to_owned).into()),
                statuses: Some(vec![TaskStatus::Succeeded, TaskStatus::Failed]),
                ..page.clone()
            },
            10_000,
        ),
        (TaskQuery { uids: Some([1, 2, 49_999, 70_000].into()), ..page.clone() }, 3),
        (TaskQuery { canceled_by: Some([5_009].into()), ..page.clone() }, 1),
        (TaskQuery { after_enqueued: at(49_900), ..page.clone() }, 99),
        (TaskQuery { before_finished: at(100), after_finished: at(0), ..page.clone() }, 99),
    ];
    for (query, total) in queries {
        let (steps, found) = steps(&mut connection, &query);
        assert_eq!(found, total, "{query:?}");
        assert!(steps < 6_000, "{steps} steps for {query:?}");
    }
}

#[test]
fn totals_follow_the_rows() {
    let connection = filled(2_000);
    let changes = "
        UPDATE tasks SET status = 'canceled' WHERE uid % 3 = 0;
        UPDATE tasks SET index_uid = NULL WHERE uid % 7 = 0;
        UPDATE tasks SET index_uid = 'other', kind = 'indexSwap' WHERE uid % 11 = 0;
        DELETE FROM tasks WHERE uid % 5 = 0 OR index_uid = 'index3';";
    connection.execute_batch(changes).unwrap();
    let differences = "
        SELECT count(*) FROM (
            SELECT * FROM (
                SELECT NULL AS index_uid, status, kind, n FROM task_totals WHERE n <> 0
                UNION ALL SELECT index_uid, status, kind, n FROM index_task_totals
            )
            EXCEPT
            SELECT * FROM (
                SELECT NULL, status, kind, count(*) FROM tasks GROUP BY status, kind
                UNION ALL SELECT index_uid, status, kind, count(*) FROM tasks
                    WHERE index_uid IS NOT NULL GROUP BY index_uid, status, kind
            )
        )";
    let kept = "SELECT count(*) FROM index_task_totals";
    let real = "SELECT count(*) FROM (SELECT DISTINCT index_uid, status, kind FROM tasks
                WHERE index_uid IS NOT NULL)";
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number(differences), 0);
    assert_eq!(number(kept), number(real));
    assert!(number(kept) > 10);
}
