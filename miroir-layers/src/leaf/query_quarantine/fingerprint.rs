//! What a question is known by, in every pod alike.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

/// The first half of a SHA-256: nobody can make a question that looks like another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(u128);

/// Feeds what a type hashes into SHA-256.
#[derive(Default)]
struct Feed(Sha256);

impl Hasher for Feed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_be_bytes(digest[..8].try_into().expect("eight bytes"))
    }
}

impl Fingerprint {
    pub(super) fn of(question: impl Hash) -> Self {
        let mut feed = Feed::default();
        question.hash(&mut feed);
        let digest = feed.0.finalize();
        Self(u128::from_be_bytes(digest[..16].try_into().expect("sixteen bytes")))
    }

    /// For other pods, in hexadecimal.
    pub(super) fn to_text(self) -> String {
        format!("{:032x}", self.0)
    }

    /// Reads what [`Fingerprint::to_text`] writes.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}
