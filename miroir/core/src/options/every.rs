//! A schedule as a configuration writes it: `"every 6h"`, `"every 90s"`, `"every 1h 30m"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// Writes the schedule as it is read.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("every {}", humantime::format_duration(*span)))
}

/// Reads a schedule; the word `every` may be left out.
///
/// # Errors
/// What is no text of a time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let span = text.trim().strip_prefix("every ").unwrap_or(&text).trim();
    humantime::parse_duration(span).map_err(|_| {
        de::Error::custom(format!("\"{text}\" is no schedule; write a text such as \"every 6h\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Serialize, Deserialize)]
    struct S(#[serde(with = "super")] Duration);

    #[test]
    fn a_schedule_is_read_as_it_is_written() {
        let read = |json: &str| serde_json::from_str::<S>(json).map(|s| s.0);
        assert_eq!(read(r#""every 6h""#).unwrap(), Duration::from_hours(6));
        assert_eq!(read(r#""90s""#).unwrap(), Duration::from_secs(90));
        let written = serde_json::to_string(&S(Duration::from_mins(90))).unwrap();
        assert_eq!(written, r#""every 1h 30m""#);
        assert_eq!(read(&written).unwrap(), Duration::from_mins(90));
        let error = read(r#""each morning""#).unwrap_err().to_string();
        assert!(error.contains("every 6h"), "{error}");
    }
}
