//! The names in requests and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use miroir::operation::{IndexOp, Operation, RawObject, Request, TaskOp};
use miroir::store::records::{Alias, Target};

/// All aliases, as they are for one request.
pub(super) type Aliases = BTreeMap<String, Arc<Alias>>;

/// The one index an alias stands for.
pub(super) fn one(alias: &Alias) -> Option<&str> {
    match &alias.target {
        Target::One(index) => Some(index.as_str()),
        Target::Many(_) => None,
    }
}

/// The index that a request names, where an alias may stand for it.
pub(super) fn named(op: &mut Operation) -> Option<&mut String> {
    match op {
        Operation::Search { index, .. }
        | Operation::FetchOne { index, .. }
        | Operation::List { index, .. }
        | Operation::Write { index, .. } => Some(index),
        Operation::Index(IndexOp::Get(index) | IndexOp::Stats(index) | IndexOp::Fields(index)) => {
            Some(index)
        }
        Operation::Settings(settings) => Some(&mut settings.index),
        Operation::Explain(op) => named(op),
        _ => None,
    }
}

/// Lets whoever may see an alias see what it stands for.
pub(super) fn widen(request: &mut Request, aliases: &Aliases) {
    let scope = &request.cx.scope;
    if scope.is_everything() {
        return;
    }
    let visible: BTreeSet<&str> = aliases
        .values()
        .filter(|alias| scope.allows(alias.name.as_str()))
        .flat_map(|alias| alias.target.indexes().iter().map(|index| index.as_str()))
        .collect();
    if !visible.is_empty() {
        request.cx.scope = scope.with(visible);
    }
}

/// Has tasks that are chosen by an alias chosen by what it stands for, too.
pub(super) fn choose(op: &mut Operation, aliases: &Aliases) {
    let Operation::Task(op) = op else { return };
    let query = match op {
        TaskOp::List(Some(query)) | TaskOp::Batches(Some(query)) => query.as_mut(),
        TaskOp::Cancel(Some(choice)) | TaskOp::Delete(Some(choice)) => &mut choice.0,
        _ => return,
    };
    let Some(indexes) = &mut query.indexes else { return };
    let more: Vec<String> = indexes
        .iter()
        .filter_map(|name| aliases.get(name))
        .flat_map(|alias| alias.target.indexes().iter().map(ToString::to_string))
        .collect();
    indexes.extend(more);
}

/// Puts the client's names back into the answer to a multi-search: by the position of each query,
/// its name, and the position at which the client asked it.
pub(super) fn restore(body: &Bytes, names: &[(usize, &str)]) -> Option<Bytes> {
    let mut answer = RawObject::parse(body)?;
    if let Ok(Some(mut results)) = answer.read::<Vec<RawObject>>("results") {
        for (result, (_, name)) in results.iter_mut().zip(names) {
            result.set("indexUid", name);
        }
        answer.set("results", &results);
    } else if let Ok(Some(mut hits)) = answer.read::<Vec<RawObject>>("hits") {
        for hit in &mut hits {
            let Ok(Some(mut federation)) = hit.read::<RawObject>("_federation") else { continue };
            let at = federation.read::<usize>("queriesPosition").ok().flatten();
            if let Some((position, name)) = at.and_then(|at| names.get(at)) {
                federation.set("indexUid", name);
                federation.set("queriesPosition", position);
                hit.set("_federation", &federation);
            }
        }
        answer.set("hits", &hits);
    }
    Some(answer.to_bytes())
}
