//! The members of the workspace.

use serde_json::Value;

use crate::build::cargo;
use crate::{Failure, Outcome};

/// What Cargo says about the members.
pub(super) fn metadata() -> Outcome<Value> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::from(format!("cargo metadata: {error}")))
}
