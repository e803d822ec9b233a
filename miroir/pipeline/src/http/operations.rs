//! What requests to routes ask for.

use std::sync::Arc;

use http::Method;

use super::query::{list_body, search_body, similar_body};
use super::routes::Action;
use super::task_query;
use crate::effect::Effect;
use crate::index;
use crate::operation::{
    IndexOp, KeyOp, MultiSearch, Operation, PayloadFormat, RuleOp, SettingsOp, SystemOp, TaskOp,
    WebhookOp, Write,
};
use crate::query::{ClientRequest, FetchOne, List, RawObject, Search, SearchKind};

fn json_body(original: &ClientRequest) -> Option<RawObject> {
    original.is_json().then(|| RawObject::parse(&original.body)).flatten()
}

/// What is not called JSON has no queries, so that its media type is what a node complains of, whoever
/// asks.
fn queries(original: &ClientRequest) -> MultiSearch {
    if original.is_json() { MultiSearch::parse(&original.body) } else { MultiSearch::default() }
}

/// What a request to a route asks for. The parameters are decoded, in the order of the path.
pub(super) fn operation(
    action: Action,
    parameters: Vec<String>,
    original: &ClientRequest,
) -> Operation {
    let mut parameters = parameters.into_iter();
    let mut next = || parameters.next().unwrap_or_default();
    let query = original.query.as_deref().unwrap_or_default();
    let write = |index, write| Operation::Write { index, write };
    let search = |index, kind, body| Operation::Search {
        index,
        search: Arc::new(Search { kind, body, rules: None }),
    };
    match action {
        Action::Search => search(next(), SearchKind::Hits, json_body(original)),
        Action::SearchGet => search(next(), SearchKind::Hits, search_body(query)),
        Action::FacetSearch => search(next(), SearchKind::FacetValues, json_body(original)),
        Action::Similar => search(next(), SearchKind::Similar, json_body(original)),
        Action::SimilarGet => search(next(), SearchKind::Similar, similar_body(query)),
        Action::MultiSearch => Operation::MultiSearch(Arc::new(queries(original))),
        Action::Explain => {
            Operation::Explain(Box::new(search(next(), SearchKind::Hits, json_body(original))))
        }
        Action::ExplainMulti => {
            let multi = Arc::new(queries(original));
            Operation::Explain(Box::new(Operation::MultiSearch(multi)))
        }
        Action::Fetch => {
            Operation::List { index: next(), list: Arc::new(List { body: json_body(original) }) }
        }
        Action::FetchGet => {
            Operation::List { index: next(), list: Arc::new(List { body: list_body(query) }) }
        }
        Action::FetchOne => Operation::FetchOne {
            index: next(),
            fetch: Arc::new(FetchOne { id: next(), query: original.query.clone() }),
        },
        Action::Replace => write(
            next(),
            Write::Add {
                method: index::Method::Replace,
                format: PayloadFormat::of(original.content_type.as_deref()),
            },
        ),
        Action::Update => write(
            next(),
            Write::Add {
                method: index::Method::Update,
                format: PayloadFormat::of(original.content_type.as_deref()),
            },
        ),
        Action::DeleteOne => {
            let index = next();
            write(index, Write::DeleteOne(next()))
        }
        Action::DeleteBatch => write(next(), Write::DeleteBatch),
        Action::DeleteFilter => write(next(), Write::DeleteFilter),
        Action::Clear => write(next(), Write::Clear),
        Action::Edit => write(next(), Write::Edit),
        Action::IndexCreate => Operation::Index(IndexOp::Create),
        Action::IndexList => Operation::Index(IndexOp::List),
        Action::IndexGet => Operation::Index(IndexOp::Get(next())),
        Action::IndexUpdate => Operation::Index(IndexOp::Update(next())),
        Action::IndexDelete => Operation::Index(IndexOp::Delete(next())),
        Action::IndexStats => Operation::Index(IndexOp::Stats(next())),
        Action::IndexFields => Operation::Index(IndexOp::Fields(next())),
        Action::IndexCompact => Operation::Index(IndexOp::Compact(next())),
        Action::Swap => Operation::Index(IndexOp::Swap),
        Action::SettingsGet(setting) => {
            Operation::Settings(SettingsOp { index: next(), setting, effect: Effect::Read })
        }
        Action::SettingsChange(setting) => {
            Operation::Settings(SettingsOp { index: next(), setting, effect: Effect::Change })
        }
        Action::TaskList => Operation::Task(TaskOp::List(task_query::page(query).map(Box::new))),
        Action::TaskGet => Operation::Task(TaskOp::Get(next())),
        Action::KeyList => Operation::Key(KeyOp::List),
        Action::KeyCreate => Operation::Key(KeyOp::Create),
        Action::KeyGet => Operation::Key(KeyOp::Get(next())),
        Action::KeyUpdate => Operation::Key(KeyOp::Update(next())),
        Action::KeyDelete => Operation::Key(KeyOp::Delete(next())),
        Action::TaskDocuments => Operation::Task(TaskOp::Documents(next())),
        Action::TaskCancel => {
            Operation::Task(TaskOp::Cancel(task_query::choice(query).map(Box::new)))
        }
        Action::TaskDelete => {
            Operation::Task(TaskOp::Delete(task_query::choice(query).map(Box::new)))
        }
        Action::BatchList => {
            Operation::Task(TaskOp::Batches(task_query::page(query).map(Box::new)))
        }
        Action::BatchGet => Operation::Task(TaskOp::Batch(next())),
        Action::RuleList => Operation::System(SystemOp::Rule(RuleOp::List)),
        Action::RuleGet => Operation::System(SystemOp::Rule(RuleOp::Get(next()))),
        Action::RuleUpdate => Operation::System(SystemOp::Rule(RuleOp::Update(next()))),
        Action::RuleDelete => Operation::System(SystemOp::Rule(RuleOp::Delete(next()))),
        Action::RuleClear => Operation::System(SystemOp::Rule(RuleOp::Clear)),
        Action::WebhookList => Operation::System(SystemOp::Webhook(WebhookOp::List)),
        Action::WebhookCreate => Operation::System(SystemOp::Webhook(WebhookOp::Create)),
        Action::WebhookGet => Operation::System(SystemOp::Webhook(WebhookOp::Get(next()))),
        Action::WebhookUpdate => Operation::System(SystemOp::Webhook(WebhookOp::Update(next()))),
        Action::WebhookDelete => Operation::System(SystemOp::Webhook(WebhookOp::Delete(next()))),
        Action::Dump => Operation::System(SystemOp::Dump),
        Action::Snapshot => Operation::System(SystemOp::Snapshot),
        Action::Export => Operation::System(SystemOp::Export),
        Action::Render(gate) => Operation::System(SystemOp::Render(gate)),
        Action::Gated(gate) => Operation::System(SystemOp::Gated(gate)),
        Action::Health => Operation::System(SystemOp::Health),
        Action::Root => Operation::System(SystemOp::Root),
        Action::Version => Operation::System(SystemOp::Version),
        Action::Stats => Operation::System(SystemOp::Stats),
        Action::Features(effect) => Operation::System(SystemOp::Features(effect)),
        Action::Unsupported(what) => Operation::System(SystemOp::Unsupported(what)),
    }
}

