//! Changes of the topology: `POST /_miroir/nodes`, `…/{id}/drain`, `…/{id}/replace`, `DELETE …/{id}`,
//! `POST /_miroir/spares`, `POST /_miroir/groups`, `DELETE …/{id}`, `PUT /_miroir/replication-factor`, and
//! `/_miroir/operations`. Only the pod that leads does them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use miroir::cluster::ClusterState;
use miroir::operations::{self, Plan, Verb};
use miroir::store::clock;
use miroir::topology::{Seat, Wish};
use miroir_api::admin::{
    GroupRequest, MoveView, NodeRequest, OperationView, OperationsView, PlanView, ReasonView,
    ReplacementRequest, ReplicationFactorRequest, StartedView,
};
use miroir_api::meili::ApiError;
use miroir_api::{GroupId, NodeId};
use serde::Deserialize;
use uuid::Uuid;

use super::Refusal;
use super::tenants::failed;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BeginQuery {
    /// Whether only the plan is wanted.
    #[serde(default)]
    dry_run: bool,
}

type Begin = Result<Query<BeginQuery>, QueryRejection>;
type Started = Result<(StatusCode, Json<StartedView>), Refusal>;

fn bad(message: impl Into<String>) -> Refusal {
    Refusal(ApiError::new("bad_request", message.into()))
}

fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
    body.map(|Json(body)| body).map_err(|error| bad(error.body_text()))
}

fn node_id(text: &str) -> Result<NodeId, Refusal> {
    NodeId::new(text)
        .map_err(|error| Refusal(ApiError::new("miroir_unknown_node", error.to_string())))
}

fn address(text: &str) -> Result<String, Refusal> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let host = rest.trim_end_matches('/');
    if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains(['/', '?', '#', '@'])
    {
        return Err(bad(format!(
            "`address` is `{text}`: give the base URL of a node, `http://host:port` without a path."
        )));
    }
    Ok(format!("{scheme}://{host}"))
}

fn new_node(request: NodeRequest) -> Result<Seat, Refusal> {
    let address = address(&request.address)?;
    Ok(Seat { id: request.id, address, group: request.replica_group })
}

async fn begin(state: Arc<ClusterState>, query: Begin, wish: Wish) -> Started {
    let Query(BeginQuery { dry_run }) = query.map_err(|error| bad(error.body_text()))?;
    // Goes on without the client.
    let own = Arc::clone(&state);
    let done = async move { operations::begin(&own, &wish, dry_run).await };
    let (plan, id) = match state.tracker.spawn(done).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(Refusal(ApiError::new("internal", "The work broke off."))),
    };
    let status = if id.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    let operation_id = id.map(|id| id.to_string());
    Ok((status, Json(StartedView { operation_id, plan: view(plan) })))
}

fn view(plan: Plan) -> PlanView {
    let (shards, documents, bytes) = (plan.shards(), plan.documents(), plan.bytes());
    let moves = plan.moves.into_iter().map(|own| MoveView {
        index: own.index,
        target: own.target,
        shards: own.shards,
        documents: own.documents,
        bytes: own.bytes,
    });
    PlanView {
        operation: plan.kind.as_str().to_owned(),
        version: plan.version,
        moves: moves.collect(),
        shards,
        documents,
        bytes,
        blockers: plan.blockers,
    }
}

pub(super) async fn add_node(
    State(state): State<Arc<ClusterState>>,
    query: Begin,
    request: Result<Json<NodeRequest>, JsonRejection>,
) -> Started {
    let node = new_node(body(request)?)?;
    begin(state, query, Wish::Join(vec![node])).await
}

pub(super) async fn add_spare(
    State(state): State<Arc<ClusterState>>,
    request: Result<Json<NodeRequest>, JsonRejection>,
) -> Result<StatusCode, Refusal> {
    let node = new_node(body(request)?)?;
    // Goes on without the client.
    let own = Arc::clone(&state);
    let done = async move { operations::add_spare(&own, node).await };
    match state.tracker.spawn(done).await {
        Ok(Ok(())) => Ok(StatusCode::CREATED),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(Refusal(ApiError::new("internal", "The work broke off."))),
    }
}

