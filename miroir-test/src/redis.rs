//! A real Redis for tests: a child process on a loopback port, in a directory of its own.
//!
//! The program is `redis-server` from the path, or the one of `MIROIR_TEST_REDIS` (a
//! `valkey-server` will do). Where there is none, [`RedisServer::start`] panics and names the
//! package: what needs Redis is not skipped.
//!
//! Nothing is left behind. The server is the child of a shell that reads from a pipe of the test
//! process; when that process ends, in whichever way, the shell kills the server and removes the
//! directory.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use miroir_core::lock::Lock;

/// How long a server may take to start or to do what it is told.
const LIMIT: Duration = Duration::from_secs(30);

/// `$1` is the directory, the rest is the server's command line. Reads one word per line.
const GUARD: &str = r#"
dir=$1; shift
pid=
while read -r word; do
    case $word in
        START) "$@" & pid=$! ;;
        KILL) kill -s KILL "$pid"; wait "$pid" 2>/dev/null; pid= ;;
        *) kill -s "$word" "$pid" ;;
    esac
    echo "did $word"
done
[ -z "$pid" ] || kill -s KILL "$pid" 2>/dev/null
wait
rm -rf -- "$dir"
"#;

/// A Redis server; see the module's documentation.
pub struct RedisServer {
    port: u16,
    directory: PathBuf,
    guard: Lock<Guard>,
}

struct Guard {
    child: Child,
    /// Taken when the server is to end.
    words: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    /// Everything it said so far.
    log: Vec<String>,
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer").field("port", &self.port).finish_non_exhaustive()
    }
}

impl RedisServer {
    /// Starts a server with these options after the usual ones (nothing is kept on disk), and waits
    /// until it accepts connections. `{port}` in an option is its port.
    ///
    /// # Panics
    /// When there is no such program, or it does not start.
    pub fn start(options: &[&str]) -> Self {
        let program = program();
        for _ in 0..20 {
            // Somebody else may take the port before the server does.
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a free loopback port")
                .port();
            let directory = tempfile::tempdir().expect("a temporary directory").keep();
            let mut guard = Guard::new(&program, port, &directory, options);
            if guard.begin() {
                return Self { port, directory, guard: Lock::new(guard) };
            }
        }
        panic!("{} found no port to listen on", program.display());
    }

    /// One server for the whole test program. Tests share it and differ by key prefix.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<RedisServer> = LazyLock::new(|| RedisServer::start(&[]));
        &SHARED
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, without credentials.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it keeps what it is told to keep.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub fn kill(&self) {
        self.with(|guard| guard.tell("KILL"));
    }

    /// Starts it again after [`RedisServer::kill`], on the same port and directory.
    pub fn start_again(&self) {
        assert!(self.with(Guard::begin), "the port was taken meanwhile");
    }

    /// Stops it from doing anything, as an overloaded machine would; connections stay.
    pub fn pause(&self) {
        self.with(|guard| guard.tell("STOP"));
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.with(|guard| guard.tell("CONT"));
    }

    fn with<T>(&self, f: impl FnOnce(&mut Guard) -> T) -> T {
        f(&mut self.guard.lock())
    }
}

/// The program to start.
fn program() -> PathBuf {
    let named = std::env::var_os("MIROIR_TEST_REDIS").map(PathBuf::from);
    let program = named.unwrap_or_else(|| "redis-server".into());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = program.components().count() > 1 && program.is_file()
        || std::env::split_paths(&path).any(|directory| directory.join(&program).is_file());
    assert!(
        found,
        "`{}` is not installed: install the package `redis-server` (`cargo xtask test` does), or \
         name a redis-server or valkey-server in MIROIR_TEST_REDIS",
        program.display()
    );
    program
}

impl Guard {
    fn new(program: &Path, port: u16, directory: &Path, options: &[&str]) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(directory)
            .arg(program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(directory)
            .args(options.iter().map(|option| option.replace("{port}", &port.to_string())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C reaches the test alone; this ends when the test has.
            .process_group(0)
            .spawn()
            .expect("a shell");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let (sender, lines) = mpsc::channel();
        // Reads on to the end: a full pipe would block the server.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let words = child.stdin.take();
        Self { child, words, lines, log: Vec::new() }
    }

    /// Starts the server; `false` if somebody else has its port.
    fn begin(&mut self) -> bool {
        let from = self.log.len();
        self.tell("START");
        let taken = "Failed listening on port";
        let line = self.wait(from, |line| {
            line.contains("Ready to accept connections") || line.contains(taken)
        });
        !line.contains(taken)
    }

    fn tell(&mut self, word: &str) {
        let words = self.words.as_mut().expect("taken only when dropped");
        writeln!(words, "{word}").expect("the guard of the server is there");
        let done = format!("did {word}");
        self.wait(self.log.len(), |line| line == done);
    }

    /// Waits for a line of the server or its guard, the one at `from` or later.
    fn wait(&mut self, from: usize, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            if let Some(line) = self.log[from..].iter().find(|line| wanted(line)) {
                return line.clone();
            }
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => self.log.push(line),
                Err(error) => panic!("the Redis server: {error}; it said: {:#?}", self.log),
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.words.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_server_starts_obeys_and_is_gone_when_dropped() {
        let server = RedisServer::start(&["--appendonly", "yes"]);
        let address = format!("127.0.0.1:{}", server.port());
        let directory = server.directory().to_owned();
        TcpStream::connect(&address).unwrap();
        server.kill();
        assert!(TcpStream::connect(&address).is_err());
        assert!(directory.exists());
        server.start_again();
        TcpStream::connect(&address).unwrap();
        drop(server);
        assert!(TcpStream::connect(&address).is_err());
        assert!(!directory.exists());
    }
}
