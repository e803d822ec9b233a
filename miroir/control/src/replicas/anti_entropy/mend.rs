//! What is done about documents of which replicas seemed to have different versions.
//!
//! Two listings are no instant, so that a write between them looks like a difference. The documents are
//! read again, on all replicas, then once more when the nodes have worked off what they had been given
//! before. What differs both times, and changed nowhere in between, differs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use miroir_api::{NodeId, ShardId};
use miroir_core::anti_entropy::{Copies, Verdict, judge};
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::anti_entropy::{Became, Difference, Kept, Suspicion};
use miroir_store::{IndexEntry, clock};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::compare;
use crate::replicas::repair::lot::{Lot, Purpose};
use crate::replicas::repair::node::{self, PageSize, Shown, Which};
use crate::replicas::repair::{Trouble, sources};

/// How long one suspicion may be looked into.
const PATIENCE: Duration = Duration::from_mins(10);
/// Documents that are read at a time on each replica.
const AT_ONCE: usize = 100;

/// What each replica shows under some ids.
type Seen = BTreeMap<Arc<str>, BTreeMap<NodeId, Option<Shown>>>;

/// Looks into what seems to differ, one shard after the other, until cancelled. One pod does, for all.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    loop {
        let suspicion = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            suspicion = state.comparisons.suspicion() => suspicion,
        };
        let (index, shard) = (suspicion.index.clone(), suspicion.shard);
        let done = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            done = timeout(PATIENCE, settle(&state, suspicion)) => done,
        };
        match done {
            Ok(Ok(())) | Ok(Err(Trouble::Changed)) => {}
            Ok(Err(trouble)) => {
                let error = trouble.into_error();
                tracing::warn!(index, %shard, %error, "replicas are compared again by a later pass");
            }
            Err(_) => tracing::warn!(index, %shard, "nodes are too busy to compare replicas"),
        }
    }
}

/// Looks into the documents of a shard, some of them at a time.
async fn settle(state: &Arc<ClusterState>, suspicion: Suspicion) -> Result<(), Trouble> {
    let Some(entry) = state.catalog.by_physical(&suspicion.index) else { return Ok(()) };
    for ids in suspicion.ids.chunks(AT_ONCE) {
        let nodes = compare::replicas(state, &entry, suspicion.shard);
        if nodes.len() < 2 {
            return Ok(());
        }
        let before = look(state, &entry, suspicion.shard, &nodes, ids).await?;
        for node in &nodes {
            let away = || Trouble::blocked("node_away", node.to_string());
            let there = || state.is_available(node).then_some(()).ok_or_else(away);
            node::work_off(state, &entry.physical, node, there).await?;
        }
        let mut seen = look(state, &entry, suspicion.shard, &nodes, ids).await?;
        seen.retain(|id, shown| before.get(id).is_some_and(|old| copies(old) == copies(shown)));
        mend(state, &entry, suspicion.shard, &seen).await?;
    }
    Ok(())
}

fn copies(shown: &BTreeMap<NodeId, Option<Shown>>) -> Copies {
    let content = |(node, shown): (&NodeId, &Option<Shown>)| {
        (node.clone(), shown.as_ref().map(|shown| shown.content))
    };
    shown.iter().map(content).collect()
}

/// Reads documents on all replicas.
async fn look(
    state: &ClusterState,
    entry: &IndexEntry,
    shard: ShardId,
    nodes: &[NodeId],
    ids: &[Arc<str>],
) -> Result<Seen, Trouble> {
    let shards = ShardSet::from_iter([shard], entry.shards);
    let read = |node: &NodeId| {
        let (node, shards) = (node.clone(), shards.clone());
        async move {
            let mut size = PageSize::default();
            let which = Which::Ids(ids);
            let (shown, _) = node::read(state, entry, &node, &shards, which, &mut size).await?;
            Ok::<_, Trouble>((node, shown))
        }
    };
    let answers = try_join_all(nodes.iter().map(read)).await?;
    let nobody: BTreeMap<NodeId, Option<Shown>> =
        nodes.iter().map(|node| (node.clone(), None)).collect();
    let mut seen: Seen = ids.iter().map(|id| (Arc::clone(id), nobody.clone())).collect();
    for (node, all) in answers {
        for shown in all {
            if let Some(of) = seen.get_mut(&shown.id) {
                of.insert(node.clone(), Some(shown));
            }
        }
    }
    Ok(seen)
}

