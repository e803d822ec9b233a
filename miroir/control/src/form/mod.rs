//! The form in which a node shows what clients sent: members in its own order, sets sorted and without
//! repetition, what was left out filled in. Clients compare such texts.

pub(crate) mod details;
pub(crate) mod settings;

use serde_json::{Map, Value};

/// The members of `object` in the order of `names`. Others come last, as they were.
fn in_order(object: &mut Map<String, Value>, names: &[&str]) {
    let mut ordered = Map::with_capacity(object.len());
    for name in names {
        if let Some(value) = object.shift_remove(*name) {
            ordered.insert((*name).to_owned(), value);
        }
    }
    ordered.append(object);
    *object = ordered;
}

/// As [`in_order`], of a value that may be something else.
fn members(value: &mut Value, names: &[&str]) {
    if let Value::Object(object) = value {
        in_order(object, names);
    }
}
