//! Marks of a half-typed last word: ask what decides about them, mark hits as one node would.
//!
//! A node with a table of the words that begin so marks them only if the beginning is a word of its
//! own ([`miroir_core::format`]). Whether it is one anywhere is asked of all leaves, at the same time
//! as the search itself; whether a node has a table shows in its hits. Nodes that show none are asked
//! for some where it decides about the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use miroir_api::NodeId;
use serde_json::json;
use tokio::time::timeout;

use super::super::explained::{Round, round};
use super::super::{Scatter, gaps};
use super::plan::{SearchPlan, semantic, visible, visible_crops};
use super::{Found, ask};
use crate::cluster::settings::IndexSettings;
use crate::index::Request;
use crate::leaf::Scoped;
use crate::node::Call;
use crate::query::{RawObject, Search, SearchKind};
use miroir_core::documents::ORDER;
use miroir_core::format::{self, Formatting, Mark, Marking, Shown, Typed};
use miroir_core::merge::Page;
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;

/// Words in a crop unless a query says otherwise.
const CROP_LENGTH: usize = 10;
/// How many nodes are asked whether they have a table.
const UNSEEN: usize = 8;
/// How many hits are to show it: one may match by what is no text.
const SHOWING: usize = 3;
/// How long a node may take for them; the answer is waiting.
const PATIENCE: Duration = Duration::from_millis(500);

/// A search with a half-typed last word whose marks depend on the words of a whole index.
pub(super) struct Typing {
    settings: Arc<IndexSettings>,
    typed: Typed,
    formatting: Formatting,
    shown: Shown,
}

/// Reads a search, and has its leaves come with what marking their hits anew takes. `None` for
/// searches whose marks nobody asks for, or all nodes agree on: `several` says whether more than one
/// is asked.
pub(super) fn prepare(
    plan: &mut SearchPlan,
    search: &Search,
    settings: &Arc<IndexSettings>,
    several: impl FnOnce() -> bool,
) -> Option<Typing> {
    let body = search.body.as_ref().filter(|_| search.kind == SearchKind::Hits)?;
    let names = |key: &str| body.read::<Vec<String>>(key).ok().flatten().unwrap_or_default();
    let displayed = settings.displayed.as_deref();
    let highlight = visible(names("attributesToHighlight"), displayed);
    let crop = visible_crops(names("attributesToCrop"), displayed);
    let positions = body.read::<bool>("showMatchesPosition").ok()?.unwrap_or(false);
    let formats = positions || !highlight.is_empty() || !crop.is_empty();
    // A query by its rarest words, or by meaning, is not asked as it was written.
    let frequency = body.raw("matchingStrategy") == Some("\"frequency\"");
    if !formats || frequency || semantic(body) || body.has("locales") {
        return None;
    }
    if plan.pagination.depth(settings.max_total_hits) == 0 {
        return None;
    }
    let typed = Typed::parse(plan.query.as_deref()?, &settings.words)?;
    let text = |key: &str, default: &str| {
        body.read(key).map(|own| own.unwrap_or_else(|| default.to_owned())).ok()
    };
    let length = body.read("cropLength").ok()?.unwrap_or(CROP_LENGTH);
    let formatting = Formatting {
        highlight,
        crop: Formatting::crops(&crop, length),
        pre_tag: text("highlightPreTag", "<em>")?,
        post_tag: text("highlightPostTag", "</em>")?,
        marker: text("cropMarker", "…")?,
    };
    if !several() {
        return None;
    }
    let mut asked = RawObject::parse(&plan.scoped.body)?;
    asked.set("showMatchesPosition", &true);
    let shown = retrieve(&mut asked, plan, body, displayed, &formatting, positions);
    plan.scoped.body = asked.to_bytes();
    Some(Typing { settings: Arc::clone(settings), typed, formatting, shown })
}

/// Asks for every attribute whose texts are to be read, and says what the client sees then.
fn retrieve(
    asked: &mut RawObject,
    plan: &mut SearchPlan,
    body: &RawObject,
    displayed: Option<&[String]>,
    formatting: &Formatting,
    positions: bool,
) -> Shown {
    let mut shown = Shown { positions, ..Shown::default() };
    let own = body.read::<Vec<String>>("attributesToRetrieve").ok().flatten();
    let own = visible(own.unwrap_or_else(|| vec!["*".to_owned()]), displayed);
    let crop = formatting.crop.iter().map(|(name, _)| name);
    let formatted: Vec<String> = formatting.highlight.iter().chain(crop).cloned().collect();
    let all = visible(vec!["*".to_owned()], displayed);
    let texts = if positions { &all } else { &formatted };
    // With members whole, places in arrays are those that positions tell of.
    let mut tops: Vec<&str> = texts.iter().filter_map(|name| name.split('.').next()).collect();
    tops.retain(|top| !own.iter().any(|name| name == "*" || name == top));
    if tops.is_empty() {
        return shown;
    }
    let mut list: Vec<&str> = own.iter().map(String::as_str).chain(tops).collect();
    list.extend(plan.hits.distinct.as_deref());
    list.extend(plan.hits.unique.as_deref());
    list.push(ORDER);
    asked.set("attributesToRetrieve", &list);
    plan.hits.drop_fields.clear();
    plan.hits.drop_formatted.clear();
    shown.formatted = Some(formatted.iter().chain(&own).cloned().collect());
    shown.fields = Some(own);
    shown
}

