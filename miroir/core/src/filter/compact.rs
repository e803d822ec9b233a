//! The same filter with fewer conditions.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Comparison, Filter, Test, Text};

/// The value of a request's `filter`, where values of one attribute that are alternatives
/// (`a = 1 OR a = 2`), or are all excluded (`a != 1 AND a != 2`), are one list: a node needs memory with
/// the square of its conditions, and little for a list. `None` where it cannot be read or is no filter.
pub fn compact(filter: &Value) -> Option<Value> {
    let filter = Filter::from_json(&filter.to_string()).ok()??;
    Some(Value::String(compacted(filter).to_string()))
}

fn compacted(filter: Filter) -> Filter {
    match filter {
        Filter::Or(members) => lists(members, false),
        Filter::And(members) => lists(members, true),
        Filter::Not(inner) => Filter::Not(Box::new(compacted(*inner))),
        other => other,
    }
}

/// Members of a conjunction, or of a disjunction, with one list for each attribute. Their order means
/// nothing.
fn lists(members: Vec<Filter>, conjunction: bool) -> Filter {
    let mut values: BTreeMap<String, Vec<Text>> = BTreeMap::new();
    let mut out = Vec::new();
    let equality = if conjunction { Comparison::NotEqual } else { Comparison::Equal };
    for member in members {
        match member {
            Filter::Condition { attribute, negated: false, test: Test::Compare(how, value) }
                if how == equality =>
            {
                values.entry(attribute.0).or_default().push(value);
            }
            Filter::Condition { attribute, negated, test: Test::In(list) }
                if negated == conjunction =>
            {
                values.entry(attribute.0).or_default().extend(list);
            }
            other => out.push(compacted(other)),
        }
    }
    let list = |(attribute, list)| Filter::Condition {
        attribute: Text(attribute),
        negated: conjunction,
        test: Test::In(list),
    };
    out.extend(values.into_iter().map(list));
    match out.pop() {
        Some(only) if out.is_empty() => only,
        last => {
            out.extend(last);
            if conjunction { Filter::And(out) } else { Filter::Or(out) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_one_attribute_are_one_list() {
        for (filter, wanted) in [
            (json!([["a = 1", "a = '2'", "a IN [3]"]]), "a IN [1, '2', 3]"),
            (json!("a = 1 OR b > 2 OR a = 2"), "b > 2 OR a IN [1, 2]"),
            (json!(["a != 1", "a != 2", "a = 3"]), "a = 3 AND a NOT IN [1, 2]"),
            (json!("a = 1 AND a = 2"), "a = 1 AND a = 2"),
            (json!("a != 1 OR a != 2"), "a != 1 OR a != 2"),
            (json!("NOT (a = 1 OR a = 2) AND c EXISTS"), "NOT (a IN [1, 2]) AND c EXISTS"),
            (json!("(a = 1 OR a = 2) AND (b = 1 OR b = 2)"), "a IN [1, 2] AND b IN [1, 2]"),
            (json!("a = 1 OR \"a\" = 2"), "\"a\" IN [2] OR a IN [1]"),
        ] {
            assert_eq!(compact(&filter), Some(wanted.into()), "{filter}");
        }
        for filter in [json!("a ="), json!(5), json!(null), json!("")] {
            assert_eq!(compact(&filter), None, "{filter}");
        }
    }
}
