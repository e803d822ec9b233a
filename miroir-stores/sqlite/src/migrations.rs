//! Numbered migrations, compiled in.
//!
//! `schema_versions` lists the migrations a database has seen. A database that is up to date costs
//! one SELECT. See [`miroir_store::migrations`] for the rules.

use std::collections::BTreeSet;

use miroir_store::StoreError;
use miroir_store::migrations::{Migration, missing};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

/// All migrations, by number.
pub(crate) const ALL: &[Migration] = &[
    Migration {
        version: 1,
        name: "initial",
        script: include_str!("../migrations/001_initial.sql"),
        feature: None,
    },
    Migration {
        version: 2,
        name: "keys",
        script: include_str!("../migrations/002_keys.sql"),
        feature: None,
    },
    Migration {
        version: 3,
        name: "webhooks",
        script: include_str!("../migrations/003_webhooks.sql"),
        feature: None,
    },
    Migration {
        version: 4,
        name: "features",
        script: include_str!("../migrations/004_features.sql"),
        feature: None,
    },
    Migration {
        version: 5,
        name: "leases",
        script: include_str!("../migrations/005_leases.sql"),
        feature: None,
    },
    Migration {
        version: 6,
        name: "rules",
        script: include_str!("../migrations/006_rules.sql"),
        feature: None,
    },
    Migration {
        version: 7,
        name: "jobs",
        script: include_str!("../migrations/007_jobs.sql"),
        feature: None,
    },
    Migration {
        version: 8,
        name: "records",
        script: include_str!("../migrations/008_records.sql"),
        feature: None,
    },
    Migration {
        version: 9,
        name: "canaries",
        script: include_str!("../migrations/009_canaries.sql"),
        feature: Some("canaries"),
    },
    Migration {
        version: 10,
        name: "cdc",
        script: include_str!("../migrations/010_cdc.sql"),
        feature: Some("cdc"),
    },
    Migration {
        version: 11,
        name: "tenant_map",
        script: include_str!("../migrations/011_tenant_map.sql"),
        feature: Some("tenant_map"),
    },
    Migration {
        version: 12,
        name: "ilm",
        script: include_str!("../migrations/012_ilm.sql"),
        feature: Some("ilm"),
    },
    Migration {
        version: 13,
        name: "search_ui",
        script: include_str!("../migrations/013_search_ui.sql"),
        feature: Some("search_ui"),
    },
    Migration {
        version: 14,
        name: "admin_ui",
        script: include_str!("../migrations/014_admin_ui.sql"),
        feature: Some("admin_ui"),
    },
    Migration {
        version: 15,
        name: "topology",
        script: include_str!("../migrations/015_topology.sql"),
        feature: None,
    },
    Migration {
        version: 16,
        name: "awaited_tasks",
        script: include_str!("../migrations/016_awaited_tasks.sql"),
        feature: None,
    },
];

/// Applies what is missing, all or nothing.
pub(crate) fn migrate(
    connection: &mut Connection,
    known: &[Migration],
    features: &[&str],
) -> Result<(), StoreError> {
    let backend = |error: rusqlite::Error| StoreError::Backend(error.into());
    if let Some(applied) = applied(connection).map_err(backend)?
        && missing(known, &applied, features)?.is_empty()
    {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(backend)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_versions (
                version INTEGER PRIMARY KEY,
                name TEXT NOT NULL,
                applied_at INTEGER NOT NULL
            ) STRICT",
        )
        .map_err(backend)?;
    // Again: somebody else may have migrated while this waited for the lock.
    let applied = applied(&transaction).map_err(backend)?.unwrap_or_default();
    for migration in missing(known, &applied, features)? {
        tracing::info!(version = migration.version, name = migration.name, "migrating the store");
        transaction.execute_batch(migration.script).map_err(backend)?;
        let row = "INSERT INTO schema_versions (version, name, applied_at)
                   VALUES (?, ?, unixepoch())";
        transaction.execute(row, (migration.version, migration.name)).map_err(backend)?;
    }
    transaction.commit().map_err(backend)
}

/// The numbers of the migrations this database has seen; `None` if it has no schema at all.
fn applied(connection: &Connection) -> rusqlite::Result<Option<BTreeSet<u32>>> {
    let mut statement = match connection.prepare("SELECT version FROM schema_versions") {
        Ok(statement) => statement,
        Err(rusqlite::Error::SqliteFailure(error, Some(text)))
            if error.code == ErrorCode::Unknown && text.contains("no such table") =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> Vec<String> {
        let mut statement = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    const STEPS: &[Migration] = &[
        Migration { version: 1, name: "a", script: "CREATE TABLE a (x)", feature: None },
        Migration { version: 2, name: "b", script: "CREATE TABLE b (x)", feature: Some("b") },
        Migration { version: 3, name: "c", script: "CREATE TABLE c (x)", feature: None },
    ];

    #[test]
    fn numbers_grow_and_name_their_files() {
        let files: BTreeSet<_> =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
        let named: BTreeSet<_> =
            ALL.iter().map(|step| format!("{:03}_{}.sql", step.version, step.name)).collect();
        assert_eq!(files, named);
        assert!(ALL.is_sorted_by(|a, b| a.version < b.version));
    }

    #[test]
    fn steps_run_once_and_features_may_come_later() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &STEPS[..1], &[]).unwrap();
        assert_eq!(tables(&connection), ["a", "schema_versions"]);
        migrate(&mut connection, STEPS, &[]).unwrap();
        assert_eq!(tables(&connection), ["a", "c", "schema_versions"]);
        migrate(&mut connection, STEPS, &["b"]).unwrap();
        migrate(&mut connection, STEPS, &[]).unwrap();
        assert_eq!(tables(&connection), ["a", "b", "c", "schema_versions"]);
    }

    #[test]
    fn a_broken_step_leaves_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = [
            STEPS[0],
            Migration {
                version: 2,
                name: "x",
                script: "CREATE TABLE x (x); nonsense",
                feature: None,
            },
        ];
        assert!(migrate(&mut connection, &broken, &[]).is_err());
        assert_eq!(tables(&connection), Vec::<String>::new());
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, STEPS, &[]).unwrap();
        let error = migrate(&mut connection, &STEPS[..2], &["b"]).unwrap_err();
        assert!(matches!(error, StoreError::SchemaVersionAhead { found: 3, known: 2 }));
        assert_eq!(tables(&connection), ["a", "c", "schema_versions"]);
    }

    #[test]
    fn an_up_to_date_database_costs_one_select() {
        use rusqlite::hooks::Authorization;
        use std::sync::{Arc, Mutex};

        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, ALL, &[]).unwrap();
        let actions = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&actions);
        connection
            .authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| {
                seen.lock().unwrap().push(format!("{:?}", context.action));
                Authorization::Allow
            }))
            .unwrap();
        migrate(&mut connection, ALL, &[]).unwrap();
        let actions = actions.lock().unwrap();
        let [select, reads @ ..] = actions.as_slice() else { panic!("nothing was read") };
        assert_eq!(select, "Select");
        assert!(reads.iter().all(|action| action.starts_with("Read")), "{reads:?}");
    }
}
