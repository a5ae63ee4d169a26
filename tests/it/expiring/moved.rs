//! Expiries moved by touches, clocks that jump, and the one rule: live if and only if now is before the expiry.

use tierce_engine::{Batch, PutOptions, Timestamp};
use tierce_kit::{rng::Rng, seed::cases};

use super::{put, there};
use crate::limits::{Limited, name, value};

const YEARS: i64 = 10 * 365 * 24 * 3_600 * 1_000;

/// Goal: touches that lengthen, shorten and take away an expiry count for sweeps, for segments that are dropped
/// whole, after each opening, and after compaction.
#[test]
fn touches_are_respected() {
    for reopen in [false, true] {
        let mut store = Limited::new(|options| options);
        let start = store.engine().now();
        let at = |ms: u64| start.saturating_add_ms(ms);
        (0..400).for_each(|key| put(store.engine(), key, 300, at(10_000)));
        // 0: as it is; 1: longer; 2: never; 3: shorter.
        for key in 0..400 {
            let expiry = match key % 4 {
                1 => Some(at(50_000)),
                2 => None,
                3 => Some(at(2_000)),
                _ => continue,
            };
            assert!(store.engine().touch(name(key), expiry).unwrap());
        }
        let kind = |key: &u64, kinds: &[u64]| kinds.contains(&(key % 4));
        for (until, swept, left) in
            [(2_000, 100, &[0, 1, 2][..]), (10_000, 100, &[1, 2]), (50_000, 100, &[2])]
        {
            if reopen {
                store.reopen();
            }
            store.clock.advance(until - (store.engine().now().0 - start.0) - 1);
            assert_eq!(store.engine().sweep(None).unwrap().entries, 0, "1 ms before {until}");
            store.clock.advance(1);
            let gone = store.engine().sweep(None).unwrap();
            assert_eq!(gone.entries, swept, "{until}, reopen {reopen}: {gone:?}");
            let expected: Vec<u64> = (0..400).filter(|key| kind(key, left)).collect();
            assert_eq!(there(store.engine(), 0..400), expected, "{until}");
            store.engine().compact().unwrap();
            assert_eq!(there(store.engine(), 0..400), expected, "{until}, compacted");
        }
        store.reopen();
        assert_eq!(there(store.engine(), 0..400).len(), 100);
    }
}

/// Goal: the wall clock jumping ten years either way, while the store is open or between two openings, with sweeps and
/// compaction in between, neither loses an entry that should live nor keeps one for ever.
#[test]
fn clocks_that_jump() {
    for (jump, while_open) in [(YEARS, true), (-YEARS, true), (-YEARS, false)] {
        let mut store = Limited::new(|options| options);
        let soon = store.engine().now().saturating_add_ms(100_000);
        (0..300).for_each(|key| put(store.engine(), key, 300, soon));
        let jump_now = |store: &mut Limited, by: i64| {
            if while_open {
                store.clock.jump_wall(by);
            } else {
                store.close();
                store.clock.jump_wall(by);
                store.clock.reboot();
                store.reopen();
            }
        };
        jump_now(&mut store, jump);
        store.engine().sweep(None).unwrap();
        store.engine().compact().unwrap();
        assert_eq!(there(store.engine(), 0..300).len(), 300, "lost by a jump of {jump}");
        // Back again before a jump forward is believed.
        if jump > 0 {
            store.clock.jump_wall(-jump);
        }
        store.clock.advance(50_000);
        store.engine().sweep(None).unwrap();
        assert_eq!(there(store.engine(), 0..300).len(), 300, "too early");
        store.clock.advance(50_000);
        assert_eq!(there(store.engine(), 0..300).len(), 0, "immortal after {jump}");
        assert_eq!(store.engine().sweep(None).unwrap().entries, 300);
        // Gone is gone, whatever the clock says later.
        jump_now(&mut store, -YEARS);
        store.engine().compact().unwrap();
        assert_eq!(there(store.engine(), 0..300).len(), 0, "back after {jump}");
    }
}

/// Goal: a jump forward that stays is believed, and then everything that is due goes.
#[test]
fn a_jump_that_stays_is_believed() {
    let store = Limited::new(|options| options);
    let at = store.engine().now().saturating_add_ms(3_600_000);
    (0..100).for_each(|key| put(store.engine(), key, 300, at));
    store.clock.jump_wall(YEARS);
    assert_eq!(there(store.engine(), 0..100).len(), 100);
    for _ in 0..4 {
        store.clock.advance(30_000);
        let _ = store.engine().now();
    }
    assert_eq!(there(store.engine(), 0..100).len(), 0);
    assert_eq!(store.engine().sweep(None).unwrap().entries, 100);
}

/// What every path says of a key.
fn paths(store: &Limited, key: u64) -> Vec<(&'static str, bool)> {
    let engine = store.engine();
    let mut batch = Batch::new();
    batch.put_with(name(key), "no", PutOptions::new().only_if_absent());
    // A second key that is there keeps the batch from having an effect.
    batch.put_with("there", "no", PutOptions::new().only_if_absent());
    assert!(engine.commit(batch).is_err());
    let mut found = false;
    engine.iter().unwrap().for_each(|item| found |= item.unwrap().0 == name(key));
    vec![
        ("get", engine.get(name(key)).unwrap().is_some()),
        ("contains", engine.contains_key(name(key)).unwrap()),
        ("entry", engine.entry(name(key)).unwrap().is_some()),
        ("get_many", engine.get_many(&[name(key)]).unwrap()[0].is_some()),
        ("iter", found),
    ]
}

/// Goal: one rule on every path, at random instants around random expiries, with sweeps, compaction and openings in
/// between; a condition in a put sees the same.
#[test]
fn one_rule_everywhere() {
    cases("expiring::moved::one_rule_everywhere", 4, |seed| {
        let mut rng = Rng::new(seed);
        let mut store = Limited::new(|options| options);
        store.engine().put("there", "yes").unwrap();
        let start = store.engine().now().0;
        let mut expiries: Vec<Option<u64>> = vec![None; 40];
        for step in 0..600 {
            let key = rng.below(40);
            let at = start + rng.below(3_000);
            match rng.below(12) {
                0..=4 => {
                    put(store.engine(), key, 400, Timestamp(at));
                    expiries[key as usize] = Some(at);
                }
                5..=6 => {
                    let was = expiries[key as usize];
                    let lives = was.is_some_and(|was| store.engine().now().0 < was);
                    assert_eq!(
                        store.engine().touch(name(key), Some(Timestamp(at))).unwrap(),
                        lives
                    );
                    expiries[key as usize] = if lives { Some(at) } else { was };
                }
                7 => drop(store.engine().sweep(None).unwrap()),
                8 => drop(store.engine().compact().unwrap()),
                9 if rng.one_in(4) => store.reopen(),
                10 => {
                    let lives =
                        expiries[key as usize].is_some_and(|at| store.engine().now().0 < at);
                    let options = PutOptions::new().only_if_absent().expires_at(Timestamp(at));
                    let put = store.engine().put_with(name(key), value(key, 0, 400), &options);
                    assert_eq!(put.is_err(), lives, "{step}");
                    expiries[key as usize] = if lives { expiries[key as usize] } else { Some(at) };
                }
                _ => store.clock.advance(rng.below(12)),
            }
            let lives = expiries[key as usize].is_some_and(|at| store.engine().now().0 < at);
            let seen = paths(&store, key);
            assert!(seen.iter().all(|path| path.1 == lives), "{step}: {lives}, but {seen:?}");
        }
    });
}
