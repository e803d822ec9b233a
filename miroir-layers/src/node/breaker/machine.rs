//! The breaker's state machine. Pure: it is told what time it is.

use std::time::Duration;

use tokio::time::Instant;

use super::BreakerOptions;

/// Permission to make one call. Whoever has it says how the call ended, with
/// [`Machine::record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The state in which it was given.
    generation: u64,
    /// Whether it is a health probe.
    probe: bool,
}

/// What the outside has to know of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    HalfOpen,
    Open { until: Instant },
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { in_flight: u32, successes: u32 },
}

#[derive(Debug)]
pub(super) struct Machine {
    threshold: u32,
    probes: u32,
    first_wait: Duration,
    max_wait: Duration,
    state: State,
    /// How long the next opening lasts.
    wait: Duration,
    /// Number of the state, to tell late answers from current ones.
    generation: u64,
}

impl Machine {
    /// A closed breaker.
    pub(super) fn new(options: &BreakerOptions) -> Self {
        Self {
            threshold: options.failure_threshold.max(1),
            probes: options.half_open_probes.max(1),
            first_wait: options.open,
            max_wait: options.max_open.max(options.open),
            state: State::Closed { failures: 0 },
            wait: options.open,
            generation: 0,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Closed { .. } => Phase::Closed,
            State::HalfOpen { .. } => Phase::HalfOpen,
            State::Open { until } => Phase::Open { until },
        }
    }

