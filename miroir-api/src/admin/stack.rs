//! `GET /_miroir/stack`.

use serde::{Deserialize, Serialize};

/// The layers of every stage, from the client inwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackView {
    /// The five stages, `edge` first and `node` last.
    pub stages: Vec<StageView>,
}

/// The layers that are mounted in one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    /// `edge`, `operation`, `index`, `leaf` or `node`.
    pub stage: String,
    /// Names of the mounted layers, outermost first; a layer that is switched off is absent.
    pub layers: Vec<String>,
}
