//! Who is chosen, and what it is worth: hit ratios against an exact LRU.

use std::collections::{BTreeMap, HashMap};

use super::{
    journal::{Cause, Eviction, Journal},
    *,
};
use crate::{
    index::{SHARDS, Size},
    recency::{Place, Queue},
    types::{Slot, Timestamp},
};

fn hash_of(key: u64) -> u64 {
    let z = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) & !0xff
}

fn place(number: u64) -> Location {
    Location { slot: Slot((number >> 20) as u32), offset: 4096 + (number & 0xf_ffff) * 8 }
}

fn entry(number: u64, epoch: u16) -> Entry {
    Entry { location: place(number), size: Size::of(128), flags: Entry::EVICTABLE, epoch }
}

fn add(index: &Index, number: u64, entry: Entry) {
    assert!(!index.insert(hash_of(number), entry, None));
}

fn entries(entries: u64) -> Need {
    Need { entries, bytes: 0 }
}

fn numbers(victims: &[Victim]) -> Vec<u64> {
    let mut numbers: Vec<_> = victims
        .iter()
        .map(|v| (v.location.offset - 4096) / 8 + (u64::from(v.location.slot.0) << 20))
        .collect();
    numbers.sort_unstable();
    numbers
}

/// A store of nothing but an index: what is asked for and not there is stored.
struct Cache {
    index: Index,
    recency: Recency,
    /// Of entries, or of bytes.
    limit: Need,
    present: Need,
    stored: u64,
}

impl Cache {
    fn new(policy: Evict, limit: Need) -> Self {
        let recency = Recency::new(policy);
        recency.set_capacity(limit.entries.max(limit.bytes / 1_000));
        Self { index: Index::new(), recency, limit, present: Need::default(), stored: 0 }
    }

    /// Whether it was there.
    fn ask(&mut self, key: u64, bytes: u64) -> bool {
        let hash = hash_of(key);
        let candidates = self.index.lookup(hash, self.recency.access());
        let before = candidates.iter().next();
        if let Some(entry) = before.filter(|entry| !entry.is_evicted()) {
            self.recency.hit(entry.epoch);
            return true;
        }
        self.stored += 1;
        let epoch = self.recency.admit(hash);
        let entry = Entry { size: Size::of(bytes), ..entry(self.stored, epoch) };
        let displaced = self.index.insert(hash, entry, before.map(|entry| entry.location));
        assert_eq!(displaced, before.is_some());
        self.present.entries += 1;
        self.present.bytes += entry.size.bytes();
        self.make_room(entry.location);
        false
    }

    fn make_room(&mut self, spare: Location) {
        let over = |present: u64, limit: u64| match present > limit && limit > 0 {
            true => (present - limit).max(limit / 64),
            false => 0,
        };
        let need = Need {
            entries: over(self.present.entries, self.limit.entries),
            bytes: over(self.present.bytes, self.limit.bytes),
        };
        let victims = choose(&self.index, &self.recency, need, &[spare]);
        let mut left = need;
        for victim in victims {
            assert_ne!(victim.location, spare, "what was just stored is chosen");
            assert!(self.index.evict(victim.hash, victim.location, victim.epoch));
            left = left.less(1, victim.bytes);
            self.present = self.present.less(1, victim.bytes);
        }
        assert!(left.is_met(), "{left:?} left of {need:?}");
    }
}

/// Requests of a skewed crowd of 20,000 keys, with now and then a scan that nobody asks for again.
fn requests() -> Vec<(u64, u64)> {
    let (mut all, mut scanned) = (Vec::new(), 1 << 32);
    for number in 0..60_000_u64 {
        let unit = (hash_of(number ^ 0x5555_0000) >> 11) as f64 / (1_u64 << 53) as f64;
        let key = (20_000_f64.powf(unit) - 1.0) as u64;
        all.push((key, 64 + hash_of(key) % 2_000));
        if number % 10_000 < 700 {
            scanned += 1;
            all.push((scanned, 1_000));
        }
    }
    all
}

fn hits(policy: Evict, limit: Need) -> f64 {
    let mut cache = Cache::new(policy, limit);
    let requests = requests();
    let hits = requests.iter().filter(|(key, bytes)| cache.ask(*key, *bytes)).count();
    hits as f64 * 100.0 / requests.len() as f64
}

fn exact_lru(limit: Need) -> f64 {
    let mut ages: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut present: HashMap<u64, u64> = HashMap::new();
    let (mut hits, mut bytes) = (0, 0);
    let requests = requests();
    for (now, (key, size)) in (0..).zip(&requests) {
        if let Some(age) = present.insert(*key, now) {
            hits += 1;
            ages.remove(&age);
        } else {
            bytes += Size::of(*size).bytes();
        }
        ages.insert(now, (*key, Size::of(*size).bytes()));
        while ages.len() as u64 > limit.entries.max(1) && limit.entries > 0
            || bytes > limit.bytes && limit.bytes > 0
        {
            let (_, (key, size)) = ages.pop_first().expect("something to forget");
            present.remove(&key);
            bytes -= size;
        }
    }
    f64::from(hits) * 100.0 / requests.len() as f64
}

