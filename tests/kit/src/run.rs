//! Runs operations on a store over a recording disk, beside the model, and notes what the model knew when.

use std::{path::Path, sync::Arc};

use tierce_engine::{Durability, Engine, Error, Health, SequenceNumber, Timestamp};

use crate::{
    acts::{
        appended, batch, changed, check_get, check_iteration, part_effect, plain, put_effect,
        put_options, renew,
    },
    beside::{Held, is_refusal, of_setup, stored},
    clock::{TestClock, Time},
    crash::{CrashPlan, image},
    facet::Facets,
    log::Log,
    model::{CrashKind, Effect, Model, State, Write, live},
    observe::{Evicted, Observation},
    op::{BatchPart, Op, UpdateKind, key, scope, value},
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
    /// What took place.
    pub facets: Facets,
    pub(crate) held: Option<Held>,
    pub(crate) setup: Setup,
    pub(crate) engine: Option<Engine>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) lives: Vec<Life>,
}

/// What the store answered.
pub(crate) enum Answer {
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
            model: Model::new().evicting(setup.is_limited()),
            faulty: false,
            failures: Vec::new(),
            facets: of_setup(&setup),
            held: None,
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
        self.held = None;
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
        match self.intend_all(op, now) {
            Some(writes) => self.model.begin_all(writes),
            None => self.model.begin(write),
        }
        self.mark(&format!("{op:?}"));
        let was_stopped = matches!(self.engine().health(), Health::Stopped { .. });
        let answer = self.execute(op, &state, now);
        // A put that is only staged says the number 0, and overtakes nothing.
        let is_staged = matches!(answer, Ok(Answer::Done(Some(SequenceNumber(0)))));
        let overtakes = self.model.in_flight().is_some() && !is_staged;
        if self.faulty && self.engine().stats().staged > 0 && overtakes {
            self.model.overtaken();
        }
        if let Ok(answer) = &answer {
            self.note_done(op, answer, &state, now);
        }
        self.judge(op, answer, expected, was_stopped)?;
        if self.engine().stats().staged == 0 {
            self.model.nothing_staged();
        }
        if op.is_upkeep() {
            // Some parts know the same thing; what they disagree on is wrong some operations later.
            self.engine().audit()?;
        }
        if self.setup.is_limited() {
            self.learn_evictions(false)?;
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
            Ok(Answer::Is(answer)) if Some(answer) == expected || self.has_evicted(op, answer) => {
                let is_end = matches!(op, Op::Delete { .. });
                if answer || is_end {
                    self.model.acknowledge(None)
                } else {
                    self.model.refuse();
                    Ok(())
                }
            }
            Ok(Answer::Is(answer)) => Err(format!("answered {answer}, expected {expected:?}")),
            Err(Trouble::Wrong(complaint)) => Err(complaint),
            Err(Trouble::Failed(Error::Stopped { .. })) if was_stopped && self.faulty => {
                self.model.refuse();
                Ok(())
            }
            // Nothing that may go is left: the write is refused.
            Err(Trouble::Failed(error)) if self.setup.is_limited() && is_refusal(&error) => {
                if matches!(op, Op::Delete { .. }) {
                    if self.held.is_some() {
                        // Files that a snapshot keeps take the space of deletes.
                        self.check_held().map_err(Trouble::complaint)?;
                        let (state, now) = (self.model.current(), self.engine().now());
                        let again = self.execute(op, &state, now);
                        return self.judge(op, again, expected, was_stopped);
                    }
                    return Err(format!("a delete was refused: {error}"));
                }
                self.note_refusal();
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
                (write.filter(|_| absent || self.may_evict(put.key)), Some(absent))
            }
            Op::PutIfUnchanged { put, is_stale } => {
                let holds = there(put.key) && !is_stale && self.has_version(put.key);
                let write = one(put_effect(put, now), put.durability);
                (write.filter(|_| holds), Some(holds))
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
                return Ok(Answer::Is(stored(&engine, put, &options)?));
            }
            Op::PutIfUnchanged { put, is_stale } => {
                return Ok(Answer::Is(self.put_if_unchanged(&engine, put, *is_stale, now)?));
            }
            Op::Tickets { puts } => self.tickets(&engine, puts, now)?,
            Op::Hold => self.hold(&engine, state)?,
            Op::Follow => self.follow()?,
            Op::SetSpace { more } => self.set_space(*more),
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
        self.check_held()?;
        self.disk.set_capacity(None);
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
            Ok(()) => {
                self.note_opening();
                Ok(self.model.check(self.engine()).map(drop)?)
            }
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
        self.settle_as(kind, self.model.evicted_after(kind))
    }

    pub(crate) fn settle_as(&mut self, kind: CrashKind, evicted: Evicted) -> Result<(), String> {
        let (model, engine) = (&self.model, self.engine());
        let fit = match engine.clock_doubt() {
            None => model.check_as(engine, kind, evicted)?,
            Some(doubt) => {
                model.check_in_doubt(engine, kind, evicted, &self.copy_at(doubt.confirmed)?)?
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
        self.note_crash(kind);
        self.settle(kind)
    }
}

pub(crate) enum Trouble {
    /// The store said so itself.
    Failed(Error),
    /// The model says so.
    Wrong(String),
}

impl Trouble {
    fn complaint(self) -> String {
        match self {
            Self::Failed(error) => format!("failed: {error}"),
            Self::Wrong(complaint) => complaint,
        }
    }
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
