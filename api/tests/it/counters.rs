//! Counters, aggregates and sequences.

use std::{collections::BTreeSet, time::Duration};

use tierce::{
    Error, SpaceOptions,
    collections::{Counters, Summary},
};
use tierce_kit::{rng::Rng, seed::cases};

use crate::home::{Home, threads};

/// Goal: nothing is lost between threads, nor over a restart.
#[test]
fn sixteen_threads_add() {
    let home = Home::new();
    let store = home.open();
    let counter = store.counter("motion_count").unwrap();
    let seen = threads(16, |_| (0..50).map(|_| counter.add(1).unwrap()).collect::<Vec<_>>());
    assert_eq!(counter.get().unwrap(), 800);
    let distinct: BTreeSet<_> = seen.into_iter().flatten().collect();
    assert_eq!(distinct, (1..=800).collect(), "each addition saw another count");
    let store = home.reopen(store);
    assert_eq!(store.counter("motion_count").unwrap().add(1).unwrap(), 801);
}

#[test]
fn an_overflow_changes_nothing() {
    let store = Home::new().open();
    let counter = store.counter("n").unwrap();
    for (count, delta) in [(i64::MAX, 1), (i64::MIN, -1), (2, i64::MAX)] {
        counter.set(count).unwrap();
        assert!(matches!(counter.add(delta), Err(Error::Overflow { .. })), "{count} {delta}");
        assert_eq!(counter.get().unwrap(), count);
    }
    let float = store.float_counter("f").unwrap();
    float.set(f64::MAX).unwrap();
    for delta in [f64::MAX, f64::INFINITY, f64::NAN] {
        assert_eq!(float.add(delta).unwrap_err().kind(), "overflow");
        assert_eq!(float.set(delta - delta + f64::NAN).unwrap_err().kind(), "overflow");
    }
    assert_eq!(float.get().unwrap(), f64::MAX);
    assert_eq!(float.reset().unwrap(), f64::MAX);
}

/// Goal: what is of another kind is refused, and stays.
#[test]
fn other_kinds_are_refused() {
    let store = Home::new().open();
    store.counter("n").unwrap().add(1).unwrap();
    let float = store.float_counter("n").unwrap();
    for result in [float.get(), float.add(1.0), float.set(1.0), float.reset()] {
        assert!(matches!(result, Err(Error::Kind { .. })), "{result:?}");
    }
    assert_eq!(store.counter("n").unwrap().get().unwrap(), 1);
    store.map::<String, String>("texts").unwrap().insert("n", &"one".into()).unwrap();
    assert_eq!(store.counters::<String>("texts").unwrap_err().kind(), "type");
    assert_eq!(store.map::<String, i64>("tierce/counters").unwrap_err().kind(), "name");
}

#[test]
fn one_counter_for_each_key() {
    let home = Home::new();
    let store = home.open();
    let counters = store.counters::<(String, u32)>("alerts").unwrap();
    for (room, number, times) in [("attic", 1, 2), ("attic", 2, -3), ("hall", 1, 5)] {
        counters.add(&(room, number), times).unwrap();
    }
    let store = home.reopen(store);
    let counters = store.counters::<(String, u32)>("alerts").unwrap();
    let mut all = counters.entries().unwrap();
    all.sort();
    let expected = [("attic", 1, 2), ("attic", 2, -3), ("hall", 1, 5)];
    assert_eq!(all, expected.map(|(room, number, count)| ((room.to_owned(), number), count)));
    assert_eq!(counters.reset(&("attic", 1)).unwrap(), 2);
    assert_eq!(counters.reset(&("attic", 1)).unwrap(), 0);
    assert_eq!(counters.entries().unwrap().len(), 2);
    assert_eq!(store.counter("alerts").unwrap().get().unwrap(), 0, "a name, not a space");
}

/// Goal: a window begins with its first addition, and ends when it said, whatever is added meanwhile.
#[test]
fn windows_end() {
    let home = Home::new();
    let store = home.open();
    let options = SpaceOptions::new().ttl(Duration::from_millis(100));
    let counters: Counters<String> = store.counters_with("window", &options).unwrap();
    counters.add("a", 1).unwrap();
    home.clock.advance(99);
    assert_eq!(counters.add("a", 1).unwrap(), 2);
    home.clock.advance(1);
    assert_eq!(counters.get("a").unwrap(), 0, "at its very end");
    assert_eq!(counters.add("a", 1).unwrap(), 1);
    home.clock.advance(99);
    assert_eq!(counters.get("a").unwrap(), 1);
}

