//! Durations as configuration writes them: an integer in the unit the key ends with, or text such
//! as `"50ms"`, `"5s"` or `"1h 30m"`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $symbol:literal, $plural:literal, $nanos:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The same span as a [`Duration`]; saturates where the value cannot be represented.
            #[must_use]
            pub const fn get(self) -> Duration {
                const NANOS: u64 = $nanos;
                if NANOS >= 1_000_000_000 {
                    Duration::from_secs(self.0.saturating_mul(NANOS / 1_000_000_000))
                } else {
                    Duration::from_millis(self.0.saturating_mul(NANOS / 1_000_000))
                }
            }

            /// Whether the span is empty.
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            fn from_text(text: &str) -> Result<Self, String> {
                let text = text.trim();
                let digits = text.strip_suffix($symbol).unwrap_or(text);
                if let Ok(count) = digits.parse::<u64>() {
                    return Ok(Self(count));
                }
                let span = humantime::parse_duration(text).map_err(|_| {
                    format!(
                        "\"{text}\" is not a duration; write whole {} or a text such as \"5{}\"",
                        $plural, $symbol,
                    )
                })?;
                let nanos: u128 = $nanos;
                if span.as_nanos() % nanos != 0 {
                    return Err(format!("\"{text}\" is not a whole number of {}", $plural));
                }
                u64::try_from(span.as_nanos() / nanos)
                    .map(Self)
                    .map_err(|_| format!("\"{text}\" is too long"))
            }
        }

        impl From<$name> for Duration {
            fn from(value: $name) -> Duration {
                value.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{}", $symbol), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::from_text(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Unit;

                impl Visitor<'_> for Unit {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, concat!("whole ", $plural, " or a text such as \"5", $symbol, "\""))
                    }

                    fn visit_u64<E: de::Error>(self, count: u64) -> Result<$name, E> {
                        Ok($name(count))
                    }

                    fn visit_i64<E: de::Error>(self, count: i64) -> Result<$name, E> {
                        u64::try_from(count)
                            .map($name)
                            .map_err(|_| E::custom("a duration cannot be negative"))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::from_text(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_any(Unit)
            }
        }
    };
}

unit! {
    /// Whole milliseconds (keys ending in `_ms`).
    Millis, "ms", "milliseconds", 1_000_000
}
unit! {
    /// Whole seconds (keys ending in `_s` or `_seconds`).
    Seconds, "s", "seconds", 1_000_000_000
}
unit! {
    /// Whole hours (keys ending in `_hours`).
    Hours, "h", "hours", 3_600_000_000_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn yaml<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
        serde_yaml_ng::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn integers_are_in_the_unit_of_the_key() {
        assert_eq!(yaml::<Millis>("50").unwrap().get(), Duration::from_millis(50));
        assert_eq!(yaml::<Seconds>("5").unwrap().get(), Duration::from_secs(5));
        assert_eq!(yaml::<Hours>("48").unwrap().get(), Duration::from_hours(48));
    }

    #[test]
    fn texts_are_converted() {
        assert_eq!(yaml::<Millis>("50ms"), Ok(Millis(50)));
        assert_eq!(yaml::<Millis>("5s"), Ok(Millis(5_000)));
        assert_eq!(yaml::<Millis>("'250'"), Ok(Millis(250)));
        assert_eq!(yaml::<Seconds>("1m 30s"), Ok(Seconds(90)));
        assert_eq!(yaml::<Hours>("2days"), Ok(Hours(48)));
    }

    #[test]
    fn what_does_not_fit_the_unit_is_refused() {
        assert!(yaml::<Seconds>("500ms").unwrap_err().contains("whole number of seconds"));
        assert!(yaml::<Millis>("-5").unwrap_err().contains("negative"));
        assert!(yaml::<Millis>("5.5").unwrap_err().contains("whole milliseconds"));
        assert!(yaml::<Millis>("soon").unwrap_err().contains("not a duration"));
        assert!(yaml::<Millis>("true").is_err());
    }

    #[test]
    fn huge_values_saturate() {
        assert_eq!(Hours(u64::MAX).get(), Duration::from_secs(u64::MAX));
    }

    proptest! {
        #[test]
        fn display_reads_back(count in any::<u64>()) {
            prop_assert_eq!(Millis(count).to_string().parse(), Ok(Millis(count)));
            prop_assert_eq!(Seconds(count).to_string().parse(), Ok(Seconds(count)));
            prop_assert_eq!(Hours(count).to_string().parse(), Ok(Hours(count)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Millis>();
            let _ = text.parse::<Hours>();
        }
    }
}
