//! TLS on the wire: the listener and its clients, nodes that ask for certificates, and files that
//! change while the program runs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use miroir::tls::{ClientTls, ClientTlsOptions, Connector};
use miroir_server::config::{Config, NodeConfig};
use miroir_test::certificates::{Authority, Issued};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

use crate::support::{ADMIN, FakeNode, MASTER, NODE, Process, Running, eventually, keyed};

const PATIENCE: Duration = Duration::from_secs(20);
const LOCAL: &[&str] = &["localhost", "127.0.0.1"];

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Writes a certificate and its key as `<name>.crt` and `<name>.key`.
    fn own(&self, name: &str, own: &Issued) -> (PathBuf, PathBuf) {
        let key = self.write(&format!("{name}.key"), &own.key);
        (self.write(&format!("{name}.crt"), &own.certificate), key)
    }

    fn trust(&self, name: &str, authority: &Authority) -> ClientTlsOptions {
        let ca_file = self.write(&format!("{name}.ca"), &authority.pem());
        ClientTlsOptions { ca_file, ..ClientTlsOptions::default() }
    }
}

/// One request on a connection of its own; the text says why there was none.
async fn get(tls: &ClientTlsOptions, url: &str) -> Result<(u16, String), String> {
    // Reading the system's authorities takes long, and plain HTTP needs none.
    let plain = url.starts_with("http://");
    let tls =
        if plain { ClientTls::default() } else { ClientTls::load("test", tls.clone()).unwrap() };
    with(tls, url).await
}

async fn with(tls: ClientTls, url: &str) -> Result<(u16, String), String> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(Connector::new(tls, PATIENCE));
    let request = Request::get(url)
        .header("authorization", format!("Bearer {ADMIN}"))
        .body(Full::default())
        .unwrap();
    let exchange = async {
        let failed = |error: hyper_util::client::legacy::Error| {
            miroir::tls::failure(&error, error.is_connect())
                .map_or_else(|| format!("{error:?}"), |(failure, _)| failure.label().to_owned())
        };
        let response = client.request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
        Ok((status, String::from_utf8(body.to_bytes().to_vec()).unwrap()))
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
}

async fn health(tls: &ClientTlsOptions, base: &str) -> Result<u16, String> {
    get(tls, &format!("{base}/health")).await.map(|(status, _)| status)
}

/// A server whose listener has a certificate of this authority.
async fn over_tls(files: &Files, authority: &Authority) -> Running {
    let (certificate, key) = files.own("tls", &authority.server(LOCAL));
    Running::start(1, |config| {
        config.server.tls.cert_file = certificate;
        config.server.tls.key_file = key;
    })
    .await
}

