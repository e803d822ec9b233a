//! What layers need of layers of other stages, checked before a pipeline is built.
//!
//! Where layers of one stage stand among each other is [`Stack::build`]'s business. Here it is
//! whether what they need ([`Placed::NEEDS`](crate::Placed::NEEDS)) is there at all.

use std::fmt;

use crate::stack::{Entry, Need, Stack};
use crate::stage::Stage;

/// A layer lacks another one that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WiringError {
    stage: &'static str,
    layer: &'static str,
    needs: Need,
}

impl fmt::Display for WiringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, layer, needs } = self;
        write!(
            f,
            "layer `{layer}` of the {stage} stage needs `{}` in the {} stage: push `{}` there, or \
             leave `{layer}` out",
            needs.layer, needs.stage, needs.layer
        )
    }
}

impl std::error::Error for WiringError {}

/// The layers of a pipeline, gathered stage by stage.
///
/// ```
/// use miroir_pipeline::stack::Need;
/// use miroir_pipeline::wiring::Wiring;
/// use miroir_pipeline::{Placed, Stack, leaf, node};
/// # use tower::layer::util::Identity;
///
/// struct Feeds;
/// impl Placed for Feeds {
///     const NAME: &'static str = "feeds";
/// }
///
/// struct Eats;
/// impl Placed for Eats {
///     const NAME: &'static str = "eats";
///     const NEEDS: &'static [Need] = &[Need::of::<node::Request, Feeds>()];
/// }
///
/// let leaves = Stack::<leaf::Request>::new().push(Eats);
/// let wiring = Wiring::new().with(&leaves).with(&Stack::<node::Request>::new());
/// let error = wiring.check().unwrap_err().to_string();
/// assert!(error.contains("`eats` of the leaf stage needs `feeds` in the node stage"), "{error}");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Wiring {
    stages: Vec<(&'static str, Vec<Entry>)>,
}

impl Wiring {
    /// No stage yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the layers of a stack to those of its stage.
    pub fn with<R: Stage, L>(mut self, stack: &Stack<R, L>) -> Self {
        self.stages.push((R::NAME, stack.entries.clone()));
        self
    }

    /// Looks for what every layer needs. A stage of which no stack was added is not known, and is
    /// taken to have it.
    ///
    /// # Errors
    /// The first layer, in the order of the stacks, that lacks another one.
    pub fn check(&self) -> Result<(), WiringError> {
        let lacks = |need: &Need| {
            let mut known = self.stages.iter().filter(|(stage, _)| *stage == need.stage).peekable();
            let there = |entry: &Entry| entry.name == need.layer.as_str();
            known.peek().is_some() && !known.any(|(_, entries)| entries.iter().any(there))
        };
        for (stage, entries) in &self.stages {
            for entry in entries {
                if let Some(needs) = entry.needs.iter().find(|need| lacks(need)) {
                    return Err(WiringError { stage, layer: entry.name, needs: *needs });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Placed;
    use crate::{index, leaf, node};

    struct Feeds;

    impl Placed for Feeds {
        const NAME: &'static str = "feeds";
    }

    struct Eats;

    impl Placed for Eats {
        const NAME: &'static str = "eats";
        const NEEDS: &'static [Need] = &[Need::of::<node::Request, Feeds>()];
    }

    #[test]
    fn what_a_layer_needs_is_looked_for_in_its_own_stage() {
        let leaves = Stack::<leaf::Request>::new().push(Eats);
        let none = Stack::<node::Request>::new();
        let wiring = Wiring::new().with(&leaves).with(&none);
        assert_eq!(
            wiring.check().unwrap_err().to_string(),
            "layer `eats` of the leaf stage needs `feeds` in the node stage: push `feeds` there, or \
             leave `eats` out"
        );
        // Elsewhere it does not help.
        let indexes = Stack::<index::Request>::new().push(Feeds);
        assert!(wiring.clone().with(&indexes).check().is_err());
        // A stage may be gathered from several stacks.
        assert_eq!(wiring.with(&Stack::<node::Request>::new().push(Feeds)).check(), Ok(()));
    }

    #[test]
    fn a_stage_that_nobody_described_is_taken_at_its_word() {
        let leaves = Stack::<leaf::Request>::new().push(Eats);
        assert_eq!(Wiring::new().with(&leaves).check(), Ok(()));
    }
}
