//! Capabilities of one's own: options and the layers they make, mounted with one line.

use std::fmt;
use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::options::Validate;
use miroir_pipeline::stack::{BoxLayer, Stack, StageLayer};
use miroir_pipeline::stage::Stage;
use miroir_pipeline::{index, leaf, node, operation};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::parts::Parts;

/// A capability that Miroir does not come with: its options, and the layers they make.
///
/// [`Builder::mount`](crate::Builder::mount) adds one to a pipeline; a server that is told of the type
/// reads its block from the configuration too. `examples/capability` in the repository is a whole one.
pub trait Mount:
    Validate + Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Key of its block in the configuration, in snake case; the name of its layers as a rule.
    const NAME: &'static str;

    /// Adds its layers, or none where the options say so.
    fn mount(self, layers: &mut Layers, parts: &Parts);
}

/// Layers that are added to those that Miroir recommends, inside of them. Later ones of a stage are
/// inside of earlier ones.
#[derive(Default)]
pub struct Layers {
    pub(crate) operations: Added<operation::Request>,
    pub(crate) indexes: Added<index::Request>,
    pub(crate) leaves: Added<leaf::Request>,
}

/// Layers of one stage; `None` for none, so that nothing is boxed for them.
pub(crate) type Added<R> = Option<Stack<R, BoxLayer<R>>>;

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers")
            .field("operations", &self.operations)
            .field("indexes", &self.indexes)
            .field("leaves", &self.leaves)
            .finish()
    }
}

fn add<R: Stage>(all: &mut Added<R>, more: Added<R>) {
    *all = match (all.take(), more) {
        (Some(outer), Some(inner)) => Some(outer.append(inner).boxed()),
        (one, other) => one.or(other),
    };
}

impl Layers {
    /// Adds layers to the operation stage: what they see is authorized.
    pub fn operation<L: StageLayer<operation::Request>>(
        &mut self,
        layers: Stack<operation::Request, L>,
    ) {
        add(&mut self.operations, Some(layers.boxed()));
    }

    /// Adds layers to the index stage: what they see is about one index.
    pub fn index<L: StageLayer<index::Request>>(&mut self, layers: Stack<index::Request, L>) {
        add(&mut self.indexes, Some(layers.boxed()));
    }

    /// Adds layers to the leaf stage: what they see is for a set of shards.
    pub fn leaf<L: StageLayer<leaf::Request>>(&mut self, layers: Stack<leaf::Request, L>) {
        add(&mut self.leaves, Some(layers.boxed()));
    }

    /// Adds all of `more`, inside of these.
    fn append(&mut self, more: Self) {
        add(&mut self.operations, more.operations);
        add(&mut self.indexes, more.indexes);
        add(&mut self.leaves, more.leaves);
    }
}

type Make = Arc<dyn Fn(&Parts) -> Layers + Send + Sync>;

/// Layers of the stage of a node, made for each node anew.
pub(crate) type OwnNode =
    Arc<dyn Fn(&NodeId, &Parts) -> Stack<node::Request, BoxLayer<node::Request>> + Send + Sync>;

/// What somebody adds, each made of the parts that layers share.
#[derive(Clone, Default)]
pub(crate) struct OwnLayers {
    of_all: Vec<Make>,
    pub(crate) nodes: Option<OwnNode>,
}

impl OwnLayers {
    pub(crate) fn push(&mut self, make: impl Fn(&Parts) -> Layers + Send + Sync + 'static) {
        self.of_all.push(Arc::new(make));
    }

    /// All of them.
    pub(crate) fn make(&self, parts: &Parts) -> Layers {
        let mut all = Layers::default();
        for make in &self.of_all {
            all.append(make(parts));
        }
        all
    }
}
