//! Long random lists of operations against a map, with keys that collide.

use std::collections::BTreeMap;

use tierce_engine::{Batch, Change, Durability, PutOptions, ReadMode, Timestamp};
use tierce_kit::{rng::Rng, seed::cases, store::Setup};

use super::{Bench, WAYS, filler};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    value: Vec<u8>,
    expires_at: Option<Timestamp>,
    scope: Option<Vec<u8>>,
}

/// The map that says what the store must hold.
#[derive(Default)]
struct Model(BTreeMap<Vec<u8>, Stored>);

impl Model {
    fn live(&self, key: &[u8], now: Timestamp) -> Option<&Stored> {
        self.0.get(key).filter(|stored| stored.expires_at.is_none_or(|at| now < at))
    }

    fn cut(&mut self, scope: &[u8]) {
        self.0.retain(|_, stored| stored.scope.as_deref() != Some(scope));
    }
}

struct Run {
    bench: Bench,
    model: Model,
    rng: Rng,
}

impl Run {
    fn key(&mut self) -> Vec<u8> {
        match self.rng.below(60) {
            0 => Vec::new(),
            number => format!("k{number}").into_bytes(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let length = self.rng.weighted(&[(8, 40_u64), (3, 400), (1, 6_000)]);
        let (seed, length) = (self.rng.next_u64(), self.rng.below(length));
        filler(seed, usize::try_from(length).unwrap())
    }

    fn expiry(&mut self) -> Option<Timestamp> {
        let now = self.bench.engine().now();
        self.rng.one_in(3).then(|| now.saturating_add_ms(self.rng.below(60)))
    }

    fn stored(&mut self) -> (Stored, PutOptions) {
        let scope = self.rng.one_in(4).then(|| vec![b's', self.rng.below(3) as u8]);
        let stored = Stored { value: self.value(), expires_at: self.expiry(), scope };
        let options =
            stored.expires_at.map_or_else(PutOptions::new, |at| PutOptions::new().expires_at(at));
        let options = stored.scope.iter().fold(options, |o, scope| o.scope(scope.clone()));
        (stored, options)
    }

    fn step(&mut self) {
        let (key, now) = (self.key(), self.bench.engine().now());
        let was_live = self.model.live(&key, now).is_some();
        match self.rng.below(20) {
            0..8 => {
                let (stored, options) = self.stored();
                self.bench.engine().put_with(&key, &stored.value, &options).unwrap();
                self.model.0.insert(key, stored);
            }
            8..11 => {
                assert_eq!(self.bench.engine().delete(&key).unwrap(), was_live, "{key:?}");
                self.model.0.remove(&key);
            }
            11..13 => {
                let at = self.expiry();
                assert_eq!(self.bench.engine().touch(&key, at).unwrap(), was_live, "{key:?}");
                if was_live {
                    self.model.0.get_mut(&key).unwrap().expires_at = at;
                }
            }
            13 => {
                let (stored, options) = self.stored();
                let done =
                    self.bench.engine().put_with(&key, &stored.value, &options.only_if_absent());
                assert_eq!(done.is_ok(), !was_live, "{key:?}");
                if !was_live {
                    self.model.0.insert(key, stored);
                }
            }
            14 => self.update(key, now),
            15 | 16 => self.batch(),
            17 => {
                let scope = [b's', self.rng.below(3) as u8];
                self.bench.engine().cut_scope(scope).unwrap();
                self.model.cut(&scope);
            }
            18 => {
                self.bench.clock.advance(self.rng.below(12));
                self.bench.settle();
            }
            _ if self.rng.one_in(3) => {
                if self.rng.one_in(2) {
                    self.bench.engine().checkpoint().unwrap();
                }
            }
            _ => {
                let way = WAYS[usize::try_from(self.rng.below(5)).unwrap()];
                self.bench.come_up(way);
                self.compare();
            }
        }
    }

    fn update(&mut self, key: Vec<u8>, now: Timestamp) {
        let (stored, options) = self.stored();
        let live = self.model.live(&key, now).map(|stored| stored.value.clone());
        let deletes = self.rng.one_in(3);
        let update = self.bench.engine().update(&key, |old| {
            assert_eq!(old.map(|old| old.value.to_vec()), live, "{key:?}");
            match deletes {
                true => Change::Delete,
                false => Change::Put(stored.value.clone(), options.clone()),
            }
        });
        assert_eq!(update.unwrap().is_some(), !deletes || live.is_some());
        match deletes {
            true => self.model.0.remove(&key),
            false => self.model.0.insert(key, stored),
        };
    }

    fn batch(&mut self) {
        let mut batch = Batch::new();
        for _ in 0..self.rng.between(1, 8) {
            let key = self.key();
            if self.rng.one_in(9) {
                let scope = [b's', self.rng.below(3) as u8];
                batch.cut_scope(scope);
                self.model.cut(&scope);
            } else if self.rng.one_in(4) {
                batch.delete(key.clone());
                self.model.0.remove(&key);
            } else {
                let (stored, options) = self.stored();
                batch.put_with(key.clone(), stored.value.clone(), options);
                self.model.0.insert(key, stored);
            }
        }
        self.bench.engine().commit(batch).unwrap();
    }

    /// Everything that the store says, compared with the map.
    fn compare(&mut self) {
        let engine = self.bench.engine();
        let now = engine.now();
        let expected: BTreeMap<_, _> = self
            .model
            .0
            .iter()
            .filter(|(key, _)| self.model.live(key, now).is_some())
            .map(|(key, stored)| (key.clone(), stored.clone()))
            .collect();
        let mut listed = BTreeMap::new();
        for item in engine.iter().unwrap() {
            let (key, entry) = item.unwrap();
            let stored = Stored {
                value: entry.value.to_vec(),
                expires_at: entry.expires_at,
                scope: entry.scopes.first().cloned(),
            };
            assert_eq!(listed.insert(key, stored), None, "each key once");
        }
        assert!(listed == expected, "iteration differs from the model");
        let keys: Vec<_> = (0..60).map(|n| format!("k{n}").into_bytes()).chain([vec![]]).collect();
        let many = engine.get_many(&keys).unwrap();
        for (key, value) in keys.iter().zip(many) {
            let wanted = expected.get(key).map(|stored| &stored.value[..]);
            assert_eq!(value.as_deref(), wanted, "{key:?}");
            assert_eq!(engine.get(key).unwrap().as_deref(), wanted, "{key:?}");
            assert_eq!(engine.contains_key(key).unwrap(), wanted.is_some(), "{key:?}");
        }
        let (stats, stored) = (engine.stats(), self.model.0.len() as u64);
        assert!(stats.entries >= expected.len() as u64, "{} of {stored}", stats.entries);
    }
}

fn run(name: &str, read_mode: ReadMode, hash_bits: u32) {
    cases(name, 3, |seed| {
        let mut rng = Rng::new(seed);
        let durability = rng.weighted(&[
            (1, Durability::Buffered),
            (1, Durability::Os),
            (1, Durability::Sync),
            (1, Durability::Periodic),
        ]);
        let setup = Setup { read_mode, hash_bits, ..Setup::new(durability) };
        let mut run = Run { bench: Bench::new(setup), model: Model::default(), rng };
        for turn in 0..2_000 {
            run.step();
            if turn % 100 == 0 {
                run.compare();
            }
        }
        run.compare();
    });
}

/// Goal: whatever is asked in whatever order, the store holds what a map would. Method: 2,000 random operations
/// with restarts of every kind; two bits of hash, so that all keys collide with others; maps.
#[test]
fn colliding_keys_mapped() {
    run("basics::random::colliding_keys_mapped", ReadMode::Map, 2);
}

/// Goal and method: the same, reading by position.
#[test]
fn colliding_keys_positioned() {
    run("basics::random::colliding_keys_positioned", ReadMode::Positioned, 2);
}

/// Goal and method: the same with whole hashes.
#[test]
fn keys_that_do_not_collide() {
    run("basics::random::keys_that_do_not_collide", ReadMode::Auto, 64);
}
