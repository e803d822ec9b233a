//! Whether whoever answers at a node's address has shown that its disk is the node's.
//!
//! A node that was restarted may have another disk than before, and its health check notices that at
//! its next turn only. A restart ends every connection, so the connection that is opened while there is
//! no other one carries nothing before its process has shown the node's identity key, and that its
//! tasks are not numbered lower than those that are known. Connections opened beside it are to the same
//! process, and are not asked.
//!
//! A process in front of a node that speaks for several of them is not seen through.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::{Connected, Connection};
use miroir_api::NodeId;
use miroir_core::lock::Lock;
use serde::Deserialize;
use tower::Service;

use super::connections::{Counted, exchange};
use crate::error::BoxError;
use crate::tls;

/// Most bytes of an answer by which a node shows what it has.
const MOST: usize = 64 << 20;

/// What is known of the disk of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownDisk {
    /// Uid of the API key that the disk has and no other one; `None` while none was made.
    pub key: Option<String>,
    /// Highest uid of its tasks that is known; `None` before the first.
    pub highest: Option<u32>,
}

type Tell = dyn Fn(&NodeId) -> KnownDisk + Send + Sync;

/// What is known of the disks of all nodes, for their clients: nothing before somebody
/// [tells](KnownDisks::told_by). Clones are the same.
#[derive(Clone, Default)]
pub struct KnownDisks(Arc<OnceLock<Box<Tell>>>);

impl fmt::Debug for KnownDisks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownDisks").field("told", &self.0.get().is_some()).finish()
    }
}

impl KnownDisks {
    /// Says who knows. The first one who does is asked, each time a node has to show its disk.
    pub fn told_by(&self, tell: impl Fn(&NodeId) -> KnownDisk + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(tell));
    }

    /// What a node has to show now.
    pub fn of(&self, node: &NodeId) -> KnownDisk {
        self.0.get().map_or_else(KnownDisk::default, |tell| tell(node))
    }
}

/// Why whoever answers is not taken for the node.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unproven(String);

