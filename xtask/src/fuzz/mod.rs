//! `cargo xtask fuzz`: inputs nobody thought of.
//!
//! | | what gets them | what has to hold |
//! | --- | --- | --- |
//! | `api` | a server in front of three nodes, from the description of the API | no fault, no panic, no dropped connection |
//! | `targets` | what reads bytes of others, from the seeds in `fuzz/seeds` | the properties in `fuzz/src` |
//! | `diff` | Miroir and one plain node, from seeds | the same answers |
//! | `hurry` | Miroir and two plain nodes, changes that are not waited for | what the plain nodes agree on |

mod api;
mod diff;
mod hurry;
mod targets;

use std::path::PathBuf;

use crate::Outcome;
use crate::build::root;

pub(crate) use api::ApiOptions;
pub(crate) use diff::DiffOptions;
pub(crate) use hurry::HurryOptions;
pub(crate) use targets::TargetOptions;

/// What to fuzz.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FuzzOptions {
    /// `api`.
    Api(ApiOptions),
    /// `targets`.
    Targets(TargetOptions),
    /// `diff`.
    Diff(DiffOptions),
    /// `hurry`.
    Hurry(HurryOptions),
}

/// Runs it.
pub(crate) fn run(options: &FuzzOptions) -> Outcome<()> {
    match options {
        FuzzOptions::Api(options) => api::run(options),
        FuzzOptions::Targets(options) => targets::run(options),
        FuzzOptions::Diff(options) => diff::run(options),
        FuzzOptions::Hurry(options) => hurry::run(options),
    }
}

/// A directory for what fuzzing leaves behind, inside the build directory.
fn directory(name: &str) -> Outcome<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |path| root().join(path));
    let path = target.join("fuzz").join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
