//! The shape of a query: what of it the engine's costs count.

/// How words of a query hang together. Costs count terms, where a phrase is one term; the words rule
/// counts words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryShape {
    /// How many words more than terms there are, because of phrases.
    phrased: u32,
    /// For each term, how many terms up to it do not directly follow the one before.
    gaps: Vec<u32>,
}

impl QueryShape {
    /// Reads a query, roughly as the tokenizer does: where it is wrong, costs are recovered by
    /// trying, as they are for every query it says nothing of.
    #[must_use]
    pub fn of(text: &str, stop_words: &[String]) -> Self {
        if text.is_ascii() && stop_words.is_empty() && !text.bytes().any(is_sign) {
            return Self::default();
        }
        let mut shape = Self::default();
        let mut place = 0_u32;
        let mut last: Option<u32> = None;
        let mut gaps = 0;
        let mut term = |from: u32, to: u32, gap_list: &mut Vec<u32>| {
            gaps += u32::from(last.is_some_and(|last| last + 1 != from));
            last = Some(to);
            gap_list.push(gaps);
        };
        let stop = |word: &str| {
            let word = super::normalize::facet(word);
            stop_words.iter().any(|stop| super::normalize::facet(stop) == word)
        };
        for (at, part) in text.split('"').enumerate() {
            let quoted = at % 2 == 1;
            let before = text.split('"').nth(at.wrapping_sub(1)).unwrap_or_default();
            let negated = quoted && before.ends_with('-');
            let (start, mut words) = (place, 0);
            for word in part.split_whitespace() {
                let negative = !quoted && word.starts_with('-');
                for token in word.split(|c: char| !c.is_alphanumeric()).filter(|t| !t.is_empty()) {
                    if quoted {
                        words += u32::from(!stop(token));
                    } else if !negative && !stop(token) {
                        term(place, place, &mut shape.gaps);
                    }
                    place += 1;
                }
                // A pause counts as several words.
                if word.ends_with(['.', ',', ';', '!', '?']) {
                    place += 7;
                }
            }
            if words > 0 && !negated {
                shape.phrased += words - 1;
                term(start, place - 1, &mut shape.gaps);
            }
        }
        shape
    }

    /// How many terms hits have that match this many words.
    pub(crate) fn terms(&self, words: u32) -> u32 {
        words.saturating_sub(self.phrased).max(1)
    }

    /// How many of the first terms do not directly follow the one before.
    pub(crate) fn gaps(&self, terms: u32) -> u32 {
        let at = (terms as usize).min(self.gaps.len());
        at.checked_sub(1).and_then(|at| self.gaps.get(at)).copied().unwrap_or_default()
    }
}

fn is_sign(byte: u8) -> bool {
    matches!(byte, b'"' | b'-' | b'.' | b',' | b';' | b'!' | b'?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_count_as_one_term() {
        let shape = QueryShape::of("\"quick brown fox\" jumps", &[]);
        assert_eq!(shape.terms(4), 2);
        assert_eq!(shape.gaps(2), 0);
        assert_eq!(QueryShape::of("quick brown", &[]), QueryShape::default());
        assert_eq!(QueryShape::of("-\"quick brown\" fox", &[]).terms(1), 1);
    }

    #[test]
    fn what_stands_between_two_terms_parts_them() {
        let stop = ["the".to_owned()];
        let shape = QueryShape::of("over the lazy -cat dog", &stop);
        assert_eq!((shape.gaps(1), shape.gaps(2), shape.gaps(3)), (0, 1, 2));
        assert_eq!(QueryShape::of("dark. knight", &[]).gaps(2), 1);
        assert_eq!(QueryShape::of("love-story", &[]).gaps(2), 0);
    }
}
