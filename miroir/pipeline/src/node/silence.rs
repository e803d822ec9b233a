//! Whether a node has fallen silent: calls are under way and none is answered, or its connections
//! are refused.
//!
//! Any answer counts as a sign of life, a refusal of the request included. A call that is given up
//! or that runs out of time is none.

use std::time::Duration;

use tokio::time::Instant;

/// A node is not asked for this long: what was given up before says nothing of now.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Since when calls have been under way without an answer.
    since: Option<Instant>,
    /// When the last call ended, whatever its end.
    ended: Option<Instant>,
    /// When the node last gave a sign of life.
    heard: Option<Instant>,
    /// Whether a connection was refused since then.
    refused: bool,
}

impl Silence {
    /// A call begins, beside as many others.
    pub(super) fn began(&mut self, others: u64, now: Instant) {
        let long_ago = |ended: Instant| now.saturating_duration_since(ended) > PAUSE;
        let anew = others == 0 && self.ended.is_none_or(long_ago);
        if self.since.is_none() || anew {
            self.since = Some(now);
        }
    }

    /// A call ended.
    pub(super) fn ended(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// The node gave a sign of life; so many calls are under way.
    pub(super) fn heard(&mut self, under_way: u64, now: Instant) {
        self.heard = Some(now);
        self.refused = false;
        self.since = (under_way > 0).then_some(now);
    }

    /// A connection was refused. Returns whether that is news.
    pub(super) fn refused(&mut self) -> bool {
        !std::mem::replace(&mut self.refused, true)
    }

    /// Whether connections are refused, and no call was answered since.
    pub(super) fn refuses(&self) -> bool {
        self.refused
    }

    /// Whether a call was answered after an instant.
    pub(super) fn heard_since(&self, then: Instant) -> bool {
        self.heard.is_some_and(|heard| heard > then)
    }

    /// How long calls have been under way without an answer.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_is_silent_from_the_first_call_after_its_last_answer() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut silence = Silence::default();
        assert_eq!(silence.lasts(at(0)), Duration::ZERO);
        silence.began(0, at(0));
        silence.began(1, at(100));
        assert_eq!(silence.lasts(at(300)), Duration::from_millis(300));
        // One of two is answered: the other is waited for from now.
        silence.heard(1, at(300));
        assert_eq!(silence.lasts(at(400)), Duration::from_millis(100));
        silence.heard(0, at(500));
        assert_eq!(silence.lasts(at(900)), Duration::ZERO);
        // Calls that are given up one after the other are one silence.
        for turn in 0..5 {
            silence.began(0, at(1000 + 200 * turn));
            silence.ended(at(1150 + 200 * turn));
        }
        assert_eq!(silence.lasts(at(2000)), Duration::from_secs(1));
        // After a pause nothing is known.
        silence.began(0, at(9000));
        assert_eq!(silence.lasts(at(9000)), Duration::ZERO);
        assert!(silence.heard_since(at(499)) && !silence.heard_since(at(500)));
    }
}
