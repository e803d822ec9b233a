//! Progress on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const WIDTH: usize = 30;
/// Longest line that is drawn over: a longer one would break into two on a common terminal.
const COLUMNS: usize = 79;
/// Between two lines of a [`Status`] where nothing can be drawn over.
const PAUSE: Duration = Duration::from_secs(15);

/// Where something long stands. On a terminal one line that changes; elsewhere a line now and then.
#[derive(Debug)]
pub(crate) struct Status {
    terminal: bool,
    /// What is drawn.
    shown: String,
    /// When a line was last written where it stays.
    written: Instant,
}

impl Default for Status {
    fn default() -> Self {
        let terminal = io::stderr().is_terminal();
        Self { terminal, shown: String::new(), written: Instant::now() }
    }
}

impl Status {
    /// Shows how it is now.
    pub(crate) fn set(&mut self, line: &str) {
        if self.terminal {
            let line: String = line.chars().take(COLUMNS).collect();
            if line != self.shown {
                // Over the whole of what was there before.
                eprint!("\r{line:<width$}", width = self.shown.chars().count());
                let _ = io::stderr().flush();
                self.shown = line;
            }
        } else if self.written.elapsed() >= PAUSE {
            eprintln!("{line}");
            self.written = Instant::now();
        }
    }

    /// Writes a line that stays, in the place of what is drawn.
    pub(crate) fn interrupt(&mut self, line: &str) {
        if self.shown.is_empty() {
            eprintln!("{line}");
        } else {
            eprintln!("\r{line:<width$}", width = self.shown.chars().count());
            self.shown.clear();
        }
    }
}

/// A bar of one line; silent where standard error is not a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    total: usize,
    shown: bool,
    last: usize,
}

impl Progress {
    /// A bar at zero of `total`.
    pub(crate) fn new(label: &str, total: usize) -> Self {
        let mut bar = Self {
            label: label.to_owned(),
            total: total.max(1),
            shown: io::stderr().is_terminal(),
            last: usize::MAX,
        };
        bar.set(0);
        bar
    }

    /// Moves the bar. Draws only when it looks different.
    pub(crate) fn set(&mut self, done: usize) {
        let permille = done.min(self.total) * 1_000 / self.total;
        if !self.shown || permille == self.last {
            return;
        }
        self.last = permille;
        let filled = permille * WIDTH / 1_000;
        eprint!(
            "\r{} [{}{}] {done}/{}",
            self.label,
            "#".repeat(filled),
            "-".repeat(WIDTH - filled),
            self.total
        );
        let _ = io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprintln!();
        }
    }
}
