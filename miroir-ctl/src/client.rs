//! One request and its answer; failures with a remedy.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use miroir_api::meili::ApiError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::Connection;
use crate::credentials::{Credentials, Source};
use crate::error::{Code, CtlError};

const READY: &str = "/_miroir/ready";
/// What the operators' key opens; all else is a client's.
const ADMIN: &str = "/_miroir/";
/// Of one route of the client API operators see more.
const ADMIN_HEADER: &str = "x-admin-key";

/// A key as it is sent, and where it was found.
type Key = Option<(HeaderValue, Source)>;

/// A Miroir at an address.
pub(crate) struct Client {
    base: String,
    admin: Key,
    client: Key,
    timeout: Duration,
    sender: Hyper<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What the server said.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, CtlError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            CtlError::new(
                Code::Refused,
                format!("the server's answer is not understood: {error}"),
                "use a miroir-ctl of the server's version, or --json to see the answer",
            )
        })
    }

    fn succeeded(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Client {
    pub(crate) fn new(connection: &Connection, credentials: Credentials) -> Result<Self, CtlError> {
        let base = base(&credentials.url)?;
        let (admin, client) = (header(credentials.admin)?, header(credentials.client)?);
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(connection.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(connection)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let sender = Hyper::builder(TokioExecutor::new()).build(connector);
        Ok(Self { base, admin, client, timeout: connection.timeout, sender })
    }

    /// Where the server is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// A `GET` that has to succeed.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, CtlError> {
        self.ask(Method::GET, path, None).await
    }

    /// A request that has to succeed.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, CtlError> {
        let answer = self.send(method, path, body).await?;
        if answer.succeeded() { Ok(answer) } else { Err(self.refused(path, &answer).await) }
    }

    /// Whether the cluster is ready, whatever the key.
    pub(crate) async fn ready(&self) -> Result<Answer, CtlError> {
        let answer = self.send(Method::GET, READY, None).await?;
        if is_ready(&answer) { Ok(answer) } else { Err(self.no_miroir()) }
    }

    /// A request, whatever its answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, CtlError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some((key, _)) = self.key(path) {
            request = request.header(header::AUTHORIZATION, bearer(key));
        }
        if let Some((key, _)) = self.admin.as_ref().filter(|_| is_explain(path)) {
            request = request.header(ADMIN_HEADER, key);
        }
        let mut bytes = Bytes::new();
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json");
            bytes = body.to_string().into();
        }
        let request = request.body(Full::new(bytes)).map_err(|error| {
            CtlError::usage(format!("{path} cannot be asked for: {error}"), "check the names given")
        })?;
        let exchange = async {
            let response = self.sender.request(request).await.map_err(|error| self.lost(&error))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| self.lost(&error))?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CtlError::connection(
                format!("{} did not answer within {:?}", self.base, self.timeout),
                "see whether the server is overloaded or a firewall drops packets, or raise --timeout",
            )),
        }
    }

    /// Why there is no connection.
    fn lost(&self, error: &(dyn StdError + 'static)) -> CtlError {
        let base = &self.base;
        let mut chain = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next {
            chain.push(error);
            // An I/O error shows what it wraps, but does not count it as its source.
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            next = inner.map(|inner| inner as &(dyn StdError + 'static)).or(error.source());
        }
        let tls = chain.iter().find_map(|error| error.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls {
            let remedy = match tls {
                rustls::Error::InvalidCertificate(_) => {
                    "check the host name, or name the authority's certificate with --ca-file"
                }
                rustls::Error::InvalidMessage(_) => {
                    "the server seems to speak plain HTTP: write http:// in --url"
                }
                rustls::Error::AlertReceived(
                    AlertDescription::CertificateRequired
                    | AlertDescription::BadCertificate
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA,
                ) => {
                    "the server wants a certificate that it trusts: give one with --cert-file and \
                     --key-file"
                }
                _ => "check the TLS settings of what stands in front of Miroir",
            };
            return CtlError::connection(format!("no TLS with {base}: {tls}"), remedy);
        }
        let kinds: Vec<_> = chain
            .iter()
            .filter_map(|error| error.downcast_ref::<std::io::Error>())
            .map(std::io::Error::kind)
            .collect();
        if kinds.contains(&std::io::ErrorKind::ConnectionRefused) {
            return CtlError::connection(
                format!("{base} refuses connections"),
                "start miroir-server, or give its address with --url or MIROIR_URL",
            );
        }
        let last = chain.last().map_or_else(String::new, ToString::to_string);
        let text = chain.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if text.contains("dns error") || text.contains("lookup address") {
            return CtlError::connection(
                format!("the host of {base} is not known: {last}"),
                "check the name in --url, and the name server",
            );
        }
        let plain = self.base.starts_with("http://");
        if plain && text.contains("invalid HTTP version") {
            return CtlError::connection(
                format!("{base} does not speak HTTP"),
                "check the port; where TLS is spoken write https:// in --url",
            );
        }
        CtlError::connection(
            format!("{base} cannot be reached: {last}"),
            "check --url, and that nothing between here and the server cuts connections",
        )
    }

    /// Why a request was refused.
    async fn refused(&self, path: &str, answer: &Answer) -> CtlError {
        let error = serde_json::from_slice::<ApiError>(&answer.body).ok();
        if matches!(answer.status, 401 | 403) {
            return self.key_refused(path, answer.status, error.as_ref());
        }
        if let Some(error) = &error {
            return CtlError::refusal(answer.status, error, &self.base);
        }
        if answer.status != 404 {
            return CtlError::new(
                Code::Refused,
                format!("{} answered {} to {path}", self.base, answer.status),
                "look at the log of the server, and at what stands in front of it",
            );
        }
        match self.send(Method::GET, READY, None).await {
            Ok(ready) if is_ready(&ready) => CtlError::new(
                Code::Refused,
                format!("{} has no {}", self.base, path.split('?').next().unwrap_or(path)),
                "the admin API is off (`admin.enabled: false`), or this server, by its version, does not \
                 have it: compare `miroir-ctl --version` with `miroir-server --version`",
            ),
            _ => self.no_miroir(),
        }
    }

    /// The key for a path.
    fn key(&self, path: &str) -> &Key {
        if path.starts_with(ADMIN) || (is_explain(path) && self.client.is_none()) {
            &self.admin
        } else {
            &self.client
        }
    }

    /// Whether a client's key was given.
    pub(crate) fn has_client_key(&self) -> bool {
        self.client.is_some()
    }

    fn key_refused(&self, path: &str, status: u16, error: Option<&ApiError>) -> CtlError {
        let said = error.map_or_else(String::new, |error| format!(": {}", error.message));
        let remedy = if path.starts_with(ADMIN) {
            "set MIROIR_ADMIN_API_KEY to the server's `admin.api_key` (MIROIR_ADMIN_API_KEY there); \
             the master key and API keys do not open the admin API"
        } else {
            "this asks the client API: set MIROIR_MASTER_KEY, or MIROIR_CLIENT_KEY to an API key \
             that may do it; the operators' key does not open it"
        };
        let problem = match self.key(path) {
            None => "a key is needed, and none was given".to_owned(),
            Some((_, source)) => format!("the key of {source} is not accepted ({status}){said}"),
        };
        CtlError::new(Code::Key, problem, remedy)
    }

    fn no_miroir(&self) -> CtlError {
        CtlError::connection(
            format!("what answers at {} is not a Miroir", self.base),
            "check host, port and path of --url: it is the client API's port (7700), not that of \
             the metrics or of a node",
        )
    }
}

/// A key that can stand in a header.
fn header(key: Option<(String, Source)>) -> Result<Key, CtlError> {
    let Some((key, source)) = key else { return Ok(None) };
    let mut value = HeaderValue::try_from(key.trim()).map_err(|_| {
        let problem = format!("the key of {source} has characters no key has");
        CtlError::usage(problem, "check it for line breaks and control characters")
    })?;
    value.set_sensitive(true);
    Ok(Some((value, source)))
}

fn bearer(key: &HeaderValue) -> HeaderValue {
    let text = [b"Bearer ", key.as_bytes()].concat();
    let mut value = HeaderValue::from_bytes(&text).expect("it stood in a header before");
    value.set_sensitive(true);
    value
}

fn is_explain(path: &str) -> bool {
    path.split('?').next().is_some_and(|path| path.ends_with("/explain"))
}

fn is_ready(answer: &Answer) -> bool {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    matches!(answer.status, 200 | 503)
        && body.is_some_and(|body| matches!(body["status"].as_str(), Some("ready" | "starting")))
}

fn base(url: &str) -> Result<String, CtlError> {
    let wrong = |problem: &str| {
        // The address is not shown: it may hold a password.
        CtlError::usage(
            format!("the address of the server {problem}"),
            "write it as http://host:7700",
        )
    };
    let uri: Uri = url.parse().map_err(|_| wrong("is not an address"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("has neither http:// nor https://"));
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(wrong("has no host, or holds credentials"));
    }
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn unusable(path: &Path, problem: impl std::fmt::Display, remedy: &str) -> CtlError {
    CtlError::usage(format!("{} {problem}", path.display()), remedy)
}

/// The certificates of a file that a flag names.
fn certificates(path: &Path, remedy: &str) -> Result<Vec<CertificateDer<'static>>, CtlError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unusable(path, format!("cannot be read: {error}"), remedy))?
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, format!("is not PEM: {error}"), remedy))?;
    if found.is_empty() {
        return Err(unusable(path, "holds no certificate", remedy));
    }
    Ok(found)
}

/// Whom to trust, and what to show.
fn tls(connection: &Connection) -> Result<ClientConfig, CtlError> {
    let trusting = match &connection.ca_file {
        None => ClientConfig::builder().with_webpki_roots(),
        Some(path) => {
            let remedy = "give --ca-file a file with certificates in PEM form";
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, remedy)? {
                roots.add(certificate).map_err(|error| {
                    unusable(path, format!("has no usable one: {error}"), remedy)
                })?;
            }
            ClientConfig::builder().with_root_certificates(roots)
        }
    };
    // Clap sees to it that none is given without the other.
    let Some((path, key_path)) = connection.cert_file.as_ref().zip(connection.key_file.as_ref())
    else {
        return Ok(trusting.with_no_client_auth());
    };
    let remedy = "give --cert-file and --key-file a certificate and its key in PEM form";
    let chain = certificates(path, remedy)?;
    let key = PrivateKeyDer::from_pem_file(key_path)
        .map_err(|error| unusable(key_path, format!("holds no key: {error}"), remedy))?;
    trusting
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable(path, format!("cannot be used: {error}"), remedy))
}

/// A text as one segment of a path, or as a value of a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A path with those parameters that have a value.
pub(crate) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let query: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        assert_eq!(encode("a b/ü"), "a%20b%2F%C3%BC");
        let query = with_query("/p", &[("a", Some("1&2".to_owned())), ("b", None)]);
        assert_eq!(query, "/p?a=1%262");
        assert_eq!(with_query("/p", &[("b", None)]), "/p");
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(base("http://a:1/x/").unwrap(), "http://a:1/x");
        for url in ["a:7700", "ftp://a", "http://u:secret@a", "http://a?b", "/x", ""] {
            let error = base(url).unwrap_err();
            assert_eq!(error.code(), Code::Usage, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
