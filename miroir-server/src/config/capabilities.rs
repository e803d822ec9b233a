//! Capabilities that a server has beside those of Miroir: a block of the configuration each, read and
//! checked like any other.

use std::fmt;
use std::sync::Arc;

use miroir::options::Faults;
use miroir::{Builder, Mount};
use serde_yaml_ng::{Mapping, Value};

use super::ConfigError;
use super::read::deserialize;

/// Options of one capability, whose type is hidden.
trait Block: Send + Sync {
    fn name(&self) -> &'static str;
    fn value(&self) -> Value;
    /// The same capability with the options in `tree`, where they can be read.
    fn read(&self, tree: Value, errors: &mut Vec<ConfigError>) -> Option<Arc<dyn Block>>;
    fn validate(&self, faults: &mut Faults);
    fn mount(&self, builder: Builder) -> Builder;
}

struct Of<C>(C);

impl<C: Mount> Block for Of<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn value(&self) -> Value {
        serde_yaml_ng::to_value(&self.0).expect("options hold only what YAML can write")
    }

    fn read(&self, tree: Value, errors: &mut Vec<ConfigError>) -> Option<Arc<dyn Block>> {
        deserialize::<C>(tree, C::NAME, errors).map(|options| Arc::new(Self(options)) as _)
    }

    fn validate(&self, faults: &mut Faults) {
        faults.block(C::NAME, &self.0);
    }

    fn mount(&self, builder: Builder) -> Builder {
        builder.mount(self.0.clone())
    }
}

/// Capabilities that a server has beside those of Miroir, with their options.
#[derive(Clone, Default)]
pub struct Capabilities(Vec<Arc<dyn Block>>);

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|block| (block.name(), block.value()))).finish()
    }
}

impl PartialEq for Capabilities {
    fn eq(&self, other: &Self) -> bool {
        let all = |it: &Self| -> Vec<_> { it.0.iter().map(|b| (b.name(), b.value())).collect() };
        all(self) == all(other)
    }
}

impl Capabilities {
    /// These and `C`, with its default options until a configuration has others.
    #[must_use]
    pub fn with<C: Mount>(mut self) -> Self {
        self.0.push(Arc::new(Of(C::default())));
        self
    }

    /// Adds their blocks to a tree of keys.
    ///
    /// # Errors
    /// When a block is there already.
    pub(super) fn write(&self, tree: &mut Mapping) -> Result<(), ConfigError> {
        for block in &self.0 {
            if tree.insert(block.name().into(), block.value()).is_some() {
                return Err(ConfigError::new(
                    [block.name()],
                    "is the block of two capabilities of this program",
                    "give the added one another `Mount::NAME`",
                ));
            }
        }
        Ok(())
    }

    /// The same capabilities with the options that a tree has for them, which are taken out of it.
    pub(super) fn read(&self, tree: &mut Mapping, errors: &mut Vec<ConfigError>) -> Self {
        let all = self.0.iter().map(|block| match tree.remove(block.name()) {
            Some(tree) => block.read(tree, errors).unwrap_or_else(|| Arc::clone(block)),
            None => Arc::clone(block),
        });
        Self(all.collect())
    }

    /// What the blocks say of themselves.
    pub(super) fn validate(&self, faults: &mut Faults) {
        self.0.iter().for_each(|block| block.validate(faults));
    }

    /// Adds all of them to a pipeline.
    pub(crate) fn mount(&self, builder: Builder) -> Builder {
        self.0.iter().fold(builder, |builder, block| block.mount(builder))
    }
}
