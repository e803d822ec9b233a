//! Why Miroir itself refused a request, as one of a few reasons.

use crate::error::{Error, ErrorKind};
use crate::extension::Extension;

/// Why a request was refused: a label of `miroir_requests_refused_total`, in the extensions of the
/// response. What a node said, a wrong request and a failure are no refusals.
///
/// Whoever refuses for a reason that the error's code does not say puts it
/// [into the error](Error::and).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// There was no key, or a wrong one.
    Authentication,
    /// The key does not open this.
    Authorization,
    /// The same as [`Refused::Authentication`], and there was a body, which was not read.
    Unread,
    /// The request is larger than an option allows: its body, a filter, a CSV payload, the queries of
    /// a multi-search.
    Limit,
    /// A document has a field that belongs to Miroir.
    ReservedField,
    /// An address, a key or a tenant asked too often.
    RateLimit,
    /// Too much is under way.
    Admission,
    /// A node did not survive the query, or one like it.
    Quarantine,
}

impl Extension for Refused {}

impl Refused {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Authentication,
        Self::Authorization,
        Self::Unread,
        Self::Limit,
        Self::ReservedField,
        Self::RateLimit,
        Self::Admission,
        Self::Quarantine,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Unread => "unread",
            Self::Limit => "limit",
            Self::ReservedField => "reserved_field",
            Self::RateLimit => "rate_limit",
            Self::Admission => "admission",
            Self::Quarantine => "quarantine",
        }
    }

    /// The reason of an error; `None` for one that is no refusal.
    pub fn of(error: &Error) -> Option<Self> {
        let said = error.get::<Self>().copied();
        said.or_else(|| match error.kind() {
            ErrorKind::Api(error) => Self::of_code(&error.code),
            ErrorKind::Overloaded => Some(Self::Admission),
            _ => None,
        })
    }

    /// The reason that an error code stands for, if it stands for one alone.
    pub fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "missing_authorization_header" | "miroir_invalid_auth" => Self::Authentication,
            "invalid_api_key" => Self::Authorization,
            "payload_too_large" | "miroir_too_many_queries" => Self::Limit,
            "miroir_reserved_field" => Self::ReservedField,
            "miroir_rate_limited" => Self::RateLimit,
            "miroir_overloaded" => Self::Admission,
            "miroir_query_quarantined" => Self::Quarantine,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::StatusCode;

    use super::*;

    #[test]
    fn what_refuses_says_why() {
        let of = |code: &'static str| Refused::of(&Error::api(code, "…"));
        assert_eq!(of("missing_authorization_header"), Some(Refused::Authentication));
        assert_eq!(of("invalid_api_key"), Some(Refused::Authorization));
        assert_eq!(of("miroir_too_many_queries"), Some(Refused::Limit));
        assert_eq!(Refused::of(&Error::overloaded()), Some(Refused::Admission));
        let error = Error::api("invalid_api_key", "…").and(Refused::Authentication);
        assert_eq!(Refused::of(&error), Some(Refused::Authentication), "who refuses knows better");
        // A wrong request, a failure, and what a node said.
        assert_eq!(of("invalid_search_filter"), None);
        assert_eq!(of("miroir_no_leader"), None);
        let said = Error::verbatim(StatusCode::FORBIDDEN, "{\"code\":\"invalid_api_key\"}".into());
        assert_eq!(Refused::of(&said), None);
    }

    #[test]
    fn reasons_have_labels_of_their_own() {
        let labels: BTreeSet<&str> = Refused::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(labels.len(), Refused::ALL.len());
    }
}
