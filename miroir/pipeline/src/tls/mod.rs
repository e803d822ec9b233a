//! TLS: certificates and keys from files, what clients of nodes and other pods are told of them, and
//! why there is no TLS with somebody.
//!
//! rustls does all that has to do with keys, chains and names; `x509-parser` reads from certificates
//! what rustls does not show: until when they are valid, and what they are for. The cryptography is
//! that of `ring`, whatever the process has as its default.
//!
//! What is read from files can be read again while everything runs ([`ClientTls::reload`]): new
//! connections use what is new, those that are open go on with what they have. Files that cannot be
//! used change nothing.
//!
//! ```no_run
//! # fn example() -> Result<(), miroir_core::options::ConfigError> {
//! use miroir_pipeline::tls::{ClientTls, ClientTlsOptions};
//! let options = ClientTlsOptions { ca_file: "/etc/miroir/ca.pem".into(), ..Default::default() };
//! let tls = ClientTls::load("node_tls", options)?;
//! // … after the file was replaced:
//! tls.reload()?;
//! # Ok(())
//! # }
//! ```

mod client;
mod connector;
mod failure;
pub mod files;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{ClientTls, ClientTlsOptions, pair};
pub use connector::{Connecting, Connector, Stream};
pub use failure::{LastSaid, TlsFailure, failure};

/// The protocol spoken on every connection, as it is negotiated.
pub const HTTP_1: &[u8] = b"http/1.1";

/// The cryptography of every connection.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
