//! The typed face: what types cost over bytes.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tierce::{
    Cache, Durability, Options, Put, Store,
    codec::{Codec, MsgPack},
};
use tierce_benches::{Random, Versus, median, nanos_per, shuffled, versus};

use crate::{Bar, Figure, scratch};

const KEYS: u64 = 1_000_000;
const READS: u64 = 200_000;
const ROUNDS: usize = 9;
const TAGS: u64 = 1_000;

#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    place: String,
    celsius: f64,
    humidity: Option<f32>,
    at: u64,
}

fn reading(n: u64) -> Reading {
    let celsius = n as f64 / 7.0;
    Reading { place: format!("room {n}"), celsius, humidity: Some(0.5), at: n }
}

fn figure(name: &str, other: &str, found: &Versus, bar: Bar) -> Figure {
    Figure {
        name: name.to_owned(),
        ours: format!("{:.0} ns", found.ours),
        other: format!("{:.0} ns ({other})", found.other),
        found: found.ratio,
        bar,
    }
}

fn filled() -> Cache<u64, Reading> {
    let options = Options::new().durability(Durability::Buffered);
    let store = Store::open_with(scratch("typed"), options).expect("the store opens");
    let cache = store.cache::<u64, Reading>("readings").expect("the cache opens");
    for n in shuffled(KEYS, 1) {
        let put = Put::new().tag(format!("tag {}", n % TAGS));
        cache.insert_with(&n, &reading(n), &put).expect("the insert succeeds");
    }
    store.sync().expect("the store syncs");
    let engine = store.engine().expect("the store is a local one");
    while engine.step().expect("the store steps") {}
    cache
}

/// Time of one `read` of a random key.
fn each(seed: u64, mut read: impl FnMut(u64)) -> f64 {
    let mut random = Random::new(seed);
    nanos_per(READS, || (0..READS).for_each(|_| read(random.below(KEYS))))
}

/// What a hit costs over the engine's own read of the same record and the codec's work on it; what a loader that is not
/// needed adds.
pub(crate) fn hits() -> Vec<Figure> {
    let cache = filled();
    let engine = cache.store().engine().expect("the store is a local one").clone();
    // The bytes under which the space keeps its keys: one byte for the space, then the key's own.
    let raw_key = |n: u64| [&[1][..], &tierce::key::encode(&n)].concat();
    let keys: Vec<Vec<u8>> = (0..KEYS).map(raw_key).collect();
    assert!(
        engine.contains_key(&keys[7]).expect("the engine reads"),
        "the keys are those of the space"
    );
    let typed = || each(3, |n| drop(black_box(cache.get(&n).expect("the get succeeds"))));
    let bytes = || {
        each(3, |n| {
            let value =
                engine.get(&keys[n as usize]).expect("the get succeeds").expect("it is there");
            let reading: Reading = MsgPack::decode(&value, 1, 0).expect("it is a reading");
            drop(black_box(reading));
        })
    };
    let loaded = || {
        each(3, |n| {
            let value = cache.get_or_insert_with(&n, || unreachable!("all are there"));
            drop(black_box(value.expect("the get succeeds")));
        })
    };
    let tasks = cache.clone().asynchronous();
    let mut context = Context::from_waker(Waker::noop());
    let task = || {
        each(3, |n| match pin!(tasks.get(&n)).poll(&mut context) {
            Poll::Ready(value) => drop(black_box(value.expect("the get succeeds"))),
            Poll::Pending => unreachable!("a hit is answered inline"),
        })
    };
    vec![
        figure("async get, hit", "typed get", &versus(ROUNDS, task, typed), Bar::AtMost(2.0)),
        figure(
            "typed get, hit",
            "engine get and codec",
            &versus(ROUNDS, typed, bytes),
            Bar::AtMost(1.5),
        ),
        figure(
            "get_or_insert_with, hit",
            "typed get",
            &versus(ROUNDS, loaded, typed),
            Bar::AtMost(1.1),
        ),
        invalidation(&cache),
    ]
}

/// Cutting one of the tags.
fn invalidation(cache: &Cache<u64, Reading>) -> Figure {
    let times: Vec<f64> = (0..100)
        .map(|tag| nanos_per(1, || cache.cut_tag(&format!("tag {tag}")).expect("the cut succeeds")))
        .collect();
    assert_eq!(cache.get(&50).expect("the get succeeds").map(|r| r.at), None, "it was cut");
    assert!(cache.get(&150).expect("the get succeeds").is_some(), "it was not");
    let found = median(times) / 1_000.0;
    Figure {
        name: "cut one of 1,000 tags over 1,000,000 entries".to_owned(),
        ours: format!("{:?}", Duration::from_nanos((found * 1_000.0) as u64)),
        other: "microseconds".to_owned(),
        found,
        bar: Bar::AtMost(50.0),
    }
}