/// Goal: LRU is LRU, to half a point; S3-FIFO is better where there are scans. Limits of entries and of bytes.
#[test]
fn hit_ratios_are_as_they_should_be() {
    let by_bytes = |bytes| Need { entries: 0, bytes };
    for limit in [entries(400), entries(2_000), by_bytes(400_000), by_bytes(2_000_000)] {
        let exact = exact_lru(limit);
        let [lru, fifo, s3] =
            [Evict::Lru, Evict::Fifo, Evict::S3Fifo].map(|policy| hits(policy, limit));
        assert!((lru - exact).abs() < 0.5, "LRU hits {lru:.2} %, an exact one {exact:.2} %");
        assert!(fifo < lru - 0.5, "FIFO hits {fifo:.2} %, LRU {lru:.2} %");
        assert!(s3 > lru + 0.5, "S3-FIFO hits {s3:.2} %, LRU {lru:.2} %");
    }
}

/// Goal: the coldest of those that may go, as many as are needed and no more.
#[test]
fn the_coldest_go() {
    for policy in [Evict::Lru, Evict::Fifo] {
        let (index, recency) = (Index::new(), Recency::new(policy));
        for number in 1..=1_000 {
            let mut entry = entry(number, (number / 10) as u16 + 1);
            if number % 3 == 0 {
                entry.flags = Entry::SCOPED;
            }
            add(&index, number, entry);
        }
        recency.restore(&index, Some(policy));
        let victims = choose(&index, &recency, entries(50), &[place(1)]);
        let goes = |number: &u64| !number.is_multiple_of(3) && *number != 1;
        let whole: Vec<_> = (1..70).filter(goes).collect();
        assert_eq!(numbers(&victims)[..whole.len()], whole, "{policy:?}");
        assert_eq!(victims.len(), 50, "{policy:?}");
        assert!(numbers(&victims)[whole.len()..].iter().all(|n| (70..80).contains(n) && goes(n)));

        let victims = choose(&index, &recency, Need { entries: 0, bytes: 128 * 9 + 1 }, &[]);
        assert_eq!(victims.iter().map(|victim| victim.bytes).sum::<u64>(), 128 * 10);
        for victim in &victims {
            assert!(index.evict(victim.hash, victim.location, victim.epoch));
        }
        let others = choose(&index, &recency, entries(10), &[]);
        assert!(others.iter().all(|other| !victims.contains(other)), "chosen twice");
        assert_eq!(choose(&index, &recency, entries(10_000), &[]).len(), 667 - 10);
        assert_eq!(choose(&index, &recency, entries(0), &[]), []);
    }
}

/// Goal: without a policy nobody goes; state never does.
#[test]
fn who_must_stay_stays() {
    for policy in [Evict::None, Evict::Lru, Evict::Fifo, Evict::S3Fifo] {
        let (index, recency) = (Index::new(), Recency::new(policy));
        for number in 1..100 {
            let flags = if policy == Evict::None { Entry::EVICTABLE } else { Entry::TOUCHED };
            let epoch = recency.admit(hash_of(number));
            add(&index, number, Entry { flags, ..entry(number, epoch) });
        }
        assert_eq!(choose(&index, &recency, entries(50), &[]), [], "{policy:?}");
    }
}

/// Goal: who was used after the choice stays, with every policy that counts use.
#[test]
fn who_is_used_meanwhile_stays() {
    for policy in [Evict::Lru, Evict::S3Fifo] {
        let (index, recency) = (Index::new(), Recency::new(policy));
        recency.set_capacity(100);
        for number in 1..=100 {
            add(&index, number, entry(number, recency.admit(hash_of(number))));
        }
        let victims = choose(&index, &recency, entries(10), &[]);
        assert_eq!(victims.len(), 10, "{policy:?}");
        for (at, victim) in victims.iter().enumerate() {
            if at % 2 == 0 {
                assert!(!index.lookup(victim.hash, recency.access()).as_slice().is_empty());
            }
            let gone = index.evict(victim.hash, victim.location, victim.epoch);
            assert_eq!(gone, at % 2 == 1, "{policy:?}");
        }
    }
}

/// Goal: an epoch of before a renumbering counts as new, and is put right.
#[test]
fn epochs_of_the_future_are_taken_back() {
    for policy in [Evict::Lru, Evict::S3Fifo] {
        let (index, recency) = (Index::new(), Recency::new(policy));
        for number in 1..=20 {
            let epoch = recency.admit(hash_of(number));
            add(&index, number, entry(number, epoch));
        }
        add(&index, 21, entry(21, 0x7000));
        assert_eq!(choose(&index, &recency, entries(1), &[]).len(), 1);
        let now = match policy {
            Evict::Lru => recency.epoch(),
            _ => Place { queue: Queue::Small, order: recency.order(Queue::Small), uses: 0 }.pack(),
        };
        let after = index.peek(hash_of(21)).iter().next().expect("the entry");
        assert_eq!(after.epoch, now, "{policy:?}");
    }
}

