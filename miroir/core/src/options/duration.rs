//! Durations as a configuration writes them: an integer in the unit that the key ends with, or text
//! such as `"50ms"`, `"5s"` or `"1h 30m"`.
//!
//! The modules are for serde: `#[serde(rename = "interval_ms", with = "milliseconds")]`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// What the number of a key counts.
struct Unit {
    symbol: &'static str,
    plural: &'static str,
    nanos: u128,
}

impl Unit {
    /// The longest possible time where there is none that long.
    fn span(&self, count: u64) -> Duration {
        let nanos = u128::from(count) * self.nanos;
        match u64::try_from(nanos / NANOS_PER_SECOND) {
            Ok(seconds) => Duration::new(seconds, (nanos % NANOS_PER_SECOND) as u32),
            Err(_) => Duration::from_secs(u64::MAX),
        }
    }

    /// Whole units, rounded down.
    fn count(&self, span: Duration) -> u64 {
        u64::try_from(span.as_nanos() / self.nanos).unwrap_or(u64::MAX)
    }

    fn parse(&self, text: &str) -> Result<Duration, String> {
        let Self { symbol, plural, nanos } = self;
        let text = text.trim();
        let digits = text.strip_suffix(symbol).unwrap_or(text);
        if let Ok(count) = digits.parse() {
            return Ok(self.span(count));
        }
        let span = humantime::parse_duration(text).map_err(|_| {
            format!(
                "\"{text}\" is not a duration; write whole {plural} or a text such as \"5{symbol}\""
            )
        })?;
        if span.as_nanos() % nanos != 0 {
            return Err(format!("\"{text}\" is not a whole number of {plural}"));
        }
        u64::try_from(span.as_nanos() / nanos)
            .map(|count| self.span(count))
            .map_err(|_| format!("\"{text}\" is too long"))
    }

    fn read<'de, D: Deserializer<'de>>(&self, deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Count(self))
    }
}

struct Count<'a>(&'a Unit);

impl Visitor<'_> for Count<'_> {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whole {} or a text such as \"5{}\"", self.0.plural, self.0.symbol)
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Duration, E> {
        Ok(self.0.span(count))
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Duration, E> {
        u64::try_from(count)
            .map(|count| self.0.span(count))
            .map_err(|_| E::custom("a duration cannot be negative"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        self.0.parse(text).map_err(E::custom)
    }
}

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $symbol:literal, $nanos:literal) => {
        $(#[$doc])*
        pub mod $name {
            use std::time::Duration;

            use serde::{Deserializer, Serializer};

            use super::Unit;

            const UNIT: Unit =
                Unit { symbol: $symbol, plural: stringify!($name), nanos: $nanos };

            /// Writes whole units, rounded down.
            ///
            /// # Errors
            /// The serializer's.
            pub fn serialize<S: Serializer>(
                span: &Duration,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(UNIT.count(*span))
            }

            /// Reads a number of units, or a text.
            ///
            /// # Errors
            /// What is neither, is negative, or is a text of a time between two whole units.
            pub fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Duration, D::Error> {
                UNIT.read(deserializer)
            }

            /// The same for a time that may be left out.
            pub mod option {
                use std::time::Duration;

                use serde::{Deserialize, Deserializer, Serializer};

                #[derive(Deserialize)]
                struct Span(#[serde(with = "super")] Duration);

                /// Writes whole units, rounded down, or nothing.
                ///
                /// # Errors
                /// The serializer's.
                pub fn serialize<S: Serializer>(
                    span: &Option<Duration>,
                    serializer: S,
                ) -> Result<S::Ok, S::Error> {
                    match span {
                        Some(span) => super::serialize(span, serializer),
                        None => serializer.serialize_none(),
                    }
                }

                /// Reads a number of units, or a text, or nothing.
                ///
                /// # Errors
                /// As for a time that is not left out.
                pub fn deserialize<'de, D: Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<Option<Duration>, D::Error> {
                    Ok(Option::<Span>::deserialize(deserializer)?.map(|Span(span)| span))
                }
            }

            /// The number of whole units with its symbol, for messages.
            #[must_use]
            pub fn show(span: Duration) -> String {
                format!("{}{}", UNIT.count(span), UNIT.symbol)
            }
        }
    };
}

unit! {
    /// Whole milliseconds: keys ending in `_ms`.
    milliseconds, "ms", 1_000_000
}
unit! {
    /// Whole seconds: keys ending in `_s` or `_seconds`.
    seconds, "s", 1_000_000_000
}
unit! {
    /// Whole hours: keys ending in `_hours`.
    hours, "h", 3_600_000_000_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Ms(#[serde(with = "milliseconds")] Duration);

    #[derive(Debug, Serialize, Deserialize)]
    struct S(#[serde(with = "seconds")] Duration);

    #[derive(Debug, Serialize, Deserialize)]
    struct H(#[serde(with = "hours")] Duration);

    fn ms(json: &str) -> Result<Duration, String> {
        serde_json::from_str::<Ms>(json).map(|it| it.0).map_err(|error| error.to_string())
    }

    fn s(json: &str) -> Result<Duration, String> {
        serde_json::from_str::<S>(json).map(|it| it.0).map_err(|error| error.to_string())
    }

    fn h(json: &str) -> Result<Duration, String> {
        serde_json::from_str::<H>(json).map(|it| it.0).map_err(|error| error.to_string())
    }

    #[test]
    fn integers_are_in_the_unit_of_the_key() {
        assert_eq!(ms("50"), Ok(Duration::from_millis(50)));
        assert_eq!(s("5"), Ok(Duration::from_secs(5)));
        assert_eq!(h("48"), Ok(Duration::from_hours(48)));
    }

    #[test]
    fn texts_are_converted() {
        assert_eq!(ms("\"50ms\""), Ok(Duration::from_millis(50)));
        assert_eq!(ms("\"5s\""), Ok(Duration::from_secs(5)));
        assert_eq!(ms("\"250\""), Ok(Duration::from_millis(250)));
        assert_eq!(s("\"1m 30s\""), Ok(Duration::from_secs(90)));
        assert_eq!(h("\"2days\""), Ok(Duration::from_hours(48)));
    }

    #[test]
    fn what_does_not_fit_the_unit_is_refused() {
        assert!(s("\"500ms\"").unwrap_err().contains("whole number of seconds"));
        assert!(ms("-5").unwrap_err().contains("negative"));
        assert!(ms("5.5").unwrap_err().contains("whole milliseconds"));
        assert!(ms("\"soon\"").unwrap_err().contains("not a duration"));
        assert!(ms("true").is_err());
    }

    #[test]
    fn huge_values_saturate() {
        assert_eq!(h(&u64::MAX.to_string()), Ok(Duration::from_secs(u64::MAX)));
        assert_eq!(milliseconds::show(Duration::MAX), format!("{}ms", u64::MAX));
    }

    proptest! {
        #[test]
        fn what_is_written_or_shown_reads_back(count in any::<u64>()) {
            let number = count.to_string();
            prop_assert_eq!(serde_json::to_string(&Ms(ms(&number).unwrap())).unwrap(), number.clone());
            prop_assert_eq!(serde_json::to_string(&S(s(&number).unwrap())).unwrap(), number);
            let (short, long) = (Duration::from_millis(count), Duration::from_secs(count));
            prop_assert_eq!(ms(&format!("{:?}", milliseconds::show(short))), Ok(short));
            prop_assert_eq!(s(&format!("{:?}", seconds::show(long))), Ok(long));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let text = serde_json::to_string(&text).unwrap();
            let _ = (ms(&text), h(&text));
        }
    }
}
