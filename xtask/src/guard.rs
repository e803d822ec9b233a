//! What must not outlive a command: child processes, temporary directories; and the wish to stop.
//!
//! Everything here cleans up when dropped, so errors and panics leave nothing behind either.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Failure, Outcome};

/// How long a child may take to stop before it is killed.
const GRACE: Duration = Duration::from_secs(10);

fn stop_flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// From now on Ctrl-C and SIGTERM set a flag instead of ending the process.
pub(crate) fn catch_signals() -> io::Result<()> {
    for signal in signal_hook::consts::TERM_SIGNALS {
        if *signal != signal_hook::consts::SIGQUIT {
            signal_hook::flag::register(*signal, Arc::clone(stop_flag()))?;
        }
    }
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(stop_flag()))?;
    Ok(())
}

/// Whether the user wants to stop.
pub(crate) fn stopping() -> bool {
    stop_flag().load(Ordering::Relaxed)
}

/// An error when the user wants to stop.
pub(crate) fn check_stop() -> Outcome<()> {
    if stopping() { Err(Failure::Stopped) } else { Ok(()) }
}

/// Waits a little: between two looks at something that has no event to wait for.
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(50));
}

/// Calls `done` until it is true, at most for `limit`.
pub(crate) fn wait_until(
    limit: Duration,
    mut done: impl FnMut() -> Outcome<bool>,
) -> Outcome<bool> {
    let start = Instant::now();
    loop {
        check_stop()?;
        if done()? {
            return Ok(true);
        }
        if start.elapsed() > limit {
            return Ok(false);
        }
        pause();
    }
}

/// A temporary directory, removed when dropped unless kept.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A new directory below the system's temporary one.
    pub(crate) fn new(purpose: &str, keep: bool) -> io::Result<Self> {
        let base = std::env::temp_dir();
        for attempt in 0..1_000 {
            let path = base.join(format!("miroir-{purpose}-{}-{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, keep }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// A child process, asked to stop and then killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `log`. It gets a process group of its own, so that
    /// Ctrl-C reaches this process alone and children stop in the right order; and a pipe as
    /// standard input, whose end tells it that this process is gone.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Outcome<Self> {
        Self::spawn(name, command.stdout(File::create(log)?), log)
    }

    /// Like [`Process::start`] for a program that prints its address on the first line of its
    /// standard output; returns that line.
    pub(crate) fn start_announced(
        name: &str,
        command: &mut Command,
        log: &Path,
        limit: Duration,
    ) -> Outcome<(Self, String)> {
        let mut process = Self::spawn(name, command.stdout(Stdio::piped()), log)?;
        let Some(output) = process.child.stdout.take() else {
            return Err(format!("{name} has no output").into());
        };
        let (sender, lines) = mpsc::channel();
        // Reads on to the end: a full pipe would block the child.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let start = Instant::now();
        loop {
            check_stop()?;
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Ok((process, line.trim().to_owned())),
                Err(mpsc::RecvTimeoutError::Timeout) if start.elapsed() < limit => {}
                Err(_) => return Err(process.trouble("printed no address")),
            }
        }
    }

    fn spawn(name: &str, command: &mut Command, log: &Path) -> Outcome<Self> {
        let errors = File::options().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::piped()).stderr(errors).process_group(0).spawn().map_err(
            |error| {
                let program = command.get_program().display();
                Failure::from(format!("cannot start {program}: {error}"))
            },
        )?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error when it has ended.
    pub(crate) fn check(&mut self) -> Outcome<()> {
        match self.child.try_wait()? {
            Some(status) => Err(self.trouble(&format!("ended ({status})"))),
            None => Ok(()),
        }
    }

    /// An error about it, with the end of its log.
    pub(crate) fn trouble(&self, what: &str) -> Failure {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n    ");
        format!("{} {what}; the end of its log:\n    {tail}", self.name).into()
    }

    /// Ends it as a crash would: SIGKILL, no chance to put anything in order.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends it a signal that it survives, such as SIGSTOP and SIGCONT.
    pub(crate) fn signal(&self, signal: Signal) -> Outcome<()> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("a process without an id")?;
        Ok(kill_process(pid, signal).map_err(std::io::Error::from)?)
    }

    fn stop(&mut self) {
        drop(self.child.stdin.take());
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // The child has not been waited for, so the id is still its own. One that was stopped
            // would not hear.
            let _ = kill_process(pid, Signal::CONT);
            let _ = kill_process(pid, Signal::TERM);
        }
        let start = Instant::now();
        while start.elapsed() < GRACE {
            match self.child.try_wait() {
                Ok(None) => pause(),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where `PATH` has `program`, if it does.
pub(crate) fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|dir| dir.join(program.as_ref()));
    places.into_iter().find(|place| place.is_file())
}

/// Whether `program` can be found in `PATH`.
pub(crate) fn in_path(program: impl AsRef<OsStr>) -> bool {
    find(program).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outlives_its_guard() {
        let scratch = Scratch::new("guard-test", false).unwrap();
        let path = scratch.path().to_owned();
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; cat >/dev/null"]);
        let log = path.join("log");
        let (process, line) =
            Process::start_announced("sh", &mut command, &log, Duration::from_secs(30)).unwrap();
        assert_eq!(line, "ready");
        let pid = Pid::from_raw(process.id() as i32).unwrap();
        rustix::process::test_kill_process(pid).unwrap();
        drop(process);
        assert!(rustix::process::test_kill_process(pid).is_err());
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_child_that_ends_is_reported_with_its_log() {
        let scratch = Scratch::new("guard-test", false).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo the reason >&2; exit 3"]);
        let log = scratch.path().join("log");
        let mut process = Process::start("helper", &mut command, &log).unwrap();
        let found = wait_until(Duration::from_secs(30), || Ok(process.check().is_err())).unwrap();
        assert!(found);
        let message = process.check().unwrap_err().to_string();
        assert!(message.contains("helper") && message.contains("the reason"), "{message}");
    }
}
