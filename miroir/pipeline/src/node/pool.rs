//! One stack per node.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use miroir_api::NodeId;
use tower::ServiceExt;

use super::{BoxService, GivenTasks, NodeCall, Request, Response};
use crate::effect::Effect;
use crate::error::{Error, NodeFailure};
use crate::stack::OrderError;
use miroir_core::topology::{Node, Topology};

/// Builds the stack of one node.
pub type Factory = dyn Fn(&Node) -> Result<BoxService, OrderError> + Send + Sync;

/// The stacks of all nodes. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    factory: Arc<Factory>,
    nodes: Arc<ArcSwap<BTreeMap<NodeId, BoxService>>>,
    given: GivenTasks,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.nodes.load().keys().cloned().collect();
        f.debug_struct("Pool").field("nodes", &ids).finish()
    }
}

impl Pool {
    /// Builds a stack for each node of the topology.
    ///
    /// # Errors
    /// [`OrderError`] if the factory stacks layers in a wrong order.
    pub fn new(factory: Arc<Factory>, topology: &Topology) -> Result<Self, OrderError> {
        let pool = Self::empty(factory);
        pool.follow(topology)?;
        Ok(pool)
    }

    /// No node yet: for a factory that needs what stands on the pool. [`Pool::follow`] builds them.
    pub fn empty(factory: Arc<Factory>) -> Self {
        Self { factory, nodes: Arc::default(), given: GivenTasks::default() }
    }

    /// Follows a topology: keeps stacks of known nodes, builds new ones, drops the rest.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn follow(&self, topology: &Topology) -> Result<(), OrderError> {
        let old = self.nodes.load();
        let nodes = topology
            .nodes()
            .map(|node| {
                let stack = match old.get(&node.id) {
                    Some(stack) => stack.clone(),
                    None => (self.factory)(node)?,
                };
                Ok((node.id.clone(), stack))
            })
            .collect::<Result<_, OrderError>>()?;
        self.nodes.store(Arc::new(nodes));
        Ok(())
    }

    /// The tasks that nodes were given by calls through here.
    pub fn given(&self) -> &GivenTasks {
        &self.given
    }

    /// Sends a request that changes nothing to a node that is none of the cluster's, or may be.
    ///
    /// # Errors
    /// What the node's stack answers, or that there is none for such a node.
    pub async fn ask(&self, node: &Node, request: Request) -> Result<Response, Error> {
        let stack = (self.factory)(node).map_err(Error::internal)?;
        stack.oneshot(request).await
    }

    /// Sends a request to a node.
    ///
    /// # Errors
    /// What the node's stack answers; a node that is not in the topology is a failed node.
    pub async fn send(&self, node: &NodeId, request: Request) -> Result<Response, Error> {
        let Some(stack) = self.nodes.load().get(node).cloned() else {
            return Err(Error::node(node, NodeFailure::UnknownNode));
        };
        let call = request.extensions().get::<NodeCall>();
        let Some(call) = call.filter(|call| call.effect == Effect::Change) else {
            return stack.oneshot(request).await;
        };
        let mut giving = self.given.begin(node, tag_of(request.uri()));
        // They carry a tag.
        if call.operation.starts_with("documents_") {
            giving.needs_no_answer();
        }
        let answer = stack.oneshot(request).await;
        match &answer {
            Ok(response) if !response.status().is_server_error() => {
                giving.answered(response.body());
            }
            Err(error) if error.node_failure().is_some_and(|failure| !failure.was_sent()) => {
                giving.needs_no_answer();
            }
            _ => {}
        }
        answer
    }
}

/// What the task of a call says whose it is, as nodes keep it.
fn tag_of(uri: &http::Uri) -> Option<&str> {
    let query = uri.query()?;
    query.split('&').find_map(|pair| pair.strip_prefix("customMetadata="))
}
