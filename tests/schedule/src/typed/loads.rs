//! Loads of a cache: what clients do, and the notes of what they saw.

use std::{
    panic::panic_any,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tierce::{Cache, Error, LoadPolicy, Loaded, Loading, Put, Store};
use tierce_engine::schedule::{point, steps};

use super::{
    case::{KEYS, Op, What},
    loads_judge::judge,
    world::{Again, Came, Moment, ORDERED, Play, World},
};

/// Where a value came from: a load, from its loader's begin on, or an insert.
pub(crate) struct Origin {
    pub(crate) key: u8,
    pub(crate) id: u64,
    pub(crate) start: u64,
    /// The end of what stored it; the largest number if that is unknown.
    pub(crate) end: u64,
    /// Store time from which on it is not served any more, if it has one.
    pub(crate) until: Option<u64>,
    pub(crate) has_lifetime: bool,
    pub(crate) tag: u8,
    pub(crate) is_load: bool,
}

/// What somebody got.
pub(crate) struct Read {
    pub(crate) key: u8,
    pub(crate) id: Option<u64>,
    pub(crate) start: Moment,
    pub(crate) end: u64,
}

/// What takes values away.
pub(crate) struct Removal {
    /// Of one key, or of all.
    pub(crate) key: Option<u8>,
    /// Only values with this tag.
    pub(crate) tag: Option<u8>,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A loader ran.
pub(crate) struct Ran {
    pub(crate) key: u8,
    pub(crate) id: u64,
    /// When its client asked; 0 if that is unknown.
    pub(crate) asked: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) is_forced: bool,
    pub(crate) failed: bool,
}

#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) origins: Vec<Origin>,
    pub(crate) reads: Vec<Read>,
    pub(crate) removals: Vec<Removal>,
    pub(crate) ran: Vec<Ran>,
    /// Of which key somebody was told that its loader failed, from when to when.
    pub(crate) failures: Vec<(u8, u64, u64)>,
}

type Shared = Arc<Mutex<Notes>>;

pub(crate) struct Loads {
    cache: Cache<u32, u64>,
    patient: Loading<u32, u64>,
    notes: Shared,
}

fn hold(notes: &Shared) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tag(number: u8) -> String {
    format!("tag-{number}")
}

fn lifetime(n: u32) -> Option<u64> {
    [None, None, Some(100), Some(1_000)][(n >> 4) as usize % 4]
}

/// What a loader is to do.
#[derive(Clone, Copy)]
struct Task {
    key: u8,
    n: u32,
    asked: u64,
    is_forced: bool,
    what: What,
    id: u64,
}

/// Runs a loader: it looks at its source at once, and takes its time then.
fn run_loader(
    notes: &Shared,
    task: Task,
    rest: impl FnOnce() -> bool,
) -> Result<Loaded<u64>, String> {
    let start = steps();
    let at = {
        let mut notes = hold(notes);
        notes.ran.push(Ran {
            key: task.key,
            id: task.id,
            asked: task.asked,
            start,
            end: u64::MAX,
            is_forced: task.is_forced,
            failed: true,
        });
        notes.origins.push(Origin {
            key: task.key,
            id: task.id,
            start,
            end: u64::MAX,
            until: None,
            has_lifetime: lifetime(task.n).is_some(),
            tag: task.n as u8 % 2,
            is_load: true,
        });
        notes.ran.len() - 1
    };
    for _ in 0..task.n % 4 {
        point();
    }
    let is_well = rest();
    hold(notes).ran[at].end = steps();
    match task.what {
        What::LoadPanics => panic_any(ORDERED),
        What::LoadFails => return Err("the source is away".to_owned()),
        _ if !is_well => return Err("what it needs does not load".to_owned()),
        _ => {}
    }
    hold(notes).ran[at].failed = false;
    let loaded = Loaded::new(task.id).tag(tag(task.n as u8 % 2));
    Ok(match lifetime(task.n) {
        Some(ms) => loaded.ttl(Duration::from_millis(ms)),
        None => loaded,
    })
}

impl Loads {
    pub(crate) fn new(store: &Store) -> tierce::Result<Self> {
        let cache = store.cache::<u32, u64>("loads")?;
        let notes = Shared::default();
        // Of the numbers that clients give, none is so large.
        let (noted, given) = (Arc::clone(&notes), AtomicU64::new(1 << 32));
        let policy = LoadPolicy::new().patience(Duration::from_millis(50));
        let patient = cache.loading(policy, move |key: &u32, _| {
            let id = given.fetch_add(1, Ordering::Relaxed);
            let (key, what) = (*key as u8, What::LoadPatiently);
            let task = Task { key, n: 3, asked: 0, is_forced: true, what, id };
            run_loader(&noted, task, || true).map_err(Into::into)
        });
        Ok(Self { cache, patient, notes })
    }

    fn read(&self, key: u8, id: Option<u64>, start: Moment) {
        let read = Read { key, id, start, end: steps() };
        hold(&self.notes).reads.push(read);
    }

