//! A stack of layers of one stage, with its order written down and checked.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tower::Layer;
use tower::layer::util::{Identity, Stack as Pair};
use tower::util::Either;

use crate::codec::{Codecs, HeaderCodec};
use crate::stage::{BoxService, Stage, StageService};

/// Where a layer may stand.
pub trait Placed {
    /// The layer's name in order errors, `--describe-stack` and docs.
    const NAME: &'static str;
    /// Layers of the same stage that must be outside of this one where both are present. What they
    /// must be inside of, this one must be too: the nearest ones are enough.
    const INSIDE_OF: &'static [LayerName] = &[];
    /// Layers of other stages without which this one does not do what it says. A pipeline without
    /// them is not built: [`Wiring`](crate::wiring::Wiring).
    const NEEDS: &'static [Need] = &[];

    /// The headers of the layer, if it has any: [`Decode`](crate::http::Decode) reads and writes them
    /// while the layer is in its stack.
    fn codec(&self) -> Option<Arc<dyn HeaderCodec>> {
        None
    }
}

/// The name of a layer that exists: there is no way to one but by the layer's type. So a name that
/// is misspelt, or that outlived its layer, does not compile, and neither do layers each of which
/// must be outside of the other.
///
/// ```
/// use miroir_pipeline::Placed;
/// use miroir_pipeline::stack::LayerName;
///
/// struct Outer;
/// impl Placed for Outer {
///     const NAME: &'static str = "outer";
/// }
///
/// struct Inner;
/// impl Placed for Inner {
///     const NAME: &'static str = "inner";
///     const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<Outer>()];
/// }
/// # assert_eq!(Inner::INSIDE_OF[0].as_str(), "outer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerName {
    name: &'static str,
    inside_of: &'static [LayerName],
}

impl LayerName {
    /// The name of this layer.
    pub const fn of<L: Placed + ?Sized>() -> Self {
        Self { name: L::NAME, inside_of: L::INSIDE_OF }
    }

    /// As text: the layer's [`Placed::NAME`].
    pub const fn as_str(self) -> &'static str {
        self.name
    }

    /// Whether it is this layer, or one that this one must be inside of.
    fn reaches(&self, outer: &str) -> bool {
        self.name == outer || self.inside_of.iter().any(|next| next.reaches(outer))
    }
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A layer that another one cannot do without, and its stage. As [`LayerName`], it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub(crate) stage: &'static str,
    pub(crate) layer: LayerName,
}

impl Need {
    /// The layer `L` in the stage whose requests are `R`.
    pub const fn of<R: Stage, L: Placed + ?Sized>() -> Self {
        Self { stage: R::NAME, layer: LayerName::of::<L>() }
    }

    /// The name of the stage.
    pub const fn stage(self) -> &'static str {
        self.stage
    }

    /// The name of the layer.
    pub const fn layer(self) -> LayerName {
        self.layer
    }
}

/// Two layers stand in the wrong order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderError {
    stage: &'static str,
    inner: &'static str,
    outer: &'static str,
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "in the {} stage, layer `{}` must be inside of `{}`: push `{}` first",
            self.stage, self.inner, self.outer, self.outer
        )
    }
}

impl std::error::Error for OrderError {}

/// What a stack consists of, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The stage.
    pub stage: &'static str,
    /// Names of its layers.
    pub layers: Vec<&'static str>,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.stage)?;
        self.layers.iter().try_for_each(|name| writeln!(f, "  {name}"))
    }
}

/// A layer as it stands in a stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    inside_of: &'static [LayerName],
    pub(crate) needs: &'static [Need],
}

impl Entry {
    /// A layer that says where it may stand.
    pub(crate) fn of<L: Placed>() -> Self {
        Self { name: L::NAME, inside_of: L::INSIDE_OF, needs: L::NEEDS }
    }

    /// A layer that may stand anywhere.
    pub(crate) fn named(name: &'static str) -> Self {
        Self { name, inside_of: &[], needs: &[] }
    }
}

/// The names of layers, outermost first.
pub(crate) fn describe(stage: &'static str, entries: &[Entry]) -> Description {
    Description { stage, layers: entries.iter().map(|entry| entry.name).collect() }
}

/// That no layer stands outside of one that it must be inside of.
pub(crate) fn check(stage: &'static str, entries: &[Entry]) -> Result<(), OrderError> {
    for (at, inner) in entries.iter().enumerate() {
        for outer in &entries[at + 1..] {
            if inner.inside_of.iter().any(|need| need.reaches(outer.name)) {
                return Err(OrderError { stage, inner: inner.name, outer: outer.name });
            }
        }
    }
    Ok(())
}

/// Collects layers, outermost first, and builds a service.
///
/// ```
/// # use miroir_pipeline::{index, Stack, stage::from_fn};
/// let stack = Stack::<index::Request>::new()
///     .push_named("log", from_fn(|request: index::Request, next| next_run(request, next)));
/// # fn next_run(r: index::Request, n: miroir_pipeline::stage::Next<index::Request>)
/// #   -> impl std::future::Future<Output = Result<index::Response, miroir_pipeline::Error>> + Send { n.run(r) }
/// assert_eq!(stack.describe().layers, ["log"]);
/// ```
#[must_use]
pub struct Stack<R, L = Identity> {
    layers: L,
    pub(crate) entries: Vec<Entry>,
    codecs: Codecs,
    stage: PhantomData<fn(R)>,
}

impl<R, L> fmt::Debug for Stack<R, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.entries.iter().map(|entry| entry.name).collect();
        f.debug_struct("Stack").field("layers", &names).finish()
    }
}