#[tokio::test]
async fn the_listener_speaks_tls_and_says_so_to_who_does_not() {
    let (files, authority) = (Files::new(), Authority::new("tests"));
    let mut server = over_tls(&files, &authority).await;
    let base = server.base.replace("http:", "https:");
    let trusting = files.trust("own", &authority);
    assert_eq!(health(&trusting, &base).await, Ok(200));
    // A program may bring its own configuration.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let own = rustls::ClientConfig::builder_with_provider(miroir::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert_eq!(with(ClientTls::of(own), &format!("{base}/health")).await.unwrap().0, 200);
    let stranger = files.trust("else", &Authority::new("others"));
    assert_eq!(health(&stranger, &base).await, Err("tls_untrusted".to_owned()));
    // The admin API is served by the same listener.
    assert_eq!(get(&trusting, &format!("{base}/_miroir/topology")).await.unwrap().0, 200);

    let plain = server.get("/health", &[]).await;
    assert_eq!((plain.status, plain.header("connection")), (400, Some("close")));
    let json = plain.json();
    assert_eq!(json["code"], "bad_request");
    assert!(json["message"].as_str().unwrap().contains("https://"), "{json}");
    let early = [("x-miroir-forwarded", "1")];
    assert_eq!(server.get("/health", &early).await.json()["code"], "miroir_no_leader");

    // Metrics have a listener of their own, without TLS.
    let scrape = server.get(&format!("{}/metrics", server.metrics), &[]).await;
    let text = String::from_utf8(scrape.body.to_vec()).unwrap();
    assert!(!text.contains("handshakes_failed_total{reason=\"plain_http\"} 0"), "{text}");
    server.stop();
    server.ended().await;
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_holds_up_nobody() {
    let (files, authority) = (Files::new(), Authority::new("tests"));
    let mut server = over_tls(&files, &authority).await;
    let trusting = files.trust("own", &authority);
    let address = server.base.trim_start_matches("http://").to_owned();
    // Says nothing, and says half of a record; both stay.
    let _silent = TcpStream::connect(&address).await.unwrap();
    let mut half = TcpStream::connect(&address).await.unwrap();
    half.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut garbage = TcpStream::connect(&address).await.unwrap();
    garbage.write_all(&[0; 64]).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, garbage.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is closed");
    assert_eq!(health(&trusting, &format!("https://{address}")).await, Ok(200));
    // Nor are they waited for at the end.
    server.stop();
    server.ended().await;
}

#[tokio::test]
async fn clients_show_a_certificate_where_one_is_asked_for() {
    let (files, authority) = (Files::new(), Authority::new("tests"));
    let clients = Authority::new("clients");
    let (certificate, key) = files.own("tls", &authority.server(LOCAL));
    let client_ca_file = files.trust("clients", &clients).ca_file;
    let server = Running::start(1, |config| {
        config.server.tls.cert_file = certificate;
        config.server.tls.key_file = key;
        config.server.tls.client_ca_file = client_ca_file;
    })
    .await;
    let base = server.base.replace("http:", "https:");
    let nobody = files.trust("own", &authority);
    assert_eq!(health(&nobody, &base).await, Err("tls_refused".to_owned()));
    let showing = |name: &str, own: &Issued| {
        let (cert_file, key_file) = files.own(name, own);
        ClientTlsOptions { cert_file, key_file, ..nobody.clone() }
    };
    let own = showing("known", &clients.client("app"));
    assert_eq!(health(&own, &base).await, Ok(200));
    let other = showing("unknown", &Authority::new("others").client("app"));
    assert_eq!(health(&other, &base).await, Err("tls_refused".to_owned()));
}

/// The state and the error of the one node of a server.
async fn node_of(server: &Process) -> (String, Option<String>) {
    let url = format!("http://{}/_miroir/topology", server.addresses.client);
    let (status, text) = get(&ClientTlsOptions::default(), &url).await.unwrap();
    assert_eq!(status, 200, "{text}");
    let topology: Value = serde_json::from_str(&text).unwrap();
    let node = &topology["nodes"][0];
    (node["status"].as_str().unwrap().to_owned(), node["error"].as_str().map(str::to_owned))
}

fn over(address: String, directory: &Path, tls: ClientTlsOptions) -> Config {
    let yaml = "miroir: {server: {bind: 127.0.0.1, port: 0, metrics_port: 0}, \
                health: {interval_ms: 50, timeout_ms: 50, recovery_threshold: 1}}";
    let mut config = keyed(yaml, directory);
    config.nodes = vec![NodeConfig { id: "a".to_owned(), address, replica_group: 0 }];
    config.node_tls = tls;
    config
}

#[tokio::test]
async fn a_node_is_called_over_tls_with_a_certificate() {
    let (files, authority) = (Files::new(), Authority::new("nodes"));
    let node = FakeNode::over_tls(authority.server(LOCAL).acceptor(Some(&authority))).await;
    let (cert_file, key_file) = files.own("miroir", &authority.client("miroir"));
    let tls = ClientTlsOptions { cert_file, key_file, ..files.trust("nodes", &authority) };
    let address = format!("https://{}", node.address);
    let server = Process::start(over(address, files.0.path(), tls)).await;
    let ready = format!("http://{}/_miroir/ready", server.addresses.client);
    let none = ClientTlsOptions::default();
    eventually(async || get(&none, &ready).await.unwrap().0 == 200).await;
    assert_eq!(node_of(&server).await, ("active".to_owned(), None));
    assert!(node.keys.load(std::sync::atomic::Ordering::SeqCst), "the node key is sent");
}

/// Every way in which there is no TLS has a name, fails the node, and is never made up for by plain
/// HTTP.
#[tokio::test]
async fn a_node_without_tls_is_unreachable_and_says_why() {
    let (files, authority) = (Files::new(), Authority::new("nodes"));
    let stranger = Authority::new("others");
    let trusting = files.trust("nodes", &authority);
    let start = async |own: &Issued, clients: Option<&Authority>| {
        FakeNode::over_tls(own.acceptor(clients)).await
    };
    let good = authority.server(LOCAL);
    let named = authority.server(&["meilisearch"]);
    let cases = [
        (start(&stranger.server(LOCAL), None).await, "tls_untrusted"),
        (start(&authority.server_valid(LOCAL, -9..-2), None).await, "tls_expired"),
        (start(&authority.server_valid(LOCAL, 2..9), None).await, "tls_expired"),
        (start(&named, None).await, "tls_wrong_name"),
        (start(&good, Some(&authority)).await, "tls_refused"),
        (FakeNode::start().await, "tls_handshake"),
    ];
    for (at, (node, why)) in cases.iter().enumerate() {
        let directory = files.path(&format!("{at}"));
        std::fs::create_dir(&directory).unwrap();
        let address = format!("https://{}", node.address);
        let server = Process::start(over(address, &directory, trusting.clone())).await;
        let failed = ("failed".to_owned(), Some((*why).to_owned()));
        eventually(async || node_of(&server).await == failed).await;
        assert_eq!(node.asked.load(std::sync::atomic::Ordering::SeqCst), 0, "{why}");
    }

    // The name that all nodes' certificates have.
    let node = start(&named, None).await;
    let tls = ClientTlsOptions { server_name: "meilisearch".to_owned(), ..trusting };
    let address = format!("https://{}", node.address);
    let server = Process::start(over(address, files.0.path(), tls)).await;
    eventually(async || node_of(&server).await == ("active".to_owned(), None)).await;
}

/// The program with a listener over TLS.
struct Program {
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
    base: String,
    metrics: String,
}

fn program(files: &Files, node: &FakeNode) -> Command {
    let yaml = format!(
        "miroir: {{nodes: [{{id: a, address: \"http://{}\"}}], server: {{bind: 127.0.0.1, port: 0, \
         metrics_port: 0, tls: {{cert_file: tls.crt, key_file: tls.key}}}}}}",
        node.address
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_miroir-server"));
    command
        .env_clear()
        .env("MIROIR_MASTER_KEY", MASTER)
        .env("MIROIR_NODE_MASTER_KEY", NODE)
        .env("MIROIR_ADMIN_API_KEY", ADMIN)
        .current_dir(files.0.path())
        .arg("--config")
        .arg(files.write("miroir.yaml", &yaml))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Program {
    async fn start(files: &Files, node: &FakeNode) -> Self {
        let mut child = program(files, node).spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut program = Self { child, log, base: String::new(), metrics: String::new() };
        let serving = program.says("serving").await;
        assert_eq!(serving["scheme"], "https");
        program.base = format!("https://{}", serving["client"].as_str().unwrap());
        program.metrics = format!("http://{}/metrics", serving["metrics"].as_str().unwrap());
        program
    }

    /// The next line of the log with this message.
    async fn says(&mut self, message: &str) -> Value {
        let reading = async {
            loop {
                let line = self.log.next_line().await.unwrap().expect("it runs");
                let entry: Value = serde_json::from_str(&line).unwrap();
                if entry["message"].as_str().unwrap().contains(message) {
                    return entry;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{message}"))
    }

    async fn hang_up(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().await.unwrap().success());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_certificate_is_changed_without_a_restart_and_a_broken_one_changes_nothing() {
    let (files, first, second) = (Files::new(), Authority::new("first"), Authority::new("second"));
    let node = FakeNode::start().await;
    files.own("tls", &first.server(LOCAL));
    let (by_first, by_second) = (files.trust("first", &first), files.trust("second", &second));
    let mut program = Program::start(&files, &node).await;
    assert_eq!(health(&by_first, &program.base).await, Ok(200));

    files.own("tls", &second.server(LOCAL));
    program.hang_up().await;
    program.says("read again").await;
    assert_eq!(health(&by_second, &program.base).await, Ok(200));
    assert_eq!(health(&by_first, &program.base).await, Err("tls_untrusted".to_owned()));

    files.own("tls", &second.server_valid(LOCAL, -9..-2));
    program.hang_up().await;
    let said = program.says("those from before stay in use").await;
    assert_eq!((&said["level"], &said["block"]), (&"warn".into(), &"server.tls".into()), "{said}");
    let problem = said["problem"].as_str().unwrap();
    assert!(problem.contains("`server.tls.cert_file`: tls.crt"), "{problem}");
    assert!(problem.contains("expired on"), "{problem}");
    assert_eq!(health(&by_second, &program.base).await, Ok(200));

    let scrape = get(&by_second, &program.metrics).await.unwrap().1;
    for line in [
        "miroir_tls_reloads_total{block=\"server.tls\",outcome=\"loaded\"} 1",
        "miroir_tls_reloads_total{block=\"server.tls\",outcome=\"failed\"} 1",
    ] {
        assert!(scrape.lines().any(|other| other == line), "{line}\n{scrape}");
    }
}

#[tokio::test]
async fn the_program_does_not_start_with_a_certificate_that_cannot_be_used() {
    let (files, authority) = (Files::new(), Authority::new("tests"));
    let node: Arc<FakeNode> = FakeNode::start().await;
    let good = authority.server(LOCAL);
    let wrong_key = Issued { key: authority.server(LOCAL).key, ..good.clone() };
    for (own, key, reason) in [
        (authority.server_valid(LOCAL, -9..-2), "`server.tls.cert_file`", "tls.crt cannot be used"),
        (wrong_key, "`server.tls.key_file`", "tls.key is not the key of the first certificate"),
    ] {
        files.own("tls", &own);
        let output = program(&files, &node).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(key) && text.contains(reason), "{text}");
    }
    std::fs::remove_file(files.path("tls.key")).unwrap();
    let output = program(&files, &node).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("tls.key cannot be read: No such file"), "{text}");
}