    fn removed<T>(
        &self,
        world: &World,
        op: Op,
        key: Option<u8>,
        by: Option<u8>,
        call: impl FnOnce() -> tierce::Result<T>,
    ) -> Option<T> {
        let start = steps();
        let back = world.plain(&op, call);
        let end = if back.is_some() { steps() } else { u64::MAX };
        hold(&self.notes).removals.push(Removal { key, tag: by, start, end });
        back
    }

    fn insert(&self, world: &World, op: Op) {
        let (start, id) = (world.now(), world.id());
        let put = Put::new().tag(tag(op.n as u8 % 2));
        let put = match lifetime(op.n) {
            Some(ms) => put.ttl(Duration::from_millis(ms)),
            None => put,
        };
        let key = u32::from(op.key);
        let done = world.plain(&op, || match op.what {
            What::Update => self.cache.update(&key, &put, |_| Some(id)).map(drop),
            _ => self.cache.insert_with(&key, &id, &put).map(drop),
        });
        let now = world.now();
        hold(&self.notes).origins.push(Origin {
            key: op.key,
            id,
            start: start.step,
            end: if done.is_some() { now.step } else { u64::MAX },
            until: lifetime(op.n).map(|ms| now.time + ms),
            has_lifetime: lifetime(op.n).is_some(),
            tag: op.n as u8 % 2,
            is_load: false,
        });
    }

    /// Notes what a call that may load came to; says whether it brought a value.
    fn came(&self, world: &World, op: Op, start: Moment, own: u64, came: Came<u64>) -> bool {
        let now = world.now();
        if let Some(origin) = hold(&self.notes).origins.iter_mut().find(|one| one.id == own) {
            origin.end = now.step;
            origin.until = lifetime(op.n).map(|ms| now.time + ms);
        }
        match came {
            Came::Back(id) => {
                self.read(op.key, Some(id), start);
                return true;
            }
            Came::Failed(Error::Loader(_) | Error::LoaderPanicked(_)) => {
                hold(&self.notes).failures.push((op.key, start.step, now.step));
            }
            Came::Failed(Error::LoaderRecursion) if world.case.has(What::LoadInLoad) => {}
            Came::Failed(Error::Timeout { .. }) if op.what == What::LoadPatiently => {}
            Came::Failed(error) => world.expect_failure(&op, &error),
            Came::Panicked => {}
        }
        false
    }

    fn load(&self, world: &World, op: Op) -> bool {
        let start = world.now();
        let is_forced = op.what == What::Refresh;
        let own = world.id();
        let task =
            Task { key: op.key, n: op.n, asked: start.step, is_forced, what: op.what, id: own };
        let load = || {
            run_loader(&self.notes, task, || {
                let other = Op { what: What::Load, key: (op.key + 1) % KEYS, n: op.n / 8 };
                op.what != What::LoadInLoad || self.load(world, other)
            })
        };
        let key = u32::from(op.key);
        let came = world.call(|| match op.what {
            What::LoadPatiently => self.patient.get(&key),
            What::Refresh => self.cache.force_refresh(&key, load),
            _ => self.cache.get_or_load(&key, load),
        });
        self.came(world, op, start, own, came)
    }

    fn act(&self, world: &World, op: Op) {
        let key = u32::from(op.key);
        match op.what {
            What::Get => {
                let start = world.now();
                if let Some(id) = world.plain(&op, || self.cache.get(&key)) {
                    self.read(op.key, id, start);
                }
            }
            What::Take => {
                let start = world.now();
                let got = self.removed(world, op, Some(op.key), None, || self.cache.take(&key));
                if let Some(id) = got {
                    self.read(op.key, id, start);
                }
            }
            What::Insert | What::Update => self.insert(world, op),
            What::Remove => {
                self.removed(world, op, Some(op.key), None, || self.cache.remove(&key));
            }
            What::Tag => {
                let number = op.n as u8 % 2;
                self.removed(world, op, None, Some(number), || match op.n & 2 {
                    0 => self.cache.invalidate_tag(&tag(number)).map(drop),
                    _ => self.cache.cut_tag(&tag(number)),
                });
            }
            What::Clear => {
                self.removed(world, op, None, None, || self.cache.clear());
            }
            What::Cut => {
                self.removed(world, op, None, None, || self.cache.cut());
            }
            What::Advance => world.advance(op.n),
            _ => drop(self.load(world, op)),
        }
    }
}

impl Play for Loads {
    fn play(&self, world: &World, ops: &[Op]) {
        for op in ops {
            self.act(world, *op);
        }
    }

    fn judge(&self, world: &World) {
        for key in 0..KEYS {
            let op = Op { what: What::Get, key, n: 0 };
            self.act(world, op);
        }
        judge(&hold(&self.notes), world);
    }

    fn rest(&self) -> Box<dyn Again> {
        Box::new(())
    }
}
