//! What can go wrong, what to do about it, and how the program ends.

use std::fmt;
use std::process::ExitCode;

use miroir_api::meili::ApiError;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// It did what it was asked.
    Done = 0,
    /// It did, and something is wrong.
    Findings = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no connection to a Miroir.
    Connection = 3,
    /// The key is missing or wrong.
    Key = 4,
    /// The server refused or failed.
    Refused = 5,
    /// It did not end in time.
    Unfinished = 6,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A problem and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CtlError {
    code: Code,
    problem: String,
    remedy: String,
}

impl CtlError {
    pub(crate) fn new(code: Code, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, problem: problem.into(), remedy: remedy.into() }
    }

    /// The command line is wrong in a way that only shows later.
    pub(crate) fn usage(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Code::Usage, problem, remedy)
    }

    /// Something is wrong with what was looked at.
    pub(crate) fn finding(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Code::Findings, problem, remedy)
    }

    /// There is no connection.
    pub(crate) fn connection(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Code::Connection, problem, remedy)
    }

    /// An error in the words of the server at this address.
    pub(crate) fn refusal(status: u16, error: &ApiError, base: &str) -> Self {
        let remedy = match &*error.link {
            "" => String::new(),
            path if path.starts_with('/') => format!("see {}{path}", base.trim_end_matches('/')),
            link => format!("see {link}"),
        };
        let problem = format!("{} ({}, {status})", error.message.trim_end_matches('.'), error.code);
        Self::new(Code::Refused, problem, remedy)
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "\n  remedy: {}", self.remedy)?;
        }
        Ok(())
    }
}
