//! What Scatter decides about a search, noted for whoever asked to have it explained.

use std::collections::BTreeMap;

use super::Scatter;
use super::freshness::MinSettingsVersion;
use crate::cluster::settings::IndexSettings;
use crate::explain::{Audience, Explain, RequestPlan, WarningKind};
use crate::index::Request;
use crate::query::RawObject;
use miroir_core::documents::is_reserved;
use miroir_core::filter::Filter;
use miroir_core::routing::{Cover, ShardSet, Tier};
use miroir_core::view::Route;

/// Hits down the list that are far.
const DEEP: usize = 10_000;
/// What 95 of 100 calls take.
const P95: u32 = 95;

/// Questions that a search by words may take after its first, or beside it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Round {
    /// How many documents have each word.
    Words,
    /// Whether a half-typed last word is a word of its own.
    Beginnings,
    /// Whether nodes have a table of the words that begin like it.
    Tables,
    /// How far hits go on that are tied with the last of the page.
    Ties,
    /// What hits of several values hide that make way for other nodes'.
    HiddenHits,
    /// Totals and facets of what a distinct attribute leaves.
    DistinctCounts,
    /// What scores enough beyond the lists of nodes.
    Threshold,
    /// Numbers and the strings that are written like them.
    FacetNumbers,
    /// Counts that the lists of nodes leave open.
    FacetCounts,
    /// Which document's spelling of a value came first.
    FacetSpellings,
}

impl Round {
    fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Beginnings => "beginnings",
            Self::Tables => "tables",
            Self::Ties => "ties",
            Self::HiddenHits => "hidden_hits",
            Self::DistinctCounts => "distinct_counts",
            Self::Threshold => "threshold",
            Self::FacetNumbers => "facet_numbers",
            Self::FacetCounts => "facet_counts",
            Self::FacetSpellings => "facet_spellings",
        }
    }
}

/// Notes a round of questions, where they are asked.
pub(super) fn round(request: &Request, round: Round) {
    if let Some(explain) = request.cx.explain.as_ref().filter(|explain| explain.executes()) {
        explain.round(round.name());
    }
}

/// Notes what is asked, and what about it is slow or does not work.
pub(super) fn asked(
    explain: &Explain,
    request: &Request,
    body: &RawObject,
    settings: &IndexSettings,
) {
    let audience = Audience::of_filter(&request.cx.principal);
    let works = |name: &str| !is_reserved(name) && settings.is_filterable(name);
    // A node says what is wrong with one that cannot be read.
    let filter = body.raw("filter").and_then(|text| Filter::from_json(text).ok().flatten());
    for name in filter.map(|filter| filter.attributes()).unwrap_or_default() {
        if !works(&name) {
            let text = format!(
                "the filter names `{name}`, which is not in `filterableAttributes`: nodes refuse the \
                 search"
            );
            explain.warn(WarningKind::Attribute, audience, text);
        }
    }
    for name in body.read::<Vec<String>>("facets").ok().flatten().unwrap_or_default() {
        if name == "*" {
            let text = "`facets` asks for every filterable attribute (`*`): each one is counted on \
                        every node; name those that are shown";
            explain.warn(WarningKind::Wildcard, Audience::Everybody, text);
        } else if !settings.takes_facet(&name) {
            let text = format!(
                "`facets` names `{name}`, which is not in `filterableAttributes`: nodes refuse the \
                 search"
            );
            explain.warn(WarningKind::Attribute, Audience::Everybody, text);
        }
    }
    let number = |key| body.read::<usize>(key).ok().flatten();
    let end = match (number("page"), number("hitsPerPage")) {
        (None, None) => number("offset").unwrap_or(0).saturating_add(number("limit").unwrap_or(20)),
        (page, size) => page.unwrap_or(1).saturating_mul(size.unwrap_or(20)),
    };
    if end > DEEP {
        let text = format!(
            "the page ends at hit {end}: every node ranks all hits up to there; narrow the search, or \
             list documents instead"
        );
        explain.warn(WarningKind::DeepPage, Audience::Everybody, text);
    }
    if end > settings.max_total_hits {
        let text = format!(
            "the page ends at hit {end}, and no hit after `pagination.maxTotalHits` ({}) is shown",
            settings.max_total_hits
        );
        explain.warn(WarningKind::DeepPage, Audience::Everybody, text);
    }
}

