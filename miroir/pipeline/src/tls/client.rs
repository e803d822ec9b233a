//! What clients of nodes and pods know of TLS.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use miroir_core::options::{ConfigError, Faults, Validate};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::files::{self, Usage};
use super::{HTTP_1, provider};

/// `node_tls` and `peer_tls`: how `https://` addresses are called. Nothing by default: the system's
/// authorities are trusted, and no certificate is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTlsOptions {
    /// PEM file with the authorities that are trusted, instead of the system's.
    pub ca_file: PathBuf,
    /// PEM file with the certificate that is shown to servers that ask for one, and its chain.
    pub cert_file: PathBuf,
    /// PEM file with the key of that certificate.
    pub key_file: PathBuf,
    /// Name that certificates of servers must have, instead of the host of their address.
    pub server_name: String,
}

impl ClientTlsOptions {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The files that are named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().filter_map(|path| set(path))
    }

    fn name(&self) -> Option<Result<ServerName<'static>, ()>> {
        let name = &self.server_name;
        (!name.is_empty()).then(|| ServerName::try_from(name.clone()).map_err(|_| ()))
    }
}

fn set(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

/// Reports one of a certificate and its key that is set without the other.
pub fn pair(faults: &mut Faults, certificate: &Path, key: &Path) {
    let (has_certificate, has_key) =
        (!certificate.as_os_str().is_empty(), !key.as_os_str().is_empty());
    faults.when(
        has_certificate && !has_key,
        &["cert_file", "key_file"],
        "a certificate is worth nothing without its key",
        "name the file with its key in `key_file`",
    );
    faults.when(
        has_key && !has_certificate,
        &["cert_file", "key_file"],
        "a key is worth nothing without its certificate",
        "name the file with its certificate in `cert_file`",
    );
}

impl Validate for ClientTlsOptions {
    fn validate(&self, faults: &mut Faults) {
        pair(faults, &self.cert_file, &self.key_file);
        faults.when(
            self.name().is_some_and(|name| name.is_err()),
            &["server_name"],
            format!("{:?} is neither a host name nor an address", self.server_name),
            "write a name that the servers' certificates have, without port",
        );
    }
}

/// What a connection is opened with.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server_name: Option<ServerName<'static>>,
    not_after: Option<OffsetDateTime>,
}

/// How `https://` addresses are called. Clones are the same one. By default as
/// [`ClientTlsOptions`] says by default; the system's authorities are read when the first connection
/// needs them.
#[derive(Clone)]
pub struct ClientTls(Arc<Inner>);

struct Inner {
    block: String,
    /// `None`: of a program's own configuration.
    options: Option<ClientTlsOptions>,
    current: ArcSwapOption<Ready>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Default for ClientTls {
    fn default() -> Self {
        Self::unread("node_tls".to_owned(), ClientTlsOptions::default())
    }
}

impl ClientTls {
    fn unread(block: String, options: ClientTlsOptions) -> Self {
        let current = ArcSwapOption::empty();
        Self(Arc::new(Inner { block, options: Some(options), current }))
    }

    /// As by default, but messages say that `block` is where to change it.
    #[must_use]
    pub fn system(block: impl Into<String>) -> Self {
        Self::unread(block.into(), ClientTlsOptions::default())
    }

    /// Reads the files. `block` is where the options stand, for messages: `node_tls`.
    ///
    /// # Errors
    /// A file that cannot be used; that there are no authorities to trust.
    pub fn load(block: impl Into<String>, options: ClientTlsOptions) -> Result<Self, ConfigError> {
        let tls = Self::unread(block.into(), options);
        tls.reload()?;
        Ok(tls)
    }

    /// A configuration of the program's own. HTTP/1.1 is what is negotiated, whatever it says.
    #[must_use]
    pub fn of(config: ClientConfig) -> Self {
        let ready = Ready { config: Arc::new(http_1(config)), server_name: None, not_after: None };
        let current = ArcSwapOption::from_pointee(ready);
        Self(Arc::new(Inner { block: "node_tls".to_owned(), options: None, current }))
    }

    /// Reads the files again, for connections that are opened from now on. Nothing for a
    /// configuration of the program's own.
    ///
    /// # Errors
    /// As [`ClientTls::load`]; what was read before stays in use.
    pub fn reload(&self) -> Result<(), ConfigError> {
        let Some(options) = &self.0.options else { return Ok(()) };
        let ready = ready(&self.0.block, options)?;
        self.0.current.store(Some(Arc::new(ready)));
        Ok(())
    }

    /// Until when the certificate that is shown to servers is valid; `None` without one.
    #[must_use]
    pub fn not_after(&self) -> Option<OffsetDateTime> {
        self.0.current.load().as_ref().and_then(|ready| ready.not_after)
    }

    /// Where its options stand.
    #[must_use]
    pub fn block(&self) -> &str {
        &self.0.block
    }

    /// What a connection is opened with. Reads files the first time, if nobody did before.
    pub(super) async fn ready(&self) -> Result<Arc<Ready>, std::io::Error> {
        if let Some(ready) = self.0.current.load_full() {
            return Ok(ready);
        }
        let own = self.clone();
        let read = tokio::task::spawn_blocking(move || own.reload());
        let read = read.await.map_err(std::io::Error::other)?;
        // As rustls would say it: it is why there is no TLS.
        read.map_err(|error| std::io::Error::other(rustls::Error::General(error.to_string())))?;
        self.0.current.load_full().ok_or_else(|| std::io::Error::other("nothing was read"))
    }
}

fn http_1(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    config
}

fn ready(block: &str, options: &ClientTlsOptions) -> Result<Ready, ConfigError> {
    let key = |name: &str| format!("{block}.{name}");
    let mut faults = Faults::default();
    faults.block(block, options);
    if let Some(fault) = faults.into_vec().into_iter().next() {
        return Err(fault);
    }
    let roots = match set(&options.ca_file) {
        Some(path) => {
            let found = files::authorities(&key("ca_file"), path)?;
            if found.left_out > 0 {
                tracing::warn!(
                    file = %path.display(),
                    left_out = found.left_out,
                    "`{block}.ca_file`: certificates that are not valid now are not trusted"
                );
            }
            found.roots
        }
        None => {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map_or_else(String::new, |e| format!(": {e}"));
                return Err(ConfigError::new(
                    [key("ca_file")],
                    format!("is not set, and the system has no authorities to trust{why}"),
                    "name a PEM file with the authority's certificate, or install the system's",
                ));
            }
            Arc::new(roots)
        }
    };
    let versions = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new([block], error.to_string(), ""))?;
    let trusting = versions.with_root_certificates(roots);
    let (config, not_after) = match set(&options.cert_file).zip(set(&options.key_file)) {
        Some((certificate, key_path)) => {
            let own = files::identity(
                (&key("cert_file"), certificate),
                (&key("key_file"), key_path),
                Usage::Client,
            )?;
            let shown = Arc::new(SingleCertAndKey::from(own.certified));
            (trusting.with_client_cert_resolver(shown), Some(own.not_after))
        }
        None => (trusting.with_no_client_auth(), None),
    };
    let server_name = options.name().and_then(Result::ok);
    Ok(Ready { config: Arc::new(http_1(config)), server_name, not_after })
}
