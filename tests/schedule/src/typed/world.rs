//! What all topics share: the store, its disk and clock, the clients, and what becomes of the store after them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tierce::{Error, Store};
use tierce_engine::{
    Durability, Options,
    schedule::{Ended, run, steps, thread},
};
use tierce_kit::{
    clock::TestClock,
    crash::{CrashPlan, image},
    recorder::RecordingDisk,
    store::STORE,
};

use super::{
    case::{Case, Op, Topic, What},
    events::Events,
    keyed::Keyed,
    loads::Loads,
    permits::Permits,
    queue::Queues,
};
use crate::{
    disk::{Accident, PointDisk},
    judge::Verdict,
};

/// What a call came to.
pub(crate) enum Came<T> {
    Back(T),
    Failed(Error),
    Panicked,
}

/// A moment: how many decisions were made by then, and store time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) step: u64,
    pub(crate) time: u64,
}

/// The words of a panic that a client's own code has.
pub(crate) const ORDERED: &str = "a panic of a client's code";

/// What all clients of a program share.
pub(crate) struct World {
    pub(crate) case: Case,
    store: Option<Store>,
    pub(crate) clock: TestClock,
    disk: PointDisk,
    ids: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

/// One topic: what a client does, and whether what all of them saw may be.
pub(crate) trait Play: Send + Sync {
    /// Does all this, one after the other.
    fn play(&self, world: &World, ops: &[Op]);

    /// Judges what was seen, and what is there now, with all clients gone.
    fn judge(&self, world: &World);

    /// What is left of it without the store.
    fn rest(&self) -> Box<dyn Again>;
}

/// What a topic knows of the store when that is opened again.
pub(crate) trait Again {
    /// Judges what is there; `is_kept` if nothing that was acknowledged may be lost.
    fn again(&self, world: &World, store: &Store, is_kept: bool);
}

/// Nothing: for topics whose judgement ends with the store.
impl Again for () {
    fn again(&self, _world: &World, _store: &Store, _is_kept: bool) {}
}

impl World {
    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("clients have the store until they are gone")
    }

    pub(crate) fn now(&self) -> Moment {
        Moment { step: steps(), time: self.store().now().0 }
    }

    /// A number that was not given before.
    pub(crate) fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn complain(&self, text: impl Into<String>) {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    pub(crate) fn advance(&self, n: u32) {
        self.clock.advance([40, 120, 600, 5_000][n as usize % 4]);
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.case.is_faulty()
    }

    /// Whether no call does anything any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.disk.has_happened() && matches!(self.case.accident, Some((_, Accident::Crash)))
    }

    /// Calls; panics are caught.
    pub(crate) fn call<T>(&self, call: impl FnOnce() -> tierce::Result<T>) -> Came<T> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(back)) => Came::Back(back),
            Ok(Err(error)) => Came::Failed(error),
            Err(panic) => {
                let is_ordered = panic.downcast_ref::<&str>() == Some(&ORDERED);
                if !is_ordered && !self.is_faulty() {
                    self.complain("a call panicked");
                }
                Came::Panicked
            }
        }
    }

    /// As [`Self::call`], where no error is expected: nothing, if there is one.
    pub(crate) fn plain<T>(
        &self,
        what: &dyn std::fmt::Debug,
        call: impl FnOnce() -> tierce::Result<T>,
    ) -> Option<T> {
        match self.call(call) {
            Came::Back(back) => Some(back),
            Came::Failed(error) => {
                self.expect_failure(what, &error);
                None
            }
            Came::Panicked => None,
        }
    }

    /// Complains of an error that nothing asked for.
    pub(crate) fn expect_failure(&self, what: &dyn std::fmt::Debug, error: &Error) {
        if !self.is_faulty() {
            self.complain(format!("{what:?} failed: {error}"));
        }
    }

    fn verdict(&self) -> Verdict {
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.first().map_or(Ok(()), |first| Err(first.clone()))
    }
}

/// Runs `case`.
pub(crate) fn execute(case: &Case) -> Ended<Verdict> {
    let (order, case) = (case.order.clone(), case.clone());
    run(order, move || whole(case))
}