    /// Whether a call would be refused.
    pub(super) fn refuses(&self) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { .. } => true,
            State::HalfOpen { in_flight, .. } => in_flight >= self.probes,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }

    fn open(&mut self, now: Instant) {
        self.enter(State::Open { until: now + self.wait });
        self.wait = (self.wait * 2).min(self.max_wait);
    }

    /// Half-opens when it has been open long enough.
    pub(super) fn tick(&mut self, now: Instant) {
        if let State::Open { until } = self.state
            && now >= until
        {
            self.enter(State::HalfOpen { in_flight: 0, successes: 0 });
        }
    }

    /// May a call be made? `None`: no.
    pub(super) fn admit(&mut self, now: Instant, probe: bool) -> Option<Ticket> {
        self.tick(now);
        if !probe {
            if self.refuses() {
                return None;
            }
            if let State::HalfOpen { in_flight, .. } = &mut self.state {
                *in_flight += 1;
            }
        }
        Some(Ticket { generation: self.generation, probe })
    }

    /// How a call ended. `None`: it says nothing about the node, or was given up.
    pub(super) fn record(&mut self, now: Instant, ticket: Ticket, healthy: Option<bool>) {
        if ticket.probe {
            self.record_probe(now, healthy);
            return;
        }
        if ticket.generation != self.generation {
            return;
        }
        match (&mut self.state, healthy) {
            (State::Closed { failures }, Some(true)) => {
                *failures = 0;
                self.wait = self.first_wait;
            }
            (State::Closed { .. }, Some(false)) => self.fail(now),
            (State::HalfOpen { in_flight, successes }, healthy) => {
                *in_flight = in_flight.saturating_sub(1);
                match healthy {
                    None => {}
                    Some(false) => self.open(now),
                    Some(true) => {
                        *successes += 1;
                        if *successes >= self.probes {
                            self.wait = self.first_wait;
                            self.enter(State::Closed { failures: 0 });
                        }
                    }
                }
            }
            // An opening is a generation of its own in which only probes get tickets.
            (State::Closed { .. }, None) | (State::Open { .. }, _) => {}
        }
    }

    fn record_probe(&mut self, now: Instant, healthy: Option<bool>) {
        match (&mut self.state, healthy) {
            (_, None) | (State::Open { .. }, Some(false)) => {}
            // It may not hide failures of calls in between.
            (State::Closed { .. }, Some(true)) => {}
            (State::Closed { .. }, Some(false)) => self.fail(now),
            (State::HalfOpen { .. }, Some(false)) => self.open(now),
            (State::Open { .. } | State::HalfOpen { .. }, Some(true)) => {
                self.enter(State::Closed { failures: 0 });
            }
        }
    }

    /// One more failure in a row.
    fn fail(&mut self, now: Instant) {
        if let State::Closed { failures } = &mut self.state {
            *failures += 1;
            if *failures >= self.threshold {
                self.open(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(1);

    struct Driver {
        machine: Machine,
        now: Instant,
    }

    impl Driver {
        fn new(half_open_probes: u32) -> Self {
            let options = BreakerOptions {
                failure_threshold: 3,
                open: WAIT,
                max_open: WAIT * 3,
                half_open_probes,
                ..BreakerOptions::default()
            };
            Self { machine: Machine::new(&options), now: Instant::now() }
        }

        fn admit(&mut self) -> Option<Ticket> {
            self.machine.admit(self.now, false)
        }

        fn call(&mut self, healthy: bool) -> bool {
            let Some(ticket) = self.admit() else { return false };
            self.machine.record(self.now, ticket, Some(healthy));
            true
        }

        fn probe(&mut self, healthy: bool) {
            let ticket = self.machine.admit(self.now, true).expect("probes always pass");
            self.machine.record(self.now, ticket, Some(healthy));
        }

        fn open_for(&self) -> Duration {
            match self.machine.phase() {
                Phase::Open { until } => until - self.now,
                other => panic!("{other:?}"),
            }
        }

        fn trip(&mut self) {
            for _ in 0..3 {
                assert!(self.call(false));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it() {
        let mut breaker = Driver::new(1);
        for healthy in [false, false, true, false, false] {
            assert!(breaker.call(healthy));
        }
        assert_eq!(breaker.machine.phase(), Phase::Closed);
        assert!(breaker.call(false));
        assert_eq!(breaker.open_for(), WAIT);
        assert!(!breaker.call(true), "open: refused");
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_open_twice_as_long_each_time_up_to_a_bound() {
        let mut breaker = Driver::new(1);
        breaker.trip();
        for expected in [WAIT, WAIT * 2, WAIT * 3, WAIT * 3] {
            assert_eq!(breaker.open_for(), expected);
            let opened = breaker.now;
            breaker.now = opened + expected.mul_f64(0.999);
            assert!(!breaker.call(true), "not yet");
            breaker.now = opened + expected;
            assert!(breaker.call(false), "a trial");
        }
        breaker.now += WAIT * 3;
        assert!(breaker.call(true));
        assert_eq!(breaker.machine.phase(), Phase::Closed);
        breaker.trip();
        assert_eq!(breaker.open_for(), WAIT, "a success starts over");
    }

    #[tokio::test(start_paused = true)]
    async fn trials_are_few_and_all_have_to_succeed() {
        let mut breaker = Driver::new(2);
        breaker.trip();
        breaker.now += WAIT;
        let (a, b) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        assert!(breaker.machine.refuses() && breaker.admit().is_none(), "two at a time");
        breaker.machine.record(breaker.now, a, Some(true));
        assert_eq!(breaker.machine.phase(), Phase::HalfOpen, "one is not enough");
        // The other was given up: its place is free, and it counts for nothing.
        breaker.machine.record(breaker.now, b, None);
        assert_eq!(breaker.machine.phase(), Phase::HalfOpen);
        assert!(breaker.call(true));
        assert_eq!(breaker.machine.phase(), Phase::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn late_answers_do_not_count() {
        let mut breaker = Driver::new(1);
        let (late_failure, late_success) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        breaker.trip();
        breaker.now += WAIT;
        let trial = breaker.admit().unwrap();
        breaker.machine.record(breaker.now, late_success, Some(true));
        assert_eq!(breaker.machine.phase(), Phase::HalfOpen);
        breaker.machine.record(breaker.now, late_failure, Some(false));
        assert_eq!(breaker.machine.phase(), Phase::HalfOpen);
        assert!(breaker.machine.refuses(), "their places are not the trial's");
        breaker.machine.record(breaker.now, trial, Some(true));
        assert_eq!(breaker.machine.phase(), Phase::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn probes_pass_and_close_it() {
        let mut breaker = Driver::new(1);
        breaker.trip();
        breaker.probe(false);
        assert_eq!(breaker.open_for(), WAIT, "a failed probe changes nothing");
        breaker.probe(true);
        assert_eq!(breaker.machine.phase(), Phase::Closed);
        breaker.trip();
        assert_eq!(breaker.open_for(), WAIT * 2, "no call has succeeded in between");
        breaker.now += WAIT * 2;
        breaker.machine.tick(breaker.now);
        breaker.probe(false);
        assert_eq!(breaker.open_for(), WAIT * 3);
        // While closed, failed probes count like calls and good ones do not hide failed calls.
        breaker.probe(true);
        assert!(breaker.call(false) && breaker.call(false));
        breaker.probe(true);
        assert_eq!(breaker.machine.phase(), Phase::Closed);
        breaker.probe(false);
        assert!(matches!(breaker.machine.phase(), Phase::Open { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_say_nothing_change_nothing() {
        let mut breaker = Driver::new(1);
        assert!(breaker.call(false) && breaker.call(false));
        let ticket = breaker.admit().unwrap();
        breaker.machine.record(breaker.now, ticket, None);
        assert!(breaker.call(false));
        assert!(matches!(breaker.machine.phase(), Phase::Open { .. }));
    }
}
