//! The layer and its service.

use std::sync::Arc;
use std::task::{self, Poll};

use miroir_pipeline::cluster::aliases::{AliasTable, not_writable};
use miroir_pipeline::operation::{MultiSearch, Operation, Request, Response};
use miroir_pipeline::stage::{StageFuture, take_ready};
use miroir_pipeline::{Error, Placed, StageService};
use miroir_store::records::{Alias, Target};
use tower::{Layer, Service};

use super::many;
use super::names::{Aliases, choose, named, one, widen};

/// See the [module's documentation](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct AliasLayer {
    table: Arc<AliasTable>,
}

impl AliasLayer {
    /// Looks names up in this table.
    pub fn new(table: Arc<AliasTable>) -> Self {
        Self { table }
    }
}

impl Placed for AliasLayer {
    const NAME: &'static str = "alias";
    const INSIDE_OF: &'static [&'static str] = &["authorize", "idempotency"];
}

impl<S> Layer<S> for AliasLayer {
    type Service = AliasService<S>;
    fn layer(&self, inner: S) -> AliasService<S> {
        AliasService { inner, table: Arc::clone(&self.table) }
    }
}

/// See the [module's documentation](super).
#[derive(Clone, Debug)]
pub struct AliasService<S> {
    inner: S,
    table: Arc<AliasTable>,
}

fn count(alias: &Alias) {
    metrics::counter!("miroir_alias_resolutions_total", "alias" => alias.name.to_string())
        .increment(1);
}

impl<S: StageService<Request>> Service<Request> for AliasService<S> {
    type Response = Response;
    type Error = Error;
    type Future = StageFuture<Request>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if self.table.is_empty() {
            return Box::pin(self.inner.call(request));
        }
        // One snapshot for all of the request.
        let aliases = self.table.snapshot();
        widen(&mut request, &aliases);
        choose(&mut request.op, &aliases);
        if let Some(multi) = several(&mut request.op) {
            stand(multi, &aliases);
            return Box::pin(self.inner.call(request));
        }
        let alias = named(&mut request.op).and_then(|name| {
            let alias = aliases.get(name)?;
            if let Some(index) = one(alias) {
                index.clone_into(name);
            }
            Some(Arc::clone(alias))
        });
        let Some(alias) = alias else { return Box::pin(self.inner.call(request)) };
        count(&alias);
        request.cx.alias = Some(Arc::from(alias.name.as_str()));
        match &alias.target {
            Target::One(_) => Box::pin(self.inner.call(request)),
            Target::Many(_) if request.changes() => {
                Box::pin(std::future::ready(Err(not_writable(&alias))))
            }
            Target::Many(_) => {
                let inner = take_ready(&mut self.inner);
                Box::pin(many::read(inner, request, alias))
            }
        }
    }
}

/// The queries of a multi-search, be it to be explained.
fn several(op: &mut Operation) -> Option<&mut Arc<MultiSearch>> {
    match op {
        Operation::MultiSearch(multi) => Some(multi),
        Operation::Explain(op) => several(op),
        _ => None,
    }
}

/// Has queries ask what the aliases they name stand for.
fn stand(multi: &mut Arc<MultiSearch>, aliases: &Aliases) {
    let mut any = false;
    for alias in multi.queries().filter_map(|query| aliases.get(&query.index)) {
        count(alias);
        any = true;
    }
    if any {
        Arc::make_mut(multi).stand(|name| aliases.get(name).map(|alias| many::names(alias)));
    }
}
