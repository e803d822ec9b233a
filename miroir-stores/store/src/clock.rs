//! Wall time. The only place that reads the system's clock.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now, in UTC.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::from(std::time::SystemTime::now())
}

/// RFC 3339 as Meilisearch prints it.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// Reads RFC 3339.
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// An ISO 8601 duration as Meilisearch prints it: seconds with nine decimals, `PT0.035300840S`.
pub fn iso_duration(from: OffsetDateTime, to: OffsetDateTime) -> String {
    let d = (to - from).max(time::Duration::ZERO);
    format!("PT{}.{:09}S", d.whole_seconds(), d.subsec_nanoseconds())
}