/// Goal: what a reset returns and what is added after it are all that was added.
#[test]
fn resets_lose_nothing() {
    let store = Home::new().open();
    let counter = store.counter("n").unwrap();
    let taken = threads(8, |at| {
        let one = |_| if at < 4 { counter.add(1).map(|_| 0) } else { counter.reset() };
        (0..50).map(one).sum::<Result<i64, _>>().unwrap()
    });
    assert_eq!(taken.iter().sum::<i64>() + counter.get().unwrap(), 200);
}

fn assert_near(one: f64, other: f64) {
    assert!((one - other).abs() <= 1e-9 * (1.0 + one.abs()), "{one} {other}");
}

fn assert_is(summary: Option<Summary>, numbers: &[f64]) {
    let Some(summary) = summary else {
        assert!(numbers.is_empty());
        return;
    };
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    assert_eq!(summary.count, numbers.len() as u64);
    assert_near(summary.mean, mean);
    assert_near(summary.sum, numbers.iter().sum());
    assert_near(
        summary.variance(),
        numbers.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / count,
    );
    assert_eq!(summary.max, numbers.iter().copied().fold(f64::MIN, f64::max));
    assert_eq!(summary.min, numbers.iter().copied().fold(f64::MAX, f64::min));
    let smoothed = numbers.iter().copied().reduce(|old, new| old + 0.25 * (new - old));
    assert_near(summary.smoothed, smoothed.unwrap());
    assert_eq!(Some(&summary.last), numbers.last());
}

/// Goal: an aggregate is what the kept numbers would come to.
#[test]
fn aggregates_against_the_numbers() {
    cases("counters::aggregates_against_the_numbers", 20, |seed| {
        let (home, mut rng, mut numbers) = (Home::new(), Rng::new(seed), Vec::new());
        let mut store = home.open();
        for _ in 0..60 {
            let aggregate = store.aggregate("wind").unwrap().smoothing(0.25).unwrap();
            assert_is(aggregate.get().unwrap(), &numbers);
            match rng.below(10) {
                0 => store = home.reopen(store),
                1 => assert_is(aggregate.pop().unwrap(), &std::mem::take(&mut numbers)),
                _ => {
                    let number = rng.below(2_000_000) as f64 / 1_000.0 - 500.0;
                    numbers.push(number);
                    assert_is(Some(aggregate.add(number).unwrap()), &numbers);
                }
            }
        }
    });
}

#[test]
fn aggregates_refuse_what_is_not_finite() {
    let store = Home::new().open();
    let aggregate = store.aggregate("a").unwrap();
    for number in [f64::NAN, f64::INFINITY] {
        assert_eq!(aggregate.add(number).unwrap_err().kind(), "overflow");
        assert_eq!(aggregate.get().unwrap(), None);
    }
    aggregate.add(f64::MAX).unwrap();
    assert_eq!(aggregate.add(f64::MAX).unwrap_err().kind(), "overflow");
    assert_eq!(aggregate.get().unwrap().map(|summary| summary.count), Some(1));
    for weight in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(store.aggregate("a").unwrap().smoothing(weight).is_err(), "{weight}");
    }
}

/// Goal: of several who pop, one gets what there was.
#[test]
fn one_pops() {
    let store = Home::new().open();
    let aggregate = store.aggregate("a").unwrap();
    for _ in 0..20 {
        aggregate.add(1.0).unwrap();
        let popped = threads(4, |_| aggregate.pop().unwrap());
        assert_eq!(popped.into_iter().flatten().count(), 1);
    }
}

/// Goal: no number twice: between threads, handles, restarts and kills.
#[test]
fn sequences_give_each_number_once() {
    let home = Home::new();
    let mut store = home.open();
    let mut given = BTreeSet::new();
    for round in 0..4 {
        let rows = threads(8, |at| {
            let sequence = store.sequence("ids").unwrap().reserving(1 + at as u32 % 3);
            (0..40).map(|_| sequence.next_id().unwrap()).collect::<Vec<_>>()
        });
        for row in rows {
            assert!(row.is_sorted_by(|one, next| one < next), "{row:?}");
            for id in row {
                assert!(given.insert(id), "{id} again in round {round}");
            }
        }
        store = home.reopen(store);
    }
    assert!(given.iter().next_back() < Some(&(4 * 8 * 40 + 4 * 64)), "the gaps are small");
    assert_eq!(store.sequence("others").unwrap().next_id().unwrap(), 1);
}
