//! Aliases: a snapshot for readers, compare-and-set for writers.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use miroir_api::IndexUid;
use miroir_api::meili::ApiError;

use miroir_store::records::{self, Alias, AliasTarget};
use miroir_store::{Part, StoreError, clock};

use super::catalog::Catalog;
use super::leadership::Leadership;
use super::sequencer::Sequencer;
use super::snapshot::Snapshot;
use crate::error::Error;

/// What is known of aliases, by name. Cheap to share; a snapshot is one version of all of them.
#[derive(Debug, Default)]
pub struct AliasTable(Snapshot<Entries>);

type Entries = BTreeMap<String, Arc<Alias>>;

fn entries(aliases: impl IntoIterator<Item = Alias>) -> Entries {
    aliases.into_iter().map(|alias| (alias.name.to_string(), Arc::new(alias))).collect()
}

impl AliasTable {
    /// A table of these aliases.
    #[must_use]
    pub fn of(aliases: impl IntoIterator<Item = Alias>) -> Self {
        Self(Snapshot::new(entries(aliases)))
    }

    /// All of them as they are now, by name.
    #[must_use]
    pub fn snapshot(&self) -> Arc<BTreeMap<String, Arc<Alias>>> {
        self.0.load()
    }

    /// One alias, by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Alias>> {
        self.0.peek().get(name).cloned()
    }

    /// Makes these the aliases of a table that has no store behind it.
    pub fn replace(&self, aliases: impl IntoIterator<Item = Alias>) {
        let table = entries(aliases);
        let Ok(_) = self.0.try_update(|_| Ok::<_, Infallible>(table.clone()));
    }

    /// Whether there is no alias.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.peek().is_empty()
    }
}

/// How an alias may be made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasRule {
    /// There must be none of this name.
    Create,
    /// There must be one, of the same kind.
    Flip,
}

/// What an alias is to be.
#[derive(Clone, Debug)]
pub struct AliasChange {
    /// Name of the alias.
    pub name: IndexUid,
    /// What it stands for from now on.
    pub target: AliasTarget,
    /// Who makes it: a rollover policy, or nobody in particular. Only the owner of an alias changes
    /// it.
    pub owner: Option<String>,
    /// The version it must have, where one is given.
    pub version: Option<u64>,
    /// Flips that are remembered.
    pub keep: usize,
    /// Whether every index it stands for has to exist.
    pub targets_exist: bool,
}

fn conflict(message: String) -> Error {
    Error::api("miroir_alias_conflict", message)
}

fn not_found(name: &str) -> Error {
    Error::api("miroir_alias_not_found", format!("Alias `{name}` not found."))
}

/// The refusal of a change to an alias that stands for several indexes.
#[must_use]
pub fn not_writable(alias: &Alias) -> Error {
    let by = match &alias.owner {
        Some(owner) => format!("It is kept by the rollover policy `{owner}`."),
        None => "Write to one of its indexes.".to_owned(),
    };
    let names: Vec<&str> = alias.target.indexes().iter().map(IndexUid::as_str).collect();
    Error::client(ApiError::new(
        "miroir_multi_alias_not_writable",
        format!(
            "Alias `{}` stands for several indexes ({}) and takes no changes. {by}",
            alias.name,
            names.join(", ")
        ),
    ))
}

/// Makes, flips and deletes aliases: the table that layers read, and the store behind it.
#[derive(Debug)]
pub struct Aliases {
    table: Arc<AliasTable>,
    store: Arc<dyn records::Aliases>,
    catalog: Arc<Catalog>,
    sequencer: Arc<Sequencer>,
    leadership: Arc<Leadership>,
}

impl Aliases {
    /// The aliases of a store, none of which was read yet; see [`Aliases::reload`].
    pub fn new(
        store: Arc<dyn records::Aliases>,
        catalog: Arc<Catalog>,
        sequencer: Arc<Sequencer>,
        leadership: Arc<Leadership>,
    ) -> Self {
        Self { table: Arc::default(), store, catalog, sequencer, leadership }
    }

    /// What is known of aliases.
    pub fn table(&self) -> &Arc<AliasTable> {
        &self.table
    }

