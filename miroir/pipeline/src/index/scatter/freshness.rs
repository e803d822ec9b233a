//! The settings version that a read is answered under: `X-Miroir-Min-Settings-Version` does without
//! nodes whose settings are too old, `X-Miroir-Settings-Version` and
//! `X-Miroir-Settings-Inconsistent` tell the client.

use miroir_api::header::{MIN_SETTINGS_VERSION, SETTINGS_INCONSISTENT, SETTINGS_VERSION};

use super::{Scatter, cover};
use crate::codec::Headers;
use crate::error::Error;
use crate::extension::{AnswerKey, Extension};
use crate::index::Request;

/// Oldest settings version that the client accepts answers under; in the context
/// of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinSettingsVersion(pub u64);

impl Extension for MinSettingsVersion {
    fn answer_key(&self) -> AnswerKey {
        AnswerKey::Part(format!("{MIN_SETTINGS_VERSION}:{}", self.0).into_bytes())
    }
}

/// Settings version of the one index that an answer is about; in its `Meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsVersion(pub u64);

impl Extension for SettingsVersion {}

/// Set while a settings broadcast was in flight, so that nodes may have answered under different
/// settings; in its `Meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsInFlight;

impl Extension for SettingsInFlight {
    fn holds_for_whole(&self) -> bool {
        true
    }
}

/// The headers of the three.
pub(super) fn headers() -> Headers {
    Headers::new()
        .integer(MIN_SETTINGS_VERSION, 0..=u64::MAX, |floor, cx| {
            cx.insert(MinSettingsVersion(floor));
        })
        .value::<SettingsVersion>(SETTINGS_VERSION, |version| version.0.into())
        .mark::<SettingsInFlight>(SETTINGS_INCONSISTENT)
}

/// The request, told to avoid every node that is not known to have the settings version its client
/// asks for.
///
/// # Errors
/// `miroir_settings_version_stale` if what is left does not hold every shard, though all nodes
/// together do.
pub(super) async fn apply(scatter: &Scatter, mut request: Request) -> Result<Request, Error> {
    let state = &scatter.state;
    // Every index begins at 0.
    let floor = match request.cx.get() {
        None | Some(MinSettingsVersion(0)) => return Ok(request),
        Some(MinSettingsVersion(floor)) => *floor,
    };
    let known = state.stores.settings_versions.list(&request.index.physical).await?;
    let fresh = |node: &miroir_api::NodeId| {
        known.iter().any(|(known, version)| known == node && *version >= floor)
    };
    let below = request.topology.nodes().map(|node| &node.id).filter(|node| !fresh(node));
    let below: Vec<_> = below.cloned().collect();
    if below.is_empty() {
        return Ok(request);
    }
    let before = cover::missing(scatter, &request);
    request.hints.avoid.extend(below);
    if cover::missing(scatter, &request) != before {
        return Err(Error::api(
            "miroir_settings_version_stale",
            format!(
                "No set of nodes that holds every shard of index `{}` has settings version {floor} \
                 (`X-Miroir-Min-Settings-Version`); the committed one is {}. Retry later, or ask \
                 for an older one.",
                request.index.name, request.index.settings_version
            ),
        ));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Meta;

    #[test]
    fn a_whole_says_that_settings_were_on_their_way_and_has_no_version_of_its_own() {
        let (mut whole, mut part) = (Meta::default(), Meta { nodes: 2, ..Meta::default() });
        part.insert(SettingsVersion(7));
        whole.join(&part);
        assert!(whole.nodes == 2 && !whole.has::<SettingsVersion>());
        whole.join(&Meta::default().mark(true, SettingsInFlight));
        assert!(whole.nodes == 2 && whole.has::<SettingsInFlight>());
    }
}
