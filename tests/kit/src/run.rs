//! Runs operations on a store over a recording disk, beside the model, and notes what the model knew when.

use std::{path::Path, sync::Arc, time::Duration};

use tierce_engine::{
    Batch, Change, Durability, Engine, Entry, Error, Health, PutOptions, SequenceNumber, Timestamp,
};

use crate::{
    clock::{TestClock, Time},
    crash::{CrashPlan, image},
    log::Log,
    model::{CrashKind, Effect, Model, State, Stored, Write, live},
    observe::{Evicted, Observation},
    op::{BatchPart, Op, PutOp, UpdateKind, key, scope, scopes, value},
    recorder::RecordingDisk,
    store::{STORE, Setup},
};

/// What was known from one effect on the disk on.
#[derive(Clone, Debug)]
pub struct Mark {
    /// How many effects there had been.
    pub events: usize,
    /// What was acknowledged, and what was going on.
    pub model: Model,
    /// What the clock showed.
    pub time: Time,
    /// The operation that began.
    pub op: String,
}

/// A store from one power-on to the next.
#[derive(Clone, Debug)]
pub struct Life {
    /// What was done to the disk.
    pub log: Log,
    /// What was known, in order; the first at no effect at all.
    pub marks: Vec<Mark>,
}

impl Life {
    /// Which of [`Self::marks`] is the newest at this point of the log.
    #[must_use]
    pub fn mark_at(&self, point: usize) -> usize {
        self.marks.partition_point(|mark| mark.events <= point).saturating_sub(1)
    }
}

/// A store, its model, and what was noted of them.
pub struct Runner {
    /// The disk of this life.
    pub disk: RecordingDisk,
    /// The clock.
    pub clock: TestClock,
    /// The model.
    pub model: Model,
    /// Whether errors of the store are expected, since the disk was told to fail.
    pub faulty: bool,
    /// Operations that failed.
    pub failures: Vec<String>,
    pub(crate) setup: Setup,
    pub(crate) engine: Option<Engine>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) lives: Vec<Life>,
}

/// What the store answered.
enum Answer {
    /// It did as asked; with a sequence number, if it said one.
    Done(Option<SequenceNumber>),
    /// It answered yes or no.
    Is(bool),
}

impl Runner {
    /// A runner on this disk. The store is not open yet.
    #[must_use]
    pub fn new(disk: RecordingDisk, setup: Setup) -> Self {
        let mut runner = Self {
            disk,
            clock: TestClock::new(),
            model: Model::new().evicting(setup.max_entries.is_some()),
            faulty: false,
            failures: Vec::new(),
            setup,
            engine: None,
            marks: Vec::new(),
            lives: Vec::new(),
        };
        runner.mark("creation");
        runner
    }

    /// Opens a new store and does all of `ops`; gives every life of it.
    ///
    /// # Errors
    /// The first thing that was not as the model says.
    pub fn record(disk: RecordingDisk, setup: Setup, ops: &[Op]) -> Result<Vec<Life>, String> {
        let mut runner = Self::new(disk, setup);
        runner.open().map_err(|error| format!("creation: {error}"))?;
        runner.run(ops)?;
        Ok(runner.finish())
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As the store says.
    pub fn open(&mut self) -> Result<(), Error> {
        let options = self.setup.options(Arc::new(self.disk.clone()), &self.clock);
        self.engine = Some(options.open(Path::new(STORE))?);
        Ok(())
    }

    /// The open store.
    ///
    /// # Panics
    /// If it is not open.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the store is open")
    }

    /// The store's settings.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Takes the open store away.
    pub const fn take_engine(&mut self) -> Option<Engine> {
        self.engine.take()
    }

    /// What was noted in this life so far.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Does all of `ops`.
    ///
    /// # Errors
    /// The first thing that was not as the model says, with the operation.
    pub fn run(&mut self, ops: &[Op]) -> Result<(), String> {
        for (number, op) in ops.iter().enumerate() {
            self.step(op).map_err(|complaint| format!("op {number}, {op:?}: {complaint}"))?;
        }
        Ok(())
    }

