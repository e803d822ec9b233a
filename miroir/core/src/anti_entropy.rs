//! Anti-entropy: which replica of a document is right, where replicas differ that should not.
//!
//! Replicas that got the same writes are equal, so what differs was lost, or changed, by none of them:
//! a bad disk, a fault of a node. Nothing says when that was, and the copies themselves have to decide:
//!
//! 1. What more than half of all replicas have is right; that a document is absent counts as well.
//! 2. Otherwise a document that all replicas which have it agree on is right, and others lost it: what
//!    came back can be deleted again, what is lost cannot.
//! 3. Otherwise nobody can tell, and everything is left as it is.

use std::collections::BTreeMap;

use miroir_api::NodeId;

use crate::copying::Content;

/// What each replica has under one id; `None` for nothing.
pub type Copies = BTreeMap<NodeId, Option<Content>>;

/// Which replicas are right about a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of them.
    Agree,
    /// Some of them.
    Differ {
        /// Those that have what is right, in the order of their ids.
        right: Vec<NodeId>,
        /// The others.
        wrong: Vec<NodeId>,
    },
    /// Nobody can tell.
    Ambiguous,
}

/// Judges the copies of a document.
pub fn judge(copies: &Copies) -> Verdict {
    let mut counts: BTreeMap<Option<Content>, usize> = BTreeMap::new();
    for content in copies.values() {
        *counts.entry(*content).or_default() += 1;
    }
    if counts.len() < 2 {
        return Verdict::Agree;
    }
    let majority = counts.iter().find(|(_, count)| **count * 2 > copies.len());
    let right = match majority {
        Some((content, _)) => *content,
        None => {
            let mut present = counts.keys().filter(|content| content.is_some());
            match (present.next(), present.next()) {
                (Some(only), None) => *only,
                _ => return Verdict::Ambiguous,
            }
        }
    };
    let has = |(_, content): &(&NodeId, &Option<Content>)| **content == right;
    let (right, wrong): (Vec<_>, Vec<_>) = copies.iter().partition(has);
    let ids = |nodes: Vec<(&NodeId, _)>| nodes.into_iter().map(|(id, _)| id.clone()).collect();
    Verdict::Differ { right: ids(right), wrong: ids(wrong) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copies(contents: &[Option<u64>]) -> Copies {
        let node = |at: usize| NodeId::new(&format!("n{at}")).unwrap();
        contents.iter().enumerate().map(|(at, content)| (node(at), *content)).collect()
    }

    fn wrong(contents: &[Option<u64>]) -> Option<Vec<usize>> {
        let place = |node: &NodeId| node.as_str()[1..].parse().unwrap();
        match judge(&copies(contents)) {
            Verdict::Agree => Some(Vec::new()),
            Verdict::Differ { wrong, .. } => Some(wrong.iter().map(place).collect()),
            Verdict::Ambiguous => None,
        }
    }

    #[test]
    fn the_majority_is_right_then_who_has_the_document() {
        let cases: [(&[Option<u64>], Option<&[usize]>); 11] = [
            (&[], Some(&[])),
            (&[Some(1)], Some(&[])),
            (&[Some(1), Some(1)], Some(&[])),
            (&[None, None], Some(&[])),
            // A document that one of two lost.
            (&[Some(1), None], Some(&[1])),
            // One that changed on one of two: nobody knows on which.
            (&[Some(1), Some(2)], None),
            (&[Some(1), Some(2), Some(1)], Some(&[1])),
            // One that came to one of three from nowhere.
            (&[None, Some(2), None], Some(&[1])),
            (&[Some(1), Some(2), None], None),
            (&[Some(1), Some(1), None, None], Some(&[2, 3])),
            (&[Some(1), Some(1), Some(2), Some(2)], None),
        ];
        for (contents, expected) in cases {
            assert_eq!(wrong(contents).as_deref(), expected, "{contents:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_anybody_has_is_lost_but_by_a_majority(
            contents in prop::collection::vec(prop::option::of(0_u64..3), 0..7),
        ) {
            let copies = copies(&contents);
            match judge(&copies) {
                Verdict::Agree => prop_assert!(contents.windows(2).all(|two| two[0] == two[1])),
                Verdict::Ambiguous => prop_assert!(contents.iter().flatten().count() > 1),
                Verdict::Differ { right, wrong } => {
                    prop_assert_eq!(right.len() + wrong.len(), contents.len());
                    prop_assert!(!right.is_empty() && !wrong.is_empty());
                    let content = copies[&right[0]];
                    prop_assert!(right.iter().all(|node| copies[node] == content));
                    prop_assert!(wrong.iter().all(|node| copies[node] != content));
                    let overwrites = wrong.iter().any(|node| copies[node].is_some());
                    prop_assert!(!overwrites || right.len() * 2 > contents.len());
                }
            }
        }
    }
}
