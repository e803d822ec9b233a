//! Figures of a run beside what they may be.

use std::fmt::Display;

use crate::{Failure, Outcome};

/// Collects what is out of bounds.
#[derive(Debug, Default)]
pub(super) struct Judge(Vec<String>);

impl Judge {
    /// Prints a figure; more than `most` is wrong.
    pub(super) fn at_most<T: PartialOrd + Display>(&mut self, what: &str, value: T, most: T) {
        println!("  {what}: {value:.3}, at most {most}");
        if value > most {
            self.0.push(format!("{what} is {value:.3}, more than {most}"));
        }
    }

    /// What has to hold.
    pub(super) fn must(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            let text = otherwise.into();
            println!("  WRONG: {text}");
            self.0.push(text);
        }
    }

    /// An outcome that must not be an error.
    pub(super) fn outcome(&mut self, outcome: Outcome<()>) -> Outcome<()> {
        match outcome {
            Err(Failure::Message(text)) => self.must(false, text),
            other => return other,
        }
        Ok(())
    }

    /// All of it.
    ///
    /// # Errors
    /// What is out of bounds.
    pub(super) fn end(self) -> Outcome<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Failure::from(self.0.join("; "))) }
    }
}