    /// Cuts the power, drops the store, and gives every life of it.
    #[must_use]
    pub fn finish(mut self) -> Vec<Life> {
        self.end_life();
        self.lives
    }

    pub(crate) fn end_life(&mut self) {
        self.mark("end");
        self.disk.power_off();
        let log = self.disk.log();
        self.engine = None;
        self.lives.push(Life { log, marks: std::mem::take(&mut self.marks) });
    }

    pub(crate) fn mark(&mut self, op: &str) {
        self.marks.push(Mark {
            events: self.disk.event_count(),
            model: self.model.clone(),
            time: self.clock.time(),
            op: op.to_owned(),
        });
    }

    /// Does one operation and compares the answer with the model's.
    ///
    /// # Errors
    /// What was not as the model says.
    pub fn step(&mut self, op: &Op) -> Result<(), String> {
        let now = self.engine().now();
        if self.engine().stats().staged > 0 {
            // A flush goes by the time that is confirmed.
            let confirmed = self.engine().clock_doubt().map_or(now, |doubt| doubt.confirmed);
            self.model.expire_staged(confirmed);
        }
        self.learn_hidden()?;
        let state = self.model.current();
        let (write, expected) = self.intend(op, &state, now);
        self.model.begin(write);
        self.mark(&format!("{op:?}"));
        let was_stopped = matches!(self.engine().health(), Health::Stopped { .. });
        let answer = self.execute(op, &state, now);
        if self.faulty && self.engine().stats().staged > 0 && self.model.in_flight().is_some() {
            self.model.overtaken();
        }
        self.judge(op, answer, expected, was_stopped)?;
        if op.is_upkeep() {
            // Some parts know the same thing; what they disagree on is wrong some operations later.
            self.engine().audit()?;
        }
        if self.setup.max_entries.is_some() {
            self.learn_evictions()?;
        }
        Ok(())
    }

    fn judge(
        &mut self,
        op: &Op,
        answer: Result<Answer, Trouble>,
        expected: Option<bool>,
        was_stopped: bool,
    ) -> Result<(), String> {
        match answer {
            Ok(Answer::Done(sequence)) => self.model.acknowledge(sequence.map(|number| number.0)),
            Ok(Answer::Is(answer)) if Some(answer) == expected => self.model.acknowledge(None),
            Ok(Answer::Is(answer)) => Err(format!("answered {answer}, expected {expected:?}")),
            Err(Trouble::Wrong(complaint)) => Err(complaint),
            Err(Trouble::Failed(Error::Stopped { .. })) if was_stopped && self.faulty => {
                self.model.refuse();
                Ok(())
            }
            // Nothing that may go is left: the write is refused.
            Err(Trouble::Failed(Error::Full { .. })) if self.setup.max_entries.is_some() => {
                self.model.refuse();
                Ok(())
            }
            Err(Trouble::Failed(error)) if self.faulty => {
                self.failures.push(format!("{op:?}: {error}"));
                self.model.fail();
                self.note_shown();
                Ok(())
            }
            Err(Trouble::Failed(error)) => Err(format!("failed: {error}")),
        }
    }

    /// Looks which failed writes reads show, if they can be read.
    fn note_shown(&mut self) {
        let Ok(seen) = Observation::of(self.engine(), self.model.keys()) else { return };
        if let Some(fit) =
            self.model.explain(CrashKind::None, |state| seen.is(state, Evicted::Gone))
        {
            self.model.note_shown(&fit);
        }
    }

