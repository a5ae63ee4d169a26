//! Listeners of a cache: a copy that follows the events has the cache's keys in the end, and no event comes before its
//! deed.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tierce::{Cache, Put, Store, cache};
use tierce_engine::schedule::steps;

use super::{
    case::{KEYS, Op, What},
    world::{Again, Play, World},
};

/// Events that wait at most: more than a program has.
const CAPACITY: usize = 10_000;

/// From when to when something was done to a key, or to all.
struct Deed {
    key: Option<u8>,
    stores: bool,
    start: u64,
    end: u64,
}

pub(crate) struct Events {
    cache: Cache<u32, u64>,
    events: cache::Events<u32>,
    deeds: Mutex<Vec<Deed>>,
    /// What the copy has. Held while an event is taken, so that the copy follows their order.
    copy: Mutex<BTreeSet<u32>>,
}

/// Keys with the number of a tag have it.
fn tag(key: u8) -> String {
    format!("tag-{key}")
}

impl Events {
    pub(crate) fn new(store: &Store) -> tierce::Result<Self> {
        let cache = store.cache::<u32, u64>("events")?;
        let events = cache.subscribe(CAPACITY);
        Ok(Self { cache, events, deeds: Mutex::default(), copy: Mutex::default() })
    }

    fn deeds(&self) -> MutexGuard<'_, Vec<Deed>> {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<T>(
        &self,
        world: &World,
        op: Op,
        key: Option<u8>,
        stores: bool,
        call: impl FnOnce() -> tierce::Result<T>,
    ) {
        let at = {
            let mut deeds = self.deeds();
            deeds.push(Deed { key, stores, start: steps(), end: u64::MAX });
            deeds.len() - 1
        };
        if world.plain(&op, call).is_some() {
            self.deeds()[at].end = steps();
        }
    }

    /// Takes one event and does to the copy what it says; says whether there was one.
    fn hear(&self, world: &World) -> bool {
        // One client hears at a time; no lock of the standard library is held across a point.
        let begun = steps();
        let Some(event) = world.plain(&"hearing", || Ok(self.events.try_next())).flatten() else {
            return false;
        };
        let key = match &event {
            cache::Event::Inserted(key)
            | cache::Event::Updated(key)
            | cache::Event::Removed(key, _) => Some(*key),
            _ => None,
        };
        let stores = matches!(event, cache::Event::Inserted(_) | cache::Event::Updated(_));
        // What is over may be told as if somebody had removed it, if it was stored a moment ago: an open finding.
        let is_expiry = matches!(event, cache::Event::Removed(..)) && world.case.has(What::Advance);
        let is_told_of = |deed: &Deed| {
            deed.start <= steps()
                && deed.stores == stores
                && key.is_none_or(|key| deed.key.is_none_or(|of| u32::from(of) == key))
        };
        if !is_expiry && !self.deeds().iter().any(is_told_of) {
            world.complain(format!("{event:?} was heard at {begun} before it was done"));
        }
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            cache::Event::Inserted(key) | cache::Event::Updated(key) => drop(copy.insert(key)),
            cache::Event::Removed(key, _) => drop(copy.remove(&key)),
            cache::Event::TagCut(name) => copy.retain(|key| tag(*key as u8) != name),
            cache::Event::Cleared => copy.clear(),
            _ => {}
        }
        drop(copy);
        if let Some(key) = key.filter(|_| stores) {
            self.expect_visible(world, key, begun);
        }
        true
    }

    /// What is told to be stored is there, unless something took it away meanwhile.
    fn expect_visible(&self, world: &World, key: u32, begun: u64) {
        let Some(found) = world.plain(&"looking", || self.cache.get(&key)) else { return };
        let may_be_gone =
            |deed: &Deed| !deed.stores && deed.key.is_none_or(|of| u32::from(of) == key);
        if found.is_none()
            && !self.deeds().iter().any(may_be_gone)
            && !world.case.has(What::Advance)
        {
            world.complain(format!("key {key} was told of at {begun} and is not there"));
        }
    }

    fn act(&self, world: &World, op: Op, is_listener: bool) {
        let (key, one) = (u32::from(op.key), Some(op.key));
        let put = Put::new().tag(tag(op.key));
        let put = if op.n & 16 == 0 { put } else { put.ttl(Duration::from_millis(100)) };
        match op.what {
            What::Insert => self.note(world, op, one, true, || {
                self.cache.insert_with(&key, &u64::from(op.n), &put)
            }),
            What::Update => self.note(world, op, one, true, || {
                self.cache.update(&key, &put, |_| Some(u64::from(op.n)))
            }),
            What::Load => self.note(world, op, one, true, || {
                let load = || Ok::<_, Error>(tierce::Loaded::new(7).tag(tag(op.key)));
                self.cache.get_or_load(&key, load)
            }),
            What::Take => self.note(world, op, one, false, || self.cache.take(&key)),
            What::Remove => self.note(world, op, one, false, || self.cache.remove(&key)),
            What::Tag => self.note(world, op, one, false, || match op.n & 1 {
                0 => self.cache.cut_tag(&tag(op.key)),
                _ => self.cache.invalidate_tag(&tag(op.key)).map(drop),
            }),
            What::Clear => self.note(world, op, None, false, || self.cache.clear()),
            What::Cut => self.note(world, op, None, false, || self.cache.cut()),
            What::Hear if is_listener => drop(self.hear(world)),
            What::Advance => world.advance(op.n),
            _ => {}
        }
    }
}

type Error = std::convert::Infallible;

impl Play for Events {
    fn play(&self, world: &World, ops: &[Op]) {
        // Of the clients the first one listens: events have one order only for one that takes them.
        let is_listener =
            world.case.clients.first().is_some_and(|first| std::ptr::eq(&**first, ops));
        for op in ops {
            self.act(world, *op, is_listener);
        }
    }

    fn judge(&self, world: &World) {
        while self.hear(world) {}
        if self.events.lost() > 0 || world.is_faulty() {
            return;
        }
        let Some(keys) = world.plain(&"keys", || self.cache.keys()) else { return };
        let keys: BTreeSet<u32> = keys.into_iter().collect();
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What is over is told when it is noticed.
        let is_over = |key: &u32| {
            !keys.contains(key) && world.case.has(What::Advance) && *key < u32::from(KEYS)
        };
        copy.retain(|key| !is_over(key));
        if copy != keys {
            world.complain(format!("the copy has the keys {copy:?}, and the cache {keys:?}"));
        }
    }

    fn rest(&self) -> Box<dyn Again> {
        Box::new(())
    }
}
