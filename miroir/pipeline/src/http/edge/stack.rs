//! The layers of the edge in their order.

use std::fmt;

use tower::Layer;
use tower::layer::util::{Identity, Stack as Pair};

use crate::stack::{Description, Entry, OrderError, Placed, check, describe};

/// The name of the stage.
const EDGE: &str = "edge";

/// Collects layers of the edge, outermost first, and puts them around a service. As
/// [`Stack`](crate::Stack), but over HTTP: bodies change from layer to layer, so nothing is boxed.
///
/// ```
/// use miroir_pipeline::http::EdgeStack;
/// use tower::layer::util::Identity;
///
/// let stack = EdgeStack::new().push_named("log", Identity::new());
/// assert_eq!(stack.describe().to_string(), "edge\n  log\n");
/// ```
#[must_use]
pub struct EdgeStack<L = Identity> {
    layers: L,
    entries: Vec<Entry>,
}

impl<L> fmt::Debug for EdgeStack<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EdgeStack").field(&self.describe().layers).finish()
    }
}

impl EdgeStack {
    /// An empty stack.
    pub fn new() -> Self {
        Self { layers: Identity::new(), entries: Vec::new() }
    }
}

impl Default for EdgeStack {
    fn default() -> Self {
        Self::new()
    }
}

impl<L> EdgeStack<L> {
    fn add<N>(mut self, entry: Option<Entry>, layer: N) -> EdgeStack<Pair<N, L>> {
        self.entries.extend(entry);
        EdgeStack { layers: Pair::new(layer, self.layers), entries: self.entries }
    }

    /// Adds a layer inside of all layers so far.
    pub fn push<N: Placed>(self, layer: N) -> EdgeStack<Pair<N, L>> {
        self.add(Some(Entry::of::<N>()), layer)
    }

    /// Adds a layer that does nothing unless it is `on`, and is named only then. (Without the layer
    /// answers would have another type.)
    pub fn push_when<N: Placed>(self, on: bool, layer: N) -> EdgeStack<Pair<N, L>> {
        self.add(on.then(Entry::of::<N>), layer)
    }

    /// Adds a layer that does not know Miroir, or stands there for a second time, under a name.
    pub fn push_named<N>(self, name: &'static str, layer: N) -> EdgeStack<Pair<N, L>> {
        self.add(Some(Entry::named(name)), layer)
    }

    /// The layers so far, outermost first.
    pub fn describe(&self) -> Description {
        describe(EDGE, &self.entries)
    }

    /// Checks the order and puts the layers around a service.
    ///
    /// # Errors
    /// [`OrderError`] when a layer stands outside of one it must be inside of.
    pub fn build<S>(self, base: S) -> Result<L::Service, OrderError>
    where
        L: Layer<S>,
    {
        check(EDGE, &self.entries)?;
        Ok(self.layers.layer(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::LayerName;

    #[derive(Clone)]
    struct Outer;

    impl Placed for Outer {
        const NAME: &'static str = "outer";
    }

    impl<S> Layer<S> for Outer {
        type Service = S;
        fn layer(&self, inner: S) -> S {
            inner
        }
    }

    #[derive(Clone)]
    struct Inner;

    impl Placed for Inner {
        const NAME: &'static str = "inner";
        const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<Outer>()];
    }

    impl<S> Layer<S> for Inner {
        type Service = S;
        fn layer(&self, inner: S) -> S {
            inner
        }
    }

    #[test]
    fn a_wrong_order_is_refused_and_what_is_off_has_no_place() {
        assert!(EdgeStack::new().push(Outer).push(Inner).build(()).is_ok());
        assert!(EdgeStack::new().push(Inner).push_when(false, Outer).build(()).is_ok());
        let wrong = EdgeStack::new().push(Inner).push_when(true, Outer);
        assert_eq!(wrong.describe().layers, ["inner", "outer"]);
        assert_eq!(
            wrong.build(()).unwrap_err().to_string(),
            "in the edge stage, layer `inner` must be inside of `outer`: push `outer` first"
        );
    }
}
