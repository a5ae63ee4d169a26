//! Values of one version become values of another: in order, all or nothing, and on from where it was cut off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tierce::{
    Error, Migrations, Options, Put, SpaceOptions, Store, Version,
    codec::{Json, MsgPack, Raw},
    migrations::{Plain, Step},
};
use tierce_engine::io::MemoryDisk;

const V0_2: Version = Version::new(0, 2, 0);
const V0_10: Version = Version::new(0, 10, 0);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    celsius: f64,
    priority: u8,
}

fn store(disk: &MemoryDisk) -> Store {
    Store::open_with("store", Options::new().disk(disk.clone()).background(false)).unwrap()
}

/// 0.0.0: a number; 0.2.0: an object; 0.10.0: with a priority.
fn steps(
    mut also: impl FnMut() -> Result<(), tierce::BoxError> + Send + 'static,
) -> Migrations<Value> {
    Migrations::new([
        Step::new(V0_2, V0_10, |mut value: Value| {
            value["priority"] = 0.into();
            Ok(value)
        }),
        Step::new(Version::ZERO, V0_2, move |value: Value| {
            also()?;
            Ok(json!({ "celsius": value.as_f64().ok_or("no number")? }))
        }),
    ])
    .unwrap()
}

fn old_cache(store: &Store) {
    let cache = store.cache::<u32, f64>("readings").unwrap();
    for n in 0..20 {
        let put = Put::new().ttl(Duration::from_secs(600)).tag("t").pinned();
        cache.insert_with(&n, &f64::from(n), &put).unwrap();
    }
}

fn versioned(version: Version) -> SpaceOptions {
    SpaceOptions::new().version(version)
}

fn new_cache(store: &Store) -> tierce::Result<tierce::Cache<u32, Reading, MsgPack>> {
    store.cache_with("readings", &versioned(V0_10))
}

/// Goal: steps run in the order of versions, not of texts; lifetime, tags and pins stay; the type may change; other
/// spaces do not; a rehearsal changes nothing.
#[test]
fn values_become_new() {
    let disk = MemoryDisk::new();
    let store = store(&disk);
    old_cache(&store);
    store.map::<u32, f64>("other").unwrap().insert(&1, &1.0).unwrap();
    let plan = store.rehearse_migration("readings", &mut steps(|| Ok(())), V0_10).unwrap();
    assert_eq!((plan.entries, plan.steps), (20, vec![(Version::ZERO, V0_2), (V0_2, V0_10)]));
    let before = store.cache::<u32, f64>("readings").unwrap().entry(&7).unwrap().unwrap();
    assert!(matches!(new_cache(&store), Err(Error::Type { .. } | Error::Options { .. })));
    assert_eq!(store.migrate_space("readings", &mut steps(|| Ok(())), V0_10).unwrap().entries, 20);
    let cache = new_cache(&store).unwrap();
    let entry = cache.entry(&7).unwrap().unwrap();
    assert_eq!(entry.value, Reading { celsius: 7.0, priority: 0 });
    assert_eq!(
        (entry.expires_at, entry.stored_at, entry.tags, entry.pinned),
        (before.expires_at, before.stored_at, before.tags, before.pinned)
    );
    assert_eq!(store.migrate_space("readings", &mut steps(|| Ok(())), V0_10).unwrap().entries, 0);
    assert_eq!(store.map::<u32, f64>("other").unwrap().get(&1).unwrap(), Some(1.0));
}

/// Goal: a step that fails for one value changes none.
#[test]
fn a_failure_changes_nothing() {
    let store = store(&MemoryDisk::new());
    let map = store.map::<u32, Value>("readings").unwrap();
    (0..20).for_each(|n| map.insert(&n, &json!(n)).unwrap());
    map.insert(&13, &json!("not a number")).unwrap();
    let before = store.engine().unwrap().stats().sequence;
    let failed = store.migrate_space("readings", &mut steps(|| Ok(())), V0_10);
    assert!(matches!(failed, Err(Error::Migration { .. })), "{failed:?}");
    assert_eq!(store.engine().unwrap().stats().sequence, before);
    assert_eq!(map.get(&0).unwrap(), Some(json!(0)));
}