/// What the operation of a route does to the stores and nodes.
pub(super) fn effect(action: Action, method: &Method) -> Effect {
    let original = ClientRequest::new(method.clone(), "");
    operation(action, Vec::new(), &original).effect()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn asked(action: Action, query: Option<&str>, content_type: &str, body: &str) -> Operation {
        let original = ClientRequest {
            query: query.map(str::to_owned),
            body: body.to_owned().into(),
            content_type: Some(content_type.to_owned()),
            ..ClientRequest::new(Method::POST, "/x")
        };
        operation(action, vec!["a".to_owned()], &original)
    }

    /// A node looks at no query string beside the body of a search.
    #[test]
    fn a_query_string_beside_a_body_counts_for_nothing() {
        for action in [Action::Search, Action::FacetSearch, Action::Similar] {
            for query in [None, Some("limit=1"), Some("q=b&unknown=1")] {
                let op = asked(action, query, "application/json", r#"{"q":"a"}"#);
                let Operation::Search { search, .. } = op else { panic!("{op:?}") };
                assert_eq!(search.body.as_ref().unwrap().raw("q"), Some("\"a\""), "{query:?}");
            }
        }
    }

    /// Who asks for which indexes is not looked at before it is called JSON.
    #[test]
    fn what_is_not_called_json_asks_for_no_index() {
        let body = r#"{"queries":[{"indexUid":"a"}]}"#;
        for action in [Action::MultiSearch, Action::ExplainMulti] {
            for (content_type, indexes) in
                [("application/json", 1), ("text/json", 1), ("text/plain", 0)]
            {
                let op = asked(action, None, content_type, body);
                assert_eq!(op.searched().len(), indexes, "{content_type}");
            }
        }
    }
}
