//! Numbered migrations: the structure all backends with a schema share.
//!
//! A backend compiles its migrations in and remembers in the store which ones it has seen. Numbers
//! grow and are never reused; a migration that was released is never edited. A table that only a
//! feature needs comes with a migration of that feature, which runs once the feature is on, even if
//! later migrations ran before it.

use std::collections::BTreeSet;

use super::StoreError;

/// One step of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Number, from 1.
    pub version: u32,
    /// Name, for people.
    pub name: &'static str,
    /// What to do, in the backend's language.
    pub script: &'static str,
    /// The feature it belongs to, if not everybody needs it.
    pub feature: Option<&'static str>,
}

/// The newest version of these migrations, which are ordered by number; 0 if there are none.
pub fn newest(known: &[Migration]) -> u32 {
    known.last().map_or(0, |migration| migration.version)
}

/// Those of the `known` migrations that a store which has seen `applied` still needs, by number.
///
/// # Errors
/// [`StoreError::SchemaVersionAhead`] if the store has seen one that is not known: a newer Miroir
/// wrote it.
pub fn missing(
    known: &[Migration],
    applied: &BTreeSet<u32>,
    features: &[&str],
) -> Result<Vec<Migration>, StoreError> {
    let newest = newest(known);
    if let Some(&found) = applied.last().filter(|&&found| found > newest) {
        return Err(StoreError::SchemaVersionAhead { found, known: newest });
    }
    let wanted = |migration: &&Migration| {
        migration.feature.is_none_or(|feature| features.contains(&feature))
            && !applied.contains(&migration.version)
    };
    Ok(known.iter().filter(wanted).copied().collect())
}
