//! How a value is spelt.

/// The spellings of one value, and in how many documents of leaves that spell it so. Most values have
/// one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spellings(Vec<(String, u64)>);

impl Spellings {
    /// A leaf spells the value of `count` documents so.
    pub(crate) fn add(&mut self, spelling: &str, count: u64) {
        match self.0.iter_mut().find(|(known, _)| known == spelling) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.0.push((spelling.to_owned(), count)),
        }
    }

    /// The spelling of most documents, as far as leaves show it; of the first leaf among equals.
    pub(crate) fn shown(&self) -> &str {
        let most = self.0.iter().rev().max_by_key(|(_, count)| *count);
        most.map(|(spelling, _)| spelling.as_str()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spelling_of_most_documents_is_shown() {
        let mut spellings = Spellings::default();
        assert_eq!(spellings.shown(), "");
        for (spelling, count, shown) in [("A", 2, "A"), ("a", 2, "A"), ("á", 1, "A"), ("a", 1, "a")]
        {
            spellings.add(spelling, count);
            assert_eq!(spellings.shown(), shown);
        }
    }
}