fn open(case: &Case, disk: &PointDisk, clock: &TestClock) -> Result<Store, String> {
    let mut options = Options::new()
        .durability(case.durability)
        .segment_bytes(16 << 10)
        .background(case.background)
        .clock(clock.clone());
    options.disk = Arc::new(disk.clone());
    Store::open_with(STORE, options).map_err(|error| format!("it does not open: {error}"))
}

fn topic(world: &World) -> Result<Arc<dyn Play>, String> {
    let made: tierce::Result<Arc<dyn Play>> = (|| {
        Ok(match world.case.topic {
            Topic::Loads => Arc::new(Loads::new(world.store())?) as Arc<dyn Play>,
            Topic::Events => Arc::new(Events::new(world.store())?),
            Topic::Queue => Arc::new(Queues::new(world.store())?),
            Topic::Permits => Arc::new(Permits::new(world.store())?),
            Topic::Keyed => Arc::new(Keyed::new(world, world.store())?),
        })
    })();
    made.map_err(|error| format!("the topic does not open: {error}"))
}

fn whole(case: Case) -> Verdict {
    let disk = PointDisk::new(RecordingDisk::new());
    let clock = TestClock::new().seeded(case.seed);
    let store = open(&case, &disk, &clock)?;
    let world = Arc::new(World {
        store: Some(store),
        clock,
        disk,
        ids: AtomicU64::new(0),
        complaints: Mutex::default(),
        case,
    });
    let play = topic(&world)?;
    play.play(&world, &world.case.before);
    if let Some((calls, accident)) = world.case.accident {
        world.disk.arm(calls, accident);
    }
    if let Some(fault) = &world.case.fault {
        world.disk.inner.arm(fault.clone());
    }
    let clients: Vec<_> = (0..world.case.clients.len())
        .map(|number| {
            let (world, play) = (Arc::clone(&world), Arc::clone(&play));
            thread::spawn(move || play.play(&world, &world.case.clients[number]))
        })
        .collect();
    for client in clients {
        if client.join().is_err() {
            world.complain("a client panicked");
        }
    }
    finish(&world, &*play)?;
    let Ok(world) = Arc::try_unwrap(world).map_err(|_| "a client is left") else {
        return Err("a client is left".to_owned());
    };
    reopen(world, play)
}

/// Judges with the clients gone, and no more accidents.
fn finish(world: &World, play: &dyn Play) -> Verdict {
    world.disk.disarm();
    world.disk.inner.disarm();
    if matches!(world.case.accident, Some((_, Accident::Crash))) {
        world.disk.inner.power_off();
    } else {
        if let Some(engine) = world.store().engine().filter(|_| world.is_faulty()) {
            // What failed may have stopped it; if this does not help, opening it again does.
            let _ = engine.try_recover();
        }
        play.judge(world);
    }
    world.verdict()
}

fn reopen(mut world: World, play: Arc<dyn Play>) -> Verdict {
    let rest = play.rest();
    let log = world.disk.inner.log();
    drop(play);
    let closed = world.store.take().map(Store::close_handle);
    let is_crash = matches!(world.case.accident, Some((_, Accident::Crash)));
    let is_faulty = world.is_faulty();
    match closed {
        // A load that nobody waits for any more goes on and keeps the store.
        Some(Ok(false)) if world.case.has(What::LoadPatiently) => return world.verdict(),
        Some(Ok(false)) => return Err("a handle is left".to_owned()),
        Some(Err(error)) if !is_faulty => return Err(format!("closing: {error}")),
        _ => {}
    }
    let is_power = is_crash && world.case.is_power;
    let plan = if is_power { CrashPlan::Random(world.case.seed) } else { CrashPlan::Everything };
    let disk = match is_crash {
        true => PointDisk::new(RecordingDisk::with_image(&image(&log, log.events.len(), &plan))),
        false => world.disk.clone(),
    };
    let store = open(&world.case, &disk, &world.clock)?;
    let is_os = matches!(world.case.durability, Durability::Os | Durability::Sync);
    let is_kept = if is_crash { world.case.outlives() } else { !is_faulty || is_os };
    rest.again(&world, &store, is_kept);
    store.close().map_err(|error| format!("closing it again: {error}"))?;
    world.verdict()
}
