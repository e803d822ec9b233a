//! One id, a source and a target, a few writes, a failure, a copy: every interleaving there is.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use miroir_api::{NodeId, ShardId, TaskUid};

use crate::copying::{
    Content, Journal, LotId, Number, Outcome, Page, Sent, Touch, Window, id_hash,
};
use crate::routing::ShardSet;

type Value = Option<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Post(u32),
    Delete,
    /// Depends on what is there, touches one id.
    Put,
    /// Depends on what is there, touches any id.
    Edit,
    Copy(Value),
}

fn done(work: Work, value: Value) -> Value {
    match work {
        Work::Post(value) => Some(value),
        Work::Delete => None,
        Work::Put => Some(value.unwrap_or(100) * 2),
        Work::Edit => value.map(|value| value + 3),
        Work::Copy(value) => value,
    }
}

/// What goes wrong with one of the writes, at one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    None,
    /// The task fails.
    Fails {
        write: usize,
        side: usize,
    },
    /// The call is refused.
    Missed {
        write: usize,
        side: usize,
    },
    /// The answer is lost; the write arrives.
    Lost {
        write: usize,
        side: usize,
    },
}

#[derive(Clone, Debug, Default)]
struct Side {
    value: Value,
    next: u32,
    queue: VecDeque<(Number, u32, Work, bool)>,
    /// Ended, and not yet heard of.
    ended: Vec<(Number, u32, bool)>,
}

impl Side {
    fn push(&mut self, number: Number, work: Work, fails: bool) -> u32 {
        self.next += 1;
        self.queue.push_back((number, self.next, work, fails));
        self.next
    }

    fn perform(&mut self) -> bool {
        let Some((number, uid, work, fails)) = self.queue.pop_front() else { return false };
        if !fails {
            self.value = done(work, self.value);
        }
        self.ended.push((number, uid, !fails));
        true
    }

    fn drained(&self) -> Value {
        self.queue.iter().filter(|(.., fails)| !fails).fold(self.value, |v, q| done(q.2, v))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Settle,
    Table,
    ReadTarget,
    Begin,
    Read(Window),
    Admit(Window, Value),
    Finish,
    Tail,
    TailRead(Window),
    TailReadTarget(Window, Value),
    TailAdmit(Window, Value, Value),
    Done,
}

#[derive(Clone, Debug)]
struct World {
    journal: Journal,
    lot: LotId,
    sides: [Side; 2],
    writes: Vec<Work>,
    numbers: Vec<Number>,
    fault: Fault,
    step: Step,
    pages: Vec<Number>,
    unsettled: usize,
}

fn node(side: usize) -> NodeId {
    NodeId::new(["s", "t"][side]).unwrap()
}

fn id() -> Arc<str> {
    Arc::from("x")
}

fn content(value: u32) -> Content {
    u64::from(value)
}

impl World {
    fn new(values: [Value; 2], earlier: Option<Work>, writes: &[Work], fault: Fault) -> Self {
        let mut journal = Journal::default();
        let all = ShardSet::full(1);
        let mut sides = values.map(|value| Side { value, ..Side::default() });
        let mut unsettled = 0;
        if let Some(work) = earlier {
            unsettled = 2;
            for side in &mut sides {
                side.push(0, work, false);
            }
        }
        let lot = journal.open(node(0), node(1), all);
        Self {
            journal,
            lot,
            sides,
            writes: writes.to_vec(),
            numbers: Vec::new(),
            fault,
            step: Step::Settle,
            pages: Vec::new(),
            unsettled,
        }
    }

    fn note(&mut self) -> bool {
        let noted = self.numbers.len();
        let Some(work) = self.writes.get(noted).copied() else { return false };
        let touch = match work {
            Work::Edit => Touch::Any,
            work => Touch::Ids { ids: Arc::from([id()]), blind: work != Work::Put },
        };
        let shards = ShardSet::single(ShardId(0), 1);
        let nodes = [node(0), node(1)];
        let number = self.journal.note(&touch, &shards, &nodes, TaskUid(noted as u32));
        for (at, side) in self.sides.iter_mut().enumerate() {
            let here = |write, on| write == noted && on == at;
            let sent = match self.fault {
                Fault::Missed { write, side } if here(write, side) => Sent::Missed,
                Fault::Lost { write, side: on } if here(write, on) => {
                    side.push(number, work, false);
                    Sent::Unknown
                }
                Fault::Fails { write, side: on } if here(write, on) => {
                    Sent::Queued(vec![side.push(number, work, true)])
                }
                _ => Sent::Queued(vec![side.push(number, work, false)]),
            };
            self.journal.answered(number, &node(at), sent);
        }
        self.numbers.push(number);
        true
    }

