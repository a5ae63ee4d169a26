//! A cut ends every entry of a scope at once.

use tierce_engine::{Batch, Change, PutOptions};
use tierce_kit::store::Setup;

use super::{Bench, DURABILITIES, WAYS, Way, assert_seen, value_of};

fn of(scopes: &[&str]) -> PutOptions {
    scopes.iter().fold(PutOptions::new(), |options, scope| options.scope(*scope))
}

/// Goal: a cut ends what its scope holds and nothing else, by every path, and what is put later is live.
/// Method: every durability, every way of coming up.
#[test]
fn a_cut_ends_its_scope() {
    for durability in DURABILITIES {
        for way in WAYS {
            let mut bench = Bench::new(Setup::new(durability));
            let engine = bench.engine();
            engine.put_with("in a", "v", &of(&["a"])).unwrap();
            engine.put_with("in b", "v", &of(&["b"])).unwrap();
            engine.put_with("in both", "v", &of(&["b", "a"])).unwrap();
            engine.put_with("put again", "old", &of(&["a"])).unwrap();
            engine.put_with("moved out", "old", &of(&["a"])).unwrap();
            engine.put("a", "a key with the scope's name").unwrap();
            engine.put("moved out", "plain").unwrap();
            if way == Way::Replay {
                engine.checkpoint().unwrap();
            }
            engine.cut_scope("a").unwrap();
            engine.cut_scope("nobody's").unwrap();
            engine.put_with("put again", "new", &of(&["a"])).unwrap();
            bench.come_up(way);
            let engine = bench.engine();
            for (key, there) in [
                ("in a", false),
                ("in b", true),
                ("in both", false),
                ("put again", true),
                ("moved out", true),
                ("a", true),
            ] {
                assert_seen(engine, key, there);
            }
            assert_eq!(value_of(engine, "put again"), Some(b"new".to_vec()));
            assert_eq!(engine.iter().unwrap().count(), 4, "{durability:?} {way:?}");
            assert!(!engine.delete("in a").unwrap());
            engine.put_with("in both", "anew", &of(&["a"]).only_if_absent()).unwrap();
            assert_seen(engine, "in both", true);
            engine.cut_scope("a").unwrap();
            assert_seen(engine, "in both", false);
            assert_seen(engine, "put again", false);
        }
    }
}

/// Goal: what is cut off stays so over any number of restarts, and cuts of many scopes are kept apart.
#[test]
fn cuts_last() {
    let mut bench = Bench::new(Setup::default());
    for number in 0..40 {
        let scope = format!("scope {}", number % 10);
        bench.engine().put_with(format!("key {number}"), [1; 200], &of(&[&scope])).unwrap();
    }
    for number in [1, 3, 5] {
        bench.engine().cut_scope(format!("scope {number}")).unwrap();
    }
    for way in WAYS.into_iter().chain(WAYS) {
        bench.come_up(way);
        for number in 0..40 {
            let there = ![1, 3, 5].contains(&(number % 10));
            assert_eq!(bench.engine().contains_key(format!("key {number}")).unwrap(), there);
        }
        assert_eq!(bench.engine().iter().unwrap().count(), 28, "{way:?}");
        bench.engine().put("something", "new").unwrap();
        bench.engine().delete("something").unwrap();
    }
}

/// Goal: a cut in a batch ends what came before it, in the batch too, and not what follows.
#[test]
fn a_cut_in_a_batch() {
    for way in WAYS {
        let mut bench = Bench::new(Setup::default());
        bench.engine().put_with("before", "v", &of(&["s"])).unwrap();
        if way == Way::Replay {
            bench.engine().checkpoint().unwrap();
        }
        let mut batch = Batch::new();
        batch.put_with("in front", "v", of(&["s"])).cut_scope("s").put_with(
            "behind",
            "v",
            of(&["s"]),
        );
        bench.engine().commit(batch).unwrap();
        for there in [true, false] {
            for (key, expected) in [("before", false), ("in front", false), ("behind", true)] {
                assert_seen(bench.engine(), key, expected);
            }
            if there {
                bench.come_up(way);
            }
        }
    }
}

/// Goal: update and conditions take what was cut off for absent.
#[test]
fn cut_off_behaves_as_absent() {
    let bench = Bench::new(Setup::default());
    let engine = bench.engine();
    let sequence = engine.put_with("k", "v", &of(&["s"])).unwrap();
    engine.cut_scope("s").unwrap();
    let mut seen = Vec::new();
    engine
        .update("k", |old| {
            seen.push(old.is_some());
            Change::Keep
        })
        .unwrap();
    assert_eq!(seen, [false]);
    let unchanged = PutOptions::new().only_if_unchanged(sequence);
    assert!(engine.put_with("k", "w", &unchanged).is_err());
    engine.put_with("k", "w", &PutOptions::new().only_if_absent()).unwrap();
    assert_eq!(value_of(engine, "k"), Some(b"w".to_vec()));
}

/// Goal: a snapshot from before a cut still has what was cut off.
#[test]
fn a_snapshot_from_before_a_cut() {
    let bench = Bench::new(Setup::default());
    bench.engine().put_with("k", "v", &of(&["s"])).unwrap();
    let before = bench.engine().snapshot().unwrap();
    bench.engine().cut_scope("s").unwrap();
    let after = bench.engine().snapshot().unwrap();
    assert_eq!(before.get("k").unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!((before.iter().count(), after.iter().count()), (1, 0));
    assert_eq!(after.get("k").unwrap(), None);
}
