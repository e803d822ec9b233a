//! The layer and its service.

use std::sync::Arc;

use miroir_core::keys::Scope;
use miroir_pipeline::cluster::aliases::{AliasTable, not_writable};
use miroir_pipeline::explain::{Audience, Facts};
use miroir_pipeline::operation::{MultiSearch, Operation, Request};
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, Placed, StageService};
use miroir_store::records::{Alias, AliasTarget};
use serde_json::json;

use super::many;
use super::names::{Aliases, behind, choose, named, one, widen};
use crate::operation::IdempotencyLayer;

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
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<IdempotencyLayer>()];
}

miroir_pipeline::layer!(AliasLayer);

fn count(alias: &Alias) {
    metrics::counter!("miroir_alias_resolutions_total", "alias" => alias.name.to_string())
        .increment(1);
}

impl Middleware<Request> for AliasLayer {
    fn call<S: StageService<Request>>(
        &self,
        mut request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        if self.table.is_empty() {
            return next.pass(request);
        }
        // One snapshot for all of the request.
        let aliases = self.table.snapshot();
        widen(&mut request, &aliases);
        choose(&mut request.op, &aliases);
        if let Some(multi) = several(&mut request.op) {
            let resolved = resolve_aliases(multi, &aliases, &request.cx.scope);
            return match resolved {
                Ok(()) => next.pass(request),
                Err(error) => Reply::refused(error),
            };
        }
        let alias = named(&mut request.op).and_then(|name| {
            let alias = aliases.get(name)?;
            if let Some(index) = one(alias) {
                index.clone_into(name);
            }
            Some(Arc::clone(alias))
        });
        let Some(alias) = alias else { return next.pass(request) };
        count(&alias);
        if let Err(error) = restrict(&mut request, &alias) {
            return Reply::refused(error);
        }
        if matches!(request.op, Operation::Explain(_)) {
            let mut facts = request.cx.get::<Facts>().cloned().unwrap_or_default();
            let name = json!(alias.name.as_str());
            facts.0.insert("alias_resolution", (name, Audience::Everybody));
            request.cx.insert(facts);
        }
        match &alias.target {
            AliasTarget::One(_) => next.pass(request),
            AliasTarget::Many(_) if request.changes() => Reply::refused(not_writable(&alias)),
            AliasTarget::Many(_) => Reply::boxed(many::read(next.take(), request, alias)),
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

/// Adds what search rules demand of the one index that an alias stands for.
fn restrict(request: &mut Request, alias: &Alias) -> Result<(), Error> {
    if one(alias).is_none() {
        return Ok(());
    }
    for it in behind(alias, &request.cx.scope)? {
        if let Some(rule) = &it.rule {
            request.restrict(0, rule);
        }
    }
    Ok(())
}

/// Has queries ask what the aliases they name stand for.
fn resolve_aliases(
    multi: &mut Arc<MultiSearch>,
    aliases: &Aliases,
    scope: &Scope,
) -> Result<(), Error> {
    let mut any = false;
    for alias in multi.queries().filter_map(|query| aliases.get(&query.index)) {
        count(alias);
        any = true;
    }
    if any {
        Arc::make_mut(multi)
            .resolve_aliases(|name| aliases.get(name).map(|it| behind(it, scope)).transpose())?;
    }
    Ok(())
}
