//! Explain: what the pipeline decided about one search, written down by those who decide.
//!
//! A request that is explained carries an [`Explain`] in its context. Each stage and layer that
//! decides something notes it there, if there is one, and goes on as always; nothing is computed a
//! second time beside the pipeline. Where the request is not to be executed, Dispatch notes whom it
//! would ask and then refuses with [`ErrorKind::Explained`](crate::error::ErrorKind::Explained)
//! instead of asking.
//!
//! | what | noted by |
//! | --- | --- |
//! | index, shards, hints, route, cover, warnings about the search | Scatter |
//! | how long each node is waited for, and whether anybody else has its shards | `hedge` |
//! | calls, how long they took and how they ended | Dispatch |
//! | facts: members of `plan` by name, as `alias_resolution` or `coalescing_eligible` | any layer, with [`Explain::fact`] |
//!
//! A layer that gives [`Hints`] shows up by itself, with the hint and whether it counted.

mod render;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::NodeId;
use miroir_core::lock::Lock;
use serde_json::Value;

pub use render::{Viewer, render};

use crate::extension::Extension;
use crate::principal::Principal;
use miroir_core::hints::Hints;
use miroir_core::routing::{Cover, ShardSet};
use miroir_core::view::Route;
use miroir_store::IndexEntry;

/// What a warning is about: the label of `miroir_explain_warnings_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningKind {
    /// A filter, a facet or a sort names an attribute the settings do not make one.
    Attribute,
    /// A filter is about documents' ids, and yet all shards are asked.
    Narrowing,
    /// A page far down the list.
    DeepPage,
    /// The search asks for the facets of every attribute.
    Wildcard,
    /// Settings are being changed, or nodes are not known to have them.
    Settings,
    /// A shard has no replica that can be read.
    MissingShards,
    /// A hint of a layer did not count.
    Hints,
    /// Replicas are not read, because they are stale or unhealthy.
    Replicas,
    /// A warning of a layer's own.
    Layer,
}

impl WarningKind {
    /// The warning's name in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attribute => "attribute",
            Self::Narrowing => "narrowing",
            Self::DeepPage => "deep_page",
            Self::Wildcard => "wildcard",
            Self::Settings => "settings",
            Self::MissingShards => "missing_shards",
            Self::Hints => "hints",
            Self::Replicas => "replicas",
            Self::Layer => "layer",
        }
    }
}

/// Who may read a warning or a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Whoever may search the index. What follows from the filter is for [`Audience::of_filter`].
    Everybody,
    /// Holders of the admin key.
    Operators,
}

impl Audience {
    /// Who may read a request's filter, and what follows from it. The rules of a tenant token are part of it by then, and its
    /// holder must not see them.
    pub fn of_filter(principal: &Principal) -> Self {
        match principal {
            Principal::Tenant(_) => Self::Operators,
            _ => Self::Everybody,
        }
    }
}

/// Members of the plan that are known before anything is explained: what layers outside of Resolve
/// leave in the [`Context`](crate::Context) of an [`Explain`](crate::operation::Operation::Explain).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts(pub BTreeMap<&'static str, (Value, Audience)>);

impl Extension for Facts {}

/// Set while settings of the index that is explained were on their way; in a
/// [`Meta`](crate::meta::Meta).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsPending;

impl Extension for SettingsPending {}

/// Something that makes the search slow, incomplete or other than meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What the warning is about.
    pub kind: WarningKind,
    /// One sentence that says what is the matter and what to do.
    pub text: String,
    /// Whether clients see it, or operators only.
    pub audience: Audience,
}

/// What was decided before any node is asked.
#[derive(Clone, Debug)]
pub struct RequestPlan {
    /// The shards that can match.
    pub wanted: ShardSet,
    /// The hints of index layers, with those that did not count.
    pub hints: Hints,
    /// Groups in the order in which they are tried, and how their nodes are doing.
    pub route: Route,
    /// Nodes to ask and the shards each is asked for.
    pub cover: Cover,
    /// 95th percentile of the time a node takes to answer; nodes with too few calls are absent.
    pub p95: BTreeMap<NodeId, Duration>,
    /// Whether a settings broadcast to the index is under way.
    pub broadcast_pending: bool,
}

