//! Whose disk a node has: keys that Miroir leaves on nodes and looks for again.
//!
//! At first contact each node gets an API key that allows nothing but to ask for its version, under a
//! uid made of the store, the node and its life. Keys travel with disks, snapshots and dumps, so
//! whoever has another node's key *is* another node's disk, however its task uids count, and who has
//! none has lost its own. Clients never see these keys: theirs are Miroir's, not the nodes'.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use miroir_api::NodeId;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::Context;
use miroir_pipeline::error::{Error, ErrorKind, NodeFailure};
use miroir_pipeline::node::Call;
use miroir_store::records::CommittedTopology;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

/// Keys asked for at once.
const PAGE: usize = 1000;

/// What a node's keys say of its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// The node's own, of this life.
    Own,
    /// Nobody's: it never was a node's of this store, or has been emptied.
    Blank,
    /// The node's own, as it was in a former life, or, after the store lost its last writes, in one
    /// that the store does not know: the highest that there is a key of.
    OtherLife(u64),
    /// This other node's.
    Foreign(NodeId),
    /// The node keeps no keys, or does not show them.
    Keyless,
}

/// The keys of nodes: a node keeps none without a master key.
#[derive(Deserialize)]
struct Page {
    results: Vec<Key>,
    #[serde(default)]
    total: usize,
}

#[derive(Deserialize)]
struct Key {
    uid: Uuid,
    #[serde(default)]
    name: Option<String>,
}

/// What a node's keys say.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Whose disk it is.
    pub(crate) disk: Disk,
    /// The name of its own key of this life, which says what topology it was told.
    pub(crate) name: Option<String>,
}

/// What a node's key is called while a topology holds.
pub(crate) fn name(node: &NodeId, topology: &CommittedTopology) -> String {
    format!("miroir {node}, topology {} {}", topology.version, topology.fingerprint)
}

/// The version of the topology that a name says.
pub(crate) fn version(name: &str) -> Option<u64> {
    name.split_once(", topology ")?.1.split(' ').next()?.parse().ok()
}

/// All nodes that this store ever had, each with every life it may have a key of: the next one too,
/// which a store that lost its last writes has forgotten.
fn known(state: &ClusterState) -> BTreeMap<Uuid, (NodeId, u64)> {
    let topology = state.membership.topology();
    let mut lives: BTreeMap<NodeId, u64> =
        topology.nodes().map(|node| (node.id.clone(), 0)).collect();
    lives.extend(state.lives.all().into_iter().map(|record| (record.node, record.life)));
    let all = lives
        .into_iter()
        .flat_map(|(node, newest)| (0..=newest + 1).map(move |life| (node.clone(), life)));
    all.map(|(node, life)| (state.store_id.identity_key(&node, life), (node, life))).collect()
}

/// The keys a node has, with their names; `None` where it has or shows none.
async fn keys_of(
    state: &ClusterState,
    node: &NodeId,
    cx: &Context,
) -> Result<Option<BTreeMap<Uuid, Option<String>>>, Error> {
    let mut uids = BTreeMap::new();
    loop {
        let path = format!("/keys?limit={PAGE}&offset={}", uids.len());
        let call = Call::get("keys_get", path).to_whoever();
        let body = match state.nodes.call(node, &call, cx).await {
            Ok(body) => body,
            Err(error) => {
                return match error.kind() {
                    ErrorKind::Verbatim { .. } | ErrorKind::NodeFailed(NodeFailure::RefusedKey) => {
                        Ok(None)
                    }
                    _ => Err(error),
                };
            }
        };
        let page: Page = Call::parse(node, &body)?;
        let before = uids.len();
        uids.extend(page.results.into_iter().map(|key| (key.uid, key.name)));
        if uids.len() >= page.total || uids.len() == before {
            return Ok(Some(uids));
        }
    }
}

