//! File, environment and command line, laid over each other and read as one [`Config`].

use std::path::Path;

use serde_yaml_ng::{Mapping, Value};

use super::error::ConfigErrors;
use super::read::deserialize;
use super::{Capabilities, Config, ConfigError, Flags, schema};

/// Prefix of variables that override a key.
const PREFIX: &str = "MIROIR__";

/// Variables of the secrets and the keys they set. They win over a `MIROIR__…` of the same key.
const SECRETS: [(&str, &str); 3] = [
    ("MIROIR_MASTER_KEY", "master_key"),
    ("MIROIR_NODE_MASTER_KEY", "node_master_key"),
    ("MIROIR_ADMIN_API_KEY", "admin.api_key"),
];

impl Config {
    /// Reads the file of `flags` (none: defaults), lays the process environment and `flags` over
    /// it, and validates the result.
    ///
    /// # Errors
    /// Every unknown key, unreadable value and broken rule.
    pub fn load(flags: &Flags) -> Result<Self, ConfigErrors> {
        Self::load_with(flags, &Capabilities::default())
    }

    /// As [`Config::load`], for a server with more capabilities.
    ///
    /// # Errors
    /// Every unknown key, unreadable value and broken rule.
    pub fn load_with(flags: &Flags, more: &Capabilities) -> Result<Self, ConfigErrors> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let file = flags.config.as_deref().map(read).transpose()?;
        let config = Self::from_sources_with(more, file.as_deref(), environment, flags)?;
        config.validate()?;
        Ok(config)
    }

    /// Reads `yaml` alone, without validating it.
    ///
    /// # Errors
    /// Every unknown key and unreadable value.
    pub fn from_yaml(yaml: &str) -> Result<Self, ConfigErrors> {
        Self::from_sources(Some(yaml), [], &Flags::default())
    }

    /// Lays `environment` and then `flags` over the text of a file, without validating the result.
    /// Touches neither the file system nor the process environment.
    ///
    /// # Errors
    /// Every unknown key and unreadable value.
    pub fn from_sources(
        yaml: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Self, ConfigErrors> {
        Self::from_sources_with(&Capabilities::default(), yaml, environment, flags)
    }

    /// As [`Config::from_sources`], for a server with more capabilities.
    ///
    /// # Errors
    /// Every unknown key and unreadable value.
    pub fn from_sources_with(
        more: &Capabilities,
        yaml: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Self, ConfigErrors> {
        let mut schema = schema::tree();
        if let Value::Mapping(known) = &mut schema {
            more.write(known)?;
        }
        let mut errors = Vec::new();
        let mut tree = yaml.map_or(Ok(empty()), |text| parse(text, &mut errors))?;
        schema::check(&mut tree, &schema, &mut errors);

        for layer in environment_overrides(environment).into_iter().map(Ok).chain(flags.overrides())
        {
            let applied = match layer {
                Ok((origin, path, text)) => schema::set(&mut tree, &schema, &origin, &path, &text),
                Err(flag) => {
                    Err(ConfigError::new([flag], "has no value", "write `--set key.path=value`"))
                }
            };
            errors.extend(applied.err());
        }

        let capabilities = match &mut tree {
            Value::Mapping(tree) => more.read(tree, &mut errors),
            _ => more.clone(),
        };
        let config = deserialize::<Self>(tree, "", &mut errors);
        match config {
            Some(config) if errors.is_empty() => Ok(Self { capabilities, ..config }),
            _ => Err(ConfigErrors(errors)),
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        ConfigError::new(
            [path.display().to_string()],
            format!("the configuration file cannot be read: {error}"),
            "check --config and MIROIR_CONFIG",
        )
    })
}

fn empty() -> Value {
    Value::Mapping(Mapping::new())
}

/// The tree below `miroir:`.
fn parse(yaml: &str, errors: &mut Vec<ConfigError>) -> Result<Value, ConfigError> {
    let broken = |error: serde_yaml_ng::Error| {
        ConfigError::new([] as [&str; 0], format!("the file is not valid YAML: {error}"), "")
    };
    let mut file: Value = serde_yaml_ng::from_str(yaml).map_err(broken)?;
    file.apply_merge().map_err(broken)?;
    let file = match file {
        Value::Null => return Ok(empty()),
        Value::Mapping(file) => file,
        _ => {
            return Err(ConfigError::new(
                ["miroir"],
                "the file is not a block of keys",
                "put everything under a top-level `miroir:`",
            ));
        }
    };
    let mut tree = empty();
    for (key, value) in file {
        match key.as_str() {
            Some("miroir") if value.is_null() => {}
            Some("miroir") => tree = value,
            name => errors.push(ConfigError::new(
                [name.unwrap_or("(not a word)")],
                "unknown top-level key",
                "everything belongs under a top-level `miroir:`",
            )),
        }
    }
    Ok(tree)
}

/// (variable, path, value), sorted by variable so that the outcome does not depend on the order of
/// the environment; the named secrets last. Empty secrets count as absent.
fn environment_overrides(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Vec<(String, String, String)> {
    let mut keys = Vec::new();
    let mut secrets = Vec::new();
    for (name, value) in environment {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            let path = rest.to_lowercase().replace("__", ".");
            keys.push((name, path, value));
        } else if let Some((_, path)) = SECRETS.iter().find(|(variable, _)| *variable == name)
            && !value.is_empty()
        {
            secrets.push((name, (*path).to_owned(), value));
        }
    }
    keys.sort();
    secrets.sort();
    keys.append(&mut secrets);
    keys
}
