//! What answering an operation takes, for those that answer one with the help of others.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use miroir_api::IndexUid;
use miroir_store::IndexEntry;
use tower::ServiceExt;

use super::control_plane::ControlPlane;
use super::refusal::refusal;
use super::{BoxService, Request, Response};
use crate::cluster::ClusterState;
use crate::cluster::sequencer::Handover;
use crate::error::Error;
use crate::index;

/// A way into Resolve.
pub(super) type Entry = fn(Handle, Request) -> BoxFuture<'static, Result<Response, Error>>;

/// The ways back into Resolve: a search that joins other indexes searches them, an explained search
/// is a search. Resolve sets them, so that nobody below imports it.
#[derive(Clone, Copy)]
pub(super) struct Entries {
    /// As a request that comes from outside.
    pub(super) whole: Entry,
    /// Without looking again at what this pod may do.
    pub(super) joined: Entry,
    /// From the named indexes alone, without joining others.
    pub(super) named: Entry,
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entries")
    }
}

/// What Resolve and its helpers stand on.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) indexes: index::BoxService,
    pub(super) state: Arc<ClusterState>,
    pub(super) control: BoxService,
    pub(super) plane: Arc<dyn ControlPlane>,
    pub(super) entries: Entries,
}

impl Handle {
    /// Answers a request as one that comes from outside.
    pub(super) async fn whole(self, request: Request) -> Result<Response, Error> {
        (self.entries.whole)(self, request).await
    }

    /// As [`Handle::whole`], without looking again at what this pod may do.
    pub(super) async fn joined(self, request: Request) -> Result<Response, Error> {
        (self.entries.joined)(self, request).await
    }

    /// Answers a request from the named indexes alone.
    pub(super) async fn named(self, request: Request) -> Result<Response, Error> {
        (self.entries.named)(self, request).await
    }

    /// What several searches of one index find together, and its facets.
    pub(super) async fn union(
        &self,
        request: &Request,
        name: &str,
        union: index::Union,
    ) -> Result<Response, Error> {
        let uid = IndexUid::new(name).ok();
        let entry = uid.and_then(|uid| self.state.catalog.get(&uid));
        let entry = entry.ok_or_else(|| Error::index_not_found(name))?;
        self.index(request, entry, index::Operation::Union(Arc::new(union))).await
    }

    /// What all stages share.
    pub(super) fn state(&self) -> &Arc<ClusterState> {
        &self.state
    }

    /// What a node says of the request as it came, under another prefix.
    pub(super) async fn refusal(&self, request: &Request, prefix: &str) -> Error {
        refusal(&self.state.nodes, request, prefix).await
    }

    /// Asks the index stage, with the catalogue and the topology as they are now.
    pub(super) async fn index(
        &self,
        request: &Request,
        entry: Arc<IndexEntry>,
        op: index::Operation,
    ) -> Result<Response, Error> {
        self.write(request, entry, op, None).await
    }

    /// As [`Handle::index`], for a write that may take over gates.
    pub(super) async fn write(
        &self,
        request: &Request,
        entry: Arc<IndexEntry>,
        op: index::Operation,
        gate: Option<Handover>,
    ) -> Result<Response, Error> {
        let inner = index::Request::new(
            op,
            Arc::clone(&request.original),
            entry,
            self.state.membership.topology(),
            self.state.staleness.load(),
            request.cx.clone(),
        )
        .of(&self.state)
        .taking_over(gate);
        let answer = self.indexes.clone().oneshot(inner).await?;
        Ok(Response { status: answer.status, body: answer.body, meta: answer.meta })
    }
}