impl<R: Stage> Stack<R> {
    /// An empty stack.
    pub fn new() -> Self {
        let (entries, codecs) = (Vec::new(), Codecs::new());
        Self { layers: Identity::new(), entries, codecs, stage: PhantomData }
    }
}

impl<R: Stage> Default for Stack<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Stage, L> Stack<R, L> {
    /// The same stack around other layers.
    fn map<N>(self, layers: impl FnOnce(L) -> N) -> Stack<R, N> {
        let Self { entries, codecs, stage, .. } = self;
        Stack { layers: layers(self.layers), entries, codecs, stage }
    }

    /// Adds a layer inside of all layers so far.
    pub fn push<N: Placed>(mut self, layer: N) -> Stack<R, Pair<N, L>> {
        self.entries.push(Entry::of::<N>());
        self.codecs.extend(layer.codec());
        self.map(|outer| Pair::new(layer, outer))
    }

    /// Adds a layer if there is one.
    pub fn push_if<N: Placed>(
        mut self,
        layer: Option<N>,
    ) -> Stack<R, Pair<Either<N, Identity>, L>> {
        self.entries.extend(layer.is_some().then(Entry::of::<N>));
        self.codecs.extend(layer.as_ref().and_then(Placed::codec));
        self.map(|outer| Pair::new(tower::util::option_layer(layer), outer))
    }

    /// Adds a layer that does not know Miroir, under a name.
    pub fn push_named<N>(mut self, name: &'static str, layer: N) -> Stack<R, Pair<N, L>> {
        self.entries.push(Entry::named(name));
        self.map(|outer| Pair::new(layer, outer))
    }

    /// Adds the layers of another stack inside of all layers so far.
    pub fn append<M>(mut self, inner: Stack<R, M>) -> Stack<R, Pair<M, L>> {
        self.entries.extend(inner.entries);
        self.codecs.extend(inner.codecs);
        self.map(|outer| Pair::new(inner.layers, outer))
    }

    /// Hides the types of the layers, so that stacks of different layers have one type.
    pub fn boxed(self) -> Stack<R, BoxLayer<R>>
    where
        L: StageLayer<R>,
    {
        self.map(|layers| BoxLayer(Arc::new(layers)))
    }

    /// The layers so far, outermost first.
    pub fn describe(&self) -> Description {
        describe(R::NAME, &self.entries)
    }

    /// The headers of the layers so far, for [`Decode::codecs`](crate::http::Decode::codecs).
    pub fn codecs(&self) -> Codecs {
        self.codecs.clone()
    }

    /// Checks the order and puts the layers around a service.
    ///
    /// # Errors
    /// [`OrderError`] when a layer stands outside of one it must be inside of.
    pub fn build<S>(self, base: S) -> Result<BoxService<R>, OrderError>
    where
        L: Layer<S>,
        L::Service: StageService<R>,
    {
        check(R::NAME, &self.entries)?;
        Ok(BoxService::new(self.layers.layer(base)))
    }
}

/// Bounds every layer of a stage satisfies. Implemented for all that qualify, never by hand.
pub trait StageLayer<R: Stage>: Send + Sync + 'static {
    /// Puts the layer around a service.
    fn around(&self, inner: BoxService<R>) -> BoxService<R>;
}

impl<R: Stage, L> StageLayer<R> for L
where
    L: Layer<BoxService<R>, Service: StageService<R>> + Send + Sync + 'static,
{
    fn around(&self, inner: BoxService<R>) -> BoxService<R> {
        BoxService::new(self.layer(inner))
    }
}

/// Layers of one stage whose types are hidden; see [`Stack::boxed`].
pub struct BoxLayer<R: Stage>(Arc<dyn StageLayer<R>>);

impl<R: Stage> fmt::Debug for BoxLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxLayer").finish_non_exhaustive()
    }
}

impl<R: Stage> Layer<BoxService<R>> for BoxLayer<R> {
    type Service = BoxService<R>;

    fn layer(&self, inner: BoxService<R>) -> BoxService<R> {
        self.0.around(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::node::Request;

    macro_rules! chain {
        ($($layer:ident: $name:literal, $($outer:ident)?;)*) => {$(
            #[derive(Clone)]
            struct $layer;

            impl Placed for $layer {
                const NAME: &'static str = $name;
                const INSIDE_OF: &'static [LayerName] = &[$(LayerName::of::<$outer>())?];
            }

            impl<S> Layer<S> for $layer {
                type Service = S;
                fn layer(&self, inner: S) -> S {
                    inner
                }
            }
        )*};
    }

    chain! {
        First: "first", ;
        Second: "second", First;
        Third: "third", Second;
        Free: "free", ;
    }

    fn base() -> BoxService<Request> {
        BoxService::new(tower::service_fn(|_: Request| std::future::ready(Err(Error::not_found()))))
    }

    #[test]
    fn what_is_inside_of_a_layer_is_inside_of_what_that_is_inside_of() {
        let stack = || Stack::<Request>::new();
        assert!(stack().push(First).push(Free).push(Second).push(Third).build(base()).is_ok());
        assert!(stack().push(Free).push(First).push(Third).build(base()).is_ok());
        assert!(stack().push(Third).push(Free).build(base()).is_ok());
        let wrong = stack().push(Third).push(Free).push(First).build(base()).unwrap_err();
        let expected = OrderError { stage: "node", inner: "third", outer: "first" };
        assert_eq!(wrong, expected);
    }
}