impl Typing {
    /// Which of the query's beginnings are words of the index; `None` where nobody can tell.
    pub(super) async fn words(
        &self,
        scatter: &Scatter,
        request: &Request,
        plan: &SearchPlan,
        route: &Route,
    ) -> Vec<Option<bool>> {
        // An answer that lacks this is none that lacks a shard.
        let mut request = request.clone();
        request.cx.insert(gaps::Gaps::default());
        let shards = ShardSet::full(request.index.shards);
        let (request, shards) = (&request, &shards);
        join_all(self.typed.beginnings.iter().map(|beginning| async move {
            // No document has a stop word.
            if self.settings.words.stop_words.contains(&beginning.text) {
                return Some(false);
            }
            round(request, Round::Beginnings);
            let phrase = format!("\"{}\"", beginning.text);
            let body = json!({"q": phrase, "limit": 0, "matchingStrategy": "all"});
            let body = Bytes::from(body.to_string());
            let scoped = Scoped { body, filter: None, ..plan.scoped.clone() };
            let (gathered, pages) = ask(scatter, request, scoped, shards, route).await.ok()?;
            let found = pages.iter().any(|page| page.total > 0);
            (found || gathered.missing.is_empty()).then_some(found)
        }))
        .await
    }

    /// Marks the hits of an answer as the whole does, and leaves what the client asked for. `words` is
    /// what [`Typing::words`] found.
    pub(super) async fn finish(
        &self,
        scatter: &Scatter,
        request: &Request,
        body: &Bytes,
        found: &Found,
        words: &[Option<bool>],
    ) -> Bytes {
        let marking = self.marking();
        let write = |marks: &[Mark]| format::rewrite(body, &marking, marks, &self.shown);
        let is_word = |word: &Option<bool>| match word {
            Some(true) => Mark::All,
            _ => Mark::AsTheyAre,
        };
        let mut marks: Vec<Mark> = words.iter().map(is_word).collect();
        if !words.contains(&Some(false)) {
            return write(&marks);
        }
        let tabled = marking.tabled(found.pages.iter());
        let mut open = Vec::new();
        for (index, mark) in marks.iter_mut().enumerate() {
            if words.get(index) != Some(&Some(false)) {
                continue;
            }
            if tabled.get(index) == Some(&true) {
                *mark = Mark::None;
            } else {
                open.push(index);
            }
        }
        let written = write(&marks);
        let mut other = marks.clone();
        for index in &open {
            if let Some(mark) = other.get_mut(*index) {
                *mark = Mark::None;
            }
        }
        if open.is_empty() || write(&other) == written {
            return written;
        }
        let nodes = self.unseen(scatter, request, found);
        if !nodes.is_empty() {
            round(request, Round::Tables);
        }
        let asked = open.iter().map(|index| self.is_tabled(scatter, request, &nodes, *index));
        for (index, tabled) in open.iter().zip(join_all(asked).await) {
            if let (true, Some(mark)) = (tabled, marks.get_mut(*index)) {
                *mark = Mark::None;
            }
        }
        write(&marks)
    }

    fn marking(&self) -> Marking<'_> {
        let rules = &self.settings.words;
        Marking { typed: &self.typed, rules, formatting: &self.formatting }
    }

    /// Nodes of the index whose hits do not surely show whether they have a table.
    fn unseen(&self, scatter: &Scatter, request: &Request, found: &Found) -> Vec<NodeId> {
        let both = found.gathered.pages.iter().zip(&found.pages);
        let seen: Vec<&NodeId> = both
            .filter(|(_, page)| self.typed.is_one_word() && !page.hits.is_empty())
            .map(|(page, _)| &page.node)
            .collect();
        let topology = &request.topology;
        let open = request.hints.order(topology.complete_groups().map(|group| group.id), 0);
        let (stale, scores) = (&request.stale, &scatter.state.nodes.scores);
        let nodes = topology.nodes().filter(|node| {
            node.is_readable()
                && open.contains(&node.group)
                && !request.hints.avoid.contains(&node.id)
                && !scores.is_open(&node.id)
                && !stale.misses_index(&request.index.physical, &node.id)
                && !seen.contains(&&node.id)
        });
        nodes.map(|node| node.id.clone()).take(UNSEEN).collect()
    }

    /// Whether a few hits of one of these nodes show that it has a table of one of the beginnings.
    async fn is_tabled(
        &self,
        scatter: &Scatter,
        request: &Request,
        nodes: &[NodeId],
        beginning: usize,
    ) -> bool {
        let text = self.typed.beginnings.get(beginning).map(|b| &b.text);
        let body = json!({"q": text, "limit": SHOWING, "showMatchesPosition": true});
        let path = format!("/indexes/{}/search", request.index.physical);
        let call = Call::read(Method::POST, "search", path).json(body.to_string());
        let pages = join_all(nodes.iter().map(|node| async {
            let asking = scatter.state.nodes.call(node, &call, &request.cx);
            Page::decode(&timeout(PATIENCE, asking).await.ok()?.ok()?).ok()
        }))
        .await;
        let pages: Vec<Page> = pages.into_iter().flatten().collect();
        let tabled = self.marking().tabled(pages.iter());
        tabled.get(beginning) == Some(&true)
    }
}
