//! Read-modify-write, and writes that are waited for later.

use std::thread;

use tierce_engine::{Change, Durability, Engine, Entry, PutOptions, Timestamp};
use tierce_kit::store::Setup;

use super::{Bench, DURABILITIES, Way, assert_seen, value_of};

fn put(value: impl Into<Vec<u8>>) -> Change {
    Change::Put(value.into(), PutOptions::new())
}

fn number(entry: Option<&Entry>) -> u64 {
    let text =
        entry.map_or(String::from("0"), |entry| String::from_utf8(entry.value.to_vec()).unwrap());
    text.parse().unwrap()
}

fn increment(engine: &Engine, key: &str) {
    engine.update(key, |old| put((number(old) + 1).to_string())).unwrap().unwrap();
}

/// Goal: `update` shows the entry with all that goes with it and does what it is told: keep, delete, put.
#[test]
fn update_does_as_told() {
    for durability in DURABILITIES {
        let mut bench = Bench::new(Setup::new(durability));
        let options = PutOptions::new().scope("s").codec(1, 2).expires_at(Timestamp(u64::MAX));
        bench.engine().put_with("k", "one", &options).unwrap();
        let engine = bench.engine();
        let kept = engine.update("k", |old| {
            let old = old.unwrap();
            assert_eq!((old.value.to_vec(), old.codec, old.schema), (b"one".to_vec(), 1, 2));
            assert_eq!((old.scopes.len(), old.expires_at), (1, Some(Timestamp(u64::MAX))));
            Change::Keep
        });
        assert_eq!(kept.unwrap(), None);
        assert_eq!(engine.update("absent", |_| Change::Delete).unwrap(), None);
        assert_eq!(engine.update("absent", |_| Change::Keep).unwrap(), None);
        let sequence = engine.update("k", |_| put("two")).unwrap().unwrap();
        let entry = engine.entry("k").unwrap().unwrap();
        assert_eq!((entry.sequence, entry.value.to_vec()), (sequence, b"two".to_vec()));
        assert_eq!((entry.scopes.len(), entry.expires_at), (0, None), "as a plain put");
        engine
            .update("new", |old| {
                assert_eq!(old, None);
                put("born")
            })
            .unwrap()
            .unwrap();
        engine.update("k", |_| Change::Delete).unwrap().unwrap();
        assert_seen(engine, "k", false);
        bench.come_up(Way::Footers);
        assert_seen(bench.engine(), "k", false);
        assert_eq!(value_of(bench.engine(), "new"), Some(b"born".to_vec()), "{durability:?}");
    }
}

/// Goal: `update` can carry an entry's options on.
#[test]
fn update_keeps_what_it_is_given() {
    let bench = Bench::new(Setup::default());
    let at = bench.engine().now().saturating_add_ms(50);
    bench.engine().put_with("n", "4", &PutOptions::new().expires_at(at)).unwrap();
    bench
        .engine()
        .update("n", |old| {
            let options = PutOptions::new().expires_at(old.unwrap().expires_at.unwrap());
            Change::Put((number(old) + 1).to_string().into(), options)
        })
        .unwrap();
    assert_eq!(value_of(bench.engine(), "n"), Some(b"5".to_vec()));
    bench.clock.advance(50);
    assert_seen(bench.engine(), "n", false);
}

/// Goal: no increment is lost when 16 threads do 50 each. Method: modes with and without a wait for the device;
/// the count after a restart is the same.
#[test]
fn counters_lose_nothing() {
    for durability in DURABILITIES {
        let mut bench = Bench::new(Setup::new(durability));
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| (0..50).for_each(|_| increment(bench.engine(), "n")));
            }
        });
        assert_eq!(value_of(bench.engine(), "n"), Some(b"800".to_vec()), "{durability:?}");
        bench.come_up(Way::Crash);
        assert_eq!(value_of(bench.engine(), "n"), Some(b"800".to_vec()), "{durability:?}");
    }
}

/// Goal: a panic in the closure of `update` leaves the store as it was, and usable.
#[test]
fn a_panicking_closure_changes_nothing() {
    let bench = Bench::new(Setup::default());
    bench.engine().put("k", "v").unwrap();
    let engine = bench.engine().clone();
    let panicked = thread::spawn(move || engine.update("k", |_| panic!("on purpose"))).join();
    assert!(panicked.is_err());
    assert_eq!(value_of(bench.engine(), "k"), Some(b"v".to_vec()));
    increment(bench.engine(), "n");
    assert_eq!(value_of(bench.engine(), "n"), Some(b"1".to_vec()));
}

