//! The names in requests and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use miroir_core::keys::Scope;
use miroir_pipeline::Error;
use miroir_pipeline::operation::{Behind, IndexOp, Operation, Request, TaskOp};
use miroir_store::records::{Alias, AliasTarget};
use serde_json::value::to_raw_value;

/// All aliases, as they are for one request.
pub(super) type Aliases = BTreeMap<String, Arc<Alias>>;

/// The one index an alias stands for.
pub(super) fn one(alias: &Alias) -> Option<&str> {
    match &alias.target {
        AliasTarget::One(index) => Some(index.as_str()),
        AliasTarget::Many(_) => None,
    }
}

/// What an alias stands for, with the filters that the caller's search rules have for those indexes
/// beside that of the alias.
pub(super) fn behind(alias: &Alias, scope: &Scope) -> Result<Vec<Behind>, Error> {
    let of = |index: &str| {
        let rule = scope.filter_behind(alias.name.as_str(), index);
        let rule = rule.map(to_raw_value).transpose().map_err(Error::internal)?;
        Ok(Behind { index: index.to_owned(), rule })
    };
    alias.target.indexes().iter().map(|index| of(index.as_str())).collect()
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
