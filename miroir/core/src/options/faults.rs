//! What is wrong with options, in words an operator can act on.

use std::fmt;

use super::Validate;

/// One fault: the keys it concerns, what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Paths of keys, such as `server.port` or `nodes[1].id`; where a fault has no key, the place it
    /// was met (a file, a variable, a flag). May be empty.
    pub keys: Vec<String>,
    /// What is wrong, as the rest of a sentence after the keys.
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

/// Collects the faults of options, all of them, each with the whole path of its keys.
#[derive(Debug, Default)]
pub struct Faults {
    found: Vec<ConfigError>,
    /// What the keys of the block that is looked at begin with: empty, or ending in a dot.
    prefix: String,
}

impl Faults {
    /// Adds the faults of a block of options, whose keys are below `name`.
    pub fn block(&mut self, name: &str, options: &impl Validate) {
        self.within(name, |faults| options.validate(faults));
    }

    /// Adds what `check` finds in a block whose keys are below `name`.
    pub fn within(&mut self, name: &str, check: impl FnOnce(&mut Self)) {
        let outer = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('.');
        check(self);
        self.prefix.truncate(outer);
    }

    /// Adds a fault of `keys` when `broken`. A key that begins with `/` is not of this block, but a
    /// path from the top.
    pub fn when(
        &mut self,
        broken: bool,
        keys: &[&str],
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if broken {
            let keys = keys.iter().map(|key| match key.strip_prefix('/') {
                Some(path) => path.to_owned(),
                None => format!("{}{key}", self.prefix),
            });
            self.found.push(ConfigError::new(keys, problem, remedy));
        }
    }

    /// Adds a fault for every key that is given as zero, which it must not be.
    pub fn positive(&mut self, values: &[(&str, bool)]) {
        for (key, zero) in values {
            self.when(*zero, &[key], "must not be 0", "use at least 1, or remove the key");
        }
    }

    /// Adds a fault when a percentage is above 100.
    pub fn percentage(&mut self, key: &str, percent: u32) {
        let problem = format!("{percent} is more than 100 percent");
        self.when(percent > 100, &[key], problem, "use 0 to 100");
    }

    /// What was found, in the order in which it was.
    #[must_use]
    pub fn into_vec(self) -> Vec<ConfigError> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Block(u32);

    impl Validate for Block {
        fn validate(&self, faults: &mut Faults) {
            faults.percentage("share", self.0);
        }
    }

    #[test]
    fn keys_have_the_path_of_their_block() {
        let mut faults = Faults::default();
        faults.block("outer", &Block(101));
        faults.block("fine", &Block(100));
        faults.within("outer", |faults| faults.when(true, &["a", "/b"], "differ", ""));
        let texts: Vec<_> = faults.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["`outer.share`: 101 is more than 100 percent; use 0 to 100", "`outer.a`, `b`: differ"]
        );
    }
}
