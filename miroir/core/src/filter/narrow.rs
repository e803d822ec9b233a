//! Which shards a filter can find documents in.

use std::collections::BTreeSet;
use std::fmt;

use super::{Comparison, Filter, Test, Text};
use crate::documents::IdCase;
use crate::routing::{ShardSet, shard_of};

/// What narrowing needs to know of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    /// The primary key, once known.
    pub primary_key: Option<&'a str>,
    /// Case of the letters that ids have had.
    pub id_case: IdCase,
    /// Number of shards of the index.
    pub shards: u32,
}

/// What a filter is narrowed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// Every document the filter finds is in one of these. Never empty: where nothing can be found,
    /// one shard says so.
    pub shards: ShardSet,
    /// How many ids the filter allows.
    pub ids: usize,
}

/// Why a filter is not narrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNarrowed {
    /// The search has no filter.
    NoFilter,
    /// It cannot be read; a node says why.
    Unread,
    /// The index has no primary key yet.
    NoKey,
    /// The primary key has a dot.
    NestedKey,
    /// It allows ids that cannot be counted up.
    NotPinned,
    /// It allows more ids than are looked at.
    TooMany,
}

impl fmt::Display for Narrowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ids, shards) = (self.ids, self.shards.len());
        write!(f, "the filter allows {ids} spellings of ids, in {shards} shards")
    }
}

impl fmt::Display for NotNarrowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFilter => "there is no filter",
            Self::Unread => "the filter cannot be read",
            Self::NoKey => "the index has no primary key yet",
            Self::NestedKey => "the primary key is an attribute of a nested object",
            Self::NotPinned => "the filter does not pin the primary key with `=` or `IN`",
            Self::TooMany => {
                "the filter allows more spellings of ids than `query_planner.\
                 max_pk_literals_narrowable`"
            }
        })
    }
}

/// Narrows a request's `filter`, as JSON, to the shards of the ids it allows, of which at most
/// `most` are looked at.
///
/// # Errors
/// Why it is not narrowed.
///
/// # Panics
/// When there are 0 shards.
pub fn narrow(filter: Option<&str>, keys: &Keys<'_>, most: usize) -> Result<Narrowed, NotNarrowed> {
    let text = filter.ok_or(NotNarrowed::NoFilter)?;
    let Keys { primary_key, id_case, shards } = *keys;
    let primary_key = primary_key.ok_or(NotNarrowed::NoKey)?;
    if primary_key.contains('.') {
        return Err(NotNarrowed::NestedKey);
    }
    let filter =
        Filter::from_json(text).map_err(|_| NotNarrowed::Unread)?.ok_or(NotNarrowed::NoFilter)?;
    let ids = Pins { primary_key, id_case, most }.of(&filter)?;
    let mut found: ShardSet =
        ShardSet::from_iter(ids.iter().map(|id| shard_of(id.as_bytes(), shards)), shards);
    if found.is_empty() {
        found.insert(shard_of(text.as_bytes(), shards));
    }
    Ok(Narrowed { shards: found, ids: ids.len() })
}

struct Pins<'a> {
    primary_key: &'a str,
    id_case: IdCase,
    most: usize,
}

impl Pins<'_> {
    /// The ids that a filter allows.
    fn of(&self, filter: &Filter) -> Result<BTreeSet<String>, NotNarrowed> {
        match filter {
            Filter::And(members) => {
                let mut out: Option<BTreeSet<String>> = None;
                let mut why = NotNarrowed::NotPinned;
                for member in members {
                    match self.of(member) {
                        Ok(ids) => {
                            out = Some(match out {
                                Some(others) => others.intersection(&ids).cloned().collect(),
                                None => ids,
                            });
                        }
                        Err(NotNarrowed::TooMany) => why = NotNarrowed::TooMany,
                        Err(_) => {}
                    }
                }
                out.ok_or(why)
            }
            Filter::Or(members) => {
                let mut out = BTreeSet::new();
                for member in members {
                    out.extend(self.of(member)?);
                    self.bounded(&out)?;
                }
                Ok(out)
            }
            Filter::Condition { attribute, negated: false, test }
                if attribute.plain() == Some(self.primary_key) =>
            {
                match test {
                    Test::Compare(Comparison::Equal, literal) => {
                        self.literals(std::slice::from_ref(literal))
                    }
                    Test::In(literals) => self.literals(literals),
                    _ => Err(NotNarrowed::NotPinned),
                }
            }
            _ => Err(NotNarrowed::NotPinned),
        }
    }

    fn literals(&self, literals: &[Text]) -> Result<BTreeSet<String>, NotNarrowed> {
        let mut out = BTreeSet::new();
        for literal in literals {
            out.extend(literal.ids(self.id_case, self.most).ok_or(NotNarrowed::TooMany)?);
            self.bounded(&out)?;
        }
        Ok(out)
    }

    fn bounded(&self, ids: &BTreeSet<String>) -> Result<(), NotNarrowed> {
        if ids.len() > self.most { Err(NotNarrowed::TooMany) } else { Ok(()) }
    }
}
