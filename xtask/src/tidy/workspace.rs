//! The members of the workspace, and which files are whose.

use serde_json::Value;

use crate::build::{cargo, root};
use crate::{Failure, Outcome};

/// A member of the workspace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    /// Its folder, from the repository's root.
    pub(super) folder: String,
    /// First files of its libraries, programs, examples and benches; tests are left out.
    pub(super) roots: Vec<String>,
}

/// What Cargo says about the members.
pub(super) fn metadata() -> Outcome<Value> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::from(format!("cargo metadata: {error}")))
}

/// The members in what Cargo says.
pub(super) fn packages(metadata: &Value) -> Vec<Package> {
    let base = metadata["workspace_root"].as_str().map_or_else(|| root().into(), Into::into);
    let relative = |path: &Value| {
        let path = std::path::Path::new(path.as_str().unwrap_or_default());
        path.strip_prefix::<&std::path::PathBuf>(&base)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned()
    };
    let read = |package: &Value| {
        let manifest = relative(&package["manifest_path"]);
        let targets = package["targets"].as_array().map_or(&[][..], Vec::as_slice);
        let is_code = |target: &&Value| {
            let kinds = target["kind"].as_array().map_or(&[][..], Vec::as_slice);
            !kinds.iter().any(|kind| kind == "test" || kind == "custom-build")
        };
        Package {
            name: package["name"].as_str().unwrap_or_default().to_owned(),
            folder: manifest.strip_suffix("Cargo.toml").unwrap_or_default().to_owned(),
            roots: targets.iter().filter(is_code).map(|t| relative(&t["src_path"])).collect(),
        }
    };
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    packages.iter().map(read).collect()
}

/// The folder of the package that a file belongs to, with a `/` at its end: the innermost one with
/// a manifest, member of the workspace or not.
pub(super) fn folder_of<'a>(file: &str, folders: &'a [String]) -> Option<&'a str> {
    let around = folders.iter().filter(|folder| file.starts_with(folder.as_str()));
    around.max_by_key(|folder| folder.len()).map(String::as_str)
}

/// The folders with a manifest among the repository's files.
pub(super) fn folders(files: &[String]) -> Vec<String> {
    let folder = |file: &String| {
        let folder = file.strip_suffix("Cargo.toml")?;
        (folder.ends_with('/')).then(|| folder.to_owned())
    };
    files.iter().filter_map(folder).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_and_their_targets_are_read() {
        let metadata = json!({ "workspace_root": "/r", "packages": [{
            "name": "inner",
            "manifest_path": "/r/outer/inner/Cargo.toml",
            "targets": [
                { "kind": ["lib"], "src_path": "/r/outer/inner/src/lib.rs" },
                { "kind": ["bin"], "src_path": "/r/outer/inner/src/main.rs" },
                { "kind": ["test"], "src_path": "/r/outer/inner/tests/a.rs" },
                { "kind": ["custom-build"], "src_path": "/r/outer/inner/build.rs" },
            ],
        }]});
        let expected = Package {
            name: "inner".into(),
            folder: "outer/inner/".into(),
            roots: vec!["outer/inner/src/lib.rs".into(), "outer/inner/src/main.rs".into()],
        };
        assert_eq!(packages(&metadata), [expected]);
    }

    #[test]
    fn a_file_belongs_to_the_innermost_package() {
        let files =
            ["Cargo.toml", "outer/Cargo.toml", "outer/inner/Cargo.toml", "outer/src/lib.rs"];
        let folders = folders(&files.map(str::to_owned));
        assert_eq!(folders, ["outer/", "outer/inner/"]);
        assert_eq!(folder_of("outer/src/lib.rs", &folders), Some("outer/"));
        assert_eq!(folder_of("outer/inner/src/lib.rs", &folders), Some("outer/inner/"));
        assert_eq!(folder_of("outers/src/lib.rs", &folders), None);
        assert_eq!(folder_of("a.rs", &folders), None);
    }
}
