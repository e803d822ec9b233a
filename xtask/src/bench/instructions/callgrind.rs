//! A server under callgrind, and the switches of the count.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::profile::Profile;
use crate::cluster::Server;
use crate::options::Shape;
use crate::{Failure, Outcome, guard};

/// How long the server may take until it is ready: everything takes tens of times as long.
const START_LIMIT: Duration = Duration::from_mins(5);

/// Work in the background, as far apart as it may be: what is counted is requests.
const QUIET: &str = "  \
  health: { interval_ms: 1h, timeout_ms: 10s }
  settings_drift_check: { interval_s: 1d }
  task_registry: { prune_interval_s: 1d }
";

/// A server whose instructions are counted.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) server: Server,
    /// What callgrind's files begin with.
    out: PathBuf,
    dumps: usize,
}

/// An error that says how to get it, unless valgrind is there.
pub(super) fn check() -> Outcome<()> {
    for program in ["valgrind", "callgrind_control"] {
        if !guard::in_path(program) {
            return Err(format!(
                "`{program}` is not installed; on Debian and Ubuntu: apt-get install valgrind"
            )
            .into());
        }
    }
    Ok(())
}

impl Counted {
    /// Starts `program` in front of `nodes`. Nothing is counted yet, and it runs several times as
    /// fast as later.
    pub(super) fn start(
        program: &Path,
        nodes: &[String],
        shape: Shape,
        dir: &Path,
    ) -> Outcome<Self> {
        let out = dir.join("callgrind.out");
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--instr-atstart=no", "--dump-line=no"])
            // Two instances of one generic function have one name, unless names stay as they are.
            .arg("--demangle=no")
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(program)
            // With several threads it depends on the moment who does what, and who wakes whom.
            .env("TOKIO_WORKER_THREADS", "1")
            .env_remove("MIROIR_LOG")
            .env_remove("RUST_LOG");
        let server = Server::start_command(command, START_LIMIT, nodes, shape, None, dir, QUIET)?;
        Ok(Self { server, out, dumps: 0 })
    }

    /// Begins to count.
    pub(super) fn switch_on(&self) -> Outcome<()> {
        self.control(&["-i", "on"])
    }

    /// Forgets what was counted.
    pub(super) fn zero(&self) -> Outcome<()> {
        self.control(&["-z"])
    }

    /// What was counted since [`Counted::zero`] or the last dump.
    pub(super) fn dump(&mut self) -> Outcome<Profile> {
        self.control(&["-d"])?;
        self.dumps += 1;
        let path = format!("{}.{}", self.out.display(), self.dumps);
        let text = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
        Profile::parse(&String::from_utf8_lossy(&text))
    }

    fn control(&self, arguments: &[&str]) -> Outcome<()> {
        let output = Command::new("callgrind_control")
            .args(arguments)
            .arg(self.server.id().to_string())
            .output()
            .map_err(|error| format!("cannot run callgrind_control: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        // It ends with 0 even when nobody listened.
        if output.status.success() && said.contains("OK.") {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(Failure::Message(format!(
            "`callgrind_control {}` failed: {said}{errors}",
            arguments.join(" ")
        )))
    }
}
