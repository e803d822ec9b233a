//! TLS of this server: the files of the configuration, read and checked before anything is opened,
//! and read again while it runs.
//!
//! | block | who it is for |
//! | --- | --- |
//! | `server.tls` | clients that connect to the listener of both APIs |
//! | `node_tls` | nodes with an `https://` address |
//! | `peer_tls` | the pod that leads, where its address begins with `https://` |

mod listener;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use miroir::node::is_https;
use miroir::options::ConfigError;
use miroir::tls::{ClientTls, ClientTlsOptions};

pub(crate) use self::listener::{Accepted, Listener};
pub(crate) use self::watch::{Source, hear, run};

use crate::config::{Config, ConfigErrors};

/// What the files say.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// `None`: the listener speaks plain HTTP.
    pub(crate) listener: Option<Listener>,
    pub(crate) nodes: ClientTls,
    pub(crate) peers: ClientTls,
    /// What is read again.
    pub(crate) sources: Arc<Vec<Source>>,
}

impl Tls {
    /// Reads every file that the configuration names.
    ///
    /// # Errors
    /// Every block with a file that cannot be used.
    pub(crate) fn load(config: &Config) -> Result<Self, ConfigErrors> {
        let mut faults: Vec<ConfigError> = Vec::new();
        let mut sources = Vec::new();

        let options = &config.server.tls;
        let mut listener = None;
        if options.is_on() {
            // Taken first: what changes while it is read is read again.
            let seen = watch::contents(options.files());
            match Listener::load(options.clone()) {
                Ok(loaded) => {
                    sources.push(Source::of_listener(loaded.clone(), seen));
                    listener = Some(loaded);
                }
                Err(fault) => faults.push(fault),
            }
        }

        let mut client = |block: &'static str, options: &ClientTlsOptions, used: bool| {
            if !used && options.is_default() {
                return ClientTls::system(block);
            }
            let seen = watch::contents(options.files());
            match ClientTls::load(block, options.clone()) {
                Ok(tls) => {
                    sources.push(Source::of_client(block, tls.clone(), options, seen));
                    tls
                }
                Err(fault) => {
                    faults.push(fault);
                    ClientTls::system(block)
                }
            }
        };
        let to_nodes = config.nodes.iter().any(|node| is_https(&node.address));
        let nodes = client("node_tls", &config.node_tls, to_nodes);
        let to_peers = config.is_shared()
            && (options.is_on() || is_https(&config.peer_discovery.advertise_url));
        let peers = client("peer_tls", &config.peer_tls, to_peers);

        if faults.is_empty() {
            Ok(Self { listener, nodes, peers, sources: Arc::new(sources) })
        } else {
            Err(ConfigErrors(faults))
        }
    }
}