    /// What the operation will write, and whether it will say yes.
    fn intend(&self, op: &Op, state: &State, now: Timestamp) -> (Option<Write>, Option<bool>) {
        let default = self.setup.durability;
        let there = |number: u8| live(state, now).any(|(found, _)| *found == key(number));
        // What was evicted or has expired could come back: whoever deletes it wants it gone all the same.
        let held = |number: u8| state.contains_key(&key(number));
        let one = |effect, durability: Option<Durability>| {
            Some(Write::new(vec![effect], durability.unwrap_or(default)))
        };
        match op {
            Op::Put(put) => (one(put_effect(put, now), put.durability), None),
            Op::PutIfAbsent(put) => {
                let absent = !there(put.key);
                let write = one(put_effect(put, now), put.durability);
                (write.filter(|_| absent), Some(absent))
            }
            Op::Delete { key: number, durability } => {
                let write = one(Effect::Delete(key(*number)), *durability);
                (write.filter(|_| held(*number)), Some(there(*number)))
            }
            Op::Touch { key: number, expires_in_ms } => {
                let effect =
                    Effect::Touch(key(*number), expires_in_ms.map(|ms| now.saturating_add_ms(ms)));
                (one(effect, None).filter(|_| there(*number)), Some(there(*number)))
            }
            Op::Slide { key: number, lifetime_ms } => {
                let until = now.saturating_add_ms(*lifetime_ms);
                let effect = Effect::Slide(key(*number), until, *lifetime_ms);
                (one(effect, None).filter(|_| there(*number)), Some(there(*number)))
            }
            Op::Update { key: number, change, seed } => {
                let found = state.get(&key(*number)).filter(|_| there(*number));
                let effect = match change {
                    UpdateKind::Keep => None,
                    UpdateKind::Delete => held(*number).then(|| Effect::Delete(key(*number))),
                    UpdateKind::Append => {
                        let old = found.map_or(&[][..], |stored| &stored.value);
                        Some(Effect::Put(key(*number), plain(&appended(old, *seed))))
                    }
                };
                (effect.and_then(|effect| one(effect, None)), None)
            }
            Op::CutScope { scope: number } => (one(Effect::Cut(scope(*number)), None), None),
            Op::Batch { parts, durability } => {
                // A batch that finds nothing to do writes nothing, and so promises nothing.
                let idle =
                    |part: &&BatchPart| matches!(part, BatchPart::Delete { key } if !held(*key));
                if parts.iter().all(|part| idle(&part)) {
                    return (None, None);
                }
                let effects = parts.iter().map(|part| part_effect(part, now)).collect();
                (Some(Write::new(effects, durability.unwrap_or(default))), None)
            }
            _ => (None, None),
        }
    }

    fn execute(&mut self, op: &Op, state: &State, now: Timestamp) -> Result<Answer, Trouble> {
        let engine = self.engine().clone();
        match op {
            Op::Put(put) => {
                let options = put_options(put, now);
                let sequence =
                    engine.put_with(key(put.key), value(put.bytes, put.seed), &options)?;
                return Ok(Answer::Done(Some(sequence)));
            }
            Op::PutIfAbsent(put) => {
                let options = put_options(put, now).only_if_absent();
                return match engine.put_with(key(put.key), value(put.bytes, put.seed), &options) {
                    Ok(_) => Ok(Answer::Is(true)),
                    Err(Error::Conflict { .. }) => Ok(Answer::Is(false)),
                    Err(error) => Err(error.into()),
                };
            }
            Op::Delete { key: number, durability: Some(durability) } => {
                return Ok(Answer::Is(engine.delete_with(key(*number), *durability)?));
            }
            Op::Delete { key: number, durability: None } => {
                return Ok(Answer::Is(engine.delete(key(*number))?));
            }
            Op::Touch { .. } | Op::Slide { .. } => return Ok(Answer::Is(renew(&engine, op, now)?)),
            Op::Update { key: number, change, seed } => {
                let sequence =
                    engine.update(key(*number), |found| changed(found, *change, *seed))?;
                return Ok(Answer::Done(sequence));
            }
            Op::CutScope { scope: number } => engine.cut_scope(scope(*number))?,
            Op::Batch { parts, durability } => engine.commit(batch(parts, *durability, now))?,
            Op::Get { key: number } => {
                let found = engine.get(key(*number))?;
                check_get(&key(*number), found.as_ref().map(AsRef::as_ref), state, now)?;
            }
            Op::Iterate => check_iteration(&engine, state, now)?,
            Op::Sync => {
                engine.sync()?;
                self.model.synced();
            }
            Op::Checkpoint => engine.checkpoint()?,
            Op::Step => {
                engine.step()?;
            }
            Op::AdvanceClock { ms } => self.clock.advance(*ms),
            Op::Reopen => {
                drop(engine);
                self.reopen()?;
            }
            Op::Crash { plan } => {
                drop(engine);
                self.crash(plan)?;
            }
            Op::JumpClock { ms } => self.clock.jump_wall(*ms),
            Op::ReopenAfter { loss } => {
                drop(engine);
                self.reopen_after(*loss)?;
            }
            Op::CrashBefore { effects, plan, loss } => {
                drop(engine);
                self.crash_before(*effects, plan, *loss)?;
            }
            upkeep => self.upkeep(upkeep, &engine)?,
        }
        Ok(Answer::Done(None))
    }

