//! A progress bar on standard error; silent where that is not a terminal.

use std::io::{self, IsTerminal, Write};

const WIDTH: usize = 30;

/// A bar of one line.
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
