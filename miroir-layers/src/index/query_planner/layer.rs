//! The layer and its service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use miroir_core::filter::{Filter, Keys, Narrowed, NotNarrowed};
use miroir_core::hints::Priority;
use miroir_pipeline::explain::{Audience, WarningKind};
use miroir_pipeline::index::{Operation, Request};
use miroir_pipeline::query::RawObject;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Placed, StageService};
use serde_json::json;

use super::QueryPlannerOptions;
use super::cache::{Narrowing, Plans};

#[derive(Debug)]
struct Shared {
    options: QueryPlannerOptions,
    plans: Plans,
    /// Reads that were narrowed, and all that had a filter.
    narrowed: AtomicU64,
    planned: AtomicU64,
}

/// See the [module's documentation](super). Clones share their plans.
#[derive(Clone, Debug)]
#[must_use]
pub struct QueryPlannerLayer {
    shared: Arc<Shared>,
}

impl QueryPlannerLayer {
    /// Narrows with these options.
    pub fn new(options: QueryPlannerOptions) -> Self {
        let plans = Plans::new(options.max_pk_literals_narrowable);
        let (narrowed, planned) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { options, plans, narrowed, planned }) }
    }

    /// What a request is narrowed to, or why it is not, in words (`Display`). Changes nothing.
    ///
    /// # Errors
    /// Why it is not.
    pub fn plan(&self, request: &Request) -> Result<Narrowed, NotNarrowed> {
        self.shared.plan(request)
    }
}

impl Default for QueryPlannerLayer {
    fn default() -> Self {
        Self::new(QueryPlannerOptions::default())
    }
}

impl Placed for QueryPlannerLayer {
    const NAME: &'static str = "query_planner";
}

miroir_pipeline::layer!(QueryPlannerLayer);

/// The filter of a read.
fn filter(body: Option<&RawObject>) -> Option<&str> {
    body?.raw("filter").filter(|text| *text != "null")
}

/// The primary key, if the filter of a search or of a list names it.
fn names_key(request: &Request) -> Option<&str> {
    let body = match &request.op {
        Operation::Search(search) => search.body.as_ref(),
        Operation::List(list) => list.body.as_ref(),
        _ => None,
    };
    let key = request.index.primary_key.as_deref()?;
    let filter = Filter::from_json(filter(body)?).ok()??;
    filter.attributes().iter().any(|name| name == key).then_some(key)
}

impl Shared {
    fn plan(&self, request: &Request) -> Narrowing {
        let index = &request.index;
        let primary_key = index.primary_key.as_deref();
        let keys = Keys { primary_key, id_case: index.id_case, shards: index.shards };
        let one = |body| {
            let filter = filter(body).ok_or(NotNarrowed::NoFilter)?;
            Narrowing::clone(&self.plans.plan(filter, &keys))
        };
        match &request.op {
            Operation::Search(search) => one(search.body.as_ref()),
            Operation::List(list) => one(list.body.as_ref()),
            Operation::Union(union) => {
                let mut queries = union.queries.iter().map(|body| one(Some(body)));
                let first = queries.next().ok_or(NotNarrowed::NoFilter)??;
                queries.try_fold(first, |mut all, more| {
                    let more = more?;
                    all.shards.union_with(&more.shards);
                    all.ids += more.ids;
                    Ok(all)
                })
            }
            Operation::FetchOne(_) | Operation::Write { .. } => Err(NotNarrowed::NoFilter),
        }
    }

    /// Narrows a request. `false`: it has no filter.
    fn narrow(&self, request: &mut Request) -> bool {
        let plan = self.plan(request);
        if let Some(explain) = &request.cx.explain {
            let why = match &plan {
                Ok(to) => to.to_string(),
                Err(why) => why.to_string(),
            };
            let audience = Audience::of_filter(&request.cx.principal);
            if let (Err(_), Some(key)) = (&plan, names_key(request)) {
                let text = format!(
                    "the filter names the primary key `{key}`, but {why}: all shards are asked"
                );
                explain.warn(WarningKind::Narrowing, audience, text);
            }
            explain.fact("narrowing_reason", json!(why), audience);
        }
        if let Err(NotNarrowed::NoFilter) = plan {
            return false;
        }
        let fewer = plan.as_ref().is_ok_and(|to| to.shards.len() < request.index.shards as usize);
        if self.options.log_plans {
            let index = request.index.name.as_str();
            match &plan {
                Ok(to) => tracing::info!(index, narrowed = fewer, shards = ?to.shards, "{to}"),
                Err(why) => tracing::info!(index, narrowed = false, "{why}"),
            }
        }
        let planned = self.planned.fetch_add(1, Ordering::Relaxed) + 1;
        let narrowed = self.narrowed.fetch_add(u64::from(fewer), Ordering::Relaxed);
        let narrowed = (narrowed + u64::from(fewer)).min(planned);
        let label = if fewer { "yes" } else { "no" };
        metrics::counter!("miroir_query_plan_narrowable_total", "narrowed" => label).increment(1);
        metrics::gauge!("miroir_query_plan_narrowing_ratio").set(narrowed as f64 / planned as f64);
        if let Ok(to) = plan
            && fewer
            && request.hints.shards.is_none()
        {
            request.hints.shards(to.shards, QueryPlannerLayer::NAME, Priority::Must);
        }
        true
    }
}

impl Middleware<Request> for QueryPlannerLayer {
    fn call<S: StageService<Request>>(
        &self,
        mut request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        if !self.shared.narrow(&mut request) {
            return next.pass(request);
        }
        let answer = next.call(request);
        Reply::boxed(async move {
            let answer = answer.await?;
            metrics::histogram!("miroir_query_plan_fanout_size").record(answer.meta.nodes as f64);
            Ok(answer)
        })
    }
}
