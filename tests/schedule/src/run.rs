//! What clients do, and the notes of what they saw.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tierce_engine::{
    Batch, Change, Durability, Engine, Entry, Error, Follower, Knobs, Options, PutOptions, Ticket,
    Timestamp, schedule::steps,
};
use tierce_kit::{clock::TestClock, rng::Rng};

use crate::{
    disk::{Accident, PointDisk},
    linear::{Event, Kind, Seen, Stored},
    program::{Case, KEYS, Op, Put},
};

/// One event of one key.
pub(crate) struct Noted {
    pub(crate) key: u8,
    pub(crate) event: Event,
}

#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) events: Vec<Noted>,
    /// What snapshots showed: for each key value and sequence number.
    pub(crate) snapshots: Vec<Vec<(u8, Seen)>>,
    /// Values that one batch stored.
    pub(crate) batches: Vec<Vec<(u8, u64)>>,
    pub(crate) complaints: Vec<String>,
}

/// What all clients of a program share.
pub(crate) struct Shared {
    pub(crate) case: Case,
    pub(crate) disk: PointDisk,
    pub(crate) clock: TestClock,
    pub(crate) engine: Engine,
    pub(crate) follower: Mutex<Option<Follower>>,
    pub(crate) notes: Mutex<Notes>,
    pub(crate) ids: AtomicU64,
    /// Whether calls may fail: then errors are no complaint.
    pub(crate) is_faulty: bool,
    pub(crate) all_os: bool,
}

/// A name for a key. The last one is long enough to matter.
pub(crate) fn key(number: u8) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn scope(number: u8) -> Vec<u8> {
    format!("scope-{number}").into_bytes()
}

fn value(id: u64, bytes: u16) -> Vec<u8> {
    let mut value = id.to_le_bytes().to_vec();
    value.resize(usize::from(bytes).max(8), id as u8);
    value
}

fn id_of(value: &[u8]) -> u64 {
    value.first_chunk().map_or(u64::MAX, |id| u64::from_le_bytes(*id))
}

pub(crate) fn seen(entry: &Entry) -> Seen {
    Seen {
        id: id_of(&entry.value),
        expires: entry.expires_at.map(|at| at.0),
        sequence: entry.sequence.0,
    }
}

pub(crate) fn options(case: &Case, disk: &PointDisk, clock: &TestClock) -> Options {
    let config = &case.config;
    let mut options = Options::new()
        .durability(config.durability)
        .segment_bytes(8 << 10)
        .read_mode(config.read_mode)
        .hash_bits(config.hash_bits)
        .background(config.background)
        .evict(config.evict)
        .knobs(if config.worst_knobs { Knobs::worst() } else { Knobs::new() })
        .clock(clock.clone());
    options.disk = Arc::new(disk.clone());
    options.compaction.automatic = config.automatic;
    options.max_entries = config.max_entries;
    options.max_live_bytes = config.max_live_bytes;
    options.max_bytes = config.max_bytes;
    options.min_free_bytes = config.min_free_bytes;
    options.periodic_bytes_max = config.periodic_bytes_max;
    options
}

/// The beginning of an operation.
#[derive(Clone, Copy)]
pub(crate) struct Begun {
    step: u64,
    time: u64,
}

impl Shared {
    pub(crate) fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn complain(&self, text: String) {
        self.notes().complaints.push(text);
    }

    /// Calls the store; a panic is an error that may have had an effect.
    fn guard<T>(&self, call: impl FnOnce(&Engine) -> Result<T, Error>) -> Result<T, Error> {
        catch_unwind(AssertUnwindSafe(|| call(&self.engine))).unwrap_or_else(|_| {
            if !self.is_faulty {
                self.complain("the store panicked".to_owned());
            }
            Err(Error::Stopped { cause: "the call panicked".to_owned() })
        })
    }

    pub(crate) fn begin(&self) -> Begun {
        Begun { step: steps(), time: self.engine.now().0 }
    }