/// Goal: a migration that was cut off in the middle is refused to old programs, and goes on where it was; each value
/// takes each step once.
/// Method: the step fails the second time it is asked of the tenth value: when it is to be stored.
#[test]
fn it_goes_on_where_it_was() {
    let disk = MemoryDisk::new();
    let first = store(&disk);
    old_cache(&first);
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let mut cut_off =
        steps(
            move || {
                if count.fetch_add(1, Ordering::Relaxed) == 29 { Err("cut".into()) } else { Ok(()) }
            },
        );
    assert!(first.migrate_space("readings", &mut cut_off, V0_10).is_err());
    assert_eq!(calls.load(Ordering::Relaxed), 30);
    first.close().unwrap();
    let second = store(&disk);
    let refused = second.cache_with::<u32, f64, MsgPack>("readings", &versioned(Version::ZERO));
    assert!(matches!(refused, Err(Error::TooNew { .. })), "{refused:?}");
    let refused = new_cache(&second);
    assert!(matches!(refused, Err(Error::Options { .. })), "{refused:?}");
    let migrated = second.migrate_space("readings", &mut steps(|| Ok(())), V0_10).unwrap();
    assert_eq!(migrated.entries, 11, "nine were done");
    let cache = new_cache(&second).unwrap();
    for n in 0..20 {
        let expected = Reading { celsius: f64::from(n), priority: 0 };
        assert_eq!(cache.get(&n).unwrap(), Some(expected));
    }
}

/// Goal: what a newer program wrote is refused and left alone.
#[test]
fn newer_is_refused() {
    let store = store(&MemoryDisk::new());
    let map = store.map_with::<u32, u32, MsgPack>("m", &versioned(V0_10)).unwrap();
    map.insert(&1, &1).unwrap();
    let before = store.engine().unwrap().stats().sequence;
    let old = store.map_with::<u32, u32, MsgPack>("m", &versioned(V0_2));
    assert!(matches!(old, Err(Error::TooNew { .. })), "{old:?}");
    let back = store.migrate_space("m", &mut steps(|| Ok(())), V0_2);
    assert!(matches!(back, Err(Error::TooNew { .. })), "{back:?}");
    assert_eq!(store.engine().unwrap().stats().sequence, before);
    assert_eq!(map.get(&1).unwrap(), Some(1));
}

/// Goal: a migration that was cut off, and then goes on to a later version than it was to, takes each value through
/// each step once, wherever it was.
/// Method: the step of the first migration counts; the second one adds one to what the first one made.
#[test]
fn it_goes_on_to_a_later_version() {
    let disk = MemoryDisk::new();
    let store = store(&disk);
    let map = store.map::<u32, Value>("readings").unwrap();
    (0..20).for_each(|n| map.insert(&n, &json!(0)).unwrap());
    let add = |amount: i64, calls: Option<Arc<AtomicU32>>| {
        move |value: Value| {
            if calls.as_ref().is_some_and(|calls| calls.fetch_add(1, Ordering::Relaxed) == 29) {
                return Err("cut".into());
            }
            Ok(json!(value.as_i64().ok_or("no number")? + amount))
        }
    };
    let mut cut_off =
        Migrations::new([Step::new(Version::ZERO, V0_2, add(1, Some(Arc::default())))]).unwrap();
    assert!(store.migrate_space("readings", &mut cut_off, V0_2).is_err());
    let mut all = Migrations::new([
        Step::new(Version::ZERO, V0_2, add(1, None)),
        Step::new(V0_2, V0_10, add(10, None)),
    ])
    .unwrap();
    store.migrate_space("readings", &mut all, V0_10).unwrap();
    let map = store.map_with::<u32, Value, MsgPack>("readings", &versioned(V0_10)).unwrap();
    (0..20).for_each(|n| assert_eq!(map.get(&n).unwrap(), Some(json!(11)), "{n}"));
}

/// Goal: a step may use the store; what a cache remembers of failed loads is no value.
#[test]
fn steps_may_use_the_store() {
    let store = store(&MemoryDisk::new());
    let cache = store.cache::<u32, f64>("readings").unwrap();
    cache.insert(&1, &1.0).unwrap();
    let policy = tierce::LoadPolicy::new().cache_errors(Duration::from_secs(60));
    let loading = cache.loading(policy, |_: &u32, _| Err("down".into()));
    assert!(loading.get(&2).is_err());
    let same = store.clone();
    let mut steps = steps(move || {
        same.map::<u32, u32>("beside")?.insert(&1, &1)?;
        Ok(())
    });
    assert_eq!(store.migrate_space("readings", &mut steps, V0_10).unwrap().entries, 1);
}

/// Something with bytes, as types that use `serde_bytes` are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hard {
    #[serde(serialize_with = "as_bytes")]
    picture: Bytes,
    celsius: f64,
    seen: std::collections::BTreeMap<u64, i8>,
}

#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Plain::deserialize(from)? {
            Plain::Bytes(bytes) => Ok(Self(bytes)),
            other => Err(serde::de::Error::custom(format!("{other:?} is no bytes"))),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        as_bytes(self, to)
    }
}