    /// Hears how tasks ended.
    fn refresh(&mut self) -> bool {
        let mut any = false;
        for at in 0..2 {
            for (number, uid, succeeded) in std::mem::take(&mut self.sides[at].ended) {
                any = true;
                if number == 0 {
                    self.unsettled -= 1;
                } else if self.pages.contains(&number) {
                    self.journal.lot_mut(self.lot).unwrap().page_ended(number, succeeded);
                } else {
                    let how = if succeeded { Outcome::Succeeded } else { Outcome::Failed };
                    self.journal.task_ended(number, &node(at), uid, how);
                }
            }
        }
        let lot = self.journal.lot_mut(self.lot).unwrap();
        for task in lot.doubts().to_vec() {
            lot.no_doubt(task);
        }
        any
    }

    fn reopen(&mut self) {
        self.journal.close(self.lot);
        self.lot = self.journal.open(node(0), node(1), ShardSet::full(1));
        self.pages.clear();
        // What is in the queues, pages of the lot before included, came before this one.
        for side in &mut self.sides {
            for entry in &mut side.queue {
                entry.0 = 0;
            }
            side.ended.clear();
        }
        self.unsettled = self.sides.iter().map(|side| side.queue.len()).sum();
        self.step = Step::Settle;
    }

    fn admitted(&mut self, window: Window, value: Value, target: Value) -> bool {
        let shown: Vec<_> = value.iter().map(|value| (id(), content(*value))).collect();
        let tail = matches!(self.step, Step::TailAdmit(..));
        let absent = if value.is_none() && tail { vec![id()] } else { Vec::new() };
        let target = target.into_iter().map(|value| (id(), content(value))).collect();
        let page = Page { documents: &shown, absent: &absent, target: tail.then_some(&target) };
        let Some(admission) = self.journal.admit(self.lot, window, &page) else {
            return false;
        };
        if let Some(number) = admission.number {
            self.pages.push(number);
            self.sides[1].push(number, Work::Copy(value), false);
        }
        true
    }

    /// The copy goes on, if it can.
    fn step(&mut self) -> bool {
        let lot = self.journal.lot(self.lot).unwrap();
        let (comparing, nothing_to_read) = (lot.is_comparing(), lot.dirty_ids(1).is_empty());
        if lot.is_interrupted() {
            self.reopen();
            return true;
        }
        let next = match self.step.clone() {
            Step::Settle if self.unsettled > 0 => return false,
            Step::Settle => {
                self.journal.lot_mut(self.lot).unwrap().settle_before();
                Step::Table
            }
            Step::Table if self.journal.begin_table(self.lot, false) => Step::ReadTarget,
            Step::Table => return false,
            Step::ReadTarget => {
                if let Some(value) = self.sides[1].value {
                    self.journal.lot_mut(self.lot).unwrap().put("x", content(value));
                }
                Step::Begin
            }
            Step::Begin => match self.journal.begin_read(self.lot) {
                Some(window) => Step::Read(window),
                None if !comparing => Step::Table,
                None => return false,
            },
            Step::Read(window) => Step::Admit(window, self.sides[0].value),
            Step::Admit(window, value) => {
                let taken = self.admitted(window, value, None);
                let comparing = self.journal.lot(self.lot).unwrap().is_comparing();
                match (taken, comparing) {
                    (true, _) => Step::Finish,
                    (false, true) => Step::Begin,
                    (false, false) => Step::Table,
                }
            }
            Step::Finish => match self.journal.lot_mut(self.lot).unwrap().finish_pass() {
                None => Step::Table,
                Some(rest) => {
                    if rest.contains(&id_hash("x")) {
                        self.journal.suspect(self.lot, &[id()], false);
                    }
                    Step::Tail
                }
            },
            Step::Tail if self.journal.is_equal(self.lot, 0) => Step::Done,
            Step::Tail if nothing_to_read => return false,
            Step::Tail => match self.journal.begin_read(self.lot) {
                Some(window) => Step::TailRead(window),
                None => return false,
            },
            Step::TailRead(window) => Step::TailReadTarget(window, self.sides[0].value),
            Step::TailReadTarget(window, value) => {
                Step::TailAdmit(window, value, self.sides[1].value)
            }
            Step::TailAdmit(window, value, target) => {
                self.admitted(window, value, target);
                Step::Tail
            }
            Step::Done => return false,
        };
        self.step = next;
        true
    }

