//! `GET /_miroir/anti-entropy`: what comparisons of replicas found; `POST …/run`: a pass now;
//! `GET …/kept`: what repairs overwrote.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use miroir::cluster::ClusterState;
use miroir::cluster::anti_entropy::{Difference, Kept, Pass};
use miroir::store::clock;
use miroir_api::admin::{AntiEntropyView, DifferenceView, KeptDocumentView, KeptView, PassView};
use miroir_api::meili::ApiError;

use super::Refusal;

fn pass(pass: Pass) -> PassView {
    PassView {
        began_at: clock::rfc3339(pass.began_at),
        ended_at: pass.ended_at.map(clock::rfc3339),
        shards: pass.shards,
        skipped: pass.skipped,
        documents: pass.documents,
    }
}

fn difference(found: Difference) -> DifferenceView {
    DifferenceView {
        at: clock::rfc3339(found.at),
        index: found.index,
        shard: found.shard,
        id: found.id.to_string(),
        right: found.right,
        wrong: found.wrong,
        became: found.became.as_str().to_owned(),
    }
}

pub(super) async fn show(State(state): State<Arc<ClusterState>>) -> Json<AntiEntropyView> {
    let (found, options) = (&state.comparisons, &state.options.anti_entropy);
    let (running, last) = found.passes();
    let counts = found.counts();
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    Json(AntiEntropyView {
        enabled: options.enabled,
        auto_repair: options.auto_repair,
        running: running.map(pass),
        last: last.map(pass),
        mended: count("mended"),
        reported: count("reported"),
        ambiguous: count("ambiguous"),
        differences: found.differences().into_iter().map(difference).collect(),
    })
}

pub(super) async fn run(State(state): State<Arc<ClusterState>>) -> Result<StatusCode, Refusal> {
    if !state.options.anti_entropy.enabled {
        return Err(Refusal(ApiError::new(
            "miroir_operation_refused",
            "Replicas are not compared: `anti_entropy.enabled` is false. Set it to true."
                .to_owned(),
        )));
    }
    state.comparisons.ask();
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn kept(State(state): State<Arc<ClusterState>>) -> Json<KeptView> {
    let view = |kept: Kept| KeptDocumentView {
        at: clock::rfc3339(kept.at),
        index: kept.index,
        node: kept.node,
        document: (*kept.document).to_owned(),
    };
    Json(KeptView { kept: state.comparisons.kept(clock::now()).into_iter().map(view).collect() })
}
