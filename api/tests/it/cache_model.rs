//! Random operations on a cache beside a model of it.

use std::collections::HashMap;

use tierce::{Cache, Put, SpaceOptions, Store, Ttl};
use tierce_kit::{clock::TestClock, rng::Rng, seed::cases};

use crate::cache::Desk;

const KEYS: u64 = 12;
const STEPS: usize = 120;
/// The space's own lifetime.
const DEFAULT_MS: u64 = 5_000;

#[derive(Clone, Debug, PartialEq)]
struct Item {
    value: u64,
    expires_at: Option<u64>,
    tag: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert,
    InsertWith,
    Update,
    Touch,
    Slide,
    Remove,
    Take,
    Tag,
    Keys,
    Under,
    If,
    Clear,
    Time,
    JumpBack,
    Close,
    Crash,
    Compact,
}

const OPS: [(u32, Op); 17] = [
    (10, Op::Insert),
    (20, Op::InsertWith),
    (8, Op::Update),
    (8, Op::Touch),
    (3, Op::Slide),
    (8, Op::Remove),
    (5, Op::Take),
    (3, Op::Tag),
    (2, Op::Keys),
    (2, Op::Under),
    (2, Op::If),
    (1, Op::Clear),
    (15, Op::Time),
    (3, Op::JumpBack),
    (3, Op::Close),
    (3, Op::Crash),
    (1, Op::Compact),
];

type Key = (String, u64);

fn key(number: u64) -> Key {
    (["a", "ab", "ü"][number as usize % 3].to_owned(), number)
}

struct Run {
    rng: Rng,
    desk: Desk,
    options: SpaceOptions,
    cache: Cache<Key, u64>,
    model: HashMap<Key, Item>,
    /// Milliseconds of store time.
    now: u64,
    next: u64,
}

fn open(desk: &Desk, options: &SpaceOptions) -> Cache<Key, u64> {
    let store: Store = desk.open();
    store.map::<u32, u32>("before it").unwrap();
    store.cache_with("c", options).unwrap()
}

impl Run {
    fn new(seed: u64, ordered: bool) -> Self {
        let desk = Desk::new();
        let options = SpaceOptions::new().ordered(ordered).ttl(Ttl::millis(DEFAULT_MS));
        let cache = open(&desk, &options);
        let now = TestClock::START_MS;
        Self { rng: Rng::new(seed), desk, options, cache, model: HashMap::new(), now, next: 0 }
    }

    fn forget_expired(&mut self) {
        let now = self.now;
        self.model.retain(|_, item| item.expires_at.is_none_or(|at| at > now));
    }

    /// A lifetime and what it means.
    fn ttl(&mut self) -> (Ttl, Option<Option<u64>>) {
        let ms = self.rng.between(1, 8_000);
        match self.rng.below(6) {
            0 => (Ttl::Default, Some(Some(self.now + DEFAULT_MS))),
            1 => (Ttl::Never, Some(None)),
            2 => (Ttl::millis(0), None),
            3 => (Ttl::Until(tierce::Timestamp(self.now + ms)), Some(Some(self.now + ms))),
            _ => (Ttl::millis(ms), Some(Some(self.now + ms))),
        }
    }

    fn insert_with(&mut self, key: &Key) {
        let (ttl, end) = self.ttl();
        let mut put = Put::new().ttl(ttl);
        let tag = self.rng.one_in(2).then(|| self.rng.below(3));
        put = tag.into_iter().fold(put, |put, tag| put.tag(format!("tag {tag}")));
        let (if_absent, keep) = (self.rng.one_in(4), self.rng.one_in(4));
        put = if if_absent { put.if_absent() } else { put };
        put = if keep { put.keep_ttl() } else { put };
        self.next += 1;
        let old = self.model.get(key).cloned();
        let stored = self.cache.insert_with(key, &self.next, &put).unwrap();
        let wanted = match (end, &old) {
            (_, Some(_)) if if_absent => false,
            (None, _) => {
                if !if_absent {
                    self.model.remove(key);
                }
                false
            }
            (Some(expires_at), old) => {
                let kept = old.as_ref().filter(|_| keep).map(|old| old.expires_at);
                let expires_at = kept.unwrap_or(expires_at);
                self.model.insert(key.clone(), Item { value: self.next, expires_at, tag });
                true
            }
        };
        assert_eq!(stored, wanted);
    }

