//! Scatter, the boundary from one index to its shards: plan, fan out, merge or count the quorum.

mod addition;
pub mod catalog_sync;
mod combine;
mod cover;
mod currency;
mod deletion;
mod disjoint_counts;
mod document_tasks;
mod documents;
mod edit;
mod explained;
mod facet_search;
mod fetch;
mod filter_settings;
mod freshness;
mod gaps;
mod hybrid;
mod order;
mod over_fetch;
mod plan;
pub mod read;
mod search;
mod send;
mod settle;
mod similar;
pub mod stale_marks;
mod union;
mod write;

use std::sync::Arc;

pub use document_tasks::compact;
pub use freshness::{MinSettingsVersion, SettingsInFlight, SettingsVersion};
pub use order::OrderChange;
pub use over_fetch::OverFetch;
pub use plan::{AcceptedWrite, Batch, Tags, WritePlan};
pub use search::Part;
pub(crate) use search::{FACETS, project};
pub use settle::accepted;
pub use write::dispatch_write;

use miroir_api::header::SETTINGS_PENDING;

use super::{Operation, Request, Response};
use crate::cluster::ClusterState;
use crate::cluster::provisional::is_made_by_nodes;
use crate::codec::{Codecs, Headers};
use crate::error::Error;
use crate::explain::SettingsPending;
use crate::leaf;
use crate::query::SearchKind;

/// The headers of reads and explanations, which no layer has.
pub fn codecs() -> Codecs {
    vec![
        Arc::new(freshness::headers()),
        Arc::new(over_fetch::headers()),
        Arc::new(Headers::new().mark::<SettingsPending>(SETTINGS_PENDING)),
    ]
}

/// The base service of the index stage. Always ready; waiting happens in `call`.
#[derive(Clone, Debug)]
pub struct Scatter {
    leaves: leaf::BoxService,
    state: Arc<ClusterState>,
    combiner: Arc<combine::Combiner>,
    hit_sizes: Arc<search::HitSizes>,
}

impl Scatter {
    /// Scatters over these leaves.
    pub fn new(leaves: leaf::BoxService, state: Arc<ClusterState>) -> Self {
        Self { leaves, state, combiner: Arc::default(), hit_sizes: Arc::default() }
    }

    async fn run(self, request: Request) -> Result<Response, Error> {
        if let Operation::Write { write, custom_metadata } = &request.op {
            let (write, metadata) = (write.clone(), custom_metadata.clone());
            return Box::pin(documents::run(self, request, write, metadata)).await;
        }
        let mut request = freshness::apply(&self, request).await?;
        request.cx.insert(gaps::Gaps::default());
        match self.read(&request).await {
            Err(error) if error.get::<read::Unprepared>().is_some() => {
                self.ensure_made(&request).await?;
                let physical = &request.index.physical;
                self.state.nodes.await_index(physical, &request.cx).await;
                // Whatever was read before the wait is read again, by one view.
                request.renew();
                request.cx.insert(gaps::Gaps::default());
                self.read(&request).await
            }
            answer => answer,
        }
    }

    /// Refuses what reads an index that no task has made yet: one node has none, either.
    async fn ensure_made(&self, request: &Request) -> Result<(), Error> {
        let Some(entry) = self.state.catalog.current(&request.index) else { return Ok(()) };
        let tasks = &*self.state.stores.tasks;
        if entry.provisional && !is_made_by_nodes(tasks, &entry).await? {
            return Err(Error::index_not_found(request.index.name.as_str()));
        }
        Ok(())
    }

    async fn read(&self, request: &Request) -> Result<Response, Error> {
        match &request.op {
            Operation::Search(search) => match search.kind {
                SearchKind::Hits | SearchKind::Part => {
                    Box::pin(search::run(self, request, search)).await
                }
                SearchKind::FacetValues => Box::pin(facet_search::run(self, request, search)).await,
                SearchKind::Similar => Box::pin(similar::run(self, request, search)).await,
            },
            Operation::Union(union) => Box::pin(union::run(self, request, union)).await,
            Operation::FetchOne(fetch) => fetch::one(self, request, fetch).await,
            Operation::List(list) => fetch::list(self, request, list).await,
            Operation::Write { .. } => Err(Error::internal("a write is no read")),
        }
    }
}

crate::service!(Scatter: Request);
