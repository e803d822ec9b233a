//! Certificates for tests: authorities, and what they issue.
//!
//! ```
//! use miroir_test::certificates::Authority;
//! let authority = Authority::new("nodes");
//! let node = authority.server(&["localhost", "127.0.0.1"]);
//! assert!(node.certificate.starts_with("-----BEGIN CERTIFICATE"));
//! assert!(node.key.starts_with("-----BEGIN PRIVATE KEY"));
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miroir_pipeline::clock;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use time::Duration;
use tokio_rustls::TlsAcceptor;

/// Days from now between which something is valid by default.
const VALID: Range<i64> = -1..365;

/// An authority that tests trust, or do not.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, without its authority's.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

fn params(common_name: &str, names: &[&str], days: Range<i64>) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names of a test");
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = clock::now();
    params.not_before = now + Duration::days(days.start);
    params.not_after = now + Duration::days(days.end);
    params
}

impl Authority {
    /// An authority that is valid now.
    pub fn new(name: &str) -> Self {
        Self::valid(name, VALID)
    }

    /// An authority that is valid between these days from now.
    pub fn valid(name: &str, days: Range<i64>) -> Self {
        let mut params = params(name, &[], days);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Its certificate as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of a server with these names and addresses.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.server_valid(names, VALID)
    }

    /// As [`Authority::server`], valid between these days from now.
    pub fn server_valid(&self, names: &[&str], days: Range<i64>) -> Issued {
        let name = names.first().copied().unwrap_or("server");
        self.issue(params(name, names, days), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate of a client.
    pub fn client(&self, name: &str) -> Issued {
        self.issue(params(name, &[name], VALID), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Issued {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    /// Accepts connections with this certificate; of clients it wants one of `clients`, if given.
    pub fn acceptor(&self, clients: Option<&Authority>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let asking = match clients {
            None => versions.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).expect("an authority");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .expect("a verifier");
                versions.with_client_cert_verifier(verifier)
            }
        };
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .expect("certificates");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let config = asking.with_single_cert(chain, key).expect("both belong together");
        TlsAcceptor::from(Arc::new(config))
    }
}