/// Asks a node for its keys.
///
/// # Errors
/// When it does not answer.
pub(crate) async fn look(state: &ClusterState, node: &NodeId, cx: &Context) -> Result<Look, Error> {
    let Some(mut keys) = keys_of(state, node, cx).await? else {
        return Ok(Look { disk: Disk::Keyless, name: None });
    };
    let mut own = BTreeSet::new();
    for (uid, (of, life)) in known(state) {
        if !keys.contains_key(&uid) {
            continue;
        }
        if of != *node {
            return Ok(Look { disk: Disk::Foreign(of), name: None });
        }
        own.insert(life);
    }
    let life = state.lives.of(node);
    let name = keys.remove(&state.store_id.identity_key(node, life)).flatten();
    let disk = match own.last() {
        // A former life's key stays where a restored copy became a life of its own.
        Some(newest) if *newest <= life && own.contains(&life) => Disk::Own,
        Some(newest) => Disk::OtherLife(*newest),
        None => Disk::Blank,
    };
    Ok(Look { disk, name })
}

/// Makes the key of a node's present life on it, and stores that it was made.
///
/// # Errors
/// When the node does not take it, or the store fails. It is made at the next look then.
pub(crate) async fn make(state: &ClusterState, node: &NodeId, cx: &Context) -> Result<(), Error> {
    let life = state.lives.of(node);
    let uid = state.store_id.identity_key(node, life);
    let body = json!({
        "uid": uid,
        "name": name(node, &state.committed.load()),
        "description": format!(
            "Tells Miroir whose disk this is: node {node} of store {}, life {life}. Without it the \
             node counts as empty and is rebuilt.",
            state.store_id
        ),
        "actions": ["version"],
        "indexes": ["*"],
        "expiresAt": null,
    });
    let call = Call::change(Method::POST, "keys_post", "/keys").to_whoever();
    let call = call.json(body.to_string());
    match state.nodes.call(node, &call, cx).await {
        Ok(_) => {}
        // It is there already: the answer to the first attempt was lost.
        Err(error) if refused_as(&error, "api_key_already_exists") => {}
        Err(error) => return Err(error),
    }
    note(state, node, life).await
}

/// Tells a node which topology there is, in the name of its key.
///
/// # Errors
/// When the node does not take it.
pub(crate) async fn tell(state: &ClusterState, node: &NodeId, cx: &Context) -> Result<(), Error> {
    let uid = state.store_id.identity_key(node, state.lives.of(node));
    let body = json!({ "name": name(node, &state.committed.load()) });
    let call = Call::change(Method::PATCH, "keys_patch", format!("/keys/{uid}")).to_whoever();
    state.nodes.call(node, &call.json(body.to_string()), cx).await.map(drop)
}

/// Stores that the key of a life was seen on the node.
///
/// # Errors
/// When the store fails.
pub(crate) async fn note(state: &ClusterState, node: &NodeId, life: u64) -> Result<(), Error> {
    let change = state.lives.change(node, |mut record| {
        record.identified |= record.life == life;
        record
    });
    Ok(change.await.map(drop)?)
}

/// Deletes the keys of other nodes of this store from a node, which is then nobody's.
///
/// # Errors
/// When the node does not do so.
pub(crate) async fn disown(state: &ClusterState, node: &NodeId, cx: &Context) -> Result<(), Error> {
    let Some(keys) = keys_of(state, node, cx).await? else { return Ok(()) };
    for (uid, (of, _)) in known(state) {
        if of == *node || !keys.contains_key(&uid) {
            continue;
        }
        let path = format!("/keys/{uid}");
        let call = Call::change(Method::DELETE, "keys_delete", path).to_whoever();
        match state.nodes.call(node, &call, cx).await {
            Ok(_) => {}
            Err(error) if refused_as(&error, "api_key_not_found") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn refused_as(error: &Error, code: &str) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        code: String,
    }
    matches!(error.kind(), ErrorKind::Verbatim { body, .. }
        if serde_json::from_slice::<Refusal>(body).is_ok_and(|refusal| refusal.code == code))
}
