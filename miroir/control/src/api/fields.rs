//! The fields of an index: the union of what its nodes know, by name.
//!
//! Everything a node says of a field follows from the settings, which are equal everywhere, except
//! whether it is displayed: nodes display everything, the client's own list is Miroir's.

use miroir_pipeline::cluster::settings::is_displayed;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use crate::api::Control;
use miroir_core::documents::is_reserved;
use miroir_core::hints::Hints;
use miroir_core::routing::ShardSet;
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::leaf::{self, Question, Target};
use miroir_pipeline::node::Call;
use miroir_pipeline::operation::{Request, Response};
use miroir_pipeline::query::RawObject;
use miroir_store::IndexEntry;

#[derive(serde::Deserialize)]
struct Page {
    results: Vec<Map<String, Value>>,
}

/// One list of nodes' lists, without what is Miroir's own.
fn union(pages: Vec<Page>, displayed: Option<&Value>, wanted: Option<bool>) -> Vec<Value> {
    let mut fields: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for mut field in pages.into_iter().flat_map(|page| page.results) {
        let Some(name) = field.get("name").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        let shown = is_displayed(displayed, &name);
        if is_reserved(&name) || wanted.is_some_and(|wanted| wanted != shown) {
            continue;
        }
        field.insert("displayed".into(), json!({"enabled": shown}));
        fields.entry(name).or_insert(field);
    }
    fields.into_values().map(Value::Object).collect()
}

impl Control {
    pub(crate) async fn fields(
        &self,
        request: &Request,
        entry: &Arc<IndexEntry>,
    ) -> Result<Response, Error> {
        // A node judges the request as it came.
        let error = self.refusal(request, &format!("/indexes/{}", entry.physical)).await;
        if !matches!(error.kind(), ErrorKind::Internal) {
            return Err(error);
        }
        let mut body = RawObject::parse(&request.original.body).unwrap_or_default();
        let number = |key: &str, default| match body.read::<usize>(key) {
            Ok(value) => Ok(value.unwrap_or(default)),
            Err(()) => Err(Error::internal("a node takes what Miroir cannot read")),
        };
        let (offset, limit) = (number("offset", 0)?, number("limit", 20)?);
        let mut filter: Map<String, Value> = body.read("filter").ok().flatten().unwrap_or_default();
        let wanted = filter.shift_remove("displayed").and_then(|value| value.as_bool());
        body.set("offset", &0);
        body.set("limit", &i32::MAX);
        body.set("filter", &filter);

        let topology = self.state.membership.topology();
        let call =
            Call::read(Method::POST, "fields_post", format!("/indexes/{}/fields", entry.physical));
        let all = ShardSet::full(entry.shards);
        let target = Target::Cover { shards: all, avoid: Vec::new(), chosen: None };
        let question = Question::Plain(Arc::new(call.json(body.to_bytes())));
        let sequence = self.state.reads.next_sequence();
        let route = self.state.reads.route(&topology, &Hints::default(), sequence);
        let stale = self.state.staleness.load();
        let cx = request.cx.clone();
        let leaf =
            leaf::Request::new(target, question, Arc::clone(entry), topology, stale, route, cx);
        let answer = self.leaves.clone().oneshot(leaf).await?;
        let mut missing = answer.missing;
        answer.failed.iter().for_each(|failed| missing.union_with(&failed.shards));
        if !missing.is_empty() {
            return Err(Error::shards_unavailable(missing));
        }
        let pages: Result<Vec<Page>, Error> =
            answer.pages.iter().map(|page| Call::parse(&page.node, &page.body)).collect();
        let fields = union(pages?, entry.overlay.get("displayedAttributes"), wanted);
        let total = fields.len();
        let results: Vec<Value> = fields.into_iter().skip(offset).take(limit).collect();
        let view = json!({"results": results, "offset": offset, "limit": limit, "total": total});
        Ok(Response::ok(&view))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(names: &[&str]) -> Page {
        let field = |name: &&str| {
            let value = json!({"name": name, "displayed": {"enabled": true}, "sortable": {}});
            value.as_object().cloned().unwrap()
        };
        Page { results: names.iter().map(field).collect() }
    }

    #[test]
    fn fields_of_all_nodes_are_listed_once_and_by_name() {
        let pages = || vec![page(&["b", "_miroir_shard"]), page(&["a", "b"])];
        let names = |list: Vec<Value>| -> Vec<(String, bool)> {
            list.iter()
                .map(|f| {
                    let shown = f["displayed"]["enabled"].as_bool().unwrap();
                    (f["name"].as_str().unwrap().to_owned(), shown)
                })
                .collect()
        };
        let both = [("a".to_owned(), true), ("b".to_owned(), true)];
        assert_eq!(names(union(pages(), None, None)), both);
        let list = json!(["b"]);
        let own = [("a".to_owned(), false), ("b".to_owned(), true)];
        assert_eq!(names(union(pages(), Some(&list), None)), own);
        assert_eq!(names(union(pages(), Some(&list), Some(false))), own[..1]);
    }
}
