//! Certificates and keys from PEM files, checked before anybody uses them. Every fault names the key
//! of the configuration, the file and the reason.

use std::path::Path;
use std::sync::Arc;

use miroir_core::options::ConfigError;
use miroir_store::clock;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::provider;

/// What the certificate of an [`Identity`] is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To clients that connect.
    Server,
    /// To servers that ask who connects.
    Client,
}

/// A certificate with its chain and the key that belongs to it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What is shown, and what proves that it is one's own.
    pub certified: Arc<CertifiedKey>,
    /// Until when all certificates of the chain are valid.
    pub not_after: OffsetDateTime,
}

/// The certificates of authorities.
#[derive(Clone, Debug)]
pub struct Authorities {
    /// Those that are valid now.
    pub roots: Arc<RootCertStore>,
    /// How many were left out because they are not valid now.
    pub left_out: usize,
}

/// A file, and the key of the configuration that names it.
#[derive(Clone, Copy)]
struct File<'a> {
    key: &'a str,
    path: &'a Path,
}

impl File<'_> {
    fn fault(self, problem: impl AsRef<str>, remedy: &str) -> ConfigError {
        let problem = format!("{} {}", self.path.display(), problem.as_ref());
        ConfigError::new([self.key], problem, remedy)
    }

    fn read(self) -> Result<Vec<u8>, ConfigError> {
        std::fs::read(self.path).map_err(|error| {
            self.fault(
                format!("cannot be read: {error}"),
                "check the path, and that the server's user may read the file",
            )
        })
    }

    fn certificates(self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let remedy = "write certificates in PEM form (`-----BEGIN CERTIFICATE-----`) into it";
        let bytes = self.read()?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| self.fault(format!("is not PEM: {error}"), remedy))?;
        if found.is_empty() {
            return Err(self.fault("holds no certificate", remedy));
        }
        Ok(found)
    }

    fn key(self) -> Result<PrivateKeyDer<'static>, ConfigError> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
            let encrypted = bytes.windows(9).any(|part| part == b"ENCRYPTED");
            match error {
                pem::Error::NoItemsFound if encrypted => self.fault(
                    "holds a key that is encrypted",
                    "decrypt it with `openssl pkey -in … -out …`, and let nobody else read the file",
                ),
                pem::Error::NoItemsFound => self.fault(
                    "holds no private key",
                    "write the certificate's key in PEM form (`-----BEGIN PRIVATE KEY-----`) into it",
                ),
                error => self.fault(
                    format!("is not PEM: {error}"),
                    "write the certificate's key in PEM form (`-----BEGIN PRIVATE KEY-----`) into it",
                ),
            }
        })
    }
}

fn parsed<'a>(
    file: File<'_>,
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, ConfigError> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(error) => Err(file.fault(
            format!("holds a certificate that cannot be read: {error}"),
            "have it issued again",
        )),
    }
}

/// Why a certificate is not valid at a time, if it is not.
fn out_of_date(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> Option<String> {
    let validity = certificate.validity();
    let (from, until) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
    if now > until {
        return Some(format!("expired on {}", clock::rfc3339(until)));
    }
    (now < from).then(|| format!("is not valid before {}", clock::rfc3339(from)))
}

/// Reads the certificate, with its chain behind it, of `certificates`, and the key that belongs to it
/// of `key`; each is the key of the configuration and the file that it names.
///
/// # Errors
/// A file that cannot be read or is not what it should be; a certificate of the chain that is not
/// valid now; one that is not meant for this usage; a key that is not the certificate's.
pub fn identity(
    certificates: (&str, &Path),
    key: (&str, &Path),
    usage: Usage,
) -> Result<Identity, ConfigError> {
    let file = File { key: certificates.0, path: certificates.1 };
    let key_file = File { key: key.0, path: key.1 };
    let chain = file.certificates()?;
    let now = clock::now();
    let mut not_after = None;
    for (at, certificate) in chain.iter().enumerate() {
        let certificate = parsed(file, certificate)?;
        let which = if at == 0 { "the certificate" } else { "a certificate of the chain" };
        if let Some(why) = out_of_date(&certificate, now) {
            let subject = certificate.subject();
            return Err(file.fault(
                format!("cannot be used: {which} ({subject}) {why}"),
                "have it issued again, or check this machine's clock",
            ));
        }
        let until = certificate.validity().not_after.to_datetime();
        not_after = Some(not_after.map_or(until, |known: OffsetDateTime| known.min(until)));
        if at == 0 {
            check_usage(file, &certificate, usage)?;
        }
    }
    let signing = provider().key_provider.load_private_key(key_file.key()?).map_err(|error| {
        key_file.fault(
            format!("holds a key that cannot be used: {error}"),
            "use a key for RSA of 2048 bits or more, ECDSA (P-256, P-384) or Ed25519",
        )
    })?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(ConfigError::new(
                [key_file.key, file.key],
                format!(
                    "{} is not the key of the first certificate of {}",
                    key_file.path.display(),
                    file.path.display(),
                ),
                "use files that belong together; the server's own certificate comes first, those of \
                 authorities behind it",
            ));
        }
        Err(error) => {
            return Err(file.fault(
                format!("holds a certificate that cannot be used: {error}"),
                "have it issued again, as X.509 version 3",
            ));
        }
    }
    Ok(Identity { certified: Arc::new(certified), not_after: not_after.unwrap_or(now) })
}

/// Refuses what the other side would refuse on every connection.
fn check_usage(
    file: File<'_>,
    certificate: &X509Certificate<'_>,
    usage: Usage,
) -> Result<(), ConfigError> {
    let Ok(Some(extended)) = certificate.extended_key_usage() else { return Ok(()) };
    let (fits, name, what) = match usage {
        Usage::Server => (extended.value.server_auth, "serverAuth", "servers"),
        Usage::Client => (extended.value.client_auth, "clientAuth", "clients"),
    };
    if fits || extended.value.any {
        return Ok(());
    }
    Err(file.fault(
        format!("holds a certificate that is not for {what}: its extended key usage lacks {name}"),
        "have one issued with that usage",
    ))
}

/// Reads the certificates of authorities, of the file that this key of the configuration names. What
/// is not valid now is left out: rustls itself does not look at the dates of authorities.
///
/// # Errors
/// A file that cannot be read, is not PEM, or holds no certificate that is valid now.
pub fn authorities(key: &str, path: &Path) -> Result<Authorities, ConfigError> {
    let file = File { key, path };
    let now = clock::now();
    let mut roots = RootCertStore::empty();
    let mut last = None;
    let mut left_out = 0;
    for certificate in file.certificates()? {
        let shown = parsed(file, &certificate)?;
        if let Some(why) = out_of_date(&shown, now) {
            last = Some(format!("{} {why}", shown.subject()));
            left_out += 1;
            continue;
        }
        roots.add(certificate).map_err(|error| {
            file.fault(
                format!("holds a certificate that no authority can have: {error}"),
                "name a file with certificates of authorities",
            )
        })?;
    }
    match last {
        Some(last) if roots.is_empty() => Err(file.fault(
            format!("holds no certificate that is valid now: {last}"),
            "name a file with the authority's current certificate, or check this machine's clock",
        )),
        _ => Ok(Authorities { roots: Arc::new(roots), left_out }),
    }
}
