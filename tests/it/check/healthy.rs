//! Healthy stores are called healthy: new ones, emptied ones, what a power cut leaves, what recovery makes of it.

use std::{path::Path, sync::Arc};

use tierce_engine::{Durability, Error, check::check_store, io::Disk};
use tierce_kit::{
    clock::TestClock,
    crash::{Bounds, sweep},
    history::History,
    recorder::RecordingDisk,
    rng::Rng,
    run::Runner,
    seed::cases,
    store::{STORE, Setup},
};

use super::{assert_healthy, check, shapes};

/// Goal: a store in which nothing was written yet, one that was emptied, and every shape that the sweep damages.
#[test]
fn fresh_and_emptied() {
    let setup = Setup::new(Durability::Os);
    let disk = tierce_engine::io::MemoryDisk::new();
    let open = || setup.options(Arc::new(disk.clone()), &TestClock::new()).open(STORE).unwrap();
    let engine = open();
    engine.put("key", "value").unwrap();
    assert_eq!(check(&disk.files()).unwrap().entries, 1, "beside the writer");
    engine.delete("key").unwrap();
    engine.close().unwrap();
    let report = check(&disk.files()).unwrap();
    assert_healthy(&report);
    assert_eq!((report.entries, report.records), (0, 2));
    let engine = open();
    engine.compact_with(None, |_| std::ops::ControlFlow::Continue(())).unwrap();
    engine.close().unwrap();
    assert_healthy(&check(&disk.files()).unwrap());
    for shape in shapes::all() {
        assert_healthy(&check(&shape.files).unwrap());
    }
}

/// Goal: the count of entries is exact where all hashes collide, where keys were written again and deleted, and in the
/// part of the log that is not sealed.
#[test]
fn entries_are_counted_by_key() {
    for hash_bits in [0, 2, 64] {
        let setup = Setup { hash_bits, automatic: false, ..Setup::new(Durability::Os) };
        let disk = tierce_engine::io::MemoryDisk::new();
        let engine = setup.options(Arc::new(disk.clone()), &TestClock::new()).open(STORE).unwrap();
        for round in 0..4 {
            for number in 0..60_u8 {
                engine.put([number], vec![round; 90]).unwrap();
            }
            while engine.step().unwrap() {}
        }
        for number in 0..7_u8 {
            engine.delete([number]).unwrap();
        }
        let report = check(&disk.files()).unwrap();
        assert_healthy(&report);
        assert_eq!((report.entries, report.records), (53, 247), "{hash_bits} bits, unsealed");
        engine.close().unwrap();
        let report = check(&disk.files()).unwrap();
        assert_healthy(&report);
        assert_eq!((report.entries, report.records), (53, 247), "{hash_bits} bits");
    }
}

/// Whether the files of this disk are those of a healthy store, or of none yet.
fn judge(disk: &Arc<dyn Disk>) -> Result<(), String> {
    match check_store(disk, Path::new(STORE)) {
        Ok(report) if report.is_healthy() => Ok(()),
        Ok(report) => Err(format!("{:#?}", report.findings)),
        // Cut off before the store was there.
        Err(Error::NotAStore { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Goal: what a power cut leaves at any moment, in the middle of compactions too, is no damage, and neither is what
/// recovery makes of it. Method: histories with compaction, sweeps, evictions and checkpoints; of the states that a
/// crash at each effect may leave, some; some of these are opened and closed again.
#[test]
fn crashed_and_recovered() {
    let name = "check::healthy::crashed_and_recovered";
    let (mut crashed, mut recovered) = (0, 0);
    cases(name, 8, |seed| {
        let mut history = History::new(30);
        history.crashes = false;
        let (setup, ops) = (history.setup(seed), history.ops(seed));
        let lives = Runner::record(RecordingDisk::new(), setup.clone(), &ops).unwrap();
        let bounds = Bounds { prefixes: 1, singles: 1, randoms: 2, tears: 1 };
        let mut rng = Rng::new(seed);
        for life in &lives {
            let judged = sweep(&life.log, 0, &bounds, seed, |point, plan, image| {
                if !rng.one_in(7) {
                    return Ok(());
                }
                let disk: Arc<dyn Disk> = Arc::new(image.memory_disk());
                judge(&disk).map_err(|why| format!("crashed at {point}, {plan:?}: {why}"))?;
                crashed += 1;
                if rng.one_in(8) {
                    let opened = setup.options(Arc::clone(&disk), &TestClock::new()).open(STORE);
                    opened.and_then(|engine| engine.close()).map_err(|error| error.to_string())?;
                    judge(&disk)
                        .map_err(|why| format!("recovered from {point}, {plan:?}: {why}"))?;
                    recovered += 1;
                }
                Ok::<(), String>(())
            });
            judged.unwrap_or_else(|why| panic!("{setup:?}, seed {seed}: {why}"));
        }
    });
    eprintln!("{name}: {crashed} crashed, {recovered} recovered");
    assert!(crashed + recovered > 1_000 || std::env::var_os("TIERCE_SEED").is_some());
}
