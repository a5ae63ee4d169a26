//! Sections of a barrier, counters, entries of a map, and states of devices: things with a key, each of which must look
//! as if one client after the other had it.

use std::{
    panic::panic_any,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use tierce::{
    Map, SpaceOptions, Store,
    collections::Counter,
    recipes::Barrier,
    state::{EngineStore, Object, StateStore},
};
use tierce_engine::schedule::{point, steps};

use super::{
    case::{KEYS, Op, What},
    linear::{Deed, is_explained},
    world::{Again, ORDERED, Play, World},
};

/// Entries that are there from the beginning to the end: every walk finds them.
const PILLARS: [u32; 2] = [0, 100];

/// What was done to one entry or state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Put(u64),
    /// What is no state took its place.
    Damaged,
    Saw(Option<u64>),
    Removed(bool),
    Cleared,
}

/// What there is of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Is {
    Nothing,
    Value(u64),
    /// Something damaged, which may be moved aside whenever somebody looks.
    Damage,
}

#[derive(Default)]
struct Notes {
    /// By what it is (0 for entries, 1 for states) and key.
    deeds: Vec<(u8, u8, Deed<Did>)>,
    added: (i64, bool),
}

pub(crate) struct Keyed {
    barrier: Barrier,
    counter: Counter,
    map: Map<u32, u64>,
    states: EngineStore,
    inside: [AtomicU32; KEYS as usize],
    notes: Mutex<Notes>,
}

fn name(key: u8) -> String {
    format!("device-{key}")
}

fn object(value: u64) -> Object {
    let mut object = Object::new();
    object.insert("value".to_owned(), value.into());
    object
}

fn value(object: &Object) -> Option<u64> {
    object.get("value")?.as_u64()
}

/// What may be there after a deed that had this answer.
fn step(is: &Is, did: &Did) -> Vec<Is> {
    match (did, is) {
        (Did::Put(value), _) => vec![Is::Value(*value)],
        (Did::Damaged, _) => vec![Is::Damage],
        (Did::Saw(None), Is::Nothing) => vec![Is::Nothing],
        (Did::Saw(None), Is::Damage) => vec![Is::Damage],
        (Did::Saw(Some(saw)), Is::Value(value)) if saw == value => vec![*is],
        (Did::Removed(true), Is::Value(_)) | (Did::Removed(false), Is::Nothing) => {
            vec![Is::Nothing]
        }
        (Did::Removed(_), Is::Damage) | (Did::Cleared, _) => vec![Is::Nothing],
        _ => vec![],
    }
}

impl Keyed {
    pub(crate) fn new(world: &World, store: &Store) -> tierce::Result<Self> {
        let map: Map<u32, u64> = store.map_with("entries", &SpaceOptions::new().ordered(true))?;
        for pillar in PILLARS {
            map.insert(&pillar, &0)?;
        }
        Ok(Self {
            barrier: store.barrier("sections")?,
            counter: store.counter("count")?,
            map,
            states: EngineStore::in_store(store)?
                .durability(world.case.durability)
                .clock(world.clock.clone()),
            inside: [const { AtomicU32::new(0) }; KEYS as usize],
            notes: Mutex::default(),
        })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, kind: u8, key: u8, start: u64, is_done: bool, what: Did) {
        let end = if is_done { steps() } else { u64::MAX };
        self.notes().deeds.push((kind, key, Deed { start, end, what }));
    }

    fn section(&self, world: &World, op: Op) {
        let inside = &self.inside[usize::from(op.key)];
        let _ = world.call(|| {
            self.barrier.run(&u32::from(op.key), || {
                if inside.fetch_add(1, Ordering::Relaxed) > 0 {
                    world.complain(format!("two are in a section of key {}", op.key));
                }
                point();
                inside.fetch_sub(1, Ordering::Relaxed);
                if op.what == What::SectionPanics {
                    panic_any(ORDERED);
                }
            })
        });
    }

    fn walk(&self, world: &World, op: Op) {
        let start = steps();
        let found = world.plain(&op, || match op.n % 3 {
            0 => self.map.entries(),
            1 => self.map.range(0..=100),
            _ => Ok(self.map.keys()?.into_iter().map(|key| (key, u64::MAX)).collect()),
        });
        let Some(found) = found else { return };
        if !found.is_sorted_by(|one, two| one.0 < two.0) {
            world.complain(format!("a walk has no order: {found:?}"));
        }
        let has = |key: u32| found.iter().find(|one| one.0 == key).map(|one| one.1);
        if PILLARS.iter().any(|key| has(*key).is_none()) && !world.case.has(What::Clear) {
            world.complain(format!("a walk misses what was there all the time: {found:?}"));
        }
        for key in (0..KEYS).filter(|_| op.n % 3 < 2) {
            self.note(0, key, start, true, Did::Saw(has(u32::from(key) + 1)));
        }
    }

