//! TLS of the listener: what it shows to clients, and the handshake with one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use miroir::options::ConfigError;
use miroir::tls::files::{self, Usage};
use miroir::tls::{HTTP_1, provider};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::ListenerTlsOptions;

/// How long a client may take from connecting to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

struct Shown {
    config: Arc<ServerConfig>,
    not_after: OffsetDateTime,
}

/// What the listener shows. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Listener {
    options: Arc<ListenerTlsOptions>,
    current: Arc<ArcSwap<Shown>>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Who connected.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Somebody who sends plain HTTP.
    Plain(TcpStream),
}

impl Listener {
    pub(crate) fn load(options: ListenerTlsOptions) -> Result<Self, ConfigError> {
        let current = Arc::new(ArcSwap::from_pointee(read(&options)?));
        Ok(Self { options: Arc::new(options), current })
    }

    /// Reads the files again, for who connects from now on.
    ///
    /// # Errors
    /// A file that cannot be used; what was read before stays in use.
    pub(crate) fn reload(&self) -> Result<(), ConfigError> {
        self.current.store(Arc::new(read(&self.options)?));
        Ok(())
    }

    pub(crate) fn options(&self) -> &ListenerTlsOptions {
        &self.options
    }

    /// Until when what is shown is valid.
    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.current.load().not_after
    }

    /// Speaks with who connected. `None`: there is no connection with them; it was counted, unless
    /// they went away without a word, as load balancers do to look whether somebody listens.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<Accepted> {
        let config = Arc::clone(&self.current.load().config);
        let handshake = async {
            // No record of TLS begins with a letter, and every request of HTTP does.
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) if first[0].is_ascii_alphabetic() => {
                    failed("plain_http");
                    return Ok(Some(Accepted::Plain(stream)));
                }
                Ok(_) => {}
            }
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            Ok::<_, std::io::Error>(Some(Accepted::Tls(Box::new(stream))))
        };
        match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => {
                let reason = reason(&error);
                failed(reason);
                tracing::debug!(%error, reason, "no TLS with a client");
                None
            }
            Err(_) => {
                failed("timeout");
                None
            }
        }
    }
}

fn failed(reason: &'static str) {
    metrics::counter!("miroir_tls_handshakes_failed_total", "reason" => reason).increment(1);
}

fn reason(error: &std::io::Error) -> &'static str {
    use rustls::Error::{AlertReceived, InvalidCertificate, NoCertificatesPresented};
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(InvalidCertificate(_) | NoCertificatesPresented) => "client_certificate",
        Some(AlertReceived(_)) => "refused_by_client",
        _ => "failed",
    }
}

fn read(options: &ListenerTlsOptions) -> Result<Shown, ConfigError> {
    let own = files::identity(
        ("server.tls.cert_file", &options.cert_file),
        ("server.tls.key_file", &options.key_file),
        Usage::Server,
    )?;
    let fault = |key: &str, error: String| ConfigError::new([key], error, "");
    let versions = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| fault("server.tls", error.to_string()))?;
    let asking = match options.client_ca_file() {
        None => versions.with_no_client_auth(),
        Some(path) => {
            let key = "server.tls.client_ca_file";
            let found = files::authorities(key, path)?;
            if found.left_out > 0 {
                tracing::warn!(
                    file = %path.display(),
                    left_out = found.left_out,
                    "`{key}`: certificates that are not valid now are not trusted"
                );
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(found.roots, provider())
                .build()
                .map_err(|error| fault(key, error.to_string()))?;
            versions.with_client_cert_verifier(verifier)
        }
    };
    let mut config = asking.with_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified)));
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    Ok(Shown { config: Arc::new(config), not_after: own.not_after })
}
