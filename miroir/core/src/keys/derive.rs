//! From the master key and a uid to a key.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// The secret that all keys are derived from. Shows in no debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey(Box<[u8]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// Wraps the secret; an empty one counts as none.
    pub fn new(secret: impl AsRef<[u8]>) -> Option<Self> {
        let secret = secret.as_ref();
        (!secret.is_empty()).then(|| Self(secret.into()))
    }

    /// The bytes of the secret. They belong into no log and no answer.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The key of a uid: lowercase hexadecimal HMAC-SHA256 of the uid as hyphenated text.
    pub fn derive(&self, uid: Uuid) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length is a key");
        mac.update(uid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac`, and shown by Meilisearch 1.50.0 for the same pair.
    #[test]
    fn the_same_pair_gives_the_same_key_everywhere() {
        let uid = Uuid::parse_str("6062abda-a5aa-4414-ac91-ecd7944c0f8d").unwrap();
        assert_eq!(
            MasterKey::new("reference-key-0123456789").unwrap().derive(uid),
            "6768de643659fc0e910aafb50951c50dcb8d67df623f3ba19f47a2a8bf6f5ad4"
        );
        assert!(MasterKey::new("").is_none());
        let text = format!("{:?}", MasterKey::new("hidden-secret"));
        assert!(!text.contains("hidden"), "{text}");
    }
}
