//! Every file that cannot be used is refused with its key, its name and the reason, at the start and
//! while the server runs.

use std::path::PathBuf;

use miroir::options::Faults;
use miroir::store::memory;
use miroir_test::certificates::{Authority, Issued};
use tempfile::TempDir;

use super::*;
use crate::config::{ListenerTlsOptions, NodeConfig, Secret, TaskStoreBackend};
use crate::{BuildError, Server};

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn listener(&self, own: &Issued) -> ListenerTlsOptions {
        ListenerTlsOptions {
            cert_file: self.write("tls.crt", &own.certificate),
            key_file: self.write("tls.key", &own.key),
            client_ca_file: PathBuf::new(),
        }
    }
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let node =
        NodeConfig { id: "a".into(), address: "https://127.0.0.1:1".into(), replica_group: 0 };
    let mut config = Config { nodes: vec![node], ..Config::default() };
    config.server.bind = [127, 0, 0, 1].into();
    (config.server.port, config.server.metrics_port) = (0, 0);
    config.master_key = Secret::new("the-master-key-of-these-tests");
    config.node_master_key = Secret::new("the-node-key-of-these-tests");
    config.admin.api_key = Secret::new("the-admin-key-of-these-tests");
    change(&mut config);
    config
}

/// The faults of a configuration, one per line.
fn faults(change: impl FnOnce(&mut Config)) -> String {
    Tls::load(&config(change)).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn files_of_the_listener_that_cannot_be_used_are_named_with_the_reason() {
    let (files, authority) = (Files::new(), Authority::new("tests"));
    let good = authority.server(&["localhost"]);
    let other = authority.server(&["localhost"]);
    let key_of = |text: &str| text.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let expired = authority.server_valid(&["localhost"], -10..-1).certificate;
    let early = authority.server_valid(&["localhost"], 2..10).certificate;
    let chain = format!("{}{}", good.certificate, Authority::valid("old", -9..-2).pem());
    let reversed = format!("{}{}", authority.pem(), good.certificate);
    let broken = good.certificate.replacen("MII", "AAA", 1);
    let client = authority.client("localhost");
    // Certificate, key, key of the configuration, and what is said.
    for (certificate, key, names, problem) in [
        (&expired, &good.key, "cert_file", "CN=localhost) expired on 20"),
        (&early, &good.key, "cert_file", "is not valid before 20"),
        (&chain, &good.key, "cert_file", "a certificate of the chain (CN=old) expired on"),
        (&good.certificate, &other.key, "key_file", "is not the key of the first certificate of"),
        (&reversed, &good.key, "key_file", "the server's own certificate comes first"),
        (&good.key, &good.key, "cert_file", "holds no certificate"),
        (&broken, &good.key, "cert_file", "cannot be read"),
        (&"-----BEGIN CERTIFICATE-----".to_owned(), &good.key, "cert_file", "is not PEM"),
        (&good.certificate, &good.certificate, "key_file", "holds no private key"),
        (&good.certificate, &key_of(&good.key), "key_file", "encrypted"),
        (&client.certificate, &client.key, "cert_file", "lacks serverAuth"),
    ] {
        let own = Issued { certificate: certificate.clone(), key: key.clone() };
        let options = files.listener(&own);
        let text = faults(|config| {
            config.nodes[0].address = "http://127.0.0.1:1".to_owned();
            config.server.tls = options.clone();
        });
        let file = if names == "cert_file" { &options.cert_file } else { &options.key_file };
        assert!(text.contains(&format!("`server.tls.{names}`")), "{text}");
        assert!(text.contains(&file.display().to_string()), "{text}");
        assert!(text.contains(problem), "{problem}: {text}");
        let secret = key.lines().nth(1).unwrap();
        assert!(!text.contains(secret), "nothing of a key is shown: {text}");
    }
}

#[test]
fn faults_of_all_blocks_are_listed_at_once() {
    let (files, authority) = (Files::new(), Authority::new("tests"));
    let mut options = files.listener(&authority.server(&["localhost"]));
    options.client_ca_file = files.write("clients.pem", "no certificate");
    let old = files.write("old.pem", Authority::valid("old", -9..-2).pem());
    let client = authority.client("miroir");
    let server = authority.server(&["miroir"]);
    let text = faults(|config| {
        config.server.tls = options;
        config.node_tls.ca_file = old;
        config.peer_tls.ca_file = files.write("ca.pem", authority.pem());
        config.peer_tls.cert_file = files.write("server.crt", &server.certificate);
        config.peer_tls.key_file = files.write("server.key", &client.key);
    });
    for part in [
        "`server.tls.client_ca_file`: ",
        "clients.pem holds no certificate",
        "`node_tls.ca_file`: ",
        "old.pem holds no certificate that is valid now: CN=old expired on",
        "`peer_tls.cert_file`: ",
        "server.crt holds a certificate that is not for clients",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_authority_that_expired_is_not_trusted_beside_one_that_is() {
    let (files, authority) = (Files::new(), Authority::new("tests"));
    let bundle = format!("{}{}", Authority::valid("old", -9..-2).pem(), authority.pem());
    let path = files.write("ca.pem", bundle);
    let found = miroir::tls::files::authorities("node_tls.ca_file", &path).unwrap();
    assert_eq!((found.roots.len(), found.left_out), (1, 1));
}

#[test]
fn keys_that_say_nothing_without_another_are_refused() {
    let refused = |change: fn(&mut Config), part: &str| {
        let text = ConfigErrors(config(change).validate().unwrap_err()).to_string();
        assert!(text.contains(part), "{part}: {text}");
    };
    refused(
        |c| c.server.tls.cert_file = "tls.crt".into(),
        "`server.tls.cert_file`, `server.tls.key_file`: a certificate is worth nothing",
    );
    refused(
        |c| c.server.tls.client_ca_file = "ca.crt".into(),
        "`server.tls.client_ca_file`, `server.tls.cert_file`: clients can show",
    );
    refused(
        |c| c.node_tls.key_file = "tls.key".into(),
        "`node_tls.cert_file`, `node_tls.key_file`: a key is worth nothing",
    );
    refused(
        |c| c.peer_tls.server_name = "https://a".into(),
        "`peer_tls.server_name`: \"https://a\" is neither a host name nor an address",
    );
    refused(
        |c| {
            (c.server.tls.cert_file, c.server.tls.key_file) = ("a".into(), "b".into());
            c.peer_discovery.advertise_url = "http://miroir-0:7700".into();
        },
        "`peer_discovery.advertise_url`, `server.tls`: other pods would speak plain HTTP",
    );
    let mut faults = Faults::default();
    faults
        .block("node_tls", &ClientTlsOptions { server_name: "10.0.0.1".into(), ..<_>::default() });
    assert_eq!(faults.into_vec(), []);
}

#[test]
fn what_has_no_effect_or_needs_a_name_is_warned_of() {
    let warned = |change: fn(&mut Config), part: &str| {
        let warnings = config(change).warnings().join("\n");
        assert!(warnings.contains(part), "{part}: {warnings}");
    };
    warned(
        |c| {
            c.nodes[0].address = "http://a:7700".into();
            c.node_tls.ca_file = "ca.pem".into();
        },
        "`node_tls`, `nodes[].address`: no node's address begins with `https://`",
    );
    warned(
        |c| {
            (c.server.tls.cert_file, c.server.tls.key_file) = ("a".into(), "b".into());
            c.task_store.backend = TaskStoreBackend::Redis;
        },
        "look for this one's address in its certificate",
    );
    assert!(config(|_| {}).warnings().is_empty());
}

#[tokio::test]
async fn a_server_with_a_file_that_cannot_be_used_is_not_built() {
    let files = Files::new();
    let missing = files.0.path().join("gone.pem");
    let config = config(|config| config.node_tls.ca_file = missing.clone());
    let error = Server::with_stores(config, memory::open()).await.unwrap_err();
    assert!(matches!(error, BuildError::Config(_)), "{error}");
    let text = error.to_string();
    let named = format!("`node_tls.ca_file`: {} cannot be read: No such file", missing.display());
    assert!(text.contains(&named), "{text}");
}

#[test]
fn what_cannot_be_read_again_changes_nothing_and_is_counted_once() {
    let (files, authority) = (Files::new(), Authority::new("tests"));
    let first = authority.server_valid(&["localhost"], -1..30);
    let options = files.listener(&first);
    let tls = Tls::load(&config(|config| {
        config.nodes[0].address = "http://127.0.0.1:1".to_owned();
        config.server.tls = options;
    }))
    .unwrap();
    let (listener, source) = (tls.listener.unwrap(), &tls.sources[0]);
    let recorder = crate::metrics::recorder();
    let handle = recorder.handle();
    let count = |outcome: &str| {
        let name =
            format!("miroir_tls_reloads_total{{block=\"server.tls\",outcome=\"{outcome}\"}} ");
        let scrape = handle.render();
        let line = scrape.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        line.parse::<u64>().unwrap()
    };
    metrics::with_local_recorder(&recorder, || {
        source.show_end();
        let end = listener.not_after();
        let gauge = format!("{{block=\"server.tls\"}} {}\n", end.unix_timestamp());
        assert!(handle.render().contains(&gauge), "{gauge}");

        source.look(false);
        assert_eq!((count("loaded"), count("failed")), (0, 0), "nothing changed");
        files.write("tls.crt", "broken");
        source.look(false);
        source.look(false);
        assert_eq!((count("loaded"), count("failed")), (0, 1), "the same is said once");
        assert_eq!(listener.not_after(), end);
        source.look(true);
        assert_eq!(count("failed"), 2, "who asks is answered");

        // A certificate without its key; then the key comes.
        let second = authority.server_valid(&["localhost"], -1..60);
        files.write("tls.crt", &second.certificate);
        source.look(false);
        assert_eq!((count("failed"), listener.not_after()), (3, end));
        files.write("tls.key", &second.key);
        source.look(false);
        assert_eq!(count("loaded"), 1);
        assert!(listener.not_after() > end);
        let gauge = listener.not_after().unix_timestamp();
        assert!(handle.render().contains(&format!("{{block=\"server.tls\"}} {gauge}\n")));
        std::fs::remove_file(files.0.path().join("tls.key")).unwrap();
        source.look(false);
        assert_eq!(count("failed"), 4);
        // It is as before: that, too, is a change.
        files.write("tls.key", &second.key);
        source.look(false);
        assert_eq!(count("loaded"), 2);
    });
}
