//! What a caller may see and change: the key's index patterns and a tenant token's search rules.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use miroir_api::meili::{ApiError, IndexPattern};
use serde::Deserialize;
use serde_json::Value;

use super::{ApiKey, Tenant};

/// The `searchRules` of a tenant token. The names are Meilisearch's: they show in its errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum SearchRules {
    /// A list: the indexes that may be searched, without added filters.
    Set(HashSet<IndexPattern>),
    /// Indexes, each with what is added to its searches.
    Map(HashMap<IndexPattern, Option<IndexSearchRules>>),
}

/// What is added to the searches of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct IndexSearchRules {
    /// A filter that every hit passes, in addition to the client's own.
    pub filter: Option<Value>,
}

impl SearchRules {
    fn patterns(&self) -> Box<dyn Iterator<Item = &IndexPattern> + '_> {
        match self {
            Self::Set(set) => Box::new(set.iter()),
            Self::Map(map) => Box::new(map.keys()),
        }
    }

    fn allows(&self, index: &str) -> bool {
        self.patterns().any(|pattern| pattern.matches(index))
    }

    /// The most specific rule that means the index, with its filter.
    fn rule(&self, index: &str) -> Option<(&IndexPattern, Option<&Value>)> {
        let Self::Map(map) = self else { return None };
        map.iter()
            .filter(|(pattern, _)| pattern.matches(index))
            .max_by_key(|(pattern, _)| (pattern.is_exact(), pattern.as_str().len()))
            .map(|(pattern, rules)| (pattern, rules.as_ref().and_then(|it| it.filter.as_ref())))
    }

    fn list(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.patterns().map(IndexPattern::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// What a caller may see and change. The default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Option<Arc<Limits>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Limits {
    key: Arc<ApiKey>,
    rules: Option<SearchRules>,
    creates: bool,
    /// Indexes beside those of the key, by names that stand for them.
    also: BTreeSet<String>,
}

impl Scope {
    /// What an API key may see; `creates`: whether it may make indexes.
    pub fn of_key(key: &Arc<ApiKey>, creates: bool) -> Self {
        Self(Some(Arc::new(Limits {
            key: Arc::clone(key),
            rules: None,
            creates,
            also: BTreeSet::new(),
        })))
    }

    /// What a tenant token may see.
    pub fn of_tenant(tenant: &Tenant) -> Self {
        let (key, rules) = (Arc::clone(&tenant.key), Some(tenant.rules.clone()));
        Self(Some(Arc::new(Limits { key, rules, creates: false, also: BTreeSet::new() })))
    }

    /// Whether it is that of somebody who may do everything.
    pub fn is_unlimited(&self) -> bool {
        self.0.is_none()
    }

    /// Whether no index is hidden.
    pub fn is_everything(&self) -> bool {
        self.0.as_ref().is_none_or(|limits| {
            limits.key.indexes.iter().any(IndexPattern::is_all)
                && limits.rules.as_ref().is_none_or(|r| r.patterns().any(IndexPattern::is_all))
        })
    }

    /// The same, with these indexes beside: a name that may be seen stands for them.
    #[must_use]
    pub fn with<'a>(&self, indexes: impl IntoIterator<Item = &'a str>) -> Self {
        let Some(limits) = &self.0 else { return self.clone() };
        let mut limits = Limits::clone(limits);
        limits.also.extend(indexes.into_iter().map(str::to_owned));
        Self(Some(Arc::new(limits)))
    }

    /// Whether an index may be seen: it is one of the key's, or a name that is stands for it.
    pub fn sees(&self, index: &str) -> bool {
        self.allows(index) || self.0.as_ref().is_some_and(|limits| limits.also.contains(index))
    }

    /// Whether an index is one of the key's, by its own name: what is asked of whoever changes it.
    pub fn allows(&self, index: &str) -> bool {
        self.0.as_ref().is_none_or(|limits| {
            limits.key.indexes.iter().any(|pattern| pattern.matches(index))
                && limits.rules.as_ref().is_none_or(|rules| rules.allows(index))
        })
    }

    /// The refusal of an index that a request reaches by way of another one. `how` says which way, up
    /// to the word *index*; `otherwise` what to do without it.
    ///
    /// # Errors
    /// `invalid_api_key` unless [`Scope::allows`] it.
    pub fn check_reached(&self, index: &str, how: &str, otherwise: &str) -> Result<(), ApiError> {
        let Some(limits) = self.0.as_ref().filter(|_| !self.allows(index)) else { return Ok(()) };
        let (who, remedy) = match &limits.rules {
            None => ("API key", "use a key that has it in its `indexes`"),
            Some(_) => (
                "tenant token",
                "name it in the token's `searchRules`, and in the `indexes` of the key that signs it",
            ),
        };
        let message = format!(
            "{how} index `{index}`, which the {who} cannot access: {remedy}, or {otherwise}."
        );
        Err(ApiError::new("invalid_api_key", message))
    }

    /// Whether this index may be made, by asking for it or by writing to it.
    pub fn may_create(&self, index: &str) -> bool {
        self.0.as_ref().is_none_or(|limits| limits.creates) && self.allows(index)
    }

    /// The refusal of the index in a request's path, in Meilisearch's words and order: what the
    /// token says is public, what the key behind a token says is not.
    ///
    /// # Errors
    /// `invalid_api_key`.
    pub fn check_index(&self, index: &str) -> Result<(), ApiError> {
        let Some(limits) = &self.0 else { return Ok(()) };
        let refused = |message| Err(ApiError::new("invalid_api_key", message));
        if let Some(rules) = limits.rules.as_ref().filter(|rules| !rules.allows(index)) {
            return refused(format!(
                "The provided tenant token cannot acces the index `{index}`, allowed indexes are \
                 {:?}.",
                rules.list()
            ));
        }
        if limits.key.indexes.iter().any(|pattern| pattern.matches(index)) {
            return Ok(());
        }
        if limits.rules.is_some() {
            return refused(format!(
                "The API key used to generate this tenant token cannot acces the index `{index}`."
            ));
        }
        let mut allowed: Vec<_> = limits.key.indexes.iter().map(IndexPattern::as_str).collect();
        allowed.sort_unstable();
        allowed.dedup();
        refused(format!(
            "The API key cannot acces the index `{index}`, authorized indexes are {allowed:?}."
        ))
    }

    /// The filter that searches of an index must pass in addition to the client's.
    pub fn filter(&self, index: &str) -> Option<&Value> {
        self.0.as_ref()?.rules.as_ref()?.rule(index)?.1
    }

    /// The filter that searches of `index` under another name must pass beside that of the name: the
    /// index's own rule holds whatever it is called. `None` if it has none, or if one rule is both's.
    pub fn filter_behind(&self, name: &str, index: &str) -> Option<&Value> {
        let rules = self.0.as_ref()?.rules.as_ref()?;
        let (pattern, filter) = rules.rule(index)?;
        let same = rules.rule(name).is_some_and(|(own, _)| own == pattern);
        filter.filter(|_| !same)
    }
}