/// Goal: S3-FIFO by hand. Of ten in the small queue, those used twice come to the main queue and the others go; a ghost
/// that comes again is no stranger; the main queue gives second chances, one for each use.
#[test]
fn s3_fifo_does_as_the_paper_says() {
    let (index, recency) = (Index::new(), Recency::new(Evict::S3Fifo));
    recency.set_capacity(10);
    let use_it = |number: u64| {
        assert!(!index.lookup(hash_of(number), recency.access()).as_slice().is_empty())
    };
    let epoch_of = |number| index.peek(hash_of(number)).iter().next().expect("the entry").epoch;
    for number in 1..=10 {
        add(&index, number, entry(number, recency.admit(hash_of(number))));
    }
    for number in [1, 3, 3, 4, 4, 4, 4, 4] {
        use_it(number);
    }
    let victims = choose(&index, &recency, entries(3), &[]);
    assert_eq!(numbers(&victims), [1, 2, 5]);
    for (number, order) in [(3, 1), (4, 2)] {
        let place = Place { queue: Queue::Main, order, uses: 0 };
        assert_eq!(Place::unpack(epoch_of(number)), place);
    }
    for victim in victims {
        assert!(index.remove(victim.hash, victim.location));
    }
    for (number, queue) in [(1, Queue::Main), (5, Queue::Main), (20, Queue::Small)] {
        let epoch = recency.admit(hash_of(number));
        assert_eq!(Place::unpack(epoch).queue, queue, "of {number}");
        add(&index, number, entry(number, epoch));
    }
    use_it(3);
    // Small: 6 to 10 and 20; main: 3 (used), 4, 1, 5.
    let victims = choose(&index, &recency, entries(7), &[]);
    assert_eq!(numbers(&victims), [1, 4, 6, 7, 8, 9, 10]);
    let place = Place::unpack(epoch_of(3));
    assert_eq!((place.queue, place.uses), (Queue::Main, 0));
    assert!(place.order > Place::unpack(epoch_of(5)).order, "not moved to the end");
    assert_eq!(choose(&index, &recency, entries(100), &[]).len(), 10);
}

/// Goal: within one order of the small queue: only what is above its share goes, what goes is still as it was chosen,
/// and what was used twice moves.
#[test]
fn s3_fifo_divides_one_order() {
    let (index, recency) = (Index::new(), Recency::new(Evict::S3Fifo));
    recency.set_capacity(40);
    let packed = |queue, uses| Place { queue, order: 1, uses }.pack();
    for number in 1..=40 {
        let epoch = match number {
            1..=20 => packed(Queue::Main, 0),
            21..=30 => packed(Queue::Small, 0),
            _ => packed(Queue::Small, 2),
        };
        add(&index, number, entry(number, epoch));
    }
    // The share is 4 of 40. Of the 20 in the small queue 16 are above it: 8 that were used, 8 that were not.
    let victims = choose(&index, &recency, entries(20), &[]);
    assert_eq!(victims.len(), 20);
    let strangers = numbers(&victims).into_iter().filter(|number| *number > 20).count();
    assert_eq!(strangers, 8);
    for victim in &victims {
        assert!(index.evict(victim.hash, victim.location, victim.epoch), "it was moved");
    }
    for number in 31..=40 {
        let after = index.peek(hash_of(number)).iter().next().expect("the entry");
        assert_eq!(Place::unpack(after.epoch).queue, Queue::Main);
    }
}

/// Goal: an age that most entries share is cut where the need ends, not taken as a whole.
#[test]
fn a_crowd_of_one_age_does_not_go_at_once() {
    for policy in [Evict::Lru, Evict::Fifo, Evict::S3Fifo] {
        for written in [None, Some(Evict::Lru), Some(Evict::S3Fifo)] {
            let (index, recency) = (Index::new(), Recency::new(policy));
            recency.set_capacity(5_000);
            (1..=5_000).for_each(|number| add(&index, number, entry(number, 1)));
            recency.restore(&index, written);
            let victims = choose(&index, &recency, entries(78), &[]);
            assert_eq!(victims.len(), 78, "{policy:?} after {written:?}");
            let kept = (0..SHARDS).map(|shard| {
                let mut kept = 0;
                index.sweep(shard, &mut |_, entry| kept += u64::from(!entry.is_evicted()));
                kept
            });
            assert_eq!(kept.sum::<u64>(), 5_000, "a choice evicts nobody");
        }
    }
}

/// Goal: the journal keeps the last 1,024, in order.
#[test]
fn the_journal_keeps_the_last() {
    let journal = Journal::default();
    let eviction = |number| Eviction {
        at: Timestamp(number),
        cause: Cause::Capacity,
        hash: hash_of(number),
        age: Some(1_000),
        bytes: 128,
    };
    assert_eq!(journal.recent(), []);
    journal.record((0..600).map(|n| (eviction(n), None)));
    journal.record((600..1_500).map(|n| (eviction(n), None)));
    let kept: Vec<_> = journal.recent().iter().map(|eviction| eviction.at.0).collect();
    assert_eq!(kept, (476..1_500).collect::<Vec<_>>());
}
