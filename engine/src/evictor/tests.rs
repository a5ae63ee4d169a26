//! t
use super::*;
use crate::{
    index::{Access, SHARDS, Size},
    types::Slot,
};
use std::collections::HashMap;

pub(super) fn mix(key: u64) -> u64 {
    let z = (key.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn replay(trace: &[(u64, u64)], policy: Evict, cap: u64, by_bytes: bool, div: u64) -> (f64, f64) {
    let index = Index::new();
    let recency = Recency::new(policy);
    let mut place = 0_u64;
    let (mut hits, mut entries, mut bytes) = (0, 0_u64, 0_u64);
    recency.set_capacity(if by_bytes { 100 } else { cap });
    let mut spent = std::time::Duration::ZERO;
    let mut swept = 0;
    for &(key, size) in trace {
        let hash = mix(key);
        let found = index.lookup(hash, recency.access());
        let seen = found.iter().find(|e| !e.is_evicted());
        if let Some(entry) = seen {
            hits += 1;
            recency.hit(entry.epoch);
            continue;
        }
        if by_bytes && size > cap {
            continue;
        }
        place += 1;
        let location =
            Location { slot: Slot((place >> 20) as u32), offset: 4096 + (place & 0xf_ffff) * 8 };
        let entry = Entry {
            location,
            size: Size::of(size),
            flags: Entry::EVICTABLE,
            epoch: recency.admit(hash),
        };
        let old = found.iter().next().map(|e| e.location);
        let _ = index.insert(hash, entry, old);
        entries += 1;
        bytes += entry.size.bytes();
        let over = if by_bytes { bytes > cap } else { entries > cap };
        if over {
            if by_bytes && true {
                recency.set_capacity(entries);
            }
            let need = if by_bytes {
                Need { entries: 0, bytes: bytes - cap + cap / div - 1 }
            } else {
                Need { entries: entries - cap + cap / div - (cap / div).min(1), bytes: 0 }
            };
            let start = std::time::Instant::now();
            let victims = choose(&index, &recency, need, Some(location));
            spent += start.elapsed();
            swept += entries;
            assert!(!victims.is_empty());
            for v in victims {
                if index.evict(v.hash, v.location, v.epoch) {
                    entries -= 1;
                    bytes -= v.bytes;
                    // Compaction drops it.
                    let _ = index.remove(v.hash, v.location);
                } else {
                    panic!("not evicted")
                }
            }
            assert!(if by_bytes { bytes <= cap } else { entries <= cap });
        }
    }
    let _ = SHARDS;
    let _ = Access::None;
    (hits as f64 * 100.0 / trace.len() as f64, spent.as_nanos() as f64 / swept.max(1) as f64)
}

#[test]
fn sim() {
    let dir = std::path::Path::new("/tmp/traces-evictor");
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let be = |b: Vec<u8>, n: usize| -> Vec<(u64, u64)> {
        b.chunks_exact(n).map(|c| (c.iter().fold(0, |a, x| a << 8 | u64::from(*x)), 100)).collect()
    };
    let mut oltp = Vec::new();
    for line in String::from_utf8(read("OLTP.lis")).unwrap().lines() {
        let p: Vec<u64> = line.split_whitespace().map(|x| x.parse().unwrap()).collect();
        for k in p[0]..p[0] + p[1] {
            oltp.push((k, 100));
        }
    }
    let mut ad = Vec::new();
    for line in String::from_utf8(read("adaptsize.trace")).unwrap().lines() {
        let p: Vec<u64> = line.split_whitespace().map(|x| x.parse().unwrap()).collect();
        ad.push((p[1], p[2]));
    }
    let traces = [("adapt", ad, true)];
    let reference = [
        [41.6, 46.5],
        [66.5, 67.8],
        [34.7, 42.8],
        [60.6, 62.8],
        [39.7, 41.0],
        [68.5, 72.2],
        [24.6, 27.4],
        [34.4, 37.8],
    ];
    let mut row = 6;
    let _ = (&oltp, &be);
    for (name, trace, by_bytes) in &traces {
        let uniq: HashMap<u64, u64> = trace.iter().copied().collect();
        let whole = if *by_bytes { uniq.values().sum() } else { uniq.len() as u64 };
        for pct in [1, 10] {
            let cap = whole * pct / 100;
            for div in [64, 128] {
                let (lru, t1) = replay(trace, Evict::Lru, cap, *by_bytes, div);
                let (fifo, _) = replay(trace, Evict::Fifo, cap, *by_bytes, div);
                let (s3, t2) = replay(trace, Evict::S3Fifo, cap, *by_bytes, div);
                println!(
                    "{name} {pct}% /{div} cap {cap}: lru {lru:.2} ({:+.2}) fifo {fifo:.2} s3 {s3:.2} ({:+.2})  choose ns/entry {t1:.1} {t2:.1}",
                    lru - reference[row][0],
                    s3 - reference[row][1]
                );
            }
            row += 1;
        }
    }
}

#[test]
fn cost() {
    for n in [20_000_u64, 1_000_000] {
        for policy in [Evict::Lru, Evict::S3Fifo] {
            let index = Index::new();
            let recency = Recency::new(policy);
            recency.set_capacity(n);
            for i in 1..=n {
                let hash = mix(i);
                let location =
                    Location { slot: Slot((i >> 20) as u32), offset: 4096 + (i & 0xf_ffff) * 8 };
                let _ = index.insert(
                    hash,
                    Entry {
                        location,
                        size: Size::of(100),
                        flags: Entry::EVICTABLE,
                        epoch: recency.admit(hash),
                    },
                    None,
                );
            }
            for _ in 0..3 {
                let start = std::time::Instant::now();
                let mut x = 0u64;
                for shard in 0..SHARDS {
                    index.sweep(shard, &mut |h, e| x ^= h ^ u64::from(e.epoch));
                }
                let bare = start.elapsed();
                let start = std::time::Instant::now();
                let v = choose(&index, &recency, Need { entries: n / 64, bytes: 0 }, None);
                let all = start.elapsed();
                println!(
                    "{n} {policy:?}: bare sweep {:.2} ns/entry, choose {:.2} ns/entry, {} victims {x}",
                    bare.as_nanos() as f64 / n as f64,
                    all.as_nanos() as f64 / n as f64,
                    v.len()
                );
            }
        }
    }
}
