//! Building the programs that commands run.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use crate::{Failure, Outcome, guard};

/// What to build, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    /// Also the engine node. It brings the search engine: the long part of a first build.
    pub(crate) engine: bool,
    /// With the release profile.
    pub(crate) release: bool,
    /// The whole workspace with all features, exactly as the tests build it. Cargo compiles a
    /// dependency again for every other set of features, so after the tests this is the fast way,
    /// and for somebody who only wants the demo the slow one.
    pub(crate) whole_workspace: bool,
}

/// Paths of the programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// `miroir-server`.
    pub(crate) server: PathBuf,
    /// `engine-node`, when it was asked for.
    pub(crate) engine_node: Option<PathBuf>,
}

/// The repository's root.
///
/// Cargo says at run time where it is: what was compiled in may be another checkout's, when two of
/// them share a build directory.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        manifest.parent().unwrap_or(Path::new(".")).to_owned()
    });
    &ROOT
}

/// A Cargo command in the repository's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // What Cargo says to this program about its package is none of the business of others: some build
    // scripts look at it, and would compile their crates (and the search engine on top) again.
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        });
        if told {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the server and, if asked for, the engine node.
///
/// The default is the development profile: in this workspace it optimises all dependencies, the
/// search engine among them, and leaves only Miroir's own crates unoptimised. So a first build
/// takes as long as it must, a second one seconds, and tests share all of it.
pub(crate) fn programs(build: Build) -> Outcome<Programs> {
    let mut arguments = vec!["build", "--message-format=json-render-diagnostics"];
    if build.whole_workspace {
        // One test target is enough for the features of tests to count.
        arguments.extend(["--workspace", "--all-features", "--bins", "--test", "cli"]);
    } else {
        arguments.extend(["-p", "miroir-server", "--bin", "miroir-server"]);
        if build.engine {
            arguments.extend(["-p", "miroir-engine", "--bin", "engine-node"]);
        }
    }
    if build.release {
        arguments.push("--release");
    }
    eprintln!(
        "building miroir-server{} (the first time takes minutes)",
        if build.engine { " and the engine node" } else { "" }
    );
    let mut child = cargo(&arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    let output = child.stdout.take().ok_or("cargo has no output")?;
    let (mut server, mut engine_node) = (None, None);
    for line in BufReader::new(output).lines() {
        let message: Value = serde_json::from_str(&line?).unwrap_or_default();
        let Some(path) = message["executable"].as_str() else { continue };
        match message["target"]["name"].as_str() {
            Some("miroir-server") => server = Some(PathBuf::from(path)),
            Some("engine-node") => engine_node = Some(PathBuf::from(path)),
            _ => {}
        }
    }
    let status = child.wait()?;
    guard::check_stop()?;
    if !status.success() {
        return Err("the build failed".into());
    }
    let server = server.ok_or("cargo built no miroir-server")?;
    if build.engine && engine_node.is_none() {
        return Err("cargo built no engine-node".into());
    }
    Ok(Programs { server, engine_node })
}

/// Runs a command that shows its own output.
pub(crate) fn run(command: &mut Command) -> Outcome<()> {
    let shown = command.get_program().display().to_string();
    let status = command.status().map_err(|error| format!("cannot run {shown}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        Err(Failure::Message(format!("`{} {}` failed ({status})", shown, arguments.join(" "))))
    }
}
