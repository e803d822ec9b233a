//! A switch that decides for itself where it is left to.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `auto`, `true` or `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoBool {
    /// `auto`: on where something else that is configured needs it.
    #[default]
    Auto,
    /// `true`.
    On,
    /// `false`.
    Off,
}

impl Serialize for AutoBool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::On => serializer.serialize_bool(true),
            Self::Off => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for AutoBool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl Visitor<'_> for Word {
            type Value = AutoBool;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, `true` or `false`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<AutoBool, E> {
                Ok(if on { AutoBool::On } else { AutoBool::Off })
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<AutoBool, E> {
                match word {
                    "auto" => Ok(AutoBool::Auto),
                    "true" => Ok(AutoBool::On),
                    "false" => Ok(AutoBool::Off),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(Word)
    }
}
