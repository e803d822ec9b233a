//! What the demo runs as nodes: a Meilisearch that is there, or the engine node built from source.
//!
//! A binary that was named counts first, then one found in `PATH`. Either has to be of a version
//! that Miroir is known to answer like; an unknown one is refused, since what the demo would show
//! with it is nobody's promise. `--engine` looks at none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::options::DemoOptions;
use crate::{Outcome, guard};

/// The versions of Meilisearch that Miroir is tested with: all that begin so.
const KNOWN: &str = "1.50.";

/// A Meilisearch to run.
#[derive(Debug)]
pub(super) struct Meilisearch {
    pub(super) path: PathBuf,
    /// What it is and how it was found, for people.
    pub(super) described: String,
}

/// The Meilisearch to use, if there is one.
pub(super) fn meilisearch(options: &DemoOptions) -> Outcome<Option<Meilisearch>> {
    if options.engine {
        return Ok(None);
    }
    let (path, found) = match &options.meilisearch {
        Some(path) => (std::path::absolute(path)?, "as asked for"),
        None => match guard::find("meilisearch") {
            Some(path) => (path, "found in PATH"),
            None => return Ok(None),
        },
    };
    let output = Command::new(&path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", path.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = judge(&path, found, said.trim())?;
    let described = format!("Meilisearch {version} ({}, {found})", path.display());
    Ok(Some(Meilisearch { path, described }))
}

/// The version in what the program says of itself; an error unless it is a known one.
fn judge<'a>(path: &Path, found: &str, said: &'a str) -> Outcome<&'a str> {
    let version = said.strip_prefix("meilisearch ").filter(|version| !version.contains('\n'));
    if let Some(version) = version.filter(|version| version.starts_with(KNOWN)) {
        return Ok(version);
    }
    let what = match version {
        Some(version) => format!("is Meilisearch {version}"),
        None if said.is_empty() => "does not say its version".to_owned(),
        None => format!("calls itself `{}`", said.lines().next().unwrap_or_default()),
    };
    Err(format!(
        "{} ({found}) {what}; the demo is known to work with {KNOWN}x. Install Meilisearch \
         {KNOWN}x, name one with --meilisearch PATH, or build the engine node instead with --engine",
        path.display()
    )
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_versions_run() {
        let path = Path::new("/a/meilisearch");
        assert_eq!(judge(path, "found in PATH", "meilisearch 1.50.3").unwrap(), "1.50.3");
        for said in ["meilisearch 1.49.0", "meilisearch 1.5.0", "meilisearch 1.500.0", "", "node 1"]
        {
            let refused = judge(path, "found in PATH", said).unwrap_err().to_string();
            for part in ["/a/meilisearch", "found in PATH", "--meilisearch PATH", "--engine"] {
                assert!(refused.contains(part), "{said}: {refused}");
            }
            assert!(refused.contains(said.trim_start_matches("meilisearch ")), "{said}: {refused}");
        }
    }

    #[test]
    fn a_named_binary_that_is_not_there_is_an_error_and_engine_looks_at_none() {
        let missing = Some(PathBuf::from("/nowhere/at/all/meilisearch"));
        let mut options = DemoOptions { meilisearch: missing, ..DemoOptions::default() };
        let error = meilisearch(&options).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all/meilisearch"), "{error}");
        options.engine = true;
        assert!(meilisearch(&options).unwrap().is_none());
    }
}