/// Copies what is right over what is wrong.
async fn mend(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    shard: ShardId,
    seen: &Seen,
) -> Result<(), Trouble> {
    let shards = ShardSet::from_iter([shard], entry.shards);
    let mut copied: BTreeMap<(NodeId, NodeId), Vec<Arc<str>>> = BTreeMap::new();
    let mut found = Vec::new();
    for (id, shown) in seen {
        let (right, wrong, became) = match judge(&copies(shown)) {
            Verdict::Agree => continue,
            Verdict::Ambiguous => (Vec::new(), shown.keys().cloned().collect(), Became::Ambiguous),
            Verdict::Differ { right, wrong } => (right, wrong, Became::Mended),
        };
        metrics::counter!("miroir_antientropy_mismatches_found_total").increment(1);
        let source = right.iter().find(|node| sources::is_source(state, entry, node, &shards));
        let became = match source {
            _ if became == Became::Ambiguous => Became::Ambiguous,
            Some(source) if state.options.anti_entropy.auto_repair => {
                for target in &wrong {
                    let ids = copied.entry((source.clone(), target.clone())).or_default();
                    ids.push(Arc::clone(id));
                }
                Became::Mended
            }
            _ => Became::Reported,
        };
        let (at, index) = (clock::now(), entry.name.to_string());
        found.push(Difference { at, index, shard, id: Arc::clone(id), right, wrong, became });
    }
    let mut failed = BTreeMap::new();
    for ((source, target), ids) in copied {
        keep(state, entry, &target, &ids, seen);
        let nodes = (source, target.clone());
        let done = async {
            let mut lot = Lot::open(state, entry, nodes, shards.clone(), Purpose::Mend).await?;
            lot.mend(&ids).await
        };
        match done.await {
            Ok(()) => {
                metrics::counter!("miroir_antientropy_docs_repaired_total")
                    .increment(ids.len() as u64);
            }
            Err(trouble) => {
                failed.insert(target, trouble);
            }
        }
    }
    for mut difference in found {
        if difference.became == Became::Mended
            && difference.wrong.iter().any(|node| failed.contains_key(node))
        {
            difference.became = Became::Reported;
        }
        report(&difference);
        state.comparisons.found(difference);
    }
    failed.into_values().next().map_or(Ok(()), Err)
}

/// Keeps what is about to be overwritten or deleted.
fn keep(state: &ClusterState, entry: &IndexEntry, target: &NodeId, ids: &[Arc<str>], seen: &Seen) {
    for id in ids {
        let shown = seen.get(id).and_then(|of| of.get(target)).and_then(Option::as_ref);
        if let Some(shown) = shown {
            let (at, index, node) = (clock::now(), entry.name.to_string(), target.clone());
            let document = Arc::from(shown.raw.clone());
            state.comparisons.keep(Kept { at, index, node, document });
        }
    }
}

fn report(difference: &Difference) {
    let Difference { index, shard, id, right, wrong, became, .. } = difference;
    let names = |nodes: &[NodeId]| nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ");
    let (right, wrong) = (names(right), names(wrong));
    match became {
        Became::Mended => {
            tracing::warn!(index, %shard, %id, right, wrong, "replicas differed, and are mended");
        }
        Became::Reported => tracing::warn!(index, %shard, %id, right, wrong, "replicas differ"),
        Became::Ambiguous => {
            metrics::counter!("miroir_antientropy_ambiguous_total").increment(1);
            tracing::error!(
                index, %shard, %id, nodes = wrong,
                "replicas differ, and nobody can tell which is right: write the document again"
            );
        }
    }
}
