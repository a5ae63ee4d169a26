//! A file system with little room, and with none.

use tierce_engine::{Engine, Error, Health};
use tierce_kit::fault::ENOSPC;

use super::{Limited, evictable, name, value};

/// Goal: when the file system has less than is to stay free, writes are refused with the numbers, deletes and
/// compaction go on, and writes go on by themselves when the room is back.
#[test]
fn low_space() {
    const FREE: u64 = 10 << 20;
    let mut store = Limited::new(|options| options.min_free_bytes(FREE));
    store.disk.set_available(Some(20 << 20));
    for key in 0..100 {
        store.engine().put(name(key), value(key, 0, 500)).unwrap();
    }
    store.disk.set_available(Some(FREE - 1));
    let mut taken = 100;
    let refused = loop {
        match store.engine().put(name(taken), value(taken, 0, 500)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(taken < 120, "only what fits in the segment that is there: {taken}");
    let Error::LowSpace { free, required } = refused else { panic!("{refused:?}") };
    assert_eq!(free, FREE - 1);
    assert!(required > FREE && required <= FREE + (16 << 10), "{required}");
    assert_eq!(store.engine().health(), Health::Good);
    for key in 0..60 {
        assert!(store.engine().delete(name(key)).unwrap());
    }
    let before = store.disk.total();
    store.engine().compact().unwrap();
    assert!(store.disk.total() < before, "compaction gave back nothing");
    store.disk.set_available(Some(20 << 20));
    for key in 200..400 {
        store.engine().put(name(key), value(key, 0, 500)).unwrap();
    }
    store.reopen();
    for key in (60..taken).chain(200..400) {
        let read = store.engine().get(name(key)).unwrap();
        assert_eq!(read.as_deref(), Some(&value(key, 0, 500)[..]), "{key}");
    }
}

/// Whether an error says that there is no room.
fn is_no_room(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.raw_os_error() == Some(ENOSPC),
        // Deletes, or work in the background, have used up what the store keeps for a full disk.
        Error::Stopped { .. } | Error::LowSpace { .. } => true,
        _ => false,
    }
}

/// Writes, deletes and upkeep on a disk that may be full; says which keys are acknowledged.
fn work(engine: &Engine, acknowledged: &mut [Option<u64>], round: u64) {
    for step in 0..60_u64 {
        let key = (step * 7 + round) % acknowledged.len() as u64;
        let version = round * 1_000 + step;
        match engine.put_with(name(key), value(key, version, 600), &evictable()) {
            Ok(_) => acknowledged[key as usize] = Some(version),
            Err(error) => assert!(is_no_room(&error), "{error}"),
        }
        if step % 10 == 9 {
            let _ = engine.step();
        }
        if step % 30 == 29 {
            let _ = engine.checkpoint();
        }
    }
    let _ = engine.compact();
}

#[track_caller]
fn assert_acknowledged(engine: &Engine, acknowledged: &[Option<u64>], when: &str) {
    for (key, version) in acknowledged.iter().enumerate() {
        let Some(version) = version else { continue };
        let read = engine.get(name(key as u64)).unwrap();
        assert_eq!(read.as_deref(), Some(&value(key as u64, *version, 600)[..]), "{when}: {key}");
    }
}

/// Goal: a disk that is full from any byte on loses nothing: everything acknowledged can be read, health tells when
/// writes are refused, and once there is room the open store takes writes again, with `try_recover` or by itself.
#[test]
fn a_disk_that_fills_up() {
    let mut stopped = 0;
    for extra in (0..40_000).step_by(1_531) {
        let mut store = Limited::new(|options| options);
        let mut acknowledged = vec![None; 40];
        work(store.engine(), &mut acknowledged, 0);
        store.disk.set_capacity(Some(store.disk.total() + extra));
        let refused = store.disk.refused();
        work(store.engine(), &mut acknowledged, 1);
        assert!(store.disk.refused() > refused, "{extra}: it never was full");
        assert_acknowledged(store.engine(), &acknowledged, "full");
        let health = store.engine().health();
        let refused = (0..20).find_map(|_| store.engine().put("probe", vec![1; 9_000]).err());
        assert!(refused.is_some_and(|error| is_no_room(&error)), "{extra}: {health:?}");
        store.disk.set_capacity(None);
        if matches!(store.engine().health(), Health::Stopped { .. }) {
            stopped += 1;
            store.engine().try_recover().unwrap();
        }
        assert!(!matches!(store.engine().health(), Health::Stopped { .. }));
        assert_acknowledged(store.engine(), &acknowledged, "room again");
        for key in 0..acknowledged.len() as u64 {
            store.engine().put_with(name(key), value(key, 9_000, 600), &evictable()).unwrap();
            acknowledged[key as usize] = Some(9_000);
        }
        store.clock.advance(10_000);
        store.settle();
        assert_eq!(store.engine().health(), Health::Good, "{extra}");
        store.reopen();
        assert_acknowledged(store.engine(), &acknowledged, "reopened");
    }
    let _ = stopped;
}

/// Goal: a full disk does not keep a store from opening and being read.
#[test]
fn opened_on_a_full_disk() {
    let mut store = Limited::new(|options| options);
    let mut acknowledged = vec![None; 40];
    work(store.engine(), &mut acknowledged, 0);
    store.close();
    store.disk.set_capacity(Some(store.disk.total()));
    let engine = store.options.clone().open(tierce_kit::store::STORE).unwrap();
    assert_acknowledged(&engine, &acknowledged, "opened full");
    assert!(engine.put("more", vec![1; 9_000]).is_err());
    store.disk.set_capacity(None);
    engine.try_recover().unwrap();
    engine.put("more", "fits").unwrap();
    engine.close().unwrap();
    store.check_files();
}