    pub(crate) fn reopen(&mut self) -> Result<(), Trouble> {
        let closed = self.engine.take().map_or(Ok(()), Engine::close);
        if let Err(error) = closed {
            if !self.faulty {
                return Err(error.into());
            }
            self.failures.push(format!("close: {error}"));
            return Ok(self.restart(CrashKind::Process)?);
        }
        self.model.synced();
        self.mark("opening");
        match self.open() {
            Err(error) if self.faulty => {
                self.failures.push(format!("open: {error}"));
                Ok(self.restart(CrashKind::Power)?)
            }
            Err(error) => Err(error.into()),
            Ok(()) if self.faulty => Ok(()),
            Ok(()) => Ok(self.model.check(self.engine()).map(drop)?),
        }
    }

    /// Opens the store again on the same disk, without failures of it, and takes what is there for settled.
    ///
    /// # Errors
    /// If it does not open, or shows what no crash of this kind can leave.
    pub fn restart(&mut self, kind: CrashKind) -> Result<(), String> {
        self.engine = None;
        self.disk.disarm();
        self.disk.free();
        self.mark("restart");
        self.open().map_err(|error| format!("it does not open again: {error}"))?;
        self.settle(kind)
    }

    pub(crate) fn settle(&mut self, kind: CrashKind) -> Result<(), String> {
        let fit = match self.engine().clock_doubt() {
            None => self.model.check_after_crash(self.engine(), kind)?,
            Some(doubt) => {
                self.model.check_in_doubt(self.engine(), kind, &self.copy_at(doubt.confirmed)?)?
            }
        };
        let newest = Observation::of(self.engine(), [])?.newest_sequence();
        self.model = self.model.settled(fit.state, newest);
        self.mark("settled");
        Ok(())
    }

    /// The store as it is on the disk, opened on a copy of it at another time.
    fn copy_at(&self, time: Timestamp) -> Result<Engine, String> {
        let clock = TestClock::at(Time { wall_ms: time.0, ..self.clock.time() });
        let disk = RecordingDisk::with_image(&self.disk.image());
        let options = self.setup.options(Arc::new(disk), &clock);
        options
            .open(Path::new(STORE))
            .map_err(|error| format!("a copy of it does not open: {error}"))
    }

    fn crash(&mut self, plan: &CrashPlan) -> Result<(), String> {
        self.model.begin(None);
        self.end_life();
        let life = self.lives.last().ok_or("there is a life")?;
        let left = image(&life.log, life.log.events.len(), plan);
        self.disk = RecordingDisk::with_image(&left);
        let kind =
            if *plan == CrashPlan::Everything { CrashKind::Process } else { CrashKind::Power };
        if kind == CrashKind::Power {
            self.clock.reboot();
            self.model.power_failed();
        }
        self.mark("after a crash");
        self.open().map_err(|error| format!("it does not open after a crash: {error}"))?;
        self.settle(kind)
    }
}

/// Gives a key another expiry; whether it was there.
fn renew(engine: &Engine, op: &Op, now: Timestamp) -> Result<bool, Error> {
    match op {
        Op::Touch { key: number, expires_in_ms } => {
            engine.touch(key(*number), expires_in_ms.map(|ms| now.saturating_add_ms(ms)))
        }
        Op::Slide { key: number, lifetime_ms } => {
            engine.slide(key(*number), Duration::from_millis(*lifetime_ms))
        }
        _ => Ok(false),
    }
}

