//! Why nodes do not do what they are asked.

use std::fmt;

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::tls::TlsFailure;

/// Why a node did not do what it was asked. Exhaustive on purpose: whoever decides by it has to say
/// what a new failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeFailure {
    /// No connection could be opened.
    Connect,
    /// Whoever answers has not shown that its disk is the node's, and so nothing was sent.
    Unproven,
    /// There is no TLS with it, and so nothing was sent.
    Tls(TlsFailure),
    /// The connection broke before the answer began, or the node gave up waiting for the request.
    Reset,
    /// The connection to a shadow target broke.
    Connection,
    /// The answer broke off, or is larger than the client takes.
    Body,
    /// The answer of a shadow target is larger than is compared.
    TooLarge,
    /// No answer came in time.
    Timeout,
    /// The node said that it is too busy (`429`, `503`).
    Overloaded,
    /// The node does not take Miroir's key (`401`, `403`).
    RefusedKey,
    /// The node failed over the request (`5xx`).
    ServerError,
    /// The answer cannot be read, or is none that Meilisearch gives.
    Garbage,
    /// There is no such node in the topology.
    UnknownNode,
    /// The node's breaker is open: it was not asked.
    BreakerOpen,
    /// The time of the call was over before it was sent.
    Expired,
    /// The call was made to fail instead of being sent, for a test.
    Injected,
    /// The request could not be written, or must not be repeated: nothing was asked.
    NotSent,
    /// The number of its task shows that the node lost its disk.
    LostDisk,
    /// A replica that has to catch up has no other one to copy from.
    NoPeer,
    /// A task that is to make the node catch up failed on it.
    RepairRefused,
}

impl NodeFailure {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Connect,
        Self::Unproven,
        Self::Tls(TlsFailure::Untrusted),
        Self::Tls(TlsFailure::Expired),
        Self::Tls(TlsFailure::WrongName),
        Self::Tls(TlsFailure::Refused),
        Self::Tls(TlsFailure::Handshake),
        Self::Reset,
        Self::Connection,
        Self::Body,
        Self::TooLarge,
        Self::Timeout,
        Self::Overloaded,
        Self::RefusedKey,
        Self::ServerError,
        Self::Garbage,
        Self::UnknownNode,
        Self::BreakerOpen,
        Self::Expired,
        Self::Injected,
        Self::NotSent,
        Self::LostDisk,
        Self::NoPeer,
        Self::RepairRefused,
    ];

    /// The failure that the status of a node's answer is. `None`: the node did its work, even if it
    /// refused the request.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Some(Self::Overloaded)
            }
            // It saw no request in time, and nor did it when it was asked again.
            StatusCode::REQUEST_TIMEOUT => Some(Self::Reset),
            // The node key is Miroir's business: a refused key is no client's mistake.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(Self::RefusedKey),
            status if status.is_server_error() => Some(Self::ServerError),
            _ => None,
        }
    }

    /// The failure that a node's answer is; as [`NodeFailure::of_status`], but a `429` or `503` that is
    /// no error in Meilisearch's shape is a proxy's, which may have passed the request on before.
    #[must_use]
    pub fn of_answer(answer: &Response<Bytes>) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Shape {
            #[serde(rename = "code")]
            _code: String,
        }
        let shaped = || serde_json::from_slice::<Shape>(answer.body()).is_ok();
        match Self::of_status(answer.status()) {
            Some(Self::Overloaded) if !shaped() => Some(Self::ServerError),
            failure => failure,
        }
    }

    /// Whether the node may have taken the call. `false` is certain: the call was not sent, or the
    /// node turned it away unread, so that a write has not happened.
    #[must_use]
    pub fn was_sent(self) -> bool {
        match self {
            Self::Connect
            | Self::Unproven
            | Self::Tls(_)
            | Self::Overloaded
            | Self::RefusedKey
            | Self::UnknownNode
            | Self::BreakerOpen
            | Self::Expired
            | Self::Injected
            | Self::NotSent
            | Self::NoPeer => false,
            Self::Reset
            | Self::Connection
            | Self::Body
            | Self::TooLarge
            | Self::Timeout
            | Self::ServerError
            | Self::Garbage
            | Self::LostDisk
            | Self::RepairRefused => true,
        }
    }

    /// Whether there is no connection with the node, or with nobody who is known to be it: it takes no call, and it is not a matter of
    /// patience.
    #[must_use]
    pub fn is_absence(self) -> bool {
        matches!(self, Self::Connect | Self::Unproven | Self::Tls(_))
    }

    /// Whether the failure says that the node is not well. `false`: the node was never asked, which
    /// counts against neither its breaker nor its score.
    #[must_use]
    pub fn blames_node(self) -> bool {
        !matches!(self, Self::BreakerOpen | Self::Expired | Self::NotSent | Self::UnknownNode)
    }

    /// Its name in metrics, logs, error messages and the admin API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Unproven => "unproven",
            Self::Tls(failure) => failure.label(),
            Self::Reset => "reset",
            Self::Connection => "connection",
            Self::Body => "body",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::RefusedKey => "refused_key",
            Self::ServerError => "server_error",
            Self::Garbage => "garbage",
            Self::UnknownNode => "unknown",
            Self::BreakerOpen => "breaker_open",
            Self::Expired => "expired",
            Self::Injected => "injected",
            Self::NotSent => "not_sent",
            Self::LostDisk => "lost_disk",
            Self::NoPeer => "no_peer",
            Self::RepairRefused => "repair_refused",
        }
    }
}

impl fmt::Display for NodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_meilisearchs_own_503_says_that_nothing_was_taken() {
        let answer = |body: &'static str| {
            let answer = Response::builder().status(503).body(Bytes::from_static(body.as_bytes()));
            NodeFailure::of_answer(&answer.unwrap())
        };
        let own = r#"{"message":"…","code":"too_many_search_requests","type":"system"}"#;
        assert_eq!(answer(own), Some(NodeFailure::Overloaded));
        for proxy in ["", "{}", "upstream connect error or disconnect/reset before headers"] {
            assert!(answer(proxy).unwrap().was_sent(), "{proxy}");
        }
    }

    #[test]
    fn failures_keep_the_names_that_dashboards_know() {
        let labels = NodeFailure::ALL.map(NodeFailure::label).join(" ");
        let known = "connect unproven tls_untrusted tls_expired tls_wrong_name tls_refused tls_handshake reset connection body too_large timeout overloaded refused_key \
                     server_error garbage unknown breaker_open expired injected not_sent lost_disk no_peer \
                     repair_refused";
        assert_eq!(labels, known);
    }
}
