//! The worker that reads files again: at once when the process is sent SIGHUP, and every ten seconds
//! where their contents changed. What they are, not when they were written: Kubernetes changes a
//! mounted secret by a symbolic link.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use miroir::clock;
use miroir::options::ConfigError;
use miroir::tls::{ClientTls, ClientTlsOptions};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::Listener;

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(10);

/// So long before its end a certificate is worth a word.
const SOON: time::Duration = time::Duration::days(14);

/// What is read again.
#[derive(Clone, Debug)]
enum Loaded {
    Listener(Listener),
    Client(ClientTls),
}

impl Loaded {
    fn reload(&self) -> Result<(), ConfigError> {
        match self {
            Self::Listener(listener) => listener.reload(),
            Self::Client(client) => client.reload(),
        }
    }

    fn not_after(&self) -> Option<OffsetDateTime> {
        match self {
            Self::Listener(listener) => Some(listener.not_after()),
            Self::Client(client) => client.not_after(),
        }
    }
}

/// How near the end of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Far,
    Soon,
    Past,
}

impl End {
    fn of(not_after: OffsetDateTime, now: OffsetDateTime) -> Self {
        match not_after - now {
            left if left.is_negative() => Self::Past,
            left if left < SOON => Self::Soon,
            _ => Self::Far,
        }
    }
}

#[derive(Debug)]
struct State {
    /// Of the contents that were tried last.
    seen: u64,
    /// Why they could not be used, if so.
    problem: Option<String>,
    /// What was said of the certificate's end.
    end: End,
}

/// The files of one block.
pub(crate) struct Source {
    block: &'static str,
    files: Vec<PathBuf>,
    loaded: Loaded,
    state: Mutex<State>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("block", &self.block).finish_non_exhaustive()
    }
}

/// A digest of what files hold, or that they cannot be read.
pub(super) fn contents<'a>(files: impl Iterator<Item = &'a Path>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file).map_err(|error| error.kind()).hash(&mut hasher);
    }
    hasher.finish()
}

impl Source {
    fn new<'a>(
        block: &'static str,
        files: impl Iterator<Item = &'a Path>,
        loaded: Loaded,
        seen: u64,
    ) -> Self {
        let state = Mutex::new(State { seen, problem: None, end: End::Far });
        Self { block, files: files.map(Path::to_owned).collect(), loaded, state }
    }

    pub(super) fn of_listener(listener: Listener, seen: u64) -> Self {
        let options = listener.options().clone();
        Self::new("server.tls", options.files(), Loaded::Listener(listener), seen)
    }

    pub(super) fn of_client(
        block: &'static str,
        client: ClientTls,
        options: &ClientTlsOptions,
        seen: u64,
    ) -> Self {
        Self::new(block, options.files(), Loaded::Client(client), seen)
    }

    /// Reads the files again if they changed, if they could not be used the last time, or if it is
    /// asked for.
    pub(super) fn look(&self, asked: bool) {
        let seen = contents(self.files.iter().map(PathBuf::as_path));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = seen != state.seen;
        state.seen = seen;
        // What could not be used may be usable by now: a certificate that was not valid yet.
        if changed || asked || state.problem.is_some() {
            let outcome = match self.loaded.reload() {
                Ok(()) => {
                    state.problem = None;
                    tracing::info!(block = self.block, "certificates and keys were read again");
                    Some("loaded")
                }
                Err(fault) => {
                    let problem = fault.to_string();
                    let news = asked || changed || state.problem.as_ref() != Some(&problem);
                    if news {
                        tracing::warn!(
                            block = self.block,
                            problem,
                            "certificates and keys could not be read again: those from before stay in use"
                        );
                    }
                    state.problem = Some(problem);
                    news.then_some("failed")
                }
            };
            if let Some(outcome) = outcome {
                let labels = [("block", self.block), ("outcome", outcome)];
                metrics::counter!("miroir_tls_reloads_total", &labels).increment(1);
            }
        }
        drop(state);
        self.show_end();
    }

    /// Shows until when the certificate is valid, and says so once when that is soon.
    pub(super) fn show_end(&self) {
        let Some(not_after) = self.loaded.not_after() else { return };
        metrics::gauge!("miroir_certificate_expiry_timestamp_seconds", "block" => self.block)
            .set(not_after.unix_timestamp() as f64);
        let end = End::of(not_after, clock::now());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.end, end) == end {
            return;
        }
        let (block, until) = (self.block, clock::rfc3339(not_after));
        match end {
            End::Far => {}
            End::Soon => tracing::warn!(block, until, "a certificate in use expires soon"),
            End::Past => tracing::error!(block, until, "a certificate in use has expired"),
        }
    }
}

/// From now on SIGHUP does not end the process, if there is something to read again: before the
/// worker's turn comes.
pub(crate) fn hear(sources: &[Source]) {
    if !sources.is_empty() {
        drop(Asked::new());
    }
}

/// Looks at all files until cancelled.
pub(crate) async fn run(sources: Arc<Vec<Source>>, stop: CancellationToken) {
    if sources.is_empty() {
        stop.cancelled().await;
        return;
    }
    sources.iter().for_each(Source::show_end);
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut asked = Asked::new();
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            () = asked.wait() => true,
            _ = ticks.tick() => false,
        };
        let sources = Arc::clone(&sources);
        let look = move || sources.iter().for_each(|source| source.look(asked));
        if let Err(error) = tokio::task::spawn_blocking(look).await {
            tracing::error!(%error, "certificates were not looked at");
        }
    }
}

/// SIGHUP, where there is one.
struct Asked {
    #[cfg(unix)]
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Asked {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = signal(SignalKind::hangup());
        if let Err(error) = &hangup {
            tracing::warn!(%error, "SIGHUP is not heard; files are looked at every ten seconds");
        }
        Self { hangup: hangup.ok() }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    async fn wait(&mut self) {
        #[cfg(unix)]
        if let Some(hangup) = &mut self.hangup
            && hangup.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