fn as_bytes<S: serde::Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(&bytes.0)
}

fn one_step<T>(
    step: impl FnMut(T) -> Result<T, tierce::BoxError> + Send + 'static,
) -> Migrations<T> {
    Migrations::new([Step::new(Version::ZERO, V0_2, step)]).unwrap()
}

/// Goal: bytes, NaN and keys that are no text go through a migration as they are; steps that take JSON, which has none
/// of these, are refused with nothing changed.
#[test]
fn what_json_lacks_migrates_as_it_is() {
    let store = store(&MemoryDisk::new());
    let hard =
        Hard { picture: Bytes(vec![0, 0xff]), celsius: f64::NAN, seen: [(u64::MAX, -1)].into() };
    store.map::<u32, Hard>("hard").unwrap().insert(&1, &hard).unwrap();
    store.map::<u32, f64>("nan").unwrap().insert(&1, &f64::NAN).unwrap();
    for space in ["hard", "nan"] {
        let error = store.migrate_space(space, &mut one_step(Ok::<Value, _>), V0_2).unwrap_err();
        assert_eq!(error.kind(), "migration", "{space}");
    }
    assert!(store.map::<u32, f64>("nan").unwrap().get(&1).unwrap().unwrap().is_nan());
    let rename = |mut value: Plain| {
        let celsius = value.remove("celsius").ok_or("no celsius")?;
        value.set("kelvin", celsius);
        value.set("celsius", 0.5);
        Ok(value)
    };
    assert_eq!(store.migrate_space("hard", &mut one_step(rename), V0_2).unwrap().entries, 1);
    let map = store.map_with::<u32, Plain, MsgPack>("hard", &versioned(V0_2)).unwrap();
    let migrated = map.get(&1).unwrap().unwrap();
    assert!(matches!(migrated.get("kelvin"), Some(Plain::Float(kelvin)) if kelvin.is_nan()));
    assert_eq!(migrated.get("picture"), Some(&Plain::Bytes(vec![0, 0xff])));
    assert_eq!(migrated.get("seen"), Some(&Plain::Map(vec![(Plain::Uint(u64::MAX), (-1).into())])));
}

/// Goal: a type of the caller's may be what steps take, unless it would drop something; raw values stay raw; what the
/// codec of the space cannot say is an error with nothing changed.
#[test]
fn steps_of_other_types() {
    let store = store(&MemoryDisk::new());
    let reading = Reading { celsius: 20.0, priority: 1 };
    store.map::<u32, Reading>("typed").unwrap().insert(&1, &reading).unwrap();
    #[derive(Serialize, Deserialize)]
    struct Less {
        celsius: f64,
    }
    let error = store.migrate_space("typed", &mut one_step(Ok::<Less, _>), V0_2).unwrap_err();
    assert_eq!(error.kind(), "migration");
    let mut warmer = one_step(|old: Reading| Ok(Reading { celsius: old.celsius + 1.0, ..old }));
    store.migrate_space("typed", &mut warmer, V0_2).unwrap();
    let map = store.map_with::<u32, Reading, MsgPack>("typed", &versioned(V0_2)).unwrap();
    assert_eq!(map.get(&1).unwrap().unwrap().celsius, 21.0);

    let raw = SpaceOptions::new();
    let map = store.map_with::<u32, Vec<u8>, Raw>("raw", &raw).unwrap();
    map.insert(&1, &vec![0xff, 1]).unwrap();
    let mut no_bytes = one_step(|_: Plain| Ok(Plain::Nil));
    assert_eq!(store.migrate_space("raw", &mut no_bytes, V0_2).unwrap_err().kind(), "encode");
    assert_eq!(map.get(&1).unwrap(), Some(vec![0xff, 1]));
    let longer = |value: Plain| match value {
        Plain::Bytes(bytes) => Ok(Plain::Bytes([&bytes[..], &[2]].concat())),
        other => Err(format!("{other:?}").into()),
    };
    store.migrate_space("raw", &mut one_step(longer), V0_2).unwrap();
    let map = store.map_with::<u32, Vec<u8>, Raw>("raw", &versioned(V0_2)).unwrap();
    assert_eq!(map.get(&1).unwrap(), Some(vec![0xff, 1, 2]));

    let map = store.map_with::<u32, f64, Json>("json", &raw).unwrap();
    map.insert(&1, &1.5).unwrap();
    let nan = store.migrate_space("json", &mut one_step(|_: Plain| Ok(f64::NAN.into())), V0_2);
    assert_eq!(nan.unwrap_err().kind(), "encode");
    assert_eq!(map.get(&1).unwrap(), Some(1.5));
}
