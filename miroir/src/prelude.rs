//! What a layer needs: `use miroir::prelude::*;`.
//!
//! ```
//! use miroir::prelude::*;
//! use miroir::index::Request;
//!
//! /// Refuses everything.
//! #[derive(Clone, Debug)]
//! struct ClosedLayer;
//!
//! impl Placed for ClosedLayer {
//!     const NAME: &'static str = "closed";
//! }
//!
//! miroir::layer!(ClosedLayer);
//!
//! impl Middleware<Request> for ClosedLayer {
//!     fn call<S: StageService<Request>>(
//!         &self,
//!         _: Request,
//!         _: Ready<'_, S>,
//!     ) -> Reply<Request, S> {
//!         Reply::refused(Error::api("index_not_found", "This index is closed."))
//!     }
//! }
//!
//! let stack = Stack::<Request>::new().push(ClosedLayer);
//! assert_eq!(stack.describe().layers, ["closed"]);
//! ```

pub use miroir_pipeline::context::{Context, Principal};
pub use miroir_pipeline::stack::{LayerName, OrderError, Placed, Stack};
pub use miroir_pipeline::stage::{
    BoxService, Middleware, Next, Ready, Reply, Stage, StageService, from_fn,
};
pub use miroir_pipeline::{Error, index, leaf, node, operation};
