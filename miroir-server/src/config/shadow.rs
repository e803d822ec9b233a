//! `shadow`: repeating reads at other clusters and comparing the answers.

use std::collections::BTreeSet;

use http::Uri;
use serde::{Deserialize, Serialize};

use super::duration::Millis;
use super::error::ConfigError;

/// What may be repeated: reads only, so no configuration can repeat a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowOperation {
    /// `…/search`.
    Search,
    /// `/multi-search`.
    MultiSearch,
    /// `…/explain`.
    Explain,
    /// `…/facet-search`.
    FacetSearch,
    /// `…/similar`.
    Similar,
    /// One document.
    DocumentGet,
    /// A page of documents.
    DocumentsList,
}

impl ShadowOperation {
    /// The name of the operation, as in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::MultiSearch => "multi_search",
            Self::Explain => "explain",
            Self::FacetSearch => "facet_search",
            Self::Similar => "similar",
            Self::DocumentGet => "document_get",
            Self::DocumentsList => "documents_list",
        }
    }
}

/// One cluster, or one Meilisearch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowTargetConfig {
    /// What it is called in metrics and answers.
    pub name: String,
    /// Base address, `http://host:port` or `https://…`.
    pub url: String,
    /// The environment variable that holds its key; empty for none.
    #[serde(default)]
    pub api_key_env: String,
    /// Which share of the reads it gets, from 0 to 1.
    #[serde(default = "all")]
    pub sample_rate: f64,
    /// Which reads.
    #[serde(default = "searches")]
    pub operations: Vec<ShadowOperation>,
}

fn all() -> f64 {
    1.0
}

fn searches() -> Vec<ShadowOperation> {
    vec![ShadowOperation::Search, ShadowOperation::MultiSearch, ShadowOperation::Explain]
}

/// `shadow`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowConfig {
    /// Whether it is done.
    pub enabled: bool,
    /// Where.
    pub targets: Vec<ShadowTargetConfig>,
    /// Differences that are remembered, the newest.
    pub diff_buffer_size: usize,
    /// How long a shadow may take.
    pub max_shadow_latency_ms: Millis,
    /// Requests under way at one target; more are not repeated.
    pub max_in_flight: usize,
    /// How much longer than this cluster a shadow may take before that is a difference.
    pub latency_tolerance_ms: Millis,
}

impl Default for ShadowConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            targets: Vec::new(),
            diff_buffer_size: 10_000,
            max_shadow_latency_ms: Millis(5_000),
            max_in_flight: 16,
            latency_tolerance_ms: Millis(100),
        }
    }
}

/// Most differences that are remembered: at three and a half KB each, some 350 MB.
const MAX_BUFFER: usize = 100_000;
/// Most requests under way at one target: two answers of a MiB each.
const MAX_IN_FLIGHT: usize = 1_000;

impl ShadowConfig {
    /// A target with every key, for the list of all keys.
    pub(crate) fn example() -> ShadowTargetConfig {
        ShadowTargetConfig {
            name: "staging".to_owned(),
            url: "http://host".to_owned(),
            api_key_env: "KEY".to_owned(),
            sample_rate: 0.5,
            operations: searches(),
        }
    }

    /// The broken rules between keys.
    pub(super) fn check(&self) -> Vec<ConfigError> {
        let mut found = Vec::new();
        let mut when = |broken: bool, key: &str, problem: String, remedy: &str| {
            if broken {
                found.push(ConfigError::new([key], problem, remedy));
            }
        };
        when(
            self.enabled && self.targets.is_empty(),
            "shadow.targets",
            "there are none".to_owned(),
            "list at least one, or set `shadow.enabled: false`",
        );
        for (key, value, most) in [
            ("shadow.diff_buffer_size", self.diff_buffer_size, MAX_BUFFER),
            ("shadow.max_in_flight", self.max_in_flight, MAX_IN_FLIGHT),
        ] {
            let remedy = format!("use 1 to {most}");
            when(!(1..=most).contains(&value), key, format!("{value} is not possible"), &remedy);
        }
        when(
            self.max_shadow_latency_ms.is_zero(),
            "shadow.max_shadow_latency_ms",
            "must not be 0".to_owned(),
            "use at least 1, or remove the key",
        );
        let mut names = BTreeSet::new();
        for (at, target) in self.targets.iter().enumerate() {
            let key = |name: &str| format!("shadow.targets[{at}].{name}");
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            when(
                target.name.is_empty() || target.name.len() > 64 || !target.name.chars().all(legal),
                &key("name"),
                "is not a usable name".to_owned(),
                "use 1 to 64 letters, digits, `-`, `_` or `.`",
            );
            when(
                !names.insert(target.name.as_str()),
                &key("name"),
                format!("\"{}\" is taken by another target", target.name),
                "give every target a name of its own",
            );
            // The address itself is not shown: it may hold credentials.
            if let Err(problem) = base(&target.url) {
                when(true, &key("url"), problem.to_owned(), "write `http://host:port`");
            }
            when(
                !(0.0..=1.0).contains(&target.sample_rate),
                &key("sample_rate"),
                format!("{} is not a share", target.sample_rate),
                "use a number from 0 to 1",
            );
            when(
                target.operations.is_empty(),
                &key("operations"),
                "is empty".to_owned(),
                "list what is to be repeated, for example `[search]`, or remove the key",
            );
            when(
                !target.api_key_env.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                &key("api_key_env"),
                "is not the name of an environment variable".to_owned(),
                "put the key into a variable and its name here",
            );
        }
        found
    }
}