    /// Reads the store anew.
    ///
    /// # Errors
    /// When the store fails. The table then stays as it was.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let writer = self.table.0.write().await;
        writer.replace(entries(self.store.list().await?));
        Ok(())
    }

    /// What a change is judged by besides the alias it is about.
    fn judge(&self, change: &AliasChange) -> Result<(), Error> {
        let AliasChange { name, target, .. } = change;
        let invalid = |message: String| Err(Error::api("miroir_invalid_alias", message));
        if self.catalog.get(name).is_some() {
            let message = format!(
                "There is an index `{name}`: an alias needs a name of its own. Rename the index \
                 first."
            );
            return Err(conflict(message));
        }
        let indexes = target.indexes();
        if indexes.is_empty() {
            return invalid(format!("Alias `{name}` stands for nothing: `targets` is empty."));
        }
        if indexes.iter().collect::<BTreeSet<_>>().len() < indexes.len() {
            return invalid(format!("`targets` of alias `{name}` has an index twice."));
        }
        for index in indexes {
            if index == name || self.table.get(index.as_str()).is_some() {
                return invalid(format!("`{index}` is an alias itself: name an index."));
            }
            if change.targets_exist && self.catalog.get(index).is_none() {
                return invalid(format!(
                    "Index `{index}` not found. Make it first, or set \
                     `aliases.require_target_exists` to `false`."
                ));
            }
        }
        Ok(())
    }

    /// Makes or flips an alias. Everybody knows of it when this answers: a request that began before
    /// goes to what the name stood for then.
    ///
    /// # Errors
    /// `miroir_alias_conflict`, `miroir_alias_not_found`, `miroir_invalid_alias`,
    /// `miroir_multi_alias_not_writable`; or the store's.
    pub async fn set(&self, change: AliasChange, rule: AliasRule) -> Result<Arc<Alias>, Error> {
        let guard = self.leadership.begin_change();
        self.leadership.ensure_leader()?;
        // An index of this name cannot be made meanwhile.
        let gate = self.sequencer.exclusive(change.name.as_str()).await;
        let writer = self.table.0.write().await;
        // What another process wrote before this one led.
        writer.replace(entries(self.store.list().await?));
        let name = change.name.as_str();
        let old = self.table.get(name);
        let new = match (&old, rule) {
            (Some(_), AliasRule::Create) => {
                return Err(conflict(format!("Alias `{name}` already exists.")));
            }
            (None, AliasRule::Flip) => return Err(not_found(name)),
            (None, AliasRule::Create) => Alias {
                name: change.name.clone(),
                target: change.target.clone(),
                version: 1,
                owner: change.owner.clone(),
                created_at: clock::now(),
                history: Vec::new(),
            },
            (Some(old), AliasRule::Flip) => {
                if old.owner != change.owner {
                    return Err(not_writable(old));
                }
                let kinds = [&old.target, &change.target].map(|t| matches!(t, AliasTarget::One(_)));
                if kinds[0] != kinds[1] {
                    return Err(conflict(format!(
                        "Alias `{name}` stands for {}, and an alias keeps its kind. Delete it and \
                         make it anew.",
                        if kinds[0] { "one index" } else { "several indexes" }
                    )));
                }
                if let Some(version) = change.version.filter(|version| *version != old.version) {
                    return Err(conflict(format!(
                        "Alias `{name}` has version {}, not {version}: somebody flipped it \
                         meanwhile.",
                        old.version
                    )));
                }
                old.flipped(change.target.clone(), change.keep, clock::now())
            }
        };
        self.judge(&change)?;
        let expected = old.as_ref().map_or(0, |old| old.version);
        if !self.store.put(new.clone(), expected).await? {
            return Err(conflict(format!("Somebody else changed alias `{name}` meanwhile.")));
        }
        let mut table = Entries::clone(&writer.current());
        table.insert(name.to_owned(), Arc::new(new));
        writer.replace(table);
        drop((writer, gate));
        self.leadership.publish_and_wait(&[Part::Aliases]).await?;
        if rule == AliasRule::Flip {
            metrics::counter!("miroir_alias_flips_total", "alias" => name.to_owned()).increment(1);
        }
        drop(guard);
        self.table.get(name).ok_or_else(|| not_found(name))
    }

    /// Deletes an alias; what it stood for stays.
    ///
    /// # Errors
    /// `miroir_alias_not_found`, `miroir_multi_alias_not_writable`; or the store's.
    pub async fn delete(&self, name: &IndexUid, owner: Option<&str>) -> Result<(), Error> {
        let guard = self.leadership.begin_change();
        self.leadership.ensure_leader()?;
        let writer = self.table.0.write().await;
        let stored = self.store.list().await?;
        let Some(old) = stored.iter().find(|alias| alias.name == *name) else {
            return Err(not_found(name.as_str()));
        };
        if old.owner.as_deref() != owner {
            return Err(not_writable(old));
        }
        if !self.store.delete(name, old.version).await? {
            return Err(conflict(format!("Somebody else changed alias `{name}` meanwhile.")));
        }
        writer.replace(entries(stored.into_iter().filter(|alias| alias.name != *name)));
        drop(writer);
        self.leadership.publish_and_wait(&[Part::Aliases]).await?;
        drop(guard);
        Ok(())
    }
}