    fn change(&mut self, op: Op) {
        let key = key(self.rng.below(KEYS));
        let old = self.model.get(&key).cloned();
        match op {
            Op::Insert => {
                self.next += 1;
                self.cache.insert(&key, &self.next).unwrap();
                let expires_at = Some(self.now + DEFAULT_MS);
                self.model.insert(key, Item { value: self.next, expires_at, tag: None });
            }
            Op::InsertWith => self.insert_with(&key),
            Op::Update => {
                let keep = self.rng.one_in(2);
                let put = if keep { Put::new().keep_ttl() } else { Put::new() };
                let bump = |old: Option<u64>| old.filter(|old| old % 3 > 0).map(|old| old + 1);
                let new = self.cache.update(&key, &put, bump).unwrap();
                assert_eq!(new, bump(old.as_ref().map(|old| old.value)));
                self.model.remove(&key);
                if let (Some(value), Some(old)) = (new, old) {
                    let plain = Some(self.now + DEFAULT_MS);
                    let expires_at = if keep { old.expires_at } else { plain };
                    self.model.insert(key, Item { value, expires_at, tag: None });
                }
            }
            Op::Touch => {
                let (ttl, end) = self.ttl();
                assert_eq!(self.cache.touch(&key, ttl).unwrap(), old.is_some());
                match (end, self.model.get_mut(&key)) {
                    (Some(end), Some(item)) => item.expires_at = end,
                    _ => drop(self.model.remove(&key)),
                }
            }
            Op::Slide => {
                let is_there = old.is_some();
                assert_eq!(
                    self.cache.slide(&key, std::time::Duration::from_secs(8)).unwrap(),
                    is_there
                );
                if let Some(item) = self.model.get_mut(&key) {
                    // It may keep an expiry that is an eighth too early; that one is asked for.
                    let left = self.cache.ttl(&key).unwrap().unwrap();
                    let at = left.map(|left| self.now + left.as_millis() as u64);
                    assert!(at.is_some_and(|at| at > self.now + 7_000), "{at:?}");
                    item.expires_at = at;
                }
            }
            Op::Remove => {
                assert_eq!(self.cache.remove(&key).unwrap(), old.is_some());
                self.model.remove(&key);
            }
            Op::Take => {
                assert_eq!(self.cache.take(&key).unwrap(), old.map(|old| old.value));
                self.model.remove(&key);
            }
            _ => self.invalidate(op, &key),
        }
    }

    fn invalidate(&mut self, op: Op, key: &Key) {
        let before = self.model.len();
        let count = match op {
            Op::Tag => {
                let tag = self.rng.below(3);
                self.model.retain(|_, item| item.tag != Some(tag));
                self.cache.invalidate_tag(&format!("tag {tag}")).unwrap()
            }
            Op::Keys => {
                let (part, rest) = (3 + self.rng.below(5), self.rng.below(3));
                self.model.retain(|key, _| key.1 % part != rest);
                self.cache.invalidate_keys(|key| key.1 % part == rest).unwrap()
            }
            Op::Under => {
                self.model.retain(|other, _| other.0 != key.0);
                self.cache.invalidate_under(key.0.as_str()).unwrap()
            }
            Op::If => {
                self.model.retain(|_, item| item.value % 5 > 0);
                self.cache.invalidate_if(|_, entry| entry.value % 5 == 0).unwrap()
            }
            Op::Clear => {
                self.model.clear();
                self.cache.clear().unwrap()
            }
            _ => return self.around(op),
        };
        assert_eq!(count as usize, before - self.model.len());
    }

    fn around(&mut self, op: Op) {
        match op {
            Op::Time => {
                let ms = self.rng.between(1, 3_000);
                self.desk.clock.advance(ms);
                self.now += ms;
            }
            Op::JumpBack => {
                let _ = self.cache.get(&key(0)).unwrap();
                self.desk.clock.jump_wall(-(self.rng.below(100_000) as i64));
            }
            Op::Close => {
                let other = open(&Desk::new(), &self.options);
                let cache = std::mem::replace(&mut self.cache, other);
                let store = cache.store().clone();
                drop(cache);
                store.close().unwrap();
                self.reopen();
            }
            Op::Crash => {
                // Of a clock that was set back the store knows only while it runs and when it was closed.
                self.desk.clock.set_wall(self.now);
                self.desk = self.desk.crash();
                self.reopen();
            }
            _ => {
                self.cache.store().engine().unwrap().compact().unwrap();
            }
        }
    }

    /// Store time goes on where it was, or where the clock is by now, if that is later.
    fn reopen(&mut self) {
        self.cache = open(&self.desk, &self.options);
        let now = self.cache.store().now().0;
        assert!(now >= self.now, "store time went back");
        self.now = now;
    }

    fn compare(&self, ordered: bool) {
        for number in 0..KEYS {
            let key = key(number);
            let item = self.model.get(&key);
            assert_eq!(self.cache.get(&key).unwrap(), item.map(|item| item.value), "{key:?}");
            assert_eq!(self.cache.contains_key(&key).unwrap(), item.is_some());
            let left = self.cache.ttl(&key).unwrap();
            let left = left.map(|left| left.map(|left| self.now + left.as_millis() as u64));
            assert_eq!(left, item.map(|item| item.expires_at), "{key:?}");
        }
        assert_eq!(self.cache.len().unwrap(), self.model.len());
        let mut keys = self.cache.keys().unwrap();
        if !ordered {
            keys.sort();
        }
        let mut wanted: Vec<_> = self.model.keys().cloned().collect();
        wanted.sort();
        assert_eq!(keys, wanted);
    }
}

fn run(seed: u64, ordered: bool) {
    let mut run = Run::new(seed, ordered);
    for _ in 0..STEPS {
        let op = run.rng.weighted(&OPS);
        run.forget_expired();
        run.change(op);
        run.forget_expired();
        run.compare(ordered);
    }
}

/// Goal: after every step a cache answers as the model does.
#[test]
fn a_cache_is_what_its_model_is() {
    cases("cache_model::a_cache_is_what_its_model_is", 60, |seed| run(seed, false));
}

/// Goal: an ordered cache does, too, and its keys come in order.
#[test]
fn an_ordered_cache_is_what_its_model_is() {
    cases("cache_model::an_ordered_cache_is_what_its_model_is", 60, |seed| run(seed, true));
}
