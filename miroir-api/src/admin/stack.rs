//! `GET /_miroir/stack`.

use serde::{Deserialize, Serialize};

/// The layers of every stage, from the client inwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackView {
    /// The stages.
    pub stages: Vec<StageView>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    /// Its name.
    pub stage: String,
    /// Its layers, outermost first.
    pub layers: Vec<String>,
}
