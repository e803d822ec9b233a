//! What is wrong with a configuration, in words an operator can act on.

use std::fmt;

/// One fault: the keys it concerns, what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Paths below `miroir:`, such as `server.port` or `nodes[1].id`; where a fault has no key, the
    /// place it was met (a file, a variable, a flag). May be empty.
    pub keys: Vec<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it; may be empty where the problem says it all.
    pub remedy: String,
}

impl ConfigError {
    /// A fault of `keys`.
    pub fn new<K: Into<String>>(
        keys: impl IntoIterator<Item = K>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            keys: keys.into_iter().map(Into::into).collect(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, key) in self.keys.iter().enumerate() {
            write!(f, "{}`{key}`", if position == 0 { "" } else { ", " })?;
        }
        if !self.keys.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Every fault that was found, in the order of the configuration. `Display` writes one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  - {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl From<Vec<ConfigError>> for ConfigErrors {
    fn from(errors: Vec<ConfigError>) -> Self {
        Self(errors)
    }
}