pub(super) async fn drain(
    State(state): State<Arc<ClusterState>>,
    Path(id): Path<String>,
    query: Begin,
) -> Started {
    begin(state, query, Wish::Drain(vec![node_id(&id)?])).await
}

pub(super) async fn replace(
    State(state): State<Arc<ClusterState>>,
    Path(id): Path<String>,
    query: Begin,
    request: Result<Json<ReplacementRequest>, JsonRejection>,
) -> Started {
    let ReplacementRequest { id: by, address: at } = body(request)?;
    let address = address(&at)?;
    begin(state, query, Wish::Replace { node: node_id(&id)?, by, address }).await
}

pub(super) async fn remove_node(
    State(state): State<Arc<ClusterState>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let node = node_id(&id)?;
    operations::remove_node(&state, &node).await.map_err(|error| failed(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn add_group(
    State(state): State<Arc<ClusterState>>,
    query: Begin,
    request: Result<Json<GroupRequest>, JsonRejection>,
) -> Started {
    let GroupRequest { nodes } = body(request)?;
    if nodes.is_empty() {
        return Err(bad("`nodes` is empty: a group has at least one node."));
    }
    let nodes = nodes.into_iter().map(new_node).collect::<Result<_, _>>()?;
    begin(state, query, Wish::AddGroup(nodes)).await
}

pub(super) async fn remove_group(
    State(state): State<Arc<ClusterState>>,
    Path(id): Path<String>,
    query: Begin,
) -> Started {
    let number = id.parse().map_err(|_| bad(format!("`{id}` is not the number of a group.")))?;
    begin(state, query, Wish::RemoveGroup(GroupId(number))).await
}

pub(super) async fn replication_factor(
    State(state): State<Arc<ClusterState>>,
    query: Begin,
    request: Result<Json<ReplicationFactorRequest>, JsonRejection>,
) -> Started {
    let copies = body(request)?.replication_factor;
    begin(state, query, Wish::ReplicationFactor(copies)).await
}

fn shown(own: operations::OperationView) -> OperationView {
    let operations::OperationView { operation, phase, reason } = own;
    OperationView {
        id: operation.id.to_string(),
        operation: operation.kind.as_str().to_owned(),
        state: operation.state.as_str().to_owned(),
        phase: phase.map(|phase| phase.to_string()),
        nodes: operation.nodes,
        began_at: clock::rfc3339(operation.began_at),
        restores: operation.restores,
        ended_at: operation.ended_at.map(clock::rfc3339),
        reason: reason.map(|own| ReasonView { kind: own.kind.to_owned(), detail: own.detail }),
    }
}

pub(super) async fn list(
    State(state): State<Arc<ClusterState>>,
) -> Result<Json<OperationsView>, Refusal> {
    let all = operations::list(&state).await.map_err(|error| failed(&error))?;
    Ok(Json(OperationsView { operations: all.into_iter().map(shown).collect() }))
}

fn not_found(id: &str) -> Refusal {
    Refusal(ApiError::new(
        "miroir_operation_not_found",
        format!("There is no operation `{id}`. `GET /_miroir/operations` lists them."),
    ))
}

pub(super) async fn show(
    State(state): State<Arc<ClusterState>>,
    Path(id): Path<String>,
) -> Result<Json<OperationView>, Refusal> {
    let all = operations::list(&state).await.map_err(|error| failed(&error))?;
    let found = all.into_iter().find(|own| own.operation.id.to_string() == id);
    found.map(|own| Json(shown(own))).ok_or_else(|| not_found(&id))
}

pub(super) async fn apply(
    State(state): State<Arc<ClusterState>>,
    Path((id, verb)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let verb = match verb.as_str() {
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "rollback" => Verb::Rollback,
        _ => return Err(bad(format!("`{verb}` is none of `pause`, `resume` and `rollback`."))),
    };
    let known = Uuid::parse_str(&id).map_err(|_| not_found(&id))?;
    operations::apply(&state, known, verb).await.map_err(|error| failed(&error))?;
    Ok(StatusCode::NO_CONTENT)
}