impl Unproven {
    /// Whether an error of a client is one.
    pub(super) fn is_cause_of(error: &(dyn std::error::Error + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<Self>() {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// Connections that are open beside each other, since one of them was proven.
#[derive(Debug, Default)]
struct Open {
    /// Which succession of connections this is.
    turn: u64,
    connections: u64,
}

/// The connections with one node.
pub(super) struct Link {
    node: NodeId,
    base: Arc<str>,
    disks: KnownDisks,
    /// Connections on which the node is asked who it is.
    asks: Hyper<Counted, Full<Bytes>>,
    /// Longest that it may take to answer that.
    patience: Duration,
    open: Lock<Open>,
    /// Whether there is an open connection that was proven.
    is_proven: AtomicBool,
    /// What calls show the node, for the question that comes before them.
    credentials: Lock<Option<HeaderValue>>,
    /// Held by who asks.
    asking: tokio::sync::Mutex<()>,
    /// How often the answer was not right, or there was none.
    failed: AtomicU64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(
        node: NodeId,
        base: Arc<str>,
        disks: KnownDisks,
        asks: Hyper<Counted, Full<Bytes>>,
        patience: Duration,
    ) -> Self {
        Self {
            node,
            base,
            disks,
            asks,
            patience,
            open: Lock::default(),
            is_proven: AtomicBool::new(false),
            credentials: Lock::default(),
            asking: tokio::sync::Mutex::default(),
            failed: AtomicU64::new(0),
        }
    }

    /// A call is about to be sent: where that may need a proof, it is asked for with these credentials.
    pub(super) fn prepare(&self, headers: &HeaderMap) {
        if !self.is_proven.load(Ordering::Relaxed) {
            *self.credentials.lock() = headers.get(AUTHORIZATION).cloned();
        }
    }

    /// The process may have ended although connections with it have not: the next one is asked.
    pub(super) fn doubt(&self) {
        self.begin(0);
    }

    fn begin(&self, connections: u64) -> u64 {
        let mut open = self.open.lock();
        *open = Open { turn: open.turn + 1, connections };
        self.is_proven.store(connections > 0, Ordering::Relaxed);
        open.turn
    }

    /// Counts one more connection, if there is one that was proven.
    fn join(self: &Arc<Self>) -> Option<Counts> {
        let mut open = self.open.lock();
        if open.connections == 0 {
            return None;
        }
        open.connections += 1;
        Some(Counts { link: Arc::clone(self), turn: open.turn })
    }

    /// Lets a connection that is open carry calls.
    async fn admit(self: &Arc<Self>) -> Result<Counts, BoxError> {
        if let Some(counts) = self.join() {
            return Ok(counts);
        }
        let before = self.failed.load(Ordering::Relaxed);
        let _asking = self.asking.lock().await;
        if let Some(counts) = self.join() {
            return Ok(counts);
        }
        if self.failed.load(Ordering::Relaxed) != before {
            // Who asked meanwhile got no good answer: nor would everybody who waited, one by one.
            return Err(Unproven("it has not shown its disk to another call".to_owned()).into());
        }
        if let Err(error) = self.prove().await {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let id = self.node.to_string();
            metrics::counter!("miroir_node_connections_unproven_total", "node_id" => id)
                .increment(1);
            tracing::warn!(
                node = %self.node, %error,
                "the node has not shown that its disk is its own: nothing is sent to it"
            );
            return Err(error);
        }
        Ok(Counts { link: Arc::clone(self), turn: self.begin(1) })
    }

    async fn prove(&self) -> Result<(), BoxError> {
        let known = self.disks.of(&self.node);
        let proof = async {
            tokio::try_join!(self.prove_key(&known), self.prove_numbers(&known)).map(drop)
        };
        match tokio::time::timeout(self.patience, proof).await {
            Ok(proof) => proof,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    async fn prove_key(&self, known: &KnownDisk) -> Result<(), BoxError> {
        let Some(key) = &known.key else { return Ok(()) };
        let (status, _) = self.ask(&format!("/keys/{key}")).await?;
        if status.is_success() || shows_nothing(status) {
            return Ok(());
        }
        Err(Unproven(format!("its identity key {key} is not there ({status})")).into())
    }

    async fn prove_numbers(&self, known: &KnownDisk) -> Result<(), BoxError> {
        #[derive(Deserialize)]
        struct Newest {
            uid: u32,
        }
        #[derive(Deserialize)]
        struct Page {
            results: Vec<Newest>,
        }
        let Some(highest) = known.highest else { return Ok(()) };
        let (status, body) = self.ask("/tasks?limit=1").await?;
        if shows_nothing(status) {
            return Ok(());
        }
        let newest = serde_json::from_slice::<Page>(&body).ok();
        let newest = newest.and_then(|page| page.results.first().map(|task| task.uid));
        if newest.is_some_and(|newest| newest >= highest) {
            return Ok(());
        }
        Err(Unproven(format!("its newest task is {newest:?}, and {highest} is known ({status})"))
            .into())
    }

    async fn ask(&self, path: &str) -> Result<(StatusCode, Bytes), BoxError> {
        let mut request =
            http::Request::get(format!("{}{path}", self.base)).body(Full::default())?;
        if let Some(credentials) = self.credentials.lock().clone() {
            request.headers_mut().insert(AUTHORIZATION, credentials);
        }
        let (parts, body) = exchange(&self.asks, request).await?.into_parts();
        Ok((parts.status, Limited::new(body, MOST).collect().await?.to_bytes()))
    }
}

/// Whether a node keeps no keys, or refuses Miroir's: calls are told so themselves.
fn shows_nothing(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Counts an open connection until it is dropped.
#[derive(Debug)]
struct Counts {
    link: Arc<Link>,
    turn: u64,
}

impl Drop for Counts {
    fn drop(&mut self) {
        let mut open = self.link.open.lock();
        if open.turn == self.turn {
            open.connections -= 1;
            self.link.is_proven.store(open.connections > 0, Ordering::Relaxed);
        }
    }
}

/// Opens connections that carry calls.
#[derive(Clone, Debug)]
pub(super) struct Proven {
    inner: Counted,
    link: Arc<Link>,
}

impl Proven {
    pub(super) fn new(inner: Counted, link: Arc<Link>) -> Self {
        Self { inner, link }
    }
}

impl Service<Uri> for Proven {
    type Response = Kept;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Kept, BoxError>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (opening, link) = (self.inner.call(uri), Arc::clone(&self.link));
        Box::pin(async move {
            // Open before the question: whoever answers that has accepted it, or it is dead.
            let stream = opening.await?;
            // Who is to notice that other connections have ended goes first.
            tokio::task::yield_now().await;
            Ok(Kept { stream, _counts: link.admit().await? })
        })
    }
}

/// A connection that carries calls.
#[derive(Debug)]
pub(super) struct Kept {
    stream: tls::Stream,
    _counts: Counts,
}

impl Kept {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut tls::Stream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Connection for Kept {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for Kept {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl Write for Kept {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }
}
