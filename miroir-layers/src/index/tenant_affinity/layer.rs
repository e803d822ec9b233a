//! The layer and its service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use miroir_api::{GroupId, ShardId};
use miroir_core::hints::Priority;
use miroir_core::lock::Lock;
use miroir_pipeline::codec::HeaderCodec;
use miroir_pipeline::context::Origin;
use miroir_pipeline::explain::Audience;
use miroir_pipeline::index::{Operation, Request};
use miroir_pipeline::keyring::Keyring;
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, Placed, StageService};
use serde_json::json;

use super::{
    Mode, NamedTenant, Place, Reason, TenantAffinityOptions, TenantDirectory, TenantSource, choose,
};
use crate::index::SessionPinningLayer;

/// Most tenants of API keys that metrics show by name.
pub const MAX_LABELS: usize = 100;

/// The tenants that metrics show by name, each with the groups it was sent to.
#[derive(Debug, Default)]
struct Labels(Lock<BTreeMap<Arc<str>, BTreeSet<GroupId>>>);

impl Labels {
    fn new(options: &TenantAffinityOptions) -> Self {
        let labels = Self::default();
        for (name, group) in &options.static_map {
            labels.note(Arc::from(name.as_str()), usize::MAX, Some(*group));
        }
        labels
    }

    fn note(&self, name: Arc<str>, most: usize, group: Option<GroupId>) -> Arc<str> {
        let mut shown = self.0.lock();
        if !shown.contains_key(&name) && shown.len() >= most {
            return Arc::from("other");
        }
        let groups = shown.entry(Arc::clone(&name)).or_default();
        if let Some(group) = group
            && groups.insert(group)
        {
            metrics::gauge!("miroir_tenant_pinned_groups", "tenant" => name.to_string())
                .set(groups.len() as f64);
        }
        name
    }
}

#[derive(Debug)]
struct Shared {
    options: TenantAffinityOptions,
    labels: Labels,
}

/// See the [module's documentation](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct TenantAffinityLayer {
    shared: Arc<Shared>,
    source: Option<Arc<TenantSource>>,
}

impl TenantAffinityLayer {
    /// Sends tenants where these options say. Where they are told by their API keys, there are none
    /// without [`TenantAffinityLayer::keys`].
    pub fn new(options: TenantAffinityOptions) -> Self {
        let labels = Labels::new(&options);
        let source = options.header().map(|header| Arc::new(TenantSource::Header(header)));
        Self { shared: Arc::new(Shared { options, labels }), source }
    }

    /// Where the options tell tenants by their API keys: which keys there are, and of whom.
    pub fn keys(mut self, directory: &Arc<TenantDirectory>, keyring: &Arc<Keyring>) -> Self {
        if self.shared.options.mode == Mode::ApiKey {
            let (directory, keyring) = (Arc::clone(directory), Arc::clone(keyring));
            self.source = Some(Arc::new(TenantSource::ApiKey { directory, keyring }));
        }
        self
    }
}

impl Placed for TenantAffinityLayer {
    const NAME: &'static str = "tenant_affinity";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<SessionPinningLayer>()];

    fn codec(&self) -> Option<Arc<dyn HeaderCodec>> {
        self.source.clone().map(|source| source as _)
    }
}

miroir_pipeline::layer!(TenantAffinityLayer);

/// Whether every shard has a replica in the group that is up and missed nothing.
fn is_whole(request: &Request, group: GroupId) -> bool {
    let (topology, index) = (&request.topology, &request.index);
    let up = |id| topology.node(id).is_some_and(|node| node.is_readable());
    if request.stale.is_empty()
        && topology.group(group).is_some_and(|group| group.nodes.iter().all(|node| up(&node.id)))
    {
        return true;
    }
    let placement = topology.placement(index.shards);
    (0..index.shards).map(ShardId).all(|shard| {
        placement
            .owners(group, shard)
            .any(|id| up(id) && !request.stale.is_stale(&index.physical, id, shard))
    })
}

impl Shared {
    fn label(&self, tenant: Option<&NamedTenant>, group: Option<GroupId>) -> Arc<str> {
        let Some(tenant) = tenant else { return Arc::from("none") };
        let most = if tenant.listed { MAX_LABELS + self.options.static_map.len() } else { 0 };
        self.labels.note(Arc::clone(&tenant.name), most, group)
    }

    fn refusal(&self, tenant: Option<&NamedTenant>) -> Error {
        let header = &self.options.header_name;
        match (self.options.mode, tenant) {
            (Mode::ApiKey, _) => Error::api(
                "miroir_unmapped_key",
                "This API key is of no tenant, and only tenants may read here. The operator says \
                 which tenant a key is of with `POST /_miroir/tenants`.",
            ),
            (_, None) => Error::api(
                "miroir_unknown_tenant",
                format!("The request names no tenant. Name one in the header `{header}`."),
            ),
            (_, Some(tenant)) => Error::api(
                "miroir_unknown_tenant",
                format!(
                    "Tenant `{}` of the header `{header}` is not known here. Correct the name, or \
                     have the operator add it to `tenant_affinity.static_map`.",
                    tenant.name
                ),
            ),
        }
    }

    fn place(&self, request: &mut Request) -> Result<(), Error> {
        let tenant = request.cx.extensions().share::<NamedTenant>();
        let tenant = tenant.as_deref();
        let groups: Vec<GroupId> = request.topology.complete_groups().map(|g| g.id).collect();
        let choice = choose(&self.options, tenant, &groups);
        let group = match choice.place {
            Place::Group(group) => Some(group),
            Place::Anywhere | Place::Nowhere => None,
        };
        let fallback = |reason: Reason| {
            metrics::counter!("miroir_tenant_fallback_total", "reason" => reason.as_str())
                .increment(1);
        };
        choice.fallback.into_iter().for_each(fallback);
        if choice.place == Place::Nowhere {
            return Err(self.refusal(tenant));
        }
        let label = self.label(tenant, group);
        let shown = group.map_or_else(|| "any".to_owned(), |group| group.0.to_string());
        metrics::counter!(
            "miroir_tenant_queries_total", "tenant" => label.to_string(), "group" => shown
        )
        .increment(1);
        let own = group.filter(|_| choice.given);
        request
            .hints
            .exclude(self.options.dedicated_groups.iter().copied().filter(|g| Some(*g) != own));
        let Some(group) = group else { return Ok(()) };
        let pinned = request.hints.group.as_ref();
        if pinned.is_some_and(|hint| hint.priority == Priority::Must && hint.value != group) {
            metrics::counter!(
                "miroir_tenant_session_pin_override_total", "tenant" => label.to_string()
            )
            .increment(1);
            return Ok(());
        }
        let strength = if is_whole(request, group) { Priority::Pin } else { Priority::Prefer };
        if strength == Priority::Prefer {
            fallback(Reason::GroupDown);
        }
        if let Some(explain) = &request.cx.explain {
            let pinned = json!({"tenant": label.to_string(), "group": group});
            explain.fact("tenant_affinity_pinned", pinned, Audience::Everybody);
        }
        request.hints.group(group, TenantAffinityLayer::NAME, strength);
        Ok(())
    }
}

impl Middleware<Request> for TenantAffinityLayer {
    fn call<S: StageService<Request>>(
        &self,
        mut request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let reads = !matches!(request.op, Operation::Write { .. });
        if reads
            && request.cx.origin == Origin::Client
            && let Err(error) = self.shared.place(&mut request)
        {
            return Reply::refused(error);
        }
        next.pass(request)
    }
}
