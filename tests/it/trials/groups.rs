//! Requests of one group: each is judged as if it came alone, and each key gets its writes in order.

use tierce_engine::{Durability, Error, PutOptions, Timestamp};

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

/// Goal: a write from the callback of a compaction in a store at its limit is answered; it does not wait for the job
/// that asks.
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
        let mut key = 0;
        let _ = engine.compact_with(Some(&ids[..4]), |_| {
            for _ in 0..200 {
                key += 1;
                let _ = engine.put_with(name(9_000 + key), [1; 1_000], &evictable());
            }
            std::ops::ControlFlow::Continue(())
        });
        let _ = done.send(());
    });
    finished.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits for itself");
}