pub(crate) enum Trouble {
    /// The store said so itself.
    Failed(Error),
    /// The model says so.
    Wrong(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<String> for Trouble {
    fn from(complaint: String) -> Self {
        Self::Wrong(complaint)
    }
}

fn check_get(
    key: &[u8],
    found: Option<&[u8]>,
    state: &State,
    now: Timestamp,
) -> Result<(), String> {
    let expected = live(state, now).find(|(of, _)| *of == key).map(|(_, stored)| &*stored.value);
    if found == expected {
        return Ok(());
    }
    let length = |value: Option<&[u8]>| value.map(<[u8]>::len);
    Err(format!("get gives {:?} bytes, expected {:?}", length(found), length(expected)))
}

fn check_iteration(engine: &Engine, state: &State, now: Timestamp) -> Result<(), Trouble> {
    let mut count = 0;
    for item in engine.snapshot()?.iter() {
        let (key, entry) = item?;
        check_get(&key, Some(entry.value.as_ref()), state, now)?;
        count += 1;
    }
    let expected = live(state, now).count();
    if count == expected {
        return Ok(());
    }
    Err(Trouble::Wrong(format!("a snapshot shows {count} entries, expected {expected}")))
}

fn put_effect(put: &PutOp, now: Timestamp) -> Effect {
    let stored = Stored {
        value: value(put.bytes, put.seed).into(),
        expires_at: put.expires_in_ms.map(|ms| now.saturating_add_ms(ms)),
        evictable: put.evictable,
        scopes: scopes(put.scopes).collect(),
        sequence: None,
        evicted: false,
        hidden: false,
        slid_ms: 0,
        taken_ms: 0,
    };
    Effect::Put(key(put.key), stored)
}

fn put_options(put: &PutOp, now: Timestamp) -> PutOptions {
    let mut options = PutOptions::new().evictable(put.evictable);
    if let Some(ms) = put.expires_in_ms {
        options = options.expires_at(now.saturating_add_ms(ms));
    }
    if let Some(durability) = put.durability {
        options = options.durability(durability);
    }
    scopes(put.scopes).fold(options, PutOptions::scope)
}

fn plain(value: &[u8]) -> Stored {
    let (expires_at, evictable, scopes, sequence) = (None, false, Vec::new(), None);
    Stored {
        value: value.into(),
        expires_at,
        evictable,
        scopes,
        sequence,
        evicted: false,
        hidden: false,
        slid_ms: 0,
        taken_ms: 0,
    }
}

/// What an update makes of a value; it starts anew when the value gets long.
fn appended(old: &[u8], seed: u64) -> Vec<u8> {
    let kept = if old.len() > 400 { &old[..0] } else { old };
    [kept, &value(20, seed)].concat()
}

fn changed(found: Option<&Entry>, change: UpdateKind, seed: u64) -> Change {
    match change {
        UpdateKind::Keep => Change::Keep,
        UpdateKind::Delete => Change::Delete,
        UpdateKind::Append => {
            let old = found.map_or(&[][..], |entry| entry.value.as_ref());
            Change::Put(appended(old, seed), PutOptions::new())
        }
    }
}

fn part_effect(part: &BatchPart, now: Timestamp) -> Effect {
    match part {
        BatchPart::Put(put) => put_effect(put, now),
        BatchPart::Delete { key: number } => Effect::Delete(key(*number)),
        BatchPart::CutScope { scope: number } => Effect::Cut(scope(*number)),
    }
}

fn batch(parts: &[BatchPart], durability: Option<Durability>, now: Timestamp) -> Batch {
    let mut batch = Batch::new();
    for part in parts {
        match part {
            BatchPart::Put(put) => {
                batch.put_with(key(put.key), value(put.bytes, put.seed), put_options(put, now));
            }
            BatchPart::Delete { key: number } => {
                batch.delete(key(*number));
            }
            BatchPart::CutScope { scope: number } => {
                batch.cut_scope(scope(*number));
            }
        }
    }
    if let Some(durability) = durability {
        batch.durability(durability);
    }
    batch
}
