//! Crashes a recorded life of a store at every effect on its disk, in every way that the bounds allow, and
//! checks what opens afterwards against the model.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use crate::{
    beside::is_refusal,
    clock::{TestClock, Time},
    crash::{Bounds, CrashPlan, sweep},
    image::Image,
    model::{CrashKind, Fit, Model, State},
    observe::Observation,
    recorder::RecordingDisk,
    run::{Life, Mark},
    store::{STORE, Setup, soundness},
};

/// How thorough to be.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// States per crash point.
    pub bounds: Bounds,
    /// States per crash point of a recovery, where that is crashed too.
    pub second_bounds: Bounds,
    /// The recovery of one in so many states is crashed too; 0 means of none.
    pub second_every: u64,
    /// One in so many states is also written to, closed, checked as files, and opened once more; 0 means none.
    pub live_on_every: u64,
    /// One in so many states is also opened without its checkpoints, which must not matter; 0 means none.
    pub bare_every: u64,
}

impl Default for Depth {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            second_bounds: Bounds { prefixes: 3, singles: 3, randoms: 2, tears: 2 },
            second_every: 0,
            live_on_every: 40,
            bare_every: 9,
        }
    }
}

/// How many states were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// States built, equal ones included.
    pub built: u64,
    /// Different states (of disk and model), each of which was opened and compared.
    pub checked: u64,
    /// Those among them that came from a crash during recovery.
    pub second: u64,
    /// Those among them where a crash took acknowledged writes, as it may.
    pub shortened: u64,
}

/// One sweep over the lives of one store.
pub struct Sweep<'a> {
    /// The store's settings.
    pub setup: &'a Setup,
    /// How thorough to be.
    pub depth: Depth,
    /// Decides which states are built where not all are.
    pub seed: u64,
    /// What was seen so far.
    pub tally: Tally,
}

impl<'a> Sweep<'a> {
    /// A sweep that saw nothing yet.
    #[must_use]
    pub fn new(setup: &'a Setup, depth: Depth, seed: u64) -> Self {
        Self { setup, depth, seed, tally: Tally::default() }
    }

    /// Crashes `life` at every effect.
    ///
    /// # Errors
    /// The first state that no crash may leave, for people.
    pub fn life(&mut self, life: &Life) -> Result<(), String> {
        self.life_from(life, 0)
    }

    /// Crashes `life` at every effect from this one on.
    ///
    /// # Errors
    /// As [`Self::life`].
    pub fn life_from(&mut self, life: &Life, first: usize) -> Result<(), String> {
        let mut seen = HashSet::new();
        let bounds = self.depth.bounds;
        sweep(&life.log, first, &bounds, self.seed, |point, plan, image| {
            let at = life.mark_at(point);
            let mark = &life.marks[at];
            self.tally.built += 1;
            if !seen.insert((image.fingerprint(), at, kind_of(plan))) {
                return Ok(());
            }
            self.state(&image, mark, kind_of(plan)).map_err(|complaint| {
                let event = point.checked_sub(1).and_then(|last| life.log.events.get(last));
                format!(
                    "crash at {point} of {} (after {event:?}), {plan:?}, during {}: {complaint}",
                    life.log.events.len(),
                    mark.op
                )
            })
        })
    }

    /// Opens one state and compares.
    fn state(&mut self, image: &Image, mark: &Mark, kind: CrashKind) -> Result<(), String> {
        self.tally.checked += 1;
        let checked = self.tally.checked;
        let due = |every: u64| every > 0 && checked.is_multiple_of(every);
        let live_on_due = due(self.depth.live_on_every);
        let fit = check_state(self.setup, image, &mark.model, mark.time, kind, |engine, fit| {
            if live_on_due { live_on(self.setup, engine, &mark.model, fit) } else { Ok(()) }
        })?;
        if due(self.depth.bare_every) && has_checkpoint(image) {
            let bare = without_checkpoints(image);
            let again = check_state(self.setup, &bare, &mark.model, mark.time, kind, |_, _| Ok(()));
            let again = again.map_err(|complaint| format!("without checkpoints: {complaint}"))?;
            // What was evicted may be back without its checkpoint.
            let may_differ = [&again.state, &fit.state].iter().any(|state| has_evictable(state));
            if again.state != fit.state && !may_differ {
                return Err("the store differs when its checkpoints are missing".to_owned());
            }
        }
        if fit.prefix < mark.model.bounds().1 {
            self.tally.shortened += 1;
        }
        if due(self.depth.second_every) {
            self.second(image, mark, kind)?;
        }
        Ok(())
    }

    /// Crashes the recovery of this state at every effect it has on the disk.
    fn second(&mut self, image: &Image, mark: &Mark, kind: CrashKind) -> Result<(), String> {
        let disk = RecordingDisk::with_image(image);
        let clock = clock_after(mark.time, kind);
        let engine = open(self.setup, Arc::new(disk.clone()), &clock)?;
        let opened = disk.event_count();
        let fit = fit_of(self.setup, image, &mark.model, (&engine, &clock), kind)?;
        let newest = Observation::of(&engine, [])?.newest_sequence();
        disk.power_off();
        let log = disk.log();
        drop(engine);
        let settled = mark.model.settled(fit.state, newest);
        let mut seen = HashSet::new();
        let bounds = self.depth.second_bounds;
        sweep(&log, 0, &bounds, self.seed, |point, plan, image| {
            self.tally.built += 1;
            // Order: what an opened store showed is as good as synced, so nothing may change from there on.
            let model = if point < opened { &mark.model } else { &settled };
            if !seen.insert((image.fingerprint(), point < opened)) {
                return Ok(());
            }
            self.tally.checked += 1;
            self.tally.second += 1;
            let checked = check_state(self.setup, &image, model, clock.time(), kind, |_, _| Ok(()));
            checked.map(drop).map_err(|complaint| {
                let event = point.checked_sub(1).and_then(|last| log.events.get(last));
                format!(
                    "second crash at {point} of {opened} (after {event:?}), {plan:?}: {complaint}"
                )
            })
        })
    }
}

