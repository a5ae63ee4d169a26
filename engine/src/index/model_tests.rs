//! The index against a model that is too simple to be wrong.

use super::{
    tests::{Random, check, found, place, sorted},
    *,
};
use std::collections::BTreeMap;

/// What the index should hold: entries by hash, as far as the index knows a hash.
#[derive(Clone, Default)]
struct Model(BTreeMap<u64, Vec<Entry>>);

impl Model {
    fn of(&self, hash: u64) -> Vec<Entry> {
        sorted(self.0.get(&(hash >> 8)).cloned().unwrap_or_default())
    }

    fn at(&mut self, hash: u64, at: Location) -> Option<&mut Entry> {
        self.0.get_mut(&(hash >> 8))?.iter_mut().find(|entry| entry.location == at)
    }

    fn add(&mut self, hash: u64, entry: Entry) {
        self.0.entry(hash >> 8).or_default().push(entry);
    }

    fn remove(&mut self, hash: u64, at: Location) -> bool {
        let Some(entries) = self.0.get_mut(&(hash >> 8)) else {
            return false;
        };
        let before = entries.len();
        entries.retain(|entry| entry.location != at);
        before > entries.len()
    }

    fn retain(&mut self, shard: usize, keep: impl Fn(Entry) -> bool) {
        for (_, entries) in self.0.iter_mut().filter(|(hash, _)| **hash >> 48 == shard as u64) {
            entries.retain(|entry| keep(*entry));
        }
    }

    fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn shard(&self, shard: usize) -> Vec<(u64, Entry)> {
        let of_shard = self.0.iter().filter(|(hash, _)| **hash >> 48 == shard as u64);
        of_shard
            .flat_map(|(hash, entries)| {
                sorted(entries.clone()).into_iter().map(|entry| (*hash << 8, entry))
            })
            .collect()
    }
}

fn frozen_shard(frozen: &Frozen, shard: usize) -> Vec<(u64, Entry)> {
    let mut entries: Vec<_> = frozen.shard_entries(shard).collect();
    entries.sort_by_key(|(hash, entry)| (*hash, entry.location));
    entries
}

/// Runs `steps` random verbs on an index and on the model; `hash_of` decides how hashes collide.
struct Run {
    random: Random,
    index: Index,
    model: Model,
    places: u64,
    hash_of: fn(u64) -> u64,
}

impl Run {
    fn new(seed: u64, hash_of: fn(u64) -> u64) -> Self {
        Self {
            random: Random(seed),
            index: Index::new(),
            model: Model::default(),
            places: 0,
            hash_of,
        }
    }

    fn fresh_entry(&mut self) -> Entry {
        self.places += 1;
        let bits = self.random.next();
        Entry {
            location: place(self.places),
            size: Size::of(bits & 0xffff),
            flags: (bits >> 8 & 15) as u8,
            epoch: (bits >> 16) as u16 | 1,
        }
    }

    /// A place of that hash, if it has any; else one that nobody has.
    fn some_place(&mut self, hash: u64) -> Location {
        let entries = self.model.of(hash);
        let pick = self.random.below(entries.len() as u64 + 1) as usize;
        entries.get(pick).map_or(place(1 << 30), |entry| entry.location)
    }

    fn step(&mut self, growing: bool) {
        let hash = (self.hash_of)(self.random.next());
        let at = self.some_place(hash);
        let adds = if growing { 50 } else { 15 };
        match self.random.below(100) {
            roll if roll < adds => {
                let entry = self.fresh_entry();
                assert!(!self.index.insert(hash, entry, None));
                self.model.add(hash, entry);
            }
            roll if roll < 65 => {
                assert_eq!(self.index.remove(hash, at), self.model.remove(hash, at))
            }
            65..75 => {
                let entry = self.fresh_entry();
                let displaced = self.model.remove(hash, at);
                self.model.add(hash, entry);
                assert_eq!(self.index.insert(hash, entry, Some(at)), displaced);
            }
            75..80 => {
                let to = self.fresh_entry().location;
                let moved = self.model.at(hash, at).map(|entry| entry.location = to).is_some();
                assert_eq!(self.index.relocate(hash, at, to, |_| {}), moved);
            }
            80..87 => {
                let marked =
                    self.model.at(hash, at).map(|entry| entry.flags |= Entry::TOUCHED).is_some();
                assert_eq!(self.index.mark(hash, at, Entry::TOUCHED), marked);
            }
            87..92 => {
                let epoch = match self.model.at(hash, at) {
                    Some(entry) if self.random.below(4) > 0 => entry.epoch,
                    _ => self.random.next() as u16,
                };
                let fits = |entry: &&mut Entry| entry.epoch == epoch && epoch != 0;
                let evicted = self.model.at(hash, at).filter(fits).map(|entry| entry.epoch = 0);
                assert_eq!(self.index.evict(hash, at, epoch), evicted.is_some());
            }
            _ => self.look_up(hash),
        }
        assert_eq!(found(&self.index.peek(hash)), self.model.of(hash));
        self.index.shard(hash).read().check();
    }

