//! The command line of the server.

use std::net::IpAddr;
use std::path::PathBuf;

/// Flags of `miroir-server`. They win over the environment, which wins over the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Configuration file: YAML under a top-level `miroir:`.
    #[arg(long, value_name = "FILE", env = "MIROIR_CONFIG")]
    pub config: Option<PathBuf>,

    /// Validate, print the effective configuration with secrets redacted, and exit.
    #[arg(long)]
    pub check_config: bool,

    /// Print the layers of every stage in their order, and exit.
    #[arg(long)]
    pub describe_stack: bool,

    /// Port of the client API (`server.port`).
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,

    /// Port of the metrics listener (`server.metrics_port`).
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,

    /// Address to listen on (`server.bind`).
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,

    /// Override one key, for example `--set scatter.node_timeout_ms=2s`. May be repeated.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
}

impl Flags {
    /// The overrides in the order they apply: `--set` as given, then the flags of their own, as
    /// (flag, path, value). `Err` holds a `--set` without `=`.
    pub(super) fn overrides(&self) -> Vec<Result<(String, String, String), String>> {
        let mut all: Vec<_> = self
            .set
            .iter()
            .map(|text| match text.split_once('=') {
                Some((path, value)) if !path.trim().is_empty() => {
                    let path = path.trim();
                    let path = path.strip_prefix("miroir.").unwrap_or(path);
                    Ok((format!("--set {path}"), path.to_owned(), value.to_owned()))
                }
                // The whole text is not shown: it may hold a secret.
                _ => Err("--set".to_owned()),
            })
            .collect();
        let mut own = |flag: &str, path: &str, value: Option<String>| {
            all.extend(value.map(|value| Ok((flag.to_owned(), path.to_owned(), value))));
        };
        own("--port", "server.port", self.port.map(|port| port.to_string()));
        own(
            "--metrics-port",
            "server.metrics_port",
            self.metrics_port.map(|port| port.to_string()),
        );
        own("--bind", "server.bind", self.bind.map(|address| address.to_string()));
        all
    }
}