/// Goal: a write that comes between the read and the write of `update` makes it ask again.
/// Method: the closure itself writes the key, the first time.
#[test]
fn update_asks_again() {
    let bench = Bench::new(Setup::default());
    bench.engine().put("n", "1").unwrap();
    let mut asked = Vec::new();
    bench
        .engine()
        .update("n", |old| {
            asked.push(number(old));
            if asked.len() == 1 {
                bench.engine().put("n", "10").unwrap();
            }
            put((number(old) + 1).to_string())
        })
        .unwrap();
    assert_eq!(asked, [1, 10]);
    assert_eq!(value_of(bench.engine(), "n"), Some(b"11".to_vec()));
}

/// Goal: submitted writes are carried out in their order, whatever the order of waiting, and one flush is enough
/// for many.
#[test]
fn tickets_keep_their_order_and_share_a_flush() {
    // The worst knobs end a queue at two tickets.
    let knobs = tierce_engine::Knobs::new();
    let setup = Setup { segment_bytes: 1 << 20, knobs, ..Setup::new(Durability::Sync) };
    let bench = Bench::new(setup);
    bench.engine().put("warm", "up").unwrap();
    let before = bench.engine().stats();
    let submit = |n: u64| {
        let key = format!("key {}", n % 10);
        bench.engine().submit(key, n.to_string(), &PutOptions::new()).unwrap()
    };
    let tickets: Vec<_> = (0..100).map(submit).collect();
    assert_eq!(value_of(bench.engine(), "key 1"), None, "nobody waited yet");
    let mut sequences: Vec<_> =
        tickets.into_iter().rev().map(|ticket| ticket.wait().unwrap()).collect();
    sequences.reverse();
    assert!(sequences.is_sorted(), "{sequences:?}");
    let after = bench.engine().stats();
    assert_eq!((after.syncs - before.syncs, after.puts - before.puts), (1, 100));
    assert_eq!((after.groups - before.groups, after.grouped - before.grouped), (1, 100));
    for n in 90..100 {
        let found = value_of(bench.engine(), format!("key {}", n % 10));
        assert_eq!(found, Some(n.to_string().into_bytes()));
    }
}

/// Goal: what a thread submits comes before what it puts later, waited for or not; a dropped ticket's write is
/// carried out all the same.
#[test]
fn tickets_come_before_later_puts() {
    for durability in [Durability::Buffered, Durability::Os, Durability::Sync] {
        let mut bench = Bench::new(Setup::new(durability));
        let plain = PutOptions::new();
        drop(bench.engine().submit("k", "submitted", &plain).unwrap());
        drop(bench.engine().submit("alone", "submitted", &plain).unwrap());
        bench.engine().put("k", "put").unwrap();
        assert_eq!(value_of(bench.engine(), "k"), Some(b"put".to_vec()), "{durability:?}");
        assert_eq!(value_of(bench.engine(), "alone"), Some(b"submitted".to_vec()));
        drop(bench.engine().submit("late", "submitted", &plain).unwrap());
        bench.engine().step().unwrap();
        assert_eq!(value_of(bench.engine(), "late"), Some(b"submitted".to_vec()), "by a step");
        drop(bench.engine().submit("last", "submitted", &plain).unwrap());
        bench.come_up(Way::Checkpoint);
        let found = value_of(bench.engine(), "last");
        assert_eq!(found, Some(b"submitted".to_vec()), "by closing, {durability:?}");
    }
}

/// Goal: more tickets than the queue holds are no deadlock. Method: 5,000 before the first wait.
#[test]
fn very_many_tickets() {
    let bench = Bench::new(Setup { segment_bytes: 1 << 20, ..Setup::new(Durability::Sync) });
    let submit = |n: u64| {
        bench.engine().submit(n.to_le_bytes(), n.to_le_bytes(), &PutOptions::new()).unwrap()
    };
    let tickets: Vec<_> = (0..5_000).map(submit).collect();
    let syncs = bench.engine().stats().syncs;
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(bench.engine().stats().entries, 5_000);
    assert!(bench.engine().stats().syncs > syncs, "the last ones were still in the queue");
}
