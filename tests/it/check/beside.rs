//! A check while somebody writes, deletes, seals, compacts and checkpoints as fast as it can, in a real directory.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use tierce_engine::{
    Durability, Options,
    check::{CODES, CheckLevel, CheckOptions, check_store_with},
    io::{Disk, OsDisk},
};
use tierce_kit::{rng::Rng, seed::cases};

/// Writes until told to stop, and counts it.
fn hammer(dir: &Path, seed: u64, stop: &AtomicBool, done: &AtomicU64) {
    let mut options = Options::new().segment_bytes(8 << 10).durability(Durability::Os);
    options.compaction.automatic = true;
    let engine = options.open(dir).unwrap();
    let mut rng = Rng::new(seed);
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("key {}", rng.below(200));
        match rng.below(20) {
            0..13 => {
                let length = if rng.one_in(50) { 20_000 } else { rng.below(600) as usize };
                drop(engine.put(&key, crate::basics::filler(writes, length)).unwrap());
            }
            13..17 => drop(engine.delete(&key).unwrap()),
            17 => engine.sync().unwrap(),
            18 if rng.one_in(10) => drop(engine.compact().unwrap()),
            19 if rng.one_in(20) => engine.checkpoint().unwrap(),
            _ => drop(engine.get(&key).unwrap()),
        }
        writes += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
    engine.close().unwrap();
}

/// Goal: whatever moment a check meets, beside a writer nothing is damaged, and no check is in the writer's way: each of
/// hundreds of checks of a store that never stands still calls it healthy. Method: two threads that do nothing else.
/// The store is closed and opened now and then.
#[test]
fn a_running_writer_is_healthy() {
    const CHECKS: usize = 240;
    let name = "check::beside::a_running_writer_is_healthy";
    cases(name, 1, |seed| {
        eprintln!("{name}: seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        Options::new().open(dir.path()).and_then(|e| e.put("key 0", "").and(e.close())).unwrap();
        let (mut given_up, mut seen, mut writes) = (0, 0, 0);
        for round in 0..4 {
            let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
            let checks = thread::scope(|scope| {
                let writer = scope.spawn(|| hammer(dir.path(), seed + round, &stop, &done));
                let checked = catch_unwind(AssertUnwindSafe(|| {
                    let check = |number: usize| {
                        // Not two checks of one moment.
                        let before = done.load(Ordering::Relaxed);
                        while done.load(Ordering::Relaxed) < before + 10 && !writer.is_finished() {
                            thread::yield_now();
                        }
                        let level =
                            if number % 5 == 0 { CheckLevel::Quick } else { CheckLevel::Full };
                        let options = CheckOptions::new().level(level);
                        check_store_with(&disk, dir.path(), options).unwrap()
                    };
                    (0..CHECKS / 4).map(check).collect::<Vec<_>>()
                }));
                stop.store(true, Ordering::Relaxed);
                writer.join().unwrap();
                writes += done.load(Ordering::Relaxed);
                checked.unwrap()
            });
            for report in checks {
                assert!(report.is_healthy(), "{:#?}", report.findings);
                given_up += report.findings.iter().filter(|finding| finding.code == "C060").count();
                seen += report.segments;
            }
        }
        eprintln!(
            "{name}: {CHECKS} checks of {seen} segments beside {writes} writes, {given_up} given up"
        );
        assert!(writes > 1_000 && seen > CHECKS as u64);
        assert!(given_up < CHECKS / 4, "a check comes to a verdict");
        assert!(CODES.iter().any(|code| code.code == "C060"));
        let report = check_store_with(&disk, dir.path(), CheckOptions::new()).unwrap();
        assert!(report.is_healthy() && report.findings.is_empty(), "{:#?}", report.findings);
    });
}
