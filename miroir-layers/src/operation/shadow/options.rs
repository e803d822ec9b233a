//! `shadow`: where reads are repeated, which, and how much that may take.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Uri;
use miroir_core::options::{Capability, Faults, Validate, milliseconds};
use serde::{Deserialize, Serialize};

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
pub struct ShadowTargetOptions {
    /// What it is called in metrics and answers.
    pub name: String,
    /// Base address, `http://host:port` or `https://…`.
    pub url: String,
    /// The environment variable that holds its key; empty for none.
    #[serde(default)]
    pub api_key_env: String,
    /// Which share of the reads it gets, from 0 to 1. 1 by default.
    #[serde(default = "all")]
    pub sample_rate: f64,
    /// Which reads. Searches, multi-searches and explained ones by default.
    #[serde(default = "searches")]
    pub operations: Vec<ShadowOperation>,
}

fn all() -> f64 {
    1.0
}

fn searches() -> Vec<ShadowOperation> {
    vec![ShadowOperation::Search, ShadowOperation::MultiSearch, ShadowOperation::Explain]
}

/// `shadow`: where reads are repeated, how much that may take, and what is a difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowOptions {
    /// Whether reads are repeated. False by default.
    pub enabled: bool,
    /// Where. The layer is given services; whoever makes those looks at the targets.
    pub targets: Vec<ShadowTargetOptions>,
    /// Differences that are remembered, the newest. 10,000 by default.
    pub diff_buffer_size: usize,
    /// How long a shadow may take. 5 s by default.
    #[serde(rename = "max_shadow_latency_ms", with = "milliseconds")]
    pub max_shadow_latency: Duration,
    /// Requests under way at one shadow; more are not repeated. 16 by default.
    pub max_in_flight: usize,
    /// How much longer than the primary a shadow may take before that is a difference. 100 ms by
    /// default.
    #[serde(rename = "latency_tolerance_ms", with = "milliseconds")]
    pub latency_tolerance: Duration,
    /// The largest answer that is compared, in bytes. 1 MiB by default.
    #[serde(skip)]
    pub max_body: usize,
    /// Decides which requests are chosen. Pods should have different ones.
    #[serde(skip)]
    pub seed: u64,
}

impl Default for ShadowOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            targets: Vec::new(),
            diff_buffer_size: 10_000,
            max_shadow_latency: Duration::from_secs(5),
            max_in_flight: 16,
            latency_tolerance: Duration::from_millis(100),
            max_body: 1024 * 1024,
            seed: 0,
        }
    }
}

/// Most differences that are remembered: at three and a half KB each, some 350 MB.
const MAX_BUFFER: usize = 100_000;
/// Most requests under way at one target: two answers of a MiB each.
const MAX_IN_FLIGHT: usize = 1_000;

impl Validate for ShadowOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.when(
            self.enabled && self.targets.is_empty(),
            &["targets"],
            "there are none",
            "list at least one, or set `shadow.enabled: false`",
        );
        for (key, value, most) in [
            ("diff_buffer_size", self.diff_buffer_size, MAX_BUFFER),
            ("max_in_flight", self.max_in_flight, MAX_IN_FLIGHT),
        ] {
            let possible = (1..=most).contains(&value);
            let remedy = format!("use 1 to {most}");
            faults.when(!possible, &[key], format!("{value} is not possible"), remedy);
        }
        faults.positive(&[("max_shadow_latency_ms", self.max_shadow_latency.is_zero())]);
        let mut names = BTreeSet::new();
        for (at, target) in self.targets.iter().enumerate() {
            let taken = !names.insert(target.name.as_str());
            faults.within(&format!("targets[{at}]"), |faults| target.validate(taken, faults));
        }
    }
}

impl Capability for ShadowOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}