/// Notes whom the first question goes to.
pub(super) fn planned(
    explain: &Explain,
    scatter: &Scatter,
    request: &Request,
    shards: &ShardSet,
    route: &Route,
    cover: &Cover,
) {
    if explain.record().plan.is_some() {
        return;
    }
    let state = &scatter.state;
    let index = &request.index;
    let p95: BTreeMap<_, _> = cover
        .leaves
        .iter()
        .filter_map(|leaf| {
            Some((leaf.node.clone(), state.nodes.scores.node(&leaf.node).quantile(P95)?))
        })
        .collect();
    let broadcast_pending = state.broadcasts.is_in_flight(&index.physical);
    let plan = RequestPlan {
        wanted: shards.clone(),
        hints: request.hints.clone(),
        route: route.clone(),
        cover: cover.clone(),
        p95,
        broadcast_pending,
    };
    explain.note(|record| {
        record.index = Some(index.clone());
        record.plan = Some(plan);
    });
    warn(explain, request, route, cover, broadcast_pending);
}

fn warn(
    explain: &Explain,
    request: &Request,
    route: &Route,
    cover: &Cover,
    broadcast_pending: bool,
) {
    use WarningKind as Kind;
    let (index, hints) = (&request.index, &request.hints);
    if !cover.missing.is_empty() {
        let text = format!(
            "shards {} have no replica that can be read: what they hold is not found",
            crate::error::list(&cover.missing)
        );
        // Of those that the filter leaves.
        explain.warn(Kind::MissingShards, Audience::of_filter(&request.cx.principal), text);
    }
    let operators = |kind, text: String| explain.warn(kind, Audience::Operators, text);
    if broadcast_pending {
        let version = index.settings_version;
        let text = format!("settings are being changed; {version} is the version committed last");
        operators(Kind::Settings, text);
    }
    if let Some(why) = &index.frozen {
        operators(Kind::Settings, format!("nodes differ in their settings: {why}"));
    }
    if let Some(MinSettingsVersion(floor)) = request.cx.get()
        && !hints.avoid.is_empty()
    {
        let nodes: Vec<&str> = hints.avoid.iter().map(|node| node.as_str()).collect();
        let text = format!(
            "nodes {} are left out: they are not known to have settings version {floor} \
             (`X-Miroir-Min-Settings-Version`)",
            nodes.join(", ")
        );
        operators(Kind::Settings, text);
    }
    for it in &hints.conflicts {
        let text = format!(
            "the {} that `{}` wished for does not count: `{}` did",
            it.what, it.by, it.winner
        );
        operators(Kind::Hints, text);
    }
    let missed = request.stale.rows().filter(|row| row.index == index.physical).count();
    if missed > 0 {
        let text = format!(
            "{missed} replicas missed a write and are not read until they have it \
             (`GET /_miroir/replicas`)"
        );
        operators(Kind::Replicas, text);
    }
    let first = route.groups.first().and_then(|group| request.topology.group(*group));
    for node in first.into_iter().flat_map(|group| &group.nodes) {
        match route.standings.of(&node.id) {
            Some(it) if it.tier != Tier::Good => operators(
                Kind::Replicas,
                format!("node {} is spared: it costs {:.1}, and 1 is usual", node.id, it.cost),
            ),
            None if !route.standings.nodes().is_empty() => {
                operators(Kind::Replicas, format!("node {} cannot be asked", node.id));
            }
            _ => {}
        }
    }
    let outside =
        first.is_some_and(|group| cover.leaves.iter().any(|leaf| group.node(&leaf.node).is_none()));
    if outside {
        let text = "the chosen group cannot, or should not, answer for all shards: others fill in";
        operators(Kind::Replicas, text.to_owned());
    }
}
