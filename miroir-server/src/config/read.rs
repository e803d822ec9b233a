//! From a tree of keys to options, with every value that cannot be read.

use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;

use miroir::options::ConfigError;

/// Reads the tree of the block at `at`, empty for the whole; after an unreadable value goes on
/// without it, to report the others too.
pub(super) fn deserialize<T: DeserializeOwned>(
    mut tree: Value,
    at: &str,
    errors: &mut Vec<ConfigError>,
) -> Option<T> {
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(tree.clone()) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let path = error.path().to_string();
        // serde_yaml_ng repeats the path it knows in front of the message.
        let message = error.inner().to_string();
        let message = message.strip_prefix(&format!("{path}: ")).unwrap_or(&message).to_owned();
        let key = match (at, path.as_str()) {
            ("", ".") => "miroir".to_owned(),
            ("", path) => path.to_owned(),
            (at, ".") => at.to_owned(),
            (at, path) => format!("{at}.{path}"),
        };
        errors.push(ConfigError::new([key], message, ""));
        if !forget(&mut tree, error.path()) {
            return None;
        }
    }
}

/// Removes the value at `path`; `false` when that is not possible.
fn forget(tree: &mut Value, path: &serde_path_to_error::Path) -> bool {
    use serde_path_to_error::Segment;

    let segments: Vec<_> = path.iter().collect();
    let Some((last, parents)) = segments.split_last() else { return false };
    let mut at = tree;
    for segment in parents {
        let inner = match segment {
            Segment::Map { key } => at.get_mut(key.as_str()),
            Segment::Seq { index } => at.get_mut(*index),
            _ => None,
        };
        let Some(inner) = inner else { return false };
        at = inner;
    }
    match (last, at) {
        (Segment::Map { key }, Value::Mapping(map)) => map.remove(key.as_str()).is_some(),
        // Without the whole element the positions of the next would be wrong.
        _ => false,
    }
}