    /// Notes what `call` says that it did to an entry or a state.
    fn done(
        &self,
        world: &World,
        op: Op,
        kind: u8,
        perhaps: Option<Did>,
        call: impl FnOnce() -> tierce::Result<Did>,
    ) {
        let start = steps();
        match world.plain(&op, call) {
            Some(did) => self.note(kind, op.key, start, true, did),
            None => {
                if let Some(did) = perhaps {
                    self.note(kind, op.key, start, false, did);
                }
            }
        }
    }

    fn entry(&self, world: &World, op: Op) {
        let key = u32::from(op.key) + 1;
        let id = world.id();
        match op.what {
            What::Insert => self.done(world, op, 0, Some(Did::Put(id)), || {
                self.map.insert(&key, &id).map(|()| Did::Put(id))
            }),
            What::Remove => self
                .done(world, op, 0, Some(Did::Cleared), || self.map.remove(&key).map(Did::Removed)),
            _ => {
                let start = steps();
                let is_done = world.plain(&op, || self.map.clear()).is_some();
                for key in 0..KEYS {
                    self.note(0, key, start, is_done, Did::Cleared);
                }
            }
        }
    }

    fn state(&self, world: &World, op: Op) {
        let (name, id) = (name(op.key), world.id());
        match op.what {
            What::Save => self.done(world, op, 1, Some(Did::Put(id)), || {
                self.states.save(&name, &object(id)).map(|()| Did::Put(id))
            }),
            What::Read => self.done(world, op, 1, None, || {
                let found = self.states.load(&name)?;
                Ok(Did::Saw(found.as_ref().and_then(value)))
            }),
            What::Forget => self.done(world, op, 1, Some(Did::Cleared), || {
                self.states.remove(&name).map(Did::Removed)
            }),
            _ => self.done(world, op, 1, Some(Did::Damaged), || {
                let key = [b"\0S", name.as_bytes()].concat();
                Ok(self.states.engine().put(key, "no state").map(|_| Did::Damaged)?)
            }),
        }
    }

    fn act(&self, world: &World, op: Op) {
        match op.what {
            What::Section | What::SectionPanics => self.section(world, op),
            What::Add => {
                let add = i64::from(op.n % 5);
                let is_done = world.plain(&op, || self.counter.add(add)).is_some();
                let mut notes = self.notes();
                if is_done { notes.added.0 += add } else { notes.added.1 = true }
            }
            What::Walk => self.walk(world, op),
            What::Insert | What::Remove | What::Clear => self.entry(world, op),
            _ => self.state(world, op),
        }
    }
}

impl Play for Keyed {
    fn play(&self, world: &World, ops: &[Op]) {
        for op in ops {
            if world.is_dead() {
                break;
            }
            self.act(world, *op);
        }
    }

    fn judge(&self, world: &World) {
        for key in 0..KEYS {
            self.act(world, Op { what: What::Read, key, n: 0 });
        }
        self.act(world, Op { what: What::Walk, key: 0, n: 0 });
        self.notes().judge(world, "");
        let count = world.plain(&"counting", || self.counter.get());
        let (added, is_unknown) = self.notes().added;
        if count.is_some_and(|count| count != added) && !is_unknown {
            world.complain(format!("the counter is {count:?}, and {added} were added"));
        }
    }

    fn rest(&self) -> Box<dyn Again> {
        Box::new(Rest(std::mem::take(&mut *self.notes())))
    }
}

impl Notes {
    fn judge(&self, world: &World, when: &str) {
        for (kind, what) in [(0, "entry"), (1, "state")] {
            for key in 0..KEYS {
                let mine = self.deeds.iter().filter(|one| (one.0, one.1) == (kind, key));
                let deeds: Vec<_> = mine.map(|one| one.2.clone()).collect();
                if !is_explained(&deeds, Is::Nothing, step) {
                    world.complain(format!("no order explains {what} {key}{when}: {deeds:?}"));
                }
            }
        }
    }
}

struct Rest(Notes);

impl Again for Rest {
    fn again(&self, world: &World, store: &Store, is_kept: bool) {
        if !is_kept {
            return;
        }
        let Ok(keyed) = Keyed::new(world, store) else {
            return world.complain("it does not open again");
        };
        let mut notes = keyed.notes();
        notes.deeds.clone_from(&self.0.deeds);
        drop(notes);
        for key in 0..KEYS {
            keyed.act(world, Op { what: What::Read, key, n: 0 });
        }
        keyed.act(world, Op { what: What::Walk, key: 0, n: 0 });
        keyed.notes().judge(world, " when it is opened again");
        let count = world.plain(&"counting", || keyed.counter.get());
        let (added, is_unknown) = self.0.added;
        if count.is_some_and(|count| count != added) && !is_unknown {
            world.complain(format!("the counter is {count:?} again, and {added} were added"));
        }
    }
}
