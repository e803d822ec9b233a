//! Why there is no TLS with somebody.

use std::error::Error as StdError;

use miroir_core::lock::Lock;
use rustls::{AlertDescription, CertificateError, Error};

/// What is wrong between this side and a server. In every case it was sent nothing, or has read
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsFailure {
    /// Its certificate is of no authority that is trusted, or is otherwise worth nothing.
    Untrusted,
    /// Its certificate expired, or is not valid yet.
    Expired,
    /// Its certificate has another name than its address.
    WrongName,
    /// It refuses the certificate of this side, or wants one.
    Refused,
    /// Both found no way to speak: what listens speaks no TLS, say.
    Handshake,
}

impl TlsFailure {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Untrusted, Self::Expired, Self::WrongName, Self::Refused, Self::Handshake];

    /// Its name in metrics, logs, error messages and the admin API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Untrusted => "tls_untrusted",
            Self::Expired => "tls_expired",
            Self::WrongName => "tls_wrong_name",
            Self::Refused => "tls_refused",
            Self::Handshake => "tls_handshake",
        }
    }

    /// What an operator can do about it, for the log; `block` is where the client's files are named.
    #[must_use]
    pub fn remedy(self, block: &str) -> String {
        match self {
            Self::Untrusted => {
                format!("name the authority of its certificate in `{block}.ca_file`")
            }
            Self::Expired => "renew its certificate, or check the clocks".to_owned(),
            Self::WrongName => format!(
                "use a name of its certificate as its address, or name one in `{block}.server_name`"
            ),
            Self::Refused => format!(
                "give `{block}.cert_file` and `{block}.key_file` a certificate that it accepts"
            ),
            Self::Handshake => {
                "check that TLS (1.2 or 1.3) is spoken at this address and port".to_owned()
            }
        }
    }

    fn of(error: &Error) -> Option<Self> {
        Some(match error {
            Error::InvalidCertificate(why) => match why {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                _ => Self::Untrusted,
            },
            Error::AlertReceived(
                AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::CertificateRequired,
            ) => Self::Refused,
            _ => return None,
        })
    }
}

/// What is wrong, and rustls' own words, if a request failed over TLS. `connecting` says that it
/// failed before there was a connection.
///
/// Later only a refusal of this side's certificate counts: with TLS 1.3 a server says so after the
/// client took the connection for open, and before it reads anything.
#[must_use]
pub fn failure(error: &(dyn StdError + 'static), connecting: bool) -> Option<(TlsFailure, String)> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<Error>() {
            let failure = match TlsFailure::of(error) {
                Some(failure) => failure,
                None if connecting => TlsFailure::Handshake,
                None => return None,
            };
            return Some((failure, error.to_string()));
        }
        // An I/O error shows what it wraps, but does not count it as its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn StdError + 'static)).or(error.source());
    }
    None
}

/// What was said last of somebody, so that the log says it once and not on every attempt.
#[derive(Debug, Default)]
pub struct LastSaid(Lock<Option<String>>);

impl LastSaid {
    /// Whether `text` is not what was said last.
    pub fn is_news(&self, text: &str) -> bool {
        let mut last = self.0.lock();
        let news = last.as_deref() != Some(text);
        if news {
            *last = Some(text.to_owned());
        }
        news
    }

    /// From now on everything is news; whether something had been said.
    pub fn forget(&self) -> bool {
        self.0.lock().take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// As hyper-rustls wraps what rustls says.
    fn wrapped(error: Error) -> io::Error {
        io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn what_rustls_says_is_found_and_told_apart() {
        let of = |error| failure(&wrapped(error), true).map(|(failure, _)| failure);
        let certificate = |why| of(Error::InvalidCertificate(why));
        assert_eq!(certificate(CertificateError::UnknownIssuer), Some(TlsFailure::Untrusted));
        assert_eq!(certificate(CertificateError::Expired), Some(TlsFailure::Expired));
        assert_eq!(certificate(CertificateError::NotValidYet), Some(TlsFailure::Expired));
        assert_eq!(certificate(CertificateError::NotValidForName), Some(TlsFailure::WrongName));
        let alert = |what| of(Error::AlertReceived(what));
        assert_eq!(alert(AlertDescription::UnknownCA), Some(TlsFailure::Refused));
        assert_eq!(alert(AlertDescription::ProtocolVersion), Some(TlsFailure::Handshake));
        assert_eq!(failure(&io::Error::other("else"), true), None);
    }

    #[test]
    fn on_an_open_connection_only_a_refused_certificate_counts() {
        let of = |what| failure(&wrapped(Error::AlertReceived(what)), false);
        let refused = of(AlertDescription::CertificateRequired).unwrap();
        assert_eq!(refused.0, TlsFailure::Refused);
        assert!(refused.1.contains("CertificateRequired"), "{}", refused.1);
        assert_eq!(of(AlertDescription::InternalError), None);
        assert_eq!(failure(&wrapped(Error::DecryptError), false), None);
    }
}
