//! `server.tls`.

use std::path::{Path, PathBuf};

use miroir::options::{Faults, Validate};
use serde::{Deserialize, Serialize};

/// `server.tls`: TLS of the listener of both APIs. Off by default: it speaks plain HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTlsOptions {
    /// PEM file with the server's certificate, and those of its chain behind it.
    pub cert_file: PathBuf,
    /// PEM file with the key of that certificate.
    pub key_file: PathBuf,
    /// PEM file with authorities of clients. Set: every client has to show a certificate of one.
    pub client_ca_file: PathBuf,
}

impl ListenerTlsOptions {
    /// Whether the listener speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.cert_file.as_os_str().is_empty()
    }

    /// The file with authorities of clients, if they have to show a certificate.
    #[must_use]
    pub fn client_ca_file(&self) -> Option<&Path> {
        (!self.client_ca_file.as_os_str().is_empty()).then_some(&self.client_ca_file)
    }

    /// The files that are named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.cert_file, &self.key_file, &self.client_ca_file];
        all.into_iter().map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
    }
}

impl Validate for ListenerTlsOptions {
    fn validate(&self, faults: &mut Faults) {
        miroir::tls::pair(faults, &self.cert_file, &self.key_file);
        faults.when(
            !self.is_on() && self.client_ca_file().is_some(),
            &["client_ca_file", "cert_file"],
            "clients can show a certificate only where the server has one",
            "set `server.tls.cert_file` and `server.tls.key_file`, or remove it",
        );
    }
}
