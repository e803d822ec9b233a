//! Secrets that never show themselves by accident.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;

/// What `Debug` and `Serialize` show in the place of a secret that is set.
pub const REDACTED: &str = "[redacted]";

/// A key or password. The empty secret means "not set".
///
/// `Debug` and `Serialize` show [`REDACTED`]; the text is only reachable through
/// [`Secret::expose`]. Comparison takes constant time for texts of one length.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Do not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text, or `None` when the secret is not set.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }

    /// Whether a text was given.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no text was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { REDACTED } else { "[not set]" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_set() { serializer.serialize_str(REDACTED) } else { serializer.serialize_none() }
    }
}

/// Serde's usual type errors quote the value they met, so every other type gets its own answer.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        fn refuse<E: de::Error>() -> Result<Secret, E> {
            Err(E::custom("a secret must be text; put it in quotes"))
        }

        impl<'de> Visitor<'de> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret as text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
                Ok(Secret(text))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Secret, E> {
                Ok(Secret::default())
            }

            fn visit_none<E: de::Error>(self) -> Result<Secret, E> {
                Ok(Secret::default())
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                refuse()
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                refuse()
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                refuse()
            }

            fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
                refuse()
            }

            fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
                refuse()
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                refuse()
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_serde_show_the_text() {
        let secret = Secret::new("correct-horse-battery");
        assert_eq!(format!("{secret:?}"), REDACTED);
        assert_eq!(serde_json::to_string(&secret).unwrap(), format!("\"{REDACTED}\""));
        assert_eq!(secret.expose(), "correct-horse-battery");
        assert_eq!(format!("{:?}", Secret::default()), "[not set]");
        assert_eq!(serde_json::to_string(&Secret::default()).unwrap(), "null");
        assert_eq!(Secret::default().get(), None);
    }

    #[test]
    fn a_refused_secret_is_not_quoted() {
        for text in
            ["123456789", "-123456789", "1234.56789", "true", "[123456789]", "{\"a\": 123456789}"]
        {
            let error = serde_json::from_str::<Secret>(text).unwrap_err().to_string();
            assert!(!error.contains("123456789") && !error.contains("1234.5"), "{error}");
        }
    }

    #[test]
    fn comparison_is_by_content() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("ab"));
    }
}
