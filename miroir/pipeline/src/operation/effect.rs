//! What operations do to the stores and nodes. The only place that says so: routes and requests go
//! by it, and the fence against pods that lead no more.

use super::{IndexOp, KeyOp, Operation, Request, RuleOp, SystemOp, TaskOp, WebhookOp};
use crate::effect::Effect;

impl Operation {
    /// What it does to the stores and nodes.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Search { .. }
            | Self::MultiSearch(_)
            | Self::Explain(_)
            | Self::FetchOne { .. }
            | Self::List { .. } => Effect::Read,
            Self::Write { .. } => Effect::Change,
            Self::Index(op) => op.effect(),
            Self::Settings(op) => op.effect,
            Self::Task(op) => op.effect(),
            Self::Key(op) => op.effect(),
            Self::System(op) => op.effect(),
        }
    }
}

impl Request {
    /// Whether it changes anything, in the stores or on nodes.
    pub fn changes(&self) -> bool {
        self.op.effect() == Effect::Change
    }
}

impl IndexOp {
    fn effect(&self) -> Effect {
        match self {
            Self::List | Self::Get(_) | Self::Stats(_) | Self::Fields(_) => Effect::Read,
            Self::Create | Self::Update(_) | Self::Delete(_) | Self::Compact(_) | Self::Swap => {
                Effect::Change
            }
        }
    }
}

impl TaskOp {
    fn effect(&self) -> Effect {
        match self {
            Self::Get(_)
            | Self::List(_)
            | Self::Documents(_)
            | Self::Batches(_)
            | Self::Batch(_) => Effect::Read,
            Self::Cancel(_) | Self::Delete(_) => Effect::Change,
        }
    }
}

impl KeyOp {
    fn effect(&self) -> Effect {
        match self {
            Self::List | Self::Get(_) => Effect::Read,
            Self::Create | Self::Update(_) | Self::Delete(_) => Effect::Change,
        }
    }
}

impl RuleOp {
    fn effect(&self) -> Effect {
        match self {
            Self::List | Self::Get(_) => Effect::Read,
            Self::Update(_) | Self::Delete(_) | Self::Clear => Effect::Change,
        }
    }
}

impl WebhookOp {
    fn effect(&self) -> Effect {
        match self {
            Self::List | Self::Get(_) => Effect::Read,
            Self::Create | Self::Update(_) | Self::Delete(_) => Effect::Change,
        }
    }
}

impl SystemOp {
    fn effect(&self) -> Effect {
        match self {
            Self::Features(effect) => *effect,
            Self::Webhook(op) => op.effect(),
            Self::Rule(op) => op.effect(),
            Self::Dump | Self::Snapshot | Self::Export => Effect::Change,
            Self::Health
            | Self::Root
            | Self::Version
            | Self::Stats
            | Self::Render(_)
            | Self::Gated(_)
            | Self::Unsupported(_) => Effect::Read,
        }
    }
}
