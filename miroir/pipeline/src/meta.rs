//! What travels up with every answer.

use miroir_api::{GroupId, TaskUid};
use uuid::Uuid;

use crate::extension::{Extension, Extensions};
use miroir_core::routing::ShardSet;

/// A change that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Uid of the task that carries it out.
    pub task: TaskUid,
    /// The first group that has all of it on a quorum; of a change of documents only.
    pub group: Option<GroupId>,
}

/// Facts about how an answer came about. What capabilities say of it is an [`Extension`] each;
/// [`HeaderCodec`](crate::codec::HeaderCodec)s render it as headers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Meta {
    /// Shards that no node answered for; `None` if the answer is complete.
    pub missing_shards: Option<ShardSet>,
    /// Groups in which a write missed its quorum or a replica, ascending; empty for reads.
    pub degraded_groups: Vec<GroupId>,
    /// What was accepted, for a change; `None` for a read.
    pub accepted: Option<Accepted>,
    /// Number of nodes that were asked; 0 for what Miroir answers itself.
    pub nodes: usize,
    /// Uids in the body that belong to this answer alone; a copy of the answer needs others.
    pub uids: Vec<Uuid>,
    /// `Content-Type` of the body; `None` for `application/json`.
    pub content_type: Option<&'static str>,
    /// What capabilities say of it.
    pub(crate) extensions: Extensions,
}

impl Meta {
    /// What capabilities have left here.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The extension of this type, if there is one.
    pub fn get<T: Extension>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// Whether there is an extension of this type.
    pub fn has<T: Extension>(&self) -> bool {
        self.extensions.has::<T>()
    }

    /// Leaves a value for layers outside of this one, and for the codecs.
    pub fn insert<T: Extension>(&mut self, value: T) {
        self.extensions.insert(value);
    }

    /// The same facts, and this one where `holds`.
    #[must_use]
    pub fn mark<T: Extension>(mut self, holds: bool, value: T) -> Self {
        if holds {
            self.insert(value);
        }
        self
    }

    /// Adds the facts about a part that hold for the whole, which this is about.
    pub fn join(&mut self, part: &Self) {
        self.nodes = self.nodes.max(part.nodes);
        self.extensions.join(&part.extensions);
        match (&mut self.missing_shards, &part.missing_shards) {
            (Some(all), Some(more)) => all.union_with(more),
            (all @ None, Some(more)) => *all = Some(more.clone()),
            (_, None) => {}
        }
    }

    /// The value of `X-Miroir-Degraded`; `None` when nothing is missing.
    pub fn degraded(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(shards) = self.missing_shards.as_ref().filter(|s| !s.is_empty()) {
            parts.push(format!("shards={}", crate::error::list(shards)));
        }
        if !self.degraded_groups.is_empty() {
            let groups: Vec<String> = self.degraded_groups.iter().map(|g| g.to_string()).collect();
            parts.push(format!("groups={}", groups.join(",")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