/// Whether the plan crashes the machine or only the process.
#[must_use]
pub const fn kind_of(plan: &CrashPlan) -> CrashKind {
    match plan {
        CrashPlan::Everything | CrashPlan::TornHead { rest: true, .. } => CrashKind::Process,
        _ => CrashKind::Power,
    }
}

fn has_evictable(state: &State) -> bool {
    state.values().any(|stored| stored.evictable)
}

fn is_checkpoint(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "ckpt")
}

fn has_checkpoint(image: &Image) -> bool {
    image.files.keys().any(|path| is_checkpoint(path))
}

fn without_checkpoints(image: &Image) -> Image {
    let mut bare = image.clone();
    bare.files.retain(|path, _| !is_checkpoint(path));
    bare
}

fn clock_after(time: Time, kind: CrashKind) -> TestClock {
    let clock = TestClock::at(time);
    if kind == CrashKind::Power {
        clock.reboot();
    }
    clock
}

fn open(
    setup: &Setup,
    disk: Arc<dyn tierce_engine::io::Disk>,
    clock: &TestClock,
) -> Result<tierce_engine::Engine, String> {
    let options = setup.options(disk, clock);
    match catch_unwind(AssertUnwindSafe(|| options.open(Path::new(STORE)))) {
        Ok(opened) => opened.map_err(|error| format!("the store does not open: {error}")),
        Err(_) => Err("opening the store panicked".to_owned()),
    }
}

/// Opens `image` and compares it with `model`; `further` may look at the open store and must leave it closed
/// or as it is.
///
/// # Errors
/// What is wrong, for people.
pub fn check_state(
    setup: &Setup,
    image: &Image,
    model: &Model,
    time: Time,
    kind: CrashKind,
    further: impl FnOnce(Reopened, &Fit) -> Result<(), String>,
) -> Result<Fit, String> {
    let clock = clock_after(time, kind);
    let disk: Arc<dyn tierce_engine::io::Disk> = Arc::new(image.memory_disk());
    let engine = open(setup, disk.clone(), &clock)?;
    let fit = fit_of(setup, image, model, (&engine, &clock), kind)?;
    further(Reopened { engine, disk, clock }, &fit)?;
    Ok(fit)
}

/// What explains the open store; while its time is in doubt, also a copy of it at the time that is confirmed.
fn fit_of(
    setup: &Setup,
    image: &Image,
    model: &Model,
    (engine, clock): (&tierce_engine::Engine, &TestClock),
    kind: CrashKind,
) -> Result<Fit, String> {
    let Some(doubt) = engine.clock_doubt() else { return model.check_after_crash(engine, kind) };
    let confirmed = TestClock::at(Time { wall_ms: doubt.confirmed.0, ..clock.time() });
    let copy = open(setup, Arc::new(image.memory_disk()), &confirmed)?;
    model.check_in_doubt(engine, kind, model.evicted_after(kind), &copy)
}

/// A store that was opened after a crash.
pub struct Reopened {
    /// The store.
    pub engine: tierce_engine::Engine,
    /// Its disk.
    pub disk: Arc<dyn tierce_engine::io::Disk>,
    /// Its clock.
    pub clock: TestClock,
}

/// The store takes new writes above all old ones, closes, is sound, and shows the same when opened once more.
fn live_on(setup: &Setup, reopened: Reopened, model: &Model, fit: &Fit) -> Result<(), String> {
    let Reopened { engine, disk, clock } = reopened;
    let failed = |error| format!("life after the crash failed: {error}");
    let newest = Observation::of(&engine, [])?.newest_sequence();
    let mut model = model.settled(fit.state.clone(), newest);
    let key = b"after the crash".to_vec();
    let stored = crate::model::Stored {
        value: key.as_slice().into(),
        expires_at: None,
        evictable: false,
        scopes: Vec::new(),
        sequence: None,
        evicted: false,
        hidden: false,
        slid_ms: 0,
        taken_ms: 0,
    };
    let effect = crate::model::Effect::Put(key.clone(), stored);
    let write = crate::model::Write::new(vec![effect], tierce_engine::Durability::Sync);
    model.begin(Some(write));
    let options = tierce_engine::PutOptions::new().durability(tierce_engine::Durability::Sync);
    match engine.put_with(&key, &key, &options) {
        Ok(sequence) => model.acknowledge(Some(sequence.0))?,
        Err(error) if setup.is_limited() && is_refusal(&error) => model.refuse(),
        Err(error) => return Err(failed(error)),
    }
    if setup.is_limited() {
        model.learn_evicted(&engine)?;
    }
    model.check(&engine)?;
    engine.close().map_err(failed)?;
    soundness(&disk, Path::new(STORE))?;
    let engine = open(setup, disk, &clock)?;
    model.check(&engine).map(drop)
}