/// The address that paths are added to.
pub(crate) fn base(url: &str) -> Result<String, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is not an address")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("has neither `http://` nor `https://`");
    }
    let authority = uri.authority().ok_or("has no host")?;
    if authority.as_str().contains('@') {
        return Err("holds credentials; the key belongs into the variable that api_key_env names");
    }
    if authority.host().is_empty() {
        return Err("has no host");
    }
    if uri.query().is_some() || url.contains('#') {
        return Err("has a query");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn check(yaml: &str) -> Vec<String> {
        match Config::from_yaml(&format!("miroir: {{shadow: {yaml}}}")) {
            Ok(config) => config.shadow.check().iter().map(ToString::to_string).collect(),
            Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn the_documented_block_is_read() {
        let yaml = "{enabled: true, targets: [{name: staging, url: 'http://s.svc:7700', \
                    api_key_env: SHADOW_API_KEY, sample_rate: 0.05, \
                    operations: [search, multi_search, explain]}], diff_buffer_size: 10000, \
                    max_shadow_latency_ms: 5000}";
        assert_eq!(check(yaml), [] as [&str; 0]);
        let config = Config::from_yaml(&format!("miroir: {{shadow: {yaml}}}")).unwrap();
        assert_eq!(config.shadow.targets[0].operations, searches());
        let least = "{targets: [{name: a, url: 'https://a/base/'}]}";
        assert_eq!(check(least), [] as [&str; 0]);
        assert_eq!(base("https://a/base/"), Ok("https://a/base".to_owned()));
    }

    #[test]
    fn rules() {
        let target = |more: &str| format!("{{targets: [{{name: a, url: 'http://a'{more}}}]}}");
        for (yaml, key, remedy) in [
            ("{enabled: true}".to_owned(), "`shadow.targets`: there are none", "at least one"),
            ("{diff_buffer_size: 0}".to_owned(), "`shadow.diff_buffer_size`: 0", "1 to 100000"),
            ("{max_in_flight: 0}".to_owned(), "`shadow.max_in_flight`: 0", "1 to 1000"),
            ("{max_shadow_latency_ms: 0}".to_owned(), "`shadow.max_shadow_latency_ms`", "at least"),
            (target(", sample_rate: 2"), "`shadow.targets[0].sample_rate`: 2", "0 to 1"),
            (target(", operations: []"), "`shadow.targets[0].operations`: is empty", "[search]"),
            (target(", api_key_env: 'a b'"), "`shadow.targets[0].api_key_env`", "variable"),
            (
                "{targets: [{name: 'a b', url: 'http://a'}]}".to_owned(),
                "`shadow.targets[0].name`: is not",
                "letters",
            ),
            (
                "{targets: [{name: a, url: 'http://a'}, {name: a, url: 'http://b'}]}".to_owned(),
                "`shadow.targets[1].name`: \"a\" is taken",
                "of its own",
            ),
            (
                "{targets: [{name: a, url: 'a:7700'}]}".to_owned(),
                "`shadow.targets[0].url`",
                "host:",
            ),
            (
                "{targets: [{name: a, url: 'http://u:p@a'}]}".to_owned(),
                "`shadow.targets[0].url`: holds credentials",
                "host:port",
            ),
        ] {
            let errors = check(&yaml);
            assert_eq!(errors.len(), 1, "{yaml}: {errors:?}");
            assert!(errors[0].contains(key) && errors[0].contains(remedy), "{yaml}: {errors:?}");
        }
    }

    #[test]
    fn no_configuration_repeats_writes() {
        for name in ["documents_write", "settings", "index"] {
            let yaml = format!("{{targets: [{{name: a, url: 'http://a', operations: [{name}]}}]}}");
            let errors = check(&yaml);
            assert!(
                errors[0].contains("shadow.targets[0].operations[0]")
                    && errors[0].contains("multi_search"),
                "{errors:?}"
            );
        }
    }
}