    fn look_up(&mut self, hash: u64) {
        let access = match self.random.below(3) {
            0 => Access::Epoch(self.random.next() as u16 | 1),
            1 => Access::Count,
            _ => Access::None,
        };
        assert_eq!(found(&self.index.lookup(hash, access)), self.model.of(hash));
        for entry in self.model.0.entry(hash >> 8).or_default() {
            entry.epoch = match access {
                Access::Epoch(epoch) if entry.epoch != 0 => epoch,
                Access::Count if entry.epoch != 0 && entry.epoch % 4 != 3 => entry.epoch + 1,
                _ => entry.epoch,
            };
        }
    }

    /// Other epochs for a shard, in the index and in the model.
    fn remap(&mut self, shard: usize) {
        let other = |entry: Entry| entry.epoch ^ 0x5a5a | 2;
        let mut asked = 0;
        self.index.remap(shard, |entry| {
            asked += 1;
            other(entry)
        });
        let of_shard = self.model.0.iter_mut().filter(|(hash, _)| **hash >> 48 == shard as u64);
        for entry in of_shard.flat_map(|(_, entries)| entries).filter(|entry| entry.epoch != 0) {
            asked -= 1;
            entry.epoch = other(*entry);
        }
        assert_eq!(asked, 0, "each entry is asked for once");
    }

    fn compare(&self) {
        check(&self.index);
        assert_eq!(self.index.len(), self.model.len());
        let frozen = self.index.snapshot();
        for shard in 0..SHARDS {
            let mut all = Vec::new();
            self.index.sweep(shard, &mut |hash, entry| all.push((hash, entry)));
            all.sort_by_key(|(hash, entry)| (*hash, entry.location));
            assert_eq!(all, self.model.shard(shard));
            all.retain(|(_, entry)| !entry.is_evicted());
            assert_eq!(frozen_shard(&frozen, shard), all);
        }
    }

    /// Everything the model does not see step by step: purges, loading, and what a snapshot keeps.
    fn go(mut self, steps: u32) {
        for step in 0..steps {
            self.step(step / 4_000 % 2 == 0);
            if step % 5_000 == 4_999 {
                self.compare();
                let (frozen, then) = (self.index.snapshot(), self.model.clone());
                (0..500).for_each(|_| self.step(false));
                let shard = shard_of((self.hash_of)(self.random.next()));
                let then = then.shard(shard);
                let keep = |entry: Entry| !entry.location.offset.is_multiple_of(24);
                let before = self.model.len();
                self.model.retain(shard, keep);
                assert_eq!(self.index.retain(shard, keep), before - self.model.len());
                self.remap(shard);
                self.compare();
                let without_epoch = |entries: Vec<(u64, Entry)>| -> Vec<_> {
                    let present = entries.into_iter().filter(|(_, entry)| !entry.is_evicted());
                    present.map(|(hash, entry)| (hash, Entry { epoch: 0, ..entry })).collect()
                };
                assert_eq!(without_epoch(frozen_shard(&frozen, shard)), without_epoch(then));
            }
        }
        self.compare();
    }
}

/// Goal: the index does what a multimap does. Method: random verbs, in growing and shrinking times, every answer
/// compared, tables checked after every step.
#[test]
fn a_model_agrees_with_scattered_hashes() {
    // Four shards of some hundred hashes each, scattered over the whole tag.
    Run::new(1, |bits| ((bits & 0x3ff) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & !(0xfc << 56))
        .go(100_000);
}

/// Goal: the same with a hash so weak that keys share tags by the dozen.
#[test]
fn a_model_agrees_with_colliding_tags() {
    Run::new(2, |bits| (bits & 0x3) << 54 | (bits & 0x70) << 4).go(40_000);
}

/// Goal: the same where every tag is among the highest, so that all of a shard lives in the tail.
#[test]
fn a_model_agrees_in_the_tail() {
    Run::new(3, |bits| !0 << 12 | (bits & 0xf00)).go(40_000);
}
