//! A JSON object whose values stay as they were written.

use bytes::Bytes;
use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// A JSON object: keys in order, values raw.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RawObject(IndexMap<String, Box<RawValue>>);

impl RawObject {
    /// Reads an object. `None` for anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().map(Self)
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A value's text.
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| value.get())
    }

    /// Whether the key is there and not `null`.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some_and(|text| text != "null")
    }

    /// Reads a value. Absent and `null` are `Ok(None)`.
    ///
    /// # Errors
    /// If the value is of another type; a node knows the words for it.
    #[allow(clippy::result_unit_err, reason = "a node says what is wrong, in its own words")]
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ()> {
        match self.raw(key) {
            None | Some("null") => Ok(None),
            Some(text) => serde_json::from_str(text).map(Some).map_err(|_| ()),
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &str) -> Option<Box<RawValue>> {
        self.0.shift_remove(key)
    }

    /// Sets a value.
    pub fn set(&mut self, key: &str, value: &impl serde::Serialize) {
        if let Ok(raw) = serde_json::value::to_raw_value(value) {
            self.0.insert(key.to_owned(), raw);
        }
    }

    /// Sets a value that is already JSON.
    pub fn set_raw(&mut self, key: &str, value: Box<RawValue>) {
        self.0.insert(key.to_owned(), value);
    }

    /// ANDs a filter with the object's own `filter`.
    pub fn and_filter(&mut self, rules: &RawValue) {
        let own = self.remove("filter").filter(|own| own.get() != "null");
        // The rules alone, should the two not be joined: never neither.
        self.set_raw("filter", conjunction(own, rules).unwrap_or_else(|| rules.to_owned()));
    }

    /// The object as bytes.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(&self.0).unwrap_or_default())
    }
}

/// The members of a filter whose outer array is a conjunction.
fn members(filter: &RawValue) -> Vec<Box<RawValue>> {
    serde_json::from_str(filter.get()).unwrap_or_else(|_| vec![filter.to_owned()])
}

/// Two filters as one. `None` only if that cannot be written as JSON, which does not happen.
pub(super) fn conjunction(own: Option<Box<RawValue>>, rules: &RawValue) -> Option<Box<RawValue>> {
    let Some(own) = own else { return Some(rules.to_owned()) };
    let mut both = members(&own);
    both.extend(members(rules));
    serde_json::value::to_raw_value(&both).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_joined_whatever_their_form() {
        for (own, rules, joined) in [
            ("{}", "\"a = 1\"", "\"a = 1\""),
            ("{\"filter\":null}", "[\"a = 1\"]", "[\"a = 1\"]"),
            ("{\"filter\":\"b = 2\"}", "\"a = 1\"", "[\"b = 2\",\"a = 1\"]"),
            (
                "{\"filter\":[[\"b = 2\",\"c = 3\"],\"d = 4\"]}",
                "[[\"a = 1\",\"e = 5\"]]",
                "[[\"b = 2\",\"c = 3\"],\"d = 4\",[\"a = 1\",\"e = 5\"]]",
            ),
            ("{\"filter\":[]}", "\"a = 1\"", "[\"a = 1\"]"),
            // What is no filter stays one, so that a node can say so.
            ("{\"filter\":\"b OR c\"}", "5", "[\"b OR c\",5]"),
        ] {
            let mut object = RawObject::parse(own.as_bytes()).unwrap();
            object.and_filter(&RawValue::from_string(rules.to_owned()).unwrap());
            assert_eq!(object.raw("filter"), Some(joined));
        }
    }
}
