//! Requests of one group: each is judged as if it came alone, and each key gets its writes in order.

use std::ops::ControlFlow;

use tierce_engine::{Change, Durability, Error, PutOptions, Timestamp};

use crate::limits::{Limited, evictable, name, value};

/// Goal: evictable puts that share a group are taken as each of them alone would be, for every limit on what is live.
#[test]
fn a_group_larger_than_the_cache() {
    for is_entries in [true, false] {
        let store = Limited::new(|options| match is_entries {
            true => options.max_entries(10),
            false => options.max_live_bytes(1_000),
        });
        for key in 0..20 {
            store.engine().put_with(name(key), value(key, 0, 50), &evictable()).unwrap();
        }
        let submit =
            |key| store.engine().submit(name(key), value(key, 1, 50), &evictable()).unwrap();
        let tickets: Vec<_> = (100..164).map(submit).collect();
        for ticket in tickets {
            ticket.wait().unwrap();
        }
        assert!(store.engine().contains_key(name(163)).unwrap());
        let stats = store.engine().stats();
        assert!(stats.entries <= 10 || stats.live_bytes <= 1_000, "{stats:?}");
    }
}

/// Goal: of two submitted puts of one key the later one stays, also when room has to be made for the first, and when
/// the later one is periodic.
#[test]
fn tickets_keep_their_order() {
    let store = Limited::new(|options| options.max_bytes(512 << 10).segment_bytes(8 << 20));
    for key in 0..1_500 {
        store.engine().put_with(name(key), value(key, 0, 1_000), &evictable()).unwrap();
    }
    for round in 0..150 {
        let one = store.engine().submit("k", value(round, 1, 20_000), &evictable()).unwrap();
        let two = store.engine().submit("k", value(round, 2, 10), &evictable()).unwrap();
        let (one, two) = (one.wait().unwrap(), two.wait().unwrap());
        assert!(one < two, "{round}");
        let read = store.engine().get("k").unwrap();
        assert_eq!(read.as_deref(), Some(&value(round, 2, 10)[..]), "{round}");
        store.engine().put_with(name(5_000 + round), value(round, 0, 900), &evictable()).unwrap();
    }
    let ticket = store.engine().submit("k", "first", &evictable()).unwrap();
    let periodic = PutOptions::new().durability(Durability::Periodic);
    store.engine().put_with("k", "second", &periodic).unwrap();
    ticket.wait().unwrap();
    assert_eq!(store.engine().get("k").unwrap().as_deref(), Some(&b"second"[..]));
    store.engine().sync().unwrap();
    assert_eq!(store.engine().get("k").unwrap().as_deref(), Some(&b"second"[..]));
}

/// Goal: a store that is full of what has just expired takes a write, whatever was looked for just before.
#[test]
fn full_of_what_has_just_expired() {
    for limit in ["entries", "bytes"] {
        let store = Limited::new(|options| match limit {
            "entries" => options.max_entries(10),
            _ => options.max_bytes(256 << 10),
        });
        let soon = PutOptions::new().expires_at(Timestamp(store.engine().now().0 + 1_000));
        let full = (0..10_000)
            .find_map(|key| store.engine().put_with(name(key), value(key, 0, 500), &soon).err());
        assert!(matches!(full, Some(Error::Full { .. })), "{full:?}");
        store.clock.advance(900);
        store.engine().put("early", value(1, 1, 500)).unwrap_err();
        store.clock.advance(200);
        store.engine().put("late", value(1, 1, 500)).unwrap();
    }
}

/// Goal: what the callback of a compaction asks of a store at its limit is refused and waits for nothing, also when other
/// threads write; reads are answered.
#[test]
fn a_write_from_the_callback_of_a_compaction() {
    let store = Limited::new(|options| options.max_bytes(1 << 20).segment_bytes(8 << 20));
    for key in 0..1_500 {
        store.engine().put_with(name(key), value(key, 0, 1_000), &evictable()).unwrap();
    }
    let engine = store.engine().clone();
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let ids: Vec<_> = engine.segments().iter().filter(|s| s.sealed).map(|s| s.id).collect();
        let writing = std::sync::atomic::AtomicBool::new(true);
        let (mut refused, mut asked) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while writing.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = engine.put_with(name(9_999), [1; 1_000], &evictable());
                }
            });
            let ticket = std::cell::Cell::new(Some(engine.submit("t", [1], &evictable()).unwrap()));
            let _ = engine.compact_with(Some(&ids[..4]), |_| {
                assert!(engine.get(name(0)).is_ok());
                let mut answers = vec![
                    engine.put_with(name(9_000), [1; 1_000], &evictable()).map(drop),
                    engine.delete(name(1_499)).map(drop),
                    engine.submit("a", [1], &evictable()).map(drop),
                    engine.update("b", |_| Change::Delete).map(drop),
                    engine.compact().map(drop),
                    engine.sweep(None).map(drop),
                    engine.sync(),
                    engine.try_recover(),
                    engine.clone().close(),
                ];
                answers.extend(ticket.take().map(|ticket| ticket.wait().map(drop)));
                asked += answers.len();
                let is_refused =
                    |answer: &&Result<(), Error>| matches!(answer, Err(Error::InCallback));
                refused += answers.iter().filter(is_refused).count();
                ControlFlow::Continue(())
            });
            writing.store(false, std::sync::atomic::Ordering::Relaxed);
        });
        let _ = done.send((refused, asked));
    });
    let limit = std::time::Duration::from_secs(20);
    let (refused, asked) = finished.recv_timeout(limit).expect("it waits for itself");
    assert!(asked > 9 && refused == asked, "{refused} of {asked} were refused");
}
