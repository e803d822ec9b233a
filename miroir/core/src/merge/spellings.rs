//! How a value is spelt: as leaves show it, or as the document does that came first.

/// The spellings of one value, and in how many documents of leaves that spell it so. Most values have
/// one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spellings {
    shown: Vec<(String, u64)>,
    /// The spelling of the document that came first, where that was found out.
    first: Option<String>,
}

impl Spellings {
    /// A leaf spells the value of `count` documents so.
    pub(crate) fn add(&mut self, spelling: &str, count: u64) {
        match self.shown.iter_mut().find(|(known, _)| known == spelling) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.shown.push((spelling.to_owned(), count)),
        }
    }

    /// The spelling of the document that came first, if it is known. Otherwise that of most documents,
    /// as far as leaves show it; of the first leaf among equals.
    pub(crate) fn shown(&self) -> &str {
        let most = || self.shown.iter().rev().max_by_key(|(_, count)| *count);
        self.first.as_deref().or_else(|| Some(&most()?.0)).unwrap_or_default()
    }

    /// Whether leaves spell the value differently, and nobody knows which document came first.
    pub(crate) fn disputed(&self) -> bool {
        self.shown.len() > 1 && self.first.is_none()
    }

    /// The document that came first spells it so.
    pub(crate) fn decide(&mut self, spelling: &str) {
        self.first = Some(spelling.to_owned());
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
