//! `GET /_miroir/stack`: the layers of every stage, as `--describe-stack` prints them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use miroir_api::admin::{StackView, StageView};

use crate::config::Config;
use crate::stack;

pub(super) fn view(config: &Config) -> StackView {
    let stage = |stage: miroir::stack::Description| StageView {
        stage: stage.stage.to_owned(),
        layers: stage.layers.into_iter().map(str::to_owned).collect(),
    };
    StackView { stages: stack::describe(config).into_iter().map(stage).collect() }
}

pub(super) async fn show(State(view): State<Arc<StackView>>) -> Json<StackView> {
    Json(view.as_ref().clone())
}
