//! What a node does otherwise than one in order while it answers: tasks that fail or take long,
//! tasks it forgets, bodies it refuses.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use super::errors::{error, own_fault};
use crate::faults::Rng;

/// The longest body that Meilisearch takes by default, in bytes.
pub const BODY_LIMIT: usize = 100_000_000;

const FASTEST_TASK: Duration = Duration::from_millis(2);
const SLOWEST_TASK: Duration = Duration::from_millis(60);

/// How often each kind of fault had an effect on a node, by the fault's name.
pub type Fired = std::collections::BTreeMap<&'static str, u64>;

/// All of them, as they are now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quirks {
    /// Tasks that fail, in a thousand, and the code they fail with.
    pub(super) fails: Option<(u32, &'static str)>,
    /// Time between two clean-ups of finished tasks.
    pub(super) forgets: Option<Duration>,
    /// When they were cleaned up last.
    pub(super) forgot: Option<Instant>,
    /// How long tasks take, if not as long as usual.
    pub(super) slow: Option<(Duration, Duration)>,
    /// The longest body it takes, in bytes.
    pub(super) body_limit: usize,
    /// Whether it has no master key, and so no keys.
    pub(super) keyless: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            fails: None,
            forgets: None,
            forgot: None,
            slow: None,
            body_limit: BODY_LIMIT,
            keyless: false,
        }
    }
}

impl Quirks {
    /// How long the next task takes, and whether that is longer than usual.
    pub(super) fn took(&self, rng: &mut Rng) -> (Duration, bool) {
        match self.slow {
            Some((from, to)) => (rng.between(from, to), true),
            None => (rng.between(FASTEST_TASK, SLOWEST_TASK), false),
        }
    }

    /// What the task that is due fails with, if it does.
    pub(super) fn failure(&self, rng: &mut Rng) -> Option<Value> {
        let (chance, code) = self.fails?;
        rng.per_mille(chance).then(|| own_fault(code))
    }

    /// Whether it is time to clean up finished tasks.
    pub(super) fn cleans_up(&mut self) -> bool {
        let Some(every) = self.forgets else { return false };
        let now = Instant::now();
        if self.forgot.is_some_and(|last| last + every > now) {
            return false;
        }
        self.forgot = Some(now);
        true
    }

    /// The answer to a body that is too long.
    pub(super) fn too_long(&self, length: usize) -> Option<(StatusCode, Value)> {
        let limit = self.body_limit;
        let size = match limit % 1_000_000 {
            0 => format!("{} MB", limit / 1_000_000),
            _ => format!("{limit} B"),
        };
        let text = format!(
            "The provided payload reached the size limit. The maximum accepted payload size is {size}."
        );
        (length > limit).then(|| (StatusCode::PAYLOAD_TOO_LARGE, error("payload_too_large", &text)))
    }

    /// The answer of a node without a master key to whoever asks for keys.
    pub(super) fn no_keys(&self, path: &str) -> Option<(StatusCode, Value)> {
        let asked = self.keyless && path.split('/').nth(1) == Some("keys");
        let text = "Meilisearch is running without a master key. To access this API endpoint, you \
                    must have set a master key at launch.";
        asked.then(|| (StatusCode::UNAUTHORIZED, error("missing_master_key", text)))
    }
}
