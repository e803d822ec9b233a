//! `cargo xtask tidy`: rules of the repository that the compiler does not know, one a file.

mod cycles;
mod direction;
mod layers;
mod source;
mod texts;
mod workspace;

use std::collections::BTreeMap;
use std::path::Path;

use crate::Outcome;
use crate::build::root;

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Checks everything and prints what is wrong.
pub(crate) fn run() -> Outcome<()> {
    let mut found = Findings::default();
    let files = tracked()?;
    let folders = workspace::folders(&files);
    // Lines of the Rust files of each package, by its folder.
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &files {
        let Some(text) = read(name) else {
            // Deleted but still listed, or not text.
            continue;
        };
        texts::check(name, &text, &mut found);
        if Path::new(name).extension().is_some_and(|extension| extension == "rs") {
            source::check(name, &text, &mut found);
            layers::check(name, &text, &mut found);
            if let Some(folder) = workspace::folder_of(name, &folders) {
                *lines.entry(folder).or_default() += text.lines().count();
            }
        }
    }
    let metadata = workspace::metadata()?;
    direction::check(&metadata, &mut found);
    let mut rows = Vec::new();
    for package in workspace::packages(&metadata) {
        let all = lines.get(package.folder.as_str()).copied().unwrap_or_default();
        rows.push(cycles::check(&package, all, &read, &mut found));
    }
    print!("{}", cycles::table(&rows));
    for line in &found.warnings {
        println!("warning: {line}");
    }
    for line in &found.errors {
        println!("error: {line}");
    }
    match found.errors.len() {
        0 => Ok(()),
        count => Err(format!("tidy found {count} error(s)").into()),
    }
}

/// The text of a file of the repository.
fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(root().join(name)).ok()
}

/// Files of the repository: what Git tracks or would.
fn tracked() -> Outcome<Vec<String>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if !output.status.success() {
        return Err("git lists no files: is this a checkout?".into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// The errors of one check.
#[cfg(test)]
fn errors(check: impl FnOnce(&mut Findings)) -> Vec<String> {
    let mut found = Findings::default();
    check(&mut found);
    found.errors
}
