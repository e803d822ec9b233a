//! `cargo xtask docs`: writes the pages of `docs/` that come from tables in the code.
//!
//! The test that fails while they are stale also writes them, so the two cannot disagree.

use crate::build::cargo;
use crate::{Failure, Outcome};

/// Writes the pages.
pub(crate) fn run() -> Outcome<()> {
    let arguments = ["test", "--workspace", "--all-features", "--test", "docs"];
    let status = cargo(&arguments).env("MIROIR_WRITE_DOCS", "1").status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Message("docs/ could not be written; see above".to_owned()))
    }
}
