//! How much a question asks of a node, and whether two questions are the same.

use std::hash::{Hash, Hasher};

use miroir_core::filter;

use super::{Question, Scoped};

/// Conditions of a filter from which on a question is heavy. A node of 1.50 takes 240 MB for 2,000 of
/// them, and what it takes grows with their square.
const HEAVY: usize = 1_000;
/// Bytes from which on it is, whatever its conditions: an `IN` of 10,000 numbers takes a node a second
/// and a half, one of 20,000 seven.
const LONG: usize = 64_000;

impl Question {
    /// Whether the question may cost a node so much that it is asked of one node first, of the others
    /// once that has answered, and of no replica in the stead of another: some filter
    /// of it has more than 64,000 bytes, or more than 1,000 conditions, the literals of an `IN` apart.
    /// Reads the filter: for questions that have already taken long.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        match self {
            Self::Scoped(one) => one.is_heavy(),
            Self::Many(many) => many.queries.iter().any(Scoped::is_heavy),
            Self::Plain(_) => false,
        }
    }
}

impl Scoped {
    fn is_heavy(&self) -> bool {
        // `a=1 OR `: shorter ones cannot have as many.
        self.filter.as_deref().filter(|filter| filter.len() > HEAVY * 4).is_some_and(|filter| {
            filter.len() > LONG
                || serde_json::from_slice(filter)
                    .is_ok_and(|filter| filter::size(&filter).0 > HEAVY)
        })
    }
}

/// What a node is asked to do: not its name in metrics.
impl Hash for Scoped {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.path, &self.body, &self.filter, self.sort_values).hash(state);
    }
}

impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Scoped(one) => one.hash(state),
            Self::Many(many) => (&many.queries, &many.federation).hash(state),
            Self::Plain(call) => (&call.method, &call.path, &call.body).hash(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::leaf::ScopedMany;

    fn scoped(filter: Option<String>) -> Scoped {
        Scoped {
            path: "/search",
            body: Bytes::from_static(b"{}"),
            filter: filter.map(|filter| serde_json::to_vec(&filter).unwrap().into()),
            operation: "search",
            sort_values: false,
        }
    }

    fn conditions(count: usize) -> String {
        vec!["a = 1"; count].join(" OR ")
    }

    #[test]
    fn many_conditions_are_heavy_and_many_values_are_not() {
        let ids: Vec<String> = (0..900).map(|n| format!("'{n:036}'")).collect();
        for (filter, heavy) in [
            (None, false),
            (Some(conditions(1_000)), false),
            (Some(conditions(1_001)), true),
            (Some(format!("id IN [{}]", ids.join(","))), false),
            (Some(format!("id IN [{}1]", "1,".repeat(40_000))), true),
        ] {
            let one = scoped(filter);
            let many = ScopedMany {
                queries: vec![scoped(None), one.clone()],
                federation: None,
                operation: "search",
            };
            assert_eq!(Question::Scoped(Arc::new(one)).is_heavy(), heavy);
            assert_eq!(Question::Many(Arc::new(many)).is_heavy(), heavy);
        }
    }

    #[test]
    fn the_same_words_are_the_same_question() {
        let state = std::hash::RandomState::new();
        let of = |one: Scoped| state.hash_one(Question::Scoped(Arc::new(one)));
        let plain = of(scoped(None));
        assert_eq!(of(Scoped { operation: "other", ..scoped(None) }), plain);
        assert_ne!(of(scoped(Some(conditions(1)))), plain);
        assert_ne!(of(Scoped { path: "/similar", ..scoped(None) }), plain);
    }
}
