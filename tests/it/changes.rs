//! Following a store: what was written since, and what was evicted since.

use std::collections::BTreeSet;

use tierce_engine::{Batch, Engine, Options, PutOptions, SequenceNumber, Wrote, io::MemoryDisk};
use tierce_kit::{rng::Rng, seed::cases};

fn options(disk: &MemoryDisk) -> Options {
    let options = Options::new().disk(disk.clone()).background(false).segment_bytes(8 << 10);
    let mut compaction = options.compaction.clone();
    compaction.automatic = false;
    options.compaction(compaction)
}

/// Reads the feed from `since` to its end in parts of `limit`; keys that it says are there, and whether it is complete.
fn follow(
    engine: &Engine,
    since: SequenceNumber,
    limit: usize,
    keys: &mut BTreeSet<Vec<u8>>,
) -> (SequenceNumber, bool) {
    let (mut at, mut is_complete, mut last) = (since, true, since);
    loop {
        let part = engine.changes_since(at, limit).unwrap();
        assert!(part.changes.len() <= limit);
        is_complete &= part.is_complete;
        for change in &part.changes {
            assert!(change.sequence > last, "in order, each once");
            last = change.sequence;
            match change.wrote {
                Wrote::Put => drop(keys.insert(change.key.clone())),
                Wrote::Delete => drop(keys.remove(&change.key)),
                _ => {}
            }
        }
        if part.next == at {
            return (at, is_complete);
        }
        at = part.next;
    }
}

fn stored(engine: &Engine) -> BTreeSet<Vec<u8>> {
    engine.iter().unwrap().map(|entry| entry.unwrap().0).collect()
}

/// Goal: whoever follows the feed from the start, or on from where it was, has the keys of the store, whatever the
/// parts it reads are; through batches, reopening and compaction; and is told when compaction took something out.
#[test]
fn a_follower_has_the_keys() {
    let mut incomplete = 0;
    cases("changes::a_follower_has_the_keys", 20, |seed| incomplete += follow_a_store(seed));
    let is_replay = std::env::var("TIERCE_SEED").is_ok();
    assert!(is_replay || incomplete > 0, "compaction has to have taken something out");
}

/// How often the follower was told that something was taken out.
fn follow_a_store(seed: u64) -> u32 {
    let mut rng = Rng::new(seed);
    let disk = MemoryDisk::new();
    let mut engine = options(&disk).open("store").unwrap();
    let (mut keys, mut at) = (BTreeSet::new(), SequenceNumber(0));
    let mut incomplete = 0;
    for round in 0..12 {
        for _ in 0..rng.below(200) {
            let key = rng.below(50).to_string();
            match rng.below(10) {
                0..6 => engine.put(key, vec![7; 100]).unwrap(),
                6..8 => drop(engine.delete(key).unwrap()),
                _ => {
                    let mut batch = Batch::new();
                    batch.put(key, "in a batch").delete(rng.below(50).to_string());
                    engine.commit(batch).unwrap();
                }
            }
        }
        if rng.below(4) == 0 {
            drop(engine.close());
            engine = options(&disk).open("store").unwrap();
        }
        let is_compacted = rng.below(3) == 0;
        if is_compacted {
            engine.compact().unwrap();
        }
        let limit = 1 + rng.below(40) as usize;
        let (next, is_complete) = follow(&engine, at, limit, &mut keys);
        if !is_complete {
            incomplete += 1;
            keys = stored(&engine);
        }
        at = next;
        assert_eq!(keys, stored(&engine), "round {round}");
        assert!(is_complete || is_compacted, "round {round}");
    }
    incomplete
}

/// Goal: evictions come once each, with their keys, and whoever asks too late is told how many are lost.
#[test]
fn evictions_come_once() {
    let engine = options(&MemoryDisk::new()).max_entries(10).open("store").unwrap();
    engine.keep_evicted_keys();
    let put = |n: u32| {
        engine.put_with(n.to_string(), "v", &PutOptions::new().evictable(true)).unwrap();
    };
    (0..30).for_each(put);
    let first = engine.evicted_since(0);
    assert_eq!((first.evictions.len(), first.lost), (first.next as usize, 0));
    let gone: BTreeSet<_> = first.evictions.iter().map(|(_, key)| key.clone().unwrap()).collect();
    let expected = (0..30).map(|n: u32| n.to_string().into_bytes());
    let kept = stored(&engine);
    assert_eq!(gone, expected.filter(|key| !kept.contains(key)).collect());
    (30..3_000).for_each(put);
    let later = engine.evicted_since(first.next);
    assert_eq!(later.evictions.len(), 1_024);
    assert_eq!(later.lost, later.next - first.next - 1_024);
}
