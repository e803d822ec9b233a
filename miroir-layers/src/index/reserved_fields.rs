//! Keeps clients out of the fields that belong to Miroir.
//!
//! A document that arrives with a `_miroir_shard` of its own would be read in the wrong shard, or
//! twice, or never. So documents that carry a reserved field are refused before any node sees one of
//! the batch. The fields themselves are written by `Scatter`.
//!
//! Names are compared as JSON says, so that `"_miroir\u005fshard"` is found too; only top-level
//! fields count.
//!
//! # Stage
//! Index, `Write::Add` only. Other operations pass untouched.
//!
//! # Order
//! None declared: it changes nothing, and refuses before anything is asked of a node.
//!
//! # Context
//! Reads `origin`: only what a client sent is checked. Workers copy documents together with their
//! reserved fields.
//!
//! # Errors
//! 400 `miroir_reserved_field`, naming the first such field.
//!
//! # Metrics
//! `miroir_reserved_field_refusals_total{field}`.
//!
//! # Example
//! ```
//! use miroir_pipeline::Stack;
//! use miroir_layers::index::{ReservedFieldsLayer, ReservedFieldsOptions};
//!
//! let options = ReservedFieldsOptions { updated_at: true, ..ReservedFieldsOptions::default() };
//! let stack = Stack::<miroir_pipeline::index::Request>::new().push(ReservedFieldsLayer::new(options));
//! assert_eq!(stack.describe().layers, ["reserved_fields"]);
//! ```

use miroir_core::documents::{self, find_reserved, reserved_field};
use miroir_pipeline::context::Origin;
use miroir_pipeline::index::{Operation, Request, Write};
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, Placed, StageService};

/// Which fields are Miroir's. Those of the shard and of the order always are.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReservedFieldsOptions {
    /// `_miroir_updated_at` is written by Miroir.
    pub updated_at: bool,
    /// `_miroir_expires_at` may not be written by clients. Leave it `false` where documents may
    /// expire: clients then set the field.
    pub expires_at: bool,
}

/// See the [module's documentation](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct ReservedFieldsLayer {
    options: ReservedFieldsOptions,
}

impl ReservedFieldsLayer {
    /// Refuses with these options.
    pub fn new(options: ReservedFieldsOptions) -> Self {
        Self { options }
    }
}

impl Placed for ReservedFieldsLayer {
    const NAME: &'static str = "reserved_fields";
}

miroir_pipeline::layer!(ReservedFieldsLayer);

/// The first reserved field in a request, if it has one.
fn refused(request: &Request, options: ReservedFieldsOptions) -> Option<String> {
    let Operation::Write { write: Write::Add { documents, .. }, .. } = &request.op else {
        return None;
    };
    if request.cx.origin != Origin::Client {
        return None;
    }
    let mut names = vec![documents::SHARD, documents::ORDER];
    names.extend(options.updated_at.then_some(documents::UPDATED_AT));
    names.extend(options.expires_at.then_some(documents::EXPIRES_AT));
    documents.iter().find_map(|document| find_reserved(document, &names))
}

impl Middleware<Request> for ReservedFieldsLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        match refused(&request, self.options) {
            None => next.pass(request),
            Some(field) => {
                let error = Error::client(reserved_field(&field));
                metrics::counter!("miroir_reserved_field_refusals_total", "field" => field)
                    .increment(1);
                Reply::refused(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