    /// The fault is heard of: what is to be made of it later is not the copy's business.
    fn is_judged(&self) -> bool {
        let (Fault::Fails { write, .. } | Fault::Missed { write, .. } | Fault::Lost { write, .. }) =
            self.fault
        else {
            return true;
        };
        let Some(number) = self.numbers.get(write) else { return false };
        let under_way = |side: &Side| {
            side.queue.iter().any(|(other, ..)| other == number)
                || side.ended.iter().any(|(other, ..)| other == number)
        };
        !self.sides.iter().any(under_way)
    }

    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }
}

/// Every run of a world; if `prompt`, ends of tasks are heard of at once. Returns how many states it
/// has and how many of them are ends.
fn explore(world: World, prompt: bool) -> (usize, usize) {
    let (mut seen, mut ends) = (BTreeSet::new(), 0);
    let mut open = vec![world];
    while let Some(world) = open.pop() {
        if !seen.insert(world.key()) {
            continue;
        }
        if world.step == Step::Done {
            ends += 1;
            if world.is_judged() {
                let [source, target] = world.sides.each_ref().map(Side::drained);
                assert_eq!(source, target, "called equal: {world:#?}");
            }
            continue;
        }
        let mut moved = false;
        let acts: [fn(&mut World) -> bool; 5] = [
            World::note,
            |world| world.sides[0].perform(),
            |world| world.sides[1].perform(),
            World::refresh,
            World::step,
        ];
        for act in acts {
            let mut next = world.clone();
            if act(&mut next) {
                moved = true;
                if prompt {
                    next.refresh();
                }
                open.push(next);
            }
        }
        assert!(moved, "nothing goes on: {world:#?}");
    }
    (seen.len(), ends)
}

fn faults(writes: usize) -> Vec<Fault> {
    let mut all = vec![Fault::None];
    for write in 0..writes {
        for side in 0..2 {
            all.push(Fault::Fails { write, side });
            all.push(Fault::Missed { write, side });
            all.push(Fault::Lost { write, side });
        }
    }
    all
}

const KINDS: [Work; 4] = [Work::Post(5), Work::Put, Work::Edit, Work::Delete];

#[test]
fn a_target_that_is_called_equal_is_equal_whatever_two_writes_and_a_failure_do() {
    let mut states = 0;
    let starts = [
        ([Some(1), Some(7)], None),
        ([Some(1), None], Some(Work::Put)),
        ([None, Some(7)], Some(Work::Post(9))),
        ([Some(2), Some(1)], None),
    ];
    for (turn, first) in KINDS.into_iter().enumerate() {
        for (place, second) in KINDS.into_iter().enumerate() {
            for (number, fault) in faults(2).into_iter().enumerate() {
                // A failure meets each kind of write at either side, not each pair of kinds; ends
                // are heard of late where nothing fails.
                if number > 0 && (number + turn + place) % 4 != 0 {
                    continue;
                }
                let (values, earlier) = starts[number % starts.len()];
                let world = World::new(values, earlier, &[first, second], fault);
                states += explore(world, fault != Fault::None).0;
            }
        }
    }
    assert!(states > 10_000, "{states}");
}

/// The writes that are hard together.
#[test]
fn a_target_that_is_called_equal_is_equal_whatever_four_writes_do() {
    let runs = [
        [Work::Put, Work::Post(5), Work::Put, Work::Edit],
        [Work::Edit, Work::Post(7), Work::Put, Work::Delete],
    ];
    for (number, writes) in runs.iter().enumerate() {
        let fault =
            [Fault::Fails { write: 1, side: 1 }, Fault::Fails { write: 0, side: 0 }][number];
        let world = World::new([Some(1), Some(7)], None, writes, fault);
        let (states, ends) = explore(world, true);
        assert!(states > 1000 && ends > 0, "{states} states, {ends} ends");
    }
}
