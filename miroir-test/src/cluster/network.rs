//! What the processes of a simulated cluster share: stores, and a network that may hold calls up.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use miroir_api::NodeId;
use miroir_core::lock::Lock;
use time::OffsetDateTime;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use crate::faults::Rng;
use crate::node::Fired;

/// What several processes have in common: stores, and a network.
#[derive(Clone, Debug)]
pub struct Common {
    /// The highest fence given out.
    pub(super) newest: Arc<AtomicU64>,
    begin: Instant,
    pub(super) network: Arc<Lock<Network>>,
    /// Calls that have arrived for which nobody waited any more, until somebody hears of them.
    strays: (mpsc::UnboundedSender<Stray>, Arc<Mutex<mpsc::UnboundedReceiver<Stray>>>),
}

#[derive(Debug)]
pub(super) struct Network {
    rng: Rng,
    /// Changes that arrive late, of a thousand.
    late: u32,
    /// Where clocks of new processes come from, if they are wrong.
    clocks: Option<Rng>,
    pub(super) fired: Fired,
}

/// A call that arrives though its process has ended, or has given it up.
#[derive(Clone, Debug)]
pub struct Stray {
    /// Where it arrives.
    pub node: NodeId,
    /// What it brings.
    pub body: Bytes,
}

/// The most that a call comes late.
const LATEST: Duration = Duration::from_secs(8);

impl Default for Common {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Common {
    /// Stores and a network of which all is well.
    pub fn new(seed: u64) -> Self {
        let network =
            Network { rng: Rng::new(seed ^ 0x1A7E), late: 0, clocks: None, fired: Fired::new() };
        let network = Arc::new(Lock::new(network));
        let (told, heard) = mpsc::unbounded_channel();
        let strays = (told, Arc::new(Mutex::new(heard)));
        Self { newest: Arc::default(), begin: Instant::now(), network, strays }
    }

    /// The stores' clock.
    pub(super) fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + self.begin.elapsed()
    }

    /// So many of a thousand calls arrive late.
    pub(super) fn delay_calls(&self, per_mille: u32) {
        self.network.lock().late = per_mille;
    }

    /// Clocks of processes that start are wrong.
    pub(super) fn skew_clocks(&self, rng: Rng) {
        self.network.lock().clocks = Some(rng);
    }

    /// How often each kind of fault had an effect.
    pub(super) fn fired(&self) -> Fired {
        self.network.lock().fired.clone()
    }

    /// The next call that arrives though nobody waits for it, for one listener.
    pub(super) async fn next_stray(&self) -> Option<Stray> {
        self.strays.1.lock().await.recv().await
    }

    /// Tells of such a call.
    pub(super) fn stray(&self, stray: Stray) {
        let _ = self.strays.0.send(stray);
    }

    /// How late the next call arrives.
    pub(super) fn delay(&self) -> Option<Duration> {
        let mut network = self.network.lock();
        let chance = network.late;
        if chance == 0 || !network.rng.per_mille(chance) {
            return None;
        }
        *network.fired.entry("late send").or_default() += 1;
        Some(network.rng.between(Duration::from_millis(20), LATEST))
    }

    pub(super) fn skew(&self) -> time::Duration {
        let mut network = self.network.lock();
        let Some(rng) = &mut network.clocks else { return time::Duration::ZERO };
        time::Duration::seconds(rng.below(7200) as i64 - 3600)
    }
}