    /// Notes an event that ended now; `failed` if it is unknown whether it took effect.
    pub(crate) fn note(&self, begun: Begun, key: u8, kind: Kind, durable: bool, failed: bool) {
        let end = if failed { u64::MAX } else { steps() };
        // What failed may take effect at any time later.
        let until = if failed { u64::MAX } else { self.engine.now().0 };
        let event = Event {
            start: begun.step,
            end,
            // A time in doubt may go back.
            time: (begun.time.min(until), begun.time.max(until)),
            kind,
            durable: durable && !failed,
            after: None,
        };
        let in_files = (failed && self.has(|op| matches!(op, Op::Follow))).then(|| Event {
            end: steps(),
            time: (begun.time, self.engine.now().0),
            kind: Kind::InFiles(Box::new(event.kind.clone())),
            ..event.clone()
        });
        let noted = in_files.into_iter().chain([event]).map(|event| Noted { key, event });
        self.notes().events.extend(noted);
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether the death that this program ends with leaves a write of this durability in place.
    fn outlives(&self, durability: Option<Durability>) -> bool {
        match durability.unwrap_or(self.case.config.durability) {
            Durability::Sync => true,
            Durability::Os => !self.case.is_power,
            _ => false,
        }
    }

    /// Judges an error: those that the program asks for are no complaint. Says whether it had no effect for sure.
    fn judge(&self, op: &Op, error: &Error) -> bool {
        if self.is_faulty {
            return matches!(error, Error::Full { .. });
        }
        match error {
            Error::Full { .. } if !self.case.config.all_evictable => {}
            // Values of this size need more than a limit on live bytes allows.
            Error::Full { .. } | Error::TooLarge { .. }
                if self.case.config.max_live_bytes.is_some() => {}
            _ => self.complain(format!("{op:?} failed: {error}")),
        }
        true
    }

    fn put_options(&self, put: &Put, now: u64) -> (PutOptions, Stored) {
        let mut options = PutOptions::new().evictable(put.evictable);
        let expires = put.ttl.map(|ttl| now + u64::from(ttl));
        if let Some(at) = expires {
            options = options.expires_at(Timestamp(at));
        }
        if let Some(number) = put.scope {
            options = options.scope(scope(number));
        }
        if let Some(durability) = put.durability {
            options = options.durability(durability);
        }
        let stored = Stored {
            id: self.next_id(),
            expires: expires.map(|at| (at, at)),
            evictable: put.evictable,
            scope: put.scope,
            sequence: None,
            slid: false,
        };
        (options, stored)
    }

    fn put(&self, op: &Op, put: &Put, absent: bool) {
        let begun = self.begin();
        let (mut options, mut stored) = self.put_options(put, begun.time);
        if absent {
            options = options.only_if_absent();
        }
        let durable = self.outlives(put.durability);
        let done = self
            .guard(|engine| engine.put_with(key(put.key), value(stored.id, put.bytes), &options));
        match done {
            Ok(sequence) => {
                stored.sequence = Some(sequence.0).filter(|sequence| *sequence > 0);
                let kind = Kind::Put { stored, absent, done: true };
                self.note(begun, put.key, kind, durable, false);
            }
            Err(Error::Conflict { .. }) if absent => {
                let kind = Kind::Put { stored, absent, done: false };
                self.note(begun, put.key, kind, false, false);
            }
            Err(error) => {
                if !self.judge(op, &error) {
                    let kind = Kind::Put { stored, absent, done: true };
                    self.note(begun, put.key, kind, false, true);
                }
            }
        }
    }

    fn submit(&self, op: &Op, put: &Put, tickets: &mut Tickets) {
        let begun = self.begin();
        let (options, stored) = self.put_options(put, begun.time);
        let bytes = value(stored.id, put.bytes);
        match self.guard(|engine| engine.submit(key(put.key), bytes, &options)) {
            Ok(ticket) => tickets.push((begun, *put, stored, ticket)),
            Err(error) => {
                self.judge(op, &error);
            }
        }
    }

    fn wait(&self, tickets: &mut Tickets) {
        let mut last = [None; KEYS as usize];
        for (begun, put, mut stored, ticket) in tickets.drain(..) {
            let durable = self.outlives(put.durability);
            let (failed, stored) = match self.guard(|_| ticket.wait()) {
                Ok(sequence) => {
                    stored.sequence = Some(sequence.0).filter(|sequence| *sequence > 0);
                    (false, stored)
                }
                Err(error) => {
                    if self.judge(&Op::Submit { put }, &error) {
                        continue;
                    }
                    (true, stored)
                }
            };
            let kind = Kind::Put { stored, absent: false, done: true };
            self.note(begun, put.key, kind, durable, failed);
            let mut notes = self.notes();
            let this = notes.events.len() - 1;
            notes.events[this].event.after = last[usize::from(put.key)].replace(this);
        }
    }

    fn answer(
        &self,
        op: &Op,
        begun: Begun,
        number: u8,
        answer: Result<bool, Error>,
        durability: Option<Durability>,
        kind: impl FnOnce(Option<bool>) -> Kind,
    ) {
        match answer {
            Ok(found) => {
                // What deletes nothing need not be written.
                let durable = found && self.outlives(durability);
                self.note(begun, number, kind(Some(found)), durable, false);
            }
            Err(error) => {
                if !self.judge(op, &error) {
                    self.note(begun, number, kind(None), false, true);
                }
            }
        }
    }

    fn update(&self, op: &Op, number: u8, deletes: bool) {
        let begun = self.begin();
        let mut last: Option<(Option<Seen>, Option<Stored>, bool)> = None;
        let change = |entry: Option<&Entry>| {
            let saw = entry.map(seen);
            let brief = entry.is_some_and(|entry| entry.expires_at.is_some());
            if deletes {
                let keeps = !brief;
                last = Some((saw, None, keeps));
                return if keeps { Change::Keep } else { Change::Delete };
            }
            let put = Put {
                key: number,
                bytes: 8,
                ttl: None,
                evictable: entry.map_or(self.case.config.all_evictable, |entry| entry.evictable),
                scope: None,
                durability: None,
            };
            let (mut options, mut stored) = self.put_options(&put, 0);
            if let Some(at) = entry.and_then(|entry| entry.expires_at) {
                options = options.expires_at(at);
                stored.expires = Some((at.0, at.0));
            }
            let bytes = value(stored.id, put.bytes);
            last = Some((saw, Some(stored), false));
            Change::Put(bytes, options)
        };
        let done = self.guard(|engine| engine.update(key(number), change));
        let Some((saw, mut stored, keeps)) = last else {
            if let Err(error) = done {
                self.judge(op, &error);
            }
            return;
        };
        let durable = self.outlives(None);
        match done {
            Ok(_) if keeps => self.note(begun, number, Kind::Read { seen: saw }, false, false),
            Ok(sequence) => {
                if let (Some(stored), Some(sequence)) = (&mut stored, sequence) {
                    stored.sequence = Some(sequence.0).filter(|sequence| *sequence > 0);
                }
                let durable = durable && sequence.is_some();
                self.note(begun, number, Kind::Update { saw, stored }, durable, false);
            }
            Err(error) => {
                if !self.judge(op, &error) {
                    self.note(begun, number, Kind::Update { saw, stored }, false, true);
                }
            }
        }
    }

    pub(crate) fn read(&self, op: &Op, number: u8) {
        let begun = self.begin();
        match self.guard(|engine| engine.entry(key(number))) {
            Ok(entry) => {
                let kind = Kind::Read { seen: entry.as_ref().map(seen) };
                self.note(begun, number, kind, false, false);
            }
            Err(error) => {
                self.judge(op, &error);
            }
        }
    }

    fn batch(&self, op: &Op, first: &Put, second: Option<&Put>, other: u8) {
        let begun = self.begin();
        let mut batch = Batch::new();
        let mut parts = Vec::new();
        for put in [Some(first), second].into_iter().flatten() {
            let (options, stored) = self.put_options(put, begun.time);
            batch.put_with(key(put.key), value(stored.id, put.bytes), options);
            parts.push((put.key, Some(stored)));
        }
        if second.is_none() {
            batch.delete(key(other));
            parts.push((other, None));
        }
        if let Some(durability) = first.durability {
            batch.durability(durability);
        }
        let durable = self.outlives(first.durability);
        let failed = match self.guard(|engine| engine.commit(batch)) {
            Ok(()) => false,
            Err(error) => {
                if self.judge(op, &error) {
                    return;
                }
                true
            }
        };
        if !failed && second.is_some() {
            let ids = parts.iter().filter_map(|(key, stored)| Some((*key, stored.as_ref()?.id)));
            let ids = ids.collect();
            self.notes().batches.push(ids);
        }
        for (number, stored) in parts {
            let kind = match stored {
                Some(stored) => Kind::Put { stored, absent: false, done: true },
                None => Kind::Delete { found: None },
            };
            self.note(begun, number, kind, durable, failed);
        }
    }

    fn snapshot(&self, op: &Op) {
        let begun = self.begin();
        let snapshot = match self.guard(|engine| engine.snapshot()) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.judge(op, &error);
                return;
            }
        };
        let end = steps();
        let time = snapshot.now().0;
        let mut all = Vec::new();
        for number in 0..KEYS {
            match self.guard(|_| snapshot.entry(key(number))) {
                Ok(entry) => {
                    let seen = entry.as_ref().map(seen);
                    all.extend(seen.clone().map(|seen| (number, seen)));
                    let event = Event {
                        start: begun.step,
                        end,
                        time: (time, time),
                        kind: Kind::Read { seen },
                        durable: false,
                        after: None,
                    };
                    self.notes().events.push(Noted { key: number, event });
                }
                Err(error) => {
                    self.judge(op, &error);
                }
            }
        }
        self.notes().snapshots.push(all);
    }

    fn follow(&self, op: &Op) {
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(follower) = follower else { return };
        let begun = self.begin();
        let refreshed = self.guard(|_| follower.refresh());
        if let Err(error) = &refreshed
            && !self.is_faulty
        {
            self.complain(format!("{op:?} failed: {error}"));
        }
        // Files show what was handed to the system; evictions are in none of them.
        let limits = &self.case.config;
        let is_exact = self.all_os
            && refreshed.is_ok()
            && limits.max_entries.or(limits.max_live_bytes).or(limits.max_bytes).is_none()
            && !self.has(|op| matches!(op, Op::Shrink { .. } | Op::Slide { .. }));
        let snapshot = follower.snapshot();
        // A follower has a clock of its own, which may believe a jump earlier or later.
        let clocks = [begun.time, follower.now().0, snapshot.now().0, self.engine.now().0];
        let time = (clocks.into_iter().min().unwrap_or(0), clocks.into_iter().max().unwrap_or(0));
        for number in (0..KEYS).filter(|_| is_exact) {
            if let Ok(entry) = self.guard(|_| snapshot.entry(key(number))) {
                let kind = Kind::Follow { seen: entry.as_ref().map(seen) };
                let event = Event {
                    start: begun.step,
                    end: steps(),
                    time,
                    kind,
                    durable: false,
                    after: None,
                };
                self.notes().events.push(Noted { key: number, event });
            }
        }
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
    }

    pub(crate) fn has(&self, is: impl Fn(&Op) -> bool) -> bool {
        self.case.ops().any(is)
    }

    fn sync(&self, op: &Op) {
        let begun = self.begin();
        match self.guard(|engine| engine.sync()) {
            Ok(()) => {
                for number in 0..KEYS {
                    self.note(begun, number, Kind::Sync, true, false);
                }
            }
            Err(error) => {
                self.judge(op, &error);
            }
        }
    }

    fn recover(&self, op: &Op) {
        let begun = self.begin();
        let done = self.guard(|engine| engine.try_recover());
        for number in (0..KEYS).filter(|_| done.is_ok()) {
            self.note(begun, number, Kind::Recovered, false, false);
        }
        self.upkeep(op, done);
    }

    fn upkeep<T>(&self, op: &Op, done: Result<T, Error>) {
        if let Err(error) = done {
            self.judge(op, &error);
        }
    }

    fn compact_some(&self, op: &Op, seed: u64) {
        let mut rng = Rng::new(seed);
        let ids: Vec<_> = self.engine.segments().iter().map(|segment| segment.id).collect();
        let ids: Vec<_> = ids.into_iter().filter(|_| rng.one_in(2)).collect();
        let done =
            self.guard(|engine| engine.compact_with(Some(&ids), |_| ControlFlow::Continue(())));
        self.upkeep(op, done);
    }

    fn act(&self, op: &Op, tickets: &mut Tickets) {
        match op {
            Op::Put { put, absent } => self.put(op, put, *absent),
            Op::Submit { put } => self.submit(op, put, tickets),
            Op::Wait => self.wait(tickets),
            Op::Delete { key: number, durability } => {
                let begun = self.begin();
                let answer = match durability {
                    Some(durability) => {
                        self.guard(|engine| engine.delete_with(key(*number), *durability))
                    }
                    None => self.guard(|engine| engine.delete(key(*number))),
                };
                let kind = |found| Kind::Delete { found };
                self.answer(op, begun, *number, answer, *durability, kind);
            }
            Op::Touch { key: number, ttl } => {
                let begun = self.begin();
                let at = ttl.map(|ttl| begun.time + u64::from(ttl));
                let answer = self.guard(|engine| engine.touch(key(*number), at.map(Timestamp)));
                let expires = at.map(|at| (at, at));
                let kind = |found| Kind::Touch { expires, found, slides: false };
                self.answer(op, begun, *number, answer, None, kind);
            }
            Op::Slide { key: number, ttl } => {
                let begun = self.begin();
                let ttl = u64::from(*ttl);
                let lifetime = std::time::Duration::from_millis(ttl);
                let answer = self.guard(|engine| engine.slide(key(*number), lifetime));
                let expires = Some((begun.time + ttl, self.engine.now().0 + ttl));
                let kind = |found| Kind::Touch { expires, found, slides: true };
                self.answer(op, begun, *number, answer, None, kind);
            }
            Op::Append { key } => self.update(op, *key, false),
            Op::DeleteBrief { key } => self.update(op, *key, true),
            Op::Get { key } => self.read(op, *key),
            Op::Batch { first, second, key } => self.batch(op, first, second.as_ref(), *key),
            Op::Cut { scope: number } => {
                let begun = self.begin();
                let done = self.guard(|engine| engine.cut_scope(scope(*number)));
                for key in 0..KEYS {
                    let kind = Kind::Cut { scope: *number };
                    let durable = self.outlives(None);
                    match &done {
                        Ok(()) => self.note(begun, key, kind, durable, false),
                        Err(error) if self.judge(op, error) => {}
                        Err(_) => self.note(begun, key, kind, false, true),
                    }
                }
            }
            Op::Snapshot => self.snapshot(op),
            Op::Follow => self.follow(op),
            Op::Sync => self.sync(op),
            Op::Sweep => self.upkeep(op, self.guard(|engine| engine.sweep(None))),
            Op::Compact => self.upkeep(op, self.guard(|engine| engine.compact())),
            Op::Shrink { bytes } => self.upkeep(op, self.guard(|engine| engine.shrink_to(*bytes))),
            Op::Step => self.upkeep(op, self.guard(|engine| engine.step())),
            Op::Checkpoint => self.upkeep(op, self.guard(|engine| engine.checkpoint())),
            Op::Advance { ms } => self.clock.advance(*ms),
            Op::Jump { ms } => self.clock.jump_wall(*ms),
            Op::CompactSome { seed } => self.compact_some(op, *seed),
            Op::Recover => self.recover(op),
        }
    }

    pub(crate) fn play(&self, ops: &[Op]) {
        let mut tickets = Tickets::new();
        for op in ops {
            if self.disk.has_happened() && self.is_crash() {
                break;
            }
            self.act(op, &mut tickets);
        }
        self.wait(&mut tickets);
    }

    pub(crate) fn is_crash(&self) -> bool {
        matches!(self.case.accident, Some((_, Accident::Crash)))
    }
}

type Tickets = Vec<(Begun, Put, Stored, Ticket)>;