/// How long a node is waited for before another one is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Time after which another node is asked too; `None` while no latencies are known.
    pub after: Option<Duration>,
    /// Whether other nodes hold all of its shards, so that they can be asked instead.
    pub replaceable: bool,
}

/// A call to a node that has ended.
#[derive(Clone, Debug)]
pub struct Called {
    /// Id of the node that was asked.
    pub node: NodeId,
    /// The shards it was asked for.
    pub shards: ShardSet,
    /// Whether others were asked before, and were slow or failed.
    pub again: bool,
    /// Time until the answer, or until it was given up.
    pub took: Duration,
    /// `answered`, `given_up`, or what went wrong.
    pub outcome: &'static str,
}

/// All that is noted about one search.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The index that was searched; `None` until the name is resolved.
    pub index: Option<Arc<IndexEntry>>,
    /// What was decided for the first question to nodes; later ones go to the same.
    pub plan: Option<RequestPlan>,
    /// How long each node is waited for; empty without hedging.
    pub hedges: BTreeMap<NodeId, Patience>,
    /// Calls that have ended, in the order in which they did.
    pub calls: Vec<Called>,
    /// Members of the plan that layers add or replace.
    pub facts: BTreeMap<&'static str, (Value, Audience)>,
    /// Warnings, in the order in which they were noted.
    pub warnings: Vec<Warning>,
}

/// Where stages and layers note what they decide; see the [module's documentation](self).
#[derive(Debug)]
pub struct Explain {
    executes: bool,
    record: Lock<Record>,
    parts: Lock<Vec<Arc<Explain>>>,
}

impl Explain {
    /// A sink for one request. `executes`: nodes are asked, too.
    pub fn new(executes: bool) -> Arc<Self> {
        Arc::new(Self { executes, record: Lock::default(), parts: Lock::default() })
    }

    /// Whether the request is carried out, so that nodes are asked.
    pub fn executes(&self) -> bool {
        self.executes
    }

    /// A new sink for the next query of a multi-search.
    pub fn part(&self) -> Arc<Self> {
        let part = Self::new(self.executes);
        self.parts.lock().push(Arc::clone(&part));
        part
    }

    /// The sinks of the queries of a multi-search, in order; empty for one search.
    pub fn parts(&self) -> Vec<Arc<Self>> {
        self.parts.lock().clone()
    }

    /// Changes the record under its lock; `write` should be short.
    pub fn note(&self, write: impl FnOnce(&mut Record)) {
        write(&mut self.record.lock());
    }

    /// Adds a member to the plan, or replaces it. To those who may not read it, it is `null`.
    pub fn fact(&self, name: &'static str, value: Value, audience: Audience) {
        self.note(|record| {
            record.facts.insert(name, (value, audience));
        });
    }

    /// Adds a name to `rounds`, the questions after the first that the search took; once, however often
    /// it is given.
    pub fn round(&self, name: &'static str) {
        self.note(|record| {
            let none = (Value::Array(Vec::new()), Audience::Everybody);
            let (rounds, _) = record.facts.entry("rounds").or_insert(none);
            if let Value::Array(names) = rounds
                && !names.iter().any(|known| known == name)
            {
                names.push(name.into());
            }
        });
    }

    /// Notes a warning; once, however often it is given.
    pub fn warn(&self, kind: WarningKind, audience: Audience, text: impl Into<String>) {
        let warning = Warning { kind, text: text.into(), audience };
        self.note(|record| {
            if !record.warnings.contains(&warning) {
                record.warnings.push(warning);
            }
        });
    }

    /// What has been noted so far.
    pub fn record(&self) -> Record {
        self.record.lock().clone()
    }
}