impl ShadowTargetOptions {
    /// `taken`: another target has this one's name.
    fn validate(&self, taken: bool, faults: &mut Faults) {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        faults.when(
            self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(legal),
            &["name"],
            "is not a usable name",
            "use 1 to 64 letters, digits, `-`, `_` or `.`",
        );
        faults.when(
            taken,
            &["name"],
            format!("\"{}\" is taken by another target", self.name),
            "give every target a name of its own",
        );
        // The address itself is not shown: it may hold credentials.
        if let Err(problem) = base_address(&self.url) {
            faults.when(true, &["url"], problem, "write `http://host:port`");
        }
        faults.when(
            !(0.0..=1.0).contains(&self.sample_rate),
            &["sample_rate"],
            format!("{} is not a share", self.sample_rate),
            "use a number from 0 to 1",
        );
        faults.when(
            self.operations.is_empty(),
            &["operations"],
            "is empty",
            "list what is to be repeated, for example `[search]`, or remove the key",
        );
        faults.when(
            !self.api_key_env.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
            &["api_key_env"],
            "is not the name of an environment variable",
            "put the key into a variable and its name here",
        );
    }
}

/// The address that the paths of requests are added to.
///
/// # Errors
/// Why `url` is no such address, in words that do not repeat it.
pub fn base_address(url: &str) -> Result<String, &'static str> {
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
    use serde_json::{Value, json};

    use super::*;

    fn check(options: Value) -> Vec<String> {
        let options: ShadowOptions = match serde_json::from_value(options) {
            Ok(options) => options,
            Err(error) => return vec![error.to_string()],
        };
        let mut faults = Faults::default();
        faults.block("shadow", &options);
        faults.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_documented_block_is_read() {
        let block = json!({
            "enabled": true,
            "targets": [{
                "name": "staging", "url": "http://s.svc:7700", "api_key_env": "SHADOW_API_KEY",
                "sample_rate": 0.05, "operations": ["search", "multi_search", "explain"],
            }],
            "diff_buffer_size": 10000,
            "max_shadow_latency_ms": 5000,
        });
        assert_eq!(check(block.clone()), [] as [&str; 0]);
        let options: ShadowOptions = serde_json::from_value(block).unwrap();
        assert_eq!(options.targets[0].operations, searches());
        let least = json!({"targets": [{"name": "a", "url": "https://a/base/"}]});
        assert_eq!(check(least), [] as [&str; 0]);
        assert_eq!(base_address("https://a/base/"), Ok("https://a/base".to_owned()));
    }

    #[test]
    fn what_cannot_be_used_names_the_key_and_the_remedy() {
        let target = |key: &str, value: Value| {
            let mut target = json!({"name": "a", "url": "http://a"});
            target[key] = value;
            json!({"targets": [target]})
        };
        let two = json!({"targets": [{"name": "a", "url": "http://a"}, {"name": "a", "url": "http://b"}]});
        for (options, key, remedy) in [
            (json!({"enabled": true}), "`shadow.targets`: there are none", "at least one"),
            (json!({"diff_buffer_size": 0}), "`shadow.diff_buffer_size`: 0", "1 to 100000"),
            (json!({"max_in_flight": 0}), "`shadow.max_in_flight`: 0", "1 to 1000"),
            (json!({"max_shadow_latency_ms": 0}), "`shadow.max_shadow_latency_ms`", "at least"),
            (target("sample_rate", json!(2)), "`shadow.targets[0].sample_rate`: 2", "0 to 1"),
            (
                target("operations", json!([])),
                "`shadow.targets[0].operations`: is empty",
                "[search]",
            ),
            (target("api_key_env", json!("a b")), "`shadow.targets[0].api_key_env`", "variable"),
            (target("name", json!("a b")), "`shadow.targets[0].name`: is not", "letters"),
            (two, "`shadow.targets[1].name`: \"a\" is taken", "of its own"),
            (target("url", json!("a:7700")), "`shadow.targets[0].url`", "host:"),
            (
                target("url", json!("http://u:p@a")),
                "`shadow.targets[0].url`: holds credentials",
                "host:port",
            ),
        ] {
            let errors = check(options.clone());
            assert_eq!(errors.len(), 1, "{options}: {errors:?}");
            assert!(errors[0].contains(key) && errors[0].contains(remedy), "{options}: {errors:?}");
        }
    }

    #[test]
    fn no_configuration_repeats_writes() {
        for name in ["documents_write", "settings", "index"] {
            let target = json!({"name": "a", "url": "http://a", "operations": [name]});
            let errors = check(json!({"targets": [target]}));
            assert!(errors[0].contains(name) && errors[0].contains("multi_search"), "{errors:?}");
        }
    }
}
