//! What a client asked to see of a hit, where its node was asked for more.

use super::tree::{Members, Tree, object};

/// What a client sees of hits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Attributes of the document, without what is hidden; `None` for all that came.
    pub fields: Option<Vec<String>>,
    /// Attributes of `_formatted`, likewise.
    pub formatted: Option<Vec<String>>,
    /// Whether `_matchesPosition` is shown.
    pub positions: bool,
}

/// Members of a hit that are no attributes of the document.
const ADDED: &[&str] =
    &["_formatted", "_matchesPosition", "_rankingScore", "_rankingScoreDetails", "_geoDistance"];

/// Members that come only if a client asks for them in other ways.
const ASKED_OTHERWISE: &[&str] = &["_vectors"];

/// What a node shows a distance of: all of a place that a hit shows.
const PLACE: [&str; 3] = ["_geo", "_geo.lat", "_geo.lng"];

/// Whether a member of a hit is an attribute of its document.
pub(super) fn is_attribute(name: &str) -> bool {
    !ADDED.contains(&name)
}

fn selected(name: &str, raw: &str, names: Option<&[String]>) -> Option<String> {
    let Some(names) = names else { return Some(raw.to_owned()) };
    if names.iter().any(|own| own == name || own == "*") {
        return Some(raw.to_owned());
    }
    let raw: &serde_json::value::RawValue = serde_json::from_str(raw).ok()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let alone = Tree::Object(vec![(name.to_owned(), Tree::read(raw)?)]);
    let Tree::Object(mut kept) = alone.select(&names) else { return None };
    let (_, value) = kept.pop()?;
    let mut out = String::new();
    value.write(&mut out);
    Some(out)
}

impl Shown {
    /// One member of a hit as the client is to see it; `None` for one it did not ask for.
    pub(super) fn member(&self, name: &str, raw: &str) -> Option<String> {
        match name {
            "_matchesPosition" => self.positions.then(|| raw.to_owned()),
            "_formatted" => {
                if self.formatted.is_none() {
                    return Some(raw.to_owned());
                }
                let members: Members<'_> = serde_json::from_str(raw).ok()?;
                let names = self.formatted.as_deref();
                let kept = members
                    .iter()
                    .filter_map(|(name, raw)| Some((name, selected(name, raw.get(), names)?)));
                Some(object(kept))
            }
            "_geoDistance" => self.place().then(|| raw.to_owned()),
            _ if !is_attribute(name) || ASKED_OTHERWISE.contains(&name) => Some(raw.to_owned()),
            _ => selected(name, raw, self.fields.as_deref()),
        }
    }

    /// Whether the client sees where a document is. A node adds the distance to such hits only.
    fn place(&self) -> bool {
        let Some(names) = &self.fields else { return true };
        let named = |wanted: &str| names.iter().any(|name| name == "*" || name == wanted);
        let [whole, lat, lng] = PLACE;
        named(whole) || named(lat) && named(lng)
    }
}
