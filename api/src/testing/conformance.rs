//! What every state store must do, as one test to call.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    state::{DEPTH_MAX, Object, StateStore},
    sync::thread,
};

/// Names that a store may stumble over.
const NAMES: &[&str] = &[
    "",
    "sensor",
    "Sensor",
    " sensor ",
    "a.b",
    "a/b",
    "../escape",
    "a\\b",
    "a\0b",
    "%00'\"; DROP TABLE states; --",
    "\u{b0}C \u{1f600}",
    "*",
    "version",
    "\u{fffd}",
];

/// Checks that a store keeps the contract of [`StateStore`]. `make` gives an empty store each time.
///
/// ```
/// use std::sync::Arc;
/// use tierce::{state::MemoryStore, testing::conformance};
/// conformance(|| Arc::new(MemoryStore::new()));
/// ```
///
/// # Panics
/// If the store does not keep it; the message says where. Random values come from a seed that it names, which the
/// environment variable `TIERCE_SEED` repeats.
pub fn conformance(mut make: impl FnMut() -> Arc<dyn StateStore>) {
    let store = make();
    empty(&*store);
    if store.discards() {
        discards(&*store);
        return;
    }
    replaces(&*make());
    names(&*make());
    values(&*make());
    copies(&*make());
    depth(&*make());
    random(&*make());
    threads(&make());
}

/// Checks that what was saved is there after the store is opened again. `open` opens the same place each time, empty
/// at first; the store before is gone by then.
///
/// ```
/// use std::sync::Arc;
/// use tierce::{state::JsonFileStore, testing::conformance_reopened};
/// let dir = tempfile::tempdir().unwrap();
/// conformance_reopened(|| Arc::new(JsonFileStore::new(dir.path().join("state.json"))));
/// ```
///
/// # Panics
/// As [`conformance`].
pub fn conformance_reopened(mut open: impl FnMut() -> Arc<dyn StateStore>) {
    let store = open();
    for (number, name) in NAMES.iter().enumerate() {
        ok(store.save(name, &object(json!({"number": number, "hard": hard()}))), name);
    }
    let is_removed = removes(&*store, "sensor");
    ok(store.flush(), "flush");
    drop(store);
    for _ in 0..2 {
        let store = open();
        for (number, name) in NAMES.iter().enumerate() {
            let is_gone = is_removed && *name == "sensor";
            let wanted = (!is_gone).then(|| object(json!({"number": number, "hard": hard()})));
            assert_eq!(load(&*store, name), wanted, "after opening again: `{name}`");
        }
        assert_eq!(store.take_damage(), [], "nothing was damaged");
    }
}

fn ok<T>(result: Result<T>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("`{what}` failed: {error}"))
}

fn load(store: &dyn StateStore, name: &str) -> Option<Object> {
    ok(store.load(name), name)
}

fn object(value: Value) -> Object {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    object
}

/// Removes if the store can; says whether it can.
fn removes(store: &dyn StateStore, name: &str) -> bool {
    match store.remove(name) {
        Ok(was_there) => {
            assert!(was_there, "removing `{name}`, which is there, says so");
            true
        }
        Err(Error::Unsupported { .. }) => false,
        Err(error) => panic!("removing `{name}` failed: {error}"),
    }
}

/// The names if the store can tell them.
fn list(store: &dyn StateStore) -> Option<Vec<String>> {
    match store.names() {
        Ok(names) => Some(names),
        Err(Error::Unsupported { .. }) => None,
        Err(error) => panic!("listing names failed: {error}"),
    }
}

fn empty(store: &dyn StateStore) {
    for name in NAMES {
        assert_eq!(load(store, name), None, "an empty store has no `{name}`");
    }
    if let Some(names) = list(store) {
        assert_eq!(names, Vec::<String>::new(), "an empty store has no names");
    }
    match store.remove("sensor") {
        Ok(was_there) => assert!(!was_there, "removing what is absent says so"),
        Err(Error::Unsupported { .. }) => {}
        Err(error) => panic!("removing what is absent failed: {error}"),
    }
    ok(store.flush(), "flush");
    assert_eq!(store.take_damage(), [], "nothing is damaged");
}

fn discards(store: &dyn StateStore) {
    ok(store.save("sensor", &object(json!({"count": 1}))), "sensor");
    empty(store);
}

/// A save replaces the whole state, and an empty state is not an absent one.
fn replaces(store: &dyn StateStore) {
    ok(store.save("sensor", &object(json!({"a": 1, "b": {"c": 2}}))), "sensor");
    let second = object(json!({"b": {"d": 3}}));
    ok(store.save("sensor", &second), "sensor");
    assert_eq!(load(store, "sensor"), Some(second), "a save replaces, it does not merge");
    ok(store.save("sensor", &Object::new()), "sensor");
    assert_eq!(load(store, "sensor"), Some(Object::new()), "an empty state is there");
    if removes(store, "sensor") {
        assert_eq!(load(store, "sensor"), None, "what is removed is gone");
        assert!(!ok(store.remove("sensor"), "sensor"), "and cannot be removed again");
    }
}

fn names(store: &dyn StateStore) {
    let long = "n".repeat(1_000);
    let mut all: Vec<&str> = NAMES.to_vec();
    all.push(&long);
    for (number, name) in all.iter().enumerate() {
        ok(store.save(name, &object(json!({ "number": number }))), name);
    }
    for (number, name) in all.iter().enumerate() {
        let wanted = object(json!({ "number": number }));
        assert_eq!(load(store, name), Some(wanted), "each name has its own state: `{name}`");
    }
    all.sort_unstable();
    if let Some(names) = list(store) {
        assert_eq!(names, all, "names are listed, sorted");
    }
    if removes(store, "") {
        all.remove(0);
        assert_eq!(load(store, ""), None, "the empty name is removed alone");
        assert!(all.iter().all(|name| load(store, name).is_some()), "the others stay");
    }
}

