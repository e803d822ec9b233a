//! Numbered migrations, compiled in; see [`miroir_store::migrations`] for the rules.
//!
//! `schema_versions` is a hash of the migrations a store has seen, `schema_version` the newest of
//! them. A store that is up to date costs one `HKEYS`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use miroir_store::StoreError;
use miroir_store::clock;
use miroir_store::migrations::{Migration, missing};
use redis::cmd;
use uuid::Uuid;

use crate::connection::{Args, SharedConnection, number, texts};
use crate::error::RedisFailure;
use crate::scripts::MIGRATE;

/// All migrations, by number. Each runs behind `scripts/migrate.lua`.
pub(crate) const ALL: &[Migration] = &[Migration {
    version: 1,
    name: "initial",
    script: include_str!("../migrations/001_initial.lua"),
    feature: None,
}];

/// Applies what is missing, in one step.
pub(crate) async fn migrate(
    connection: &SharedConnection,
    known: &[Migration],
    features: &[&str],
) -> Result<(), StoreError> {
    // Each round somebody else may have been faster; there are not more rounds than migrations.
    for _ in 0..=known.len() {
        let applied =
            texts(connection.read(cmd("HKEYS").arg(connection.key("schema_versions"))).await?)?;
        let applied = applied.iter().map(|version| version.parse());
        let applied: BTreeSet<u32> = applied
            .collect::<Result<_, _>>()
            .map_err(RedisFailure::odd)
            .map_err(StoreError::from)?;
        let missing = missing(known, &applied, features)?;
        if missing.is_empty() {
            return Ok(());
        }
        for step in &missing {
            tracing::info!(version = step.version, name = step.name, "migrating the store");
        }
        let applied: Vec<_> = applied.iter().map(u32::to_string).collect();
        let args = Args::new()
            .with(applied.join(","))
            .with(clock::now().unix_timestamp())
            .with(Uuid::new_v4());
        if number(connection.once(&script(&missing), args).await?)? == 1 {
            return Ok(());
        }
    }
    Err(StoreError::Backend("the store is being migrated by others again and again".into()))
}

/// One script of these migrations.
fn script(steps: &[Migration]) -> String {
    let mut text = MIGRATE.to_owned();
    for Migration { version, name, script, .. } in steps {
        let _ = write!(
            text,
            "do\n{script}\nend\n\
             call('HSET', p .. 'schema_versions', '{version}', '{name} ' .. ARGV[3])\n\
             if {version} > tonumber(call('GET', p .. 'schema_version') or '0') then\n\
             call('SET', p .. 'schema_version', '{version}')\nend\n"
        );
    }
    text + "return 1\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_and_name_their_files() {
        let files: BTreeSet<_> =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
        let named: BTreeSet<_> =
            ALL.iter().map(|step| format!("{:03}_{}.lua", step.version, step.name)).collect();
        assert_eq!(files, named);
        assert!(ALL.is_sorted_by(|a, b| a.version < b.version));
    }
}