/// Values that get lost on the way.
fn hard() -> Value {
    json!({
        "": "empty key",
        "null": null,
        "truth": [true, false],
        "integers": [0, -1, i64::MIN, i64::MAX, u64::MAX],
        "floats": [0.0, -0.0, 1.0, 0.1, 1e300, f64::MIN_POSITIVE, f64::EPSILON, 5e-324, 123_456_789.123_456_79],
        "texts": ["", "\0", "\u{b0}C", "\u{1f600}", "\"\\\n\r\t\u{7f}\u{2028}", "null", "{}"],
        "nested": {"list": [[], {}, [null, {"deep": [1]}]], "a.b": 1, "a": {"b": 2}},
    })
}

fn values(store: &dyn StateStore) {
    let Value::Object(hard) = hard() else { return };
    ok(store.save("hard", &hard), "hard");
    let loaded = load(store, "hard");
    assert_eq!(loaded.as_ref(), Some(&hard), "every JSON value comes back as it was");
    // A comparison of numbers sees neither the sign of zero nor a float that became an integer.
    let text = |object: &Object| Value::Object(object.clone()).to_string();
    assert_eq!(loaded.map(|loaded| text(&loaded)), Some(text(&hard)), "and is written the same");
    let large = object(json!({"text": "x".repeat(1 << 20)}));
    ok(store.save("hard", &large), "a large state");
    assert_eq!(load(store, "hard"), Some(large), "a large state comes back");
}

fn copies(store: &dyn StateStore) {
    let mut mine = object(json!({"list": [1]}));
    ok(store.save("a", &mine), "a");
    mine["list"] = json!([1, 2]);
    let mut loaded = load(store, "a").unwrap_or_default();
    assert_eq!(loaded["list"], json!([1]), "a change after the save is not in the store");
    loaded["list"] = json!(["changed"]);
    assert_eq!(
        load(store, "a"),
        Some(object(json!({"list": [1]}))),
        "nor is one of what was loaded"
    );
    ok(store.save("b", &Object::new()), "b");
    assert_eq!(load(store, "a"), Some(object(json!({"list": [1]}))), "states are apart");
}

fn depth(store: &dyn StateStore) {
    let nested = |levels| {
        let value = (1..levels).fold(json!(1), |inner, _| json!([inner]));
        object(json!({ "nested": value }))
    };
    let deep = nested(DEPTH_MAX);
    ok(store.save("deep", &deep), "as deep as is allowed");
    assert_eq!(load(store, "deep"), Some(deep.clone()), "as deep as is allowed");
    for levels in [DEPTH_MAX + 1, 2 * DEPTH_MAX] {
        if store.save("deep", &nested(levels)).is_ok() {
            let loaded = store.load("deep").ok().flatten();
            assert_eq!(loaded, Some(nested(levels)), "what is accepted can be read again");
            ok(store.save("deep", &deep), "deep");
        }
        assert_eq!(load(store, "deep"), Some(deep.clone()), "what is refused changes nothing");
    }
}

/// A sequence of saves and removals against a model, with random floats.
fn random(store: &dyn StateStore) {
    let given = std::env::var("TIERCE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        use tierce_engine::io::{Clock as _, OsClock};
        OsClock.random()
    });
    let mut state = seed;
    let mut next = move || {
        // The generator known as splitmix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut model = std::collections::BTreeMap::new();
    let mut can_remove = true;
    for _ in 0..30 {
        let name = format!("n{}", next() % 4);
        if can_remove && next() % 4 == 0 {
            let wanted = model.contains_key(&name);
            match store.remove(&name) {
                Ok(was_there) => {
                    assert_eq!(was_there, wanted, "removing, TIERCE_SEED={seed}");
                    model.remove(&name);
                }
                Err(Error::Unsupported { .. }) => can_remove = false,
                Err(error) => panic!("removing failed: {error}, TIERCE_SEED={seed}"),
            }
        } else {
            let floats: Vec<_> = std::iter::repeat_with(|| f64::from_bits(next()))
                .filter(|float| float.is_finite())
                .take(20)
                .collect();
            let state = object(json!({"floats": floats, "integer": next()}));
            ok(store.save(&name, &state), &name);
            model.insert(name.clone(), state);
        }
        assert_eq!(load(store, &name).as_ref(), model.get(&name), "random, TIERCE_SEED={seed}");
    }
    if let Some(names) = list(store) {
        assert!(names.iter().eq(model.keys()), "names, TIERCE_SEED={seed}");
    }
}

/// Many threads save states of their own and one they share: none is lost, and the shared one is one of them, whole.
fn threads(store: &Arc<dyn StateStore>) {
    const THREADS: u64 = 4;
    const SAVES: u64 = 3;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for save in 0..SAVES {
                    let state = object(json!({"thread": thread, "save": save, "same": save}));
                    ok(store.save(&format!("thread {thread}"), &state), "from a thread");
                    ok(store.save("shared", &state), "from a thread");
                    let shared = load(&**store, "shared").unwrap_or_default();
                    assert_eq!(shared["save"], shared["same"], "a state is never seen in parts");
                }
            });
        }
    });
    for thread in 0..THREADS {
        let wanted = object(json!({"thread": thread, "save": SAVES - 1, "same": SAVES - 1}));
        assert_eq!(load(&**store, &format!("thread {thread}")), Some(wanted), "no save is lost");
    }
    let shared = load(&**store, "shared").unwrap_or_default();
    assert_eq!(shared["save"], SAVES - 1, "the last save wins");
}
