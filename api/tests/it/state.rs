//! The dictionary of one device, and typed documents.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tierce::{
    Error, Version,
    migrations::{Migrations, Step},
    state::{Document, MemoryStore, Object, State, StateStore},
    testing::{ProbeStore, seeded},
};

fn object(value: Value) -> Object {
    let Value::Object(object) = value else { panic!("no object") };
    object
}

fn probe(content: Value) -> Arc<ProbeStore> {
    Arc::new(ProbeStore::new(seeded([("sensor", content)])))
}

fn open(store: &Arc<ProbeStore>) -> State {
    State::open(store.clone(), "sensor").unwrap()
}

/// Goal: a dictionary's methods, as the seed's handler uses them.
#[test]
fn a_state_is_a_dictionary() {
    let store = probe(json!({"count": 99, "null": null}));
    let state = open(&store);
    assert_eq!(state.get::<u64>("count").unwrap(), Some(99), "it is loaded before the first use");
    assert_eq!(state.get::<u64>("absent").unwrap(), None);
    assert_eq!(state.get_or("absent", 7).unwrap(), 7);
    assert_eq!(state.get::<Option<u8>>("null").unwrap(), Some(None), "a null is a value");
    state.set("count", state.get_or("count", 0).unwrap() + 1).unwrap();
    assert_eq!(state.set_default("offset", 0.0).unwrap(), 0.0);
    assert_eq!(state.set_default("count", 5).unwrap(), 100);
    state.update([("a", 1), ("b", 2)]).unwrap();
    assert_eq!(state.remove("null"), Some(Value::Null));
    assert_eq!(state.keys(), ["a", "b", "count", "offset"]);
    assert_eq!(state.values(), [json!(1), json!(2), json!(100), json!(0.0)]);
    assert_eq!(state.items()[2], ("count".to_owned(), json!(100)));
    assert_eq!(state.iter().count(), 4);
    assert_eq!((&state).into_iter().next(), Some(("a".to_owned(), json!(1))));
    assert!(state.contains("a") && !state.contains("null") && state.len() == 4);
    assert_eq!(state.to_map()["offset"], 0.0);
    state.clear();
    assert!(state.is_empty());
    assert_eq!(format!("{state:?}"), r#"State { name: "sensor", keys: [], is_dirty: true }"#);
}

/// Goal: a value of another type is an error, and neither a default nor the error's text gives it away.
#[test]
fn a_default_never_hides_what_is_stored() {
    let state = open(&probe(json!({"count": "secret"})));
    for error in [
        state.get::<u64>("count").unwrap_err(),
        state.get_or("count", 0).unwrap_err(),
        state.set_default("count", 0).unwrap_err(),
    ] {
        assert_eq!(error.kind(), "decode");
        assert!(error.to_string().contains("`count`") && !error.to_string().contains("secret"));
    }
    assert!(!state.is_dirty());
}

/// Goal: dirty after a change and only then.
#[test]
fn dirty_means_changed() {
    let store = probe(json!({"a": 1, "list": [1], "zero": 0.0}));
    let state = open(&store);
    let clean = |what: &str| assert!(!state.is_dirty(), "{what}");
    let dirty = |what: &str| {
        assert!(state.is_dirty(), "{what}");
        assert!(state.save().unwrap(), "{what}");
        assert!(!state.is_dirty(), "clean after a save: {what}");
    };
    clean("after a load");
    state.set("a", 1).unwrap();
    clean("an equal value");
    state.set_default("a", 2).unwrap();
    clean("a default for what is there");
    state.update(Object::new()).unwrap();
    clean("an update with nothing");
    state.update([("a", 1)]).unwrap();
    clean("an update with what is there");
    assert_eq!(state.remove("absent"), None);
    clean("removing what is absent");
    assert_eq!(state.modify("absent", |_| ()), None);
    assert_eq!(state.modify("a", |value| value.as_u64()), Some(Some(1)));
    clean("looking");
    assert_eq!(state.edit().len(), 3);
    let _ = std::hint::black_box(&mut *state.edit());
    clean("an edit without a change");
    let mut copy = state.to_map();
    copy["list"].as_array_mut().unwrap().push(json!(2));
    clean("a change of a copy");
    assert_eq!(state.get::<Value>("list").unwrap(), Some(json!([1])), "and it is one");

    state.set("a", 2).unwrap();
    dirty("another value");
    state.set("a", 2.0).unwrap();
    dirty("another number type");
    state.set("zero", -0.0).unwrap();
    dirty("another zero");
    state.set_default("b", 1).unwrap();
    dirty("a default for what is absent");
    state.update([("b", 2)]).unwrap();
    dirty("an update");
    assert!(state.remove("b").is_some());
    dirty("a removal");
    state.modify("list", |list| list.as_array_mut().unwrap().push(json!(2)));
    dirty("a nested change");
    state.edit()["list"][0] = json!({"deep": [1]});
    dirty("a nested change by a guard");
    state.edit()["list"][0]["deep"][0] = json!(2);
    dirty("a deeper one");
    state.mark_dirty();
    dirty("being told so");
    state.clear();
    dirty("clearing");
    state.clear();
    clean("clearing nothing");
    assert!(!state.save().unwrap(), "a clean state is not written");
    assert_eq!(store.saves("sensor").len(), 11);
}

/// Goal: what JSON does not have is refused, and does not become null.
#[test]
fn nan_is_refused() {
    let state = open(&probe(json!({"a": 1.5})));
    let bad = [
        state.set("a", f64::NAN).unwrap_err(),
        state.set("new", vec![f32::INFINITY]).unwrap_err(),
        state.update([("b", 1.0), ("a", f64::NAN)]).unwrap_err(),
        state.set_default("new", f64::NAN).unwrap_err(),
        state.set("a", u128::MAX).unwrap_err(),
    ];
    assert!(bad.iter().all(|error| error.kind() == "encode"));
    assert!(bad[0].to_string().contains("`a`: NaN"), "{}", bad[0]);
    assert_eq!(state.to_map(), object(json!({"a": 1.5})), "nothing of it is there");
    assert!(!state.is_dirty());
}

#[test]
fn a_failed_save_stays_dirty() {
    let store = probe(json!({"a": 1}));
    let state = open(&store);
    state.set("a", 2).unwrap();
    store.fail_saves("sensor", true);
    assert_eq!(state.save().unwrap_err().kind(), "backend");
    assert!(state.is_dirty());
    assert_eq!(store.load("sensor").unwrap(), Some(object(json!({"a": 1}))));
    store.fail_saves("sensor", false);
    assert!(state.save().unwrap() && !state.is_dirty());
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    state.set("deep", deep).unwrap();
    assert_eq!(state.save().unwrap_err().kind(), "encode", "what could not be read again");
    assert!(state.is_dirty());
}

/// A store whose first load, or every save, waits until the test lets it go on.
struct Gate {
    store: MemoryStore,
    loads: AtomicUsize,
    saving: Barrier,
    saved: Barrier,
}

impl Gate {
    fn new() -> Arc<Self> {
        let (saving, saved) = (Barrier::new(2), Barrier::new(2));
        Arc::new(Self { store: MemoryStore::new(), loads: AtomicUsize::new(0), saving, saved })
    }
}

impl StateStore for Gate {
    fn load(&self, name: &str) -> tierce::Result<Option<Object>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.store.load(name)
    }

    fn save(&self, name: &str, object: &Object) -> tierce::Result<()> {
        self.saving.wait();
        let saved = self.store.save(name, object);
        self.saved.wait();
        saved
    }
}

/// Goal: a change that comes while a save is under way is neither lost nor taken for saved.
#[test]
fn a_change_during_a_save_stays_dirty() {
    let store = Gate::new();
    let state = State::open(store.clone(), "sensor").unwrap();
    state.set("a", 1).unwrap();
    std::thread::scope(|scope| {
        let saver = scope.spawn(|| state.save());
        store.saving.wait();
        state.set("a", 2).unwrap();
        store.saved.wait();
        assert!(saver.join().unwrap().unwrap());
    });
    assert!(state.is_dirty());
    assert_eq!(store.load("sensor").unwrap().unwrap()["a"], 1);
}

/// Goal: who opens a state that has unsaved changes sees them; many who open at once share one load; when all are
/// gone, it is loaded anew.
#[test]
fn open_again_sees_what_is_pending() {
    let store = Gate::new();
    store.store.save("sensor", &object(json!({"a": 1}))).unwrap();
    let states: Vec<State> = std::thread::scope(|scope| {
        let open = || State::open(store.clone(), "sensor").unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(store.loads.load(Ordering::SeqCst), 1);
    states[0].set("a", 2).unwrap();
    let again = State::open(store.clone(), "sensor").unwrap();
    assert_eq!(again.get("a").unwrap(), Some(2));
    let other = State::open(store.clone(), "other").unwrap();
    assert!(other.is_empty(), "another name is another state");
    let elsewhere: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    assert!(State::open(elsewhere, "sensor").unwrap().is_empty(), "and so is another store");
    drop((states, again));
    let anew = State::open(store.clone(), "sensor").unwrap();
    assert_eq!(anew.get("a").unwrap(), Some(1), "dropping does not save");
    assert!(!anew.is_dirty());
}

/// Goal: what cannot be loaded cannot be saved over.
#[test]
fn a_state_that_fails_to_load_does_not_exist() {
    struct Unreadable;
    impl StateStore for Unreadable {
        fn load(&self, _name: &str) -> tierce::Result<Option<Object>> {
            let source = "no".into();
            Err(Error::Backend { backend: "a test", operation: "load", source })
        }

        fn save(&self, _name: &str, _object: &Object) -> tierce::Result<()> {
            panic!("nothing was read")
        }
    }
    let store = Arc::new(Unreadable);
    for _ in 0..2 {
        assert!(State::open(store.clone(), "sensor").is_err());
    }
}

/// Goal: a panic in the caller's closure leaves the state as it was, usable and clean.
#[test]
fn a_panic_changes_nothing() {
    let state = open(&probe(json!({"a": [1]})));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        state.modify("a", |list| {
            list[0] = json!(2);
            panic!("on purpose");
        });
    }));
    assert!(panicked.is_err());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut edit = state.edit();
        edit.insert("b".to_owned(), json!(1));
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(state.to_map(), object(json!({"a": [1]})));
    assert!(!state.is_dirty());
    state.set("a", 3).unwrap();
    assert!(state.save().unwrap());
}

#[test]
fn threads_share_a_state() {
    fn is_shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let state = open(&probe(json!({"n": 0})));
    is_shared(&state);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    state.modify("n", |n| *n = json!(n.as_u64().unwrap() + 1));
                }
            });
        }
    });
    assert_eq!(state.get("n").unwrap(), Some(400));
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Calibration {
    offset: f64,
    #[serde(default)]
    days: Vec<String>,
}

fn document(store: &Arc<ProbeStore>) -> Document<Calibration> {
    Document::open(store.clone(), "sensor", Calibration::default()).unwrap()
}

#[test]
fn a_document_knows_what_changed() {
    let store = Arc::new(ProbeStore::new(Arc::new(MemoryStore::new())));
    let calibration = document(&store);
    assert!(calibration.is_dirty(), "a default is not stored yet");
    assert!(calibration.save().unwrap());
    assert_eq!(
        store.load("sensor").unwrap(),
        Some(object(json!({"version": "0.0.0", "value": {"offset": 0.0, "days": []}})))
    );
    calibration.modify(|value| value.days.push("Mon".to_owned()));
    assert!(calibration.is_dirty(), "nested changes are seen");
    calibration.modify(|value| value.days.pop());
    assert!(!calibration.is_dirty(), "a change that was taken back is none");
    assert!(!calibration.save().unwrap());
    let shared = calibration.clone();
    shared.set(Calibration { offset: 1.5, days: Vec::new() });
    store.fail_saves("sensor", true);
    assert!(calibration.save().is_err() && calibration.is_dirty());
    store.fail_saves("sensor", false);
    assert!(calibration.save().unwrap() && !shared.is_dirty());
    assert_eq!(document(&store).get().offset, 1.5);
    calibration.modify(|value| value.offset = f64::NAN);
    assert_eq!(calibration.save().unwrap_err().kind(), "encode");
    assert!(calibration.is_dirty());
    assert_eq!(document(&store).get().offset, 1.5, "NaN did not become null");
}

/// Goal: a value of another form is an error and stays; one that lacks a field with a default is clean.
#[test]
fn a_document_of_another_form() {
    let old = json!({"version": "0.0.0", "value": {"offset": 1.0}});
    let store = probe(old);
    assert!(!document(&store).is_dirty(), "clean after a load");
    let old = json!({"version": "0.0.0", "value": {"offset": "secret"}});
    let store = probe(old.clone());
    let error = Document::<Calibration>::open(store.clone(), "sensor", Calibration::default());
    let error = error.unwrap_err();
    assert_eq!(error.kind(), "decode");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(store.load("sensor").unwrap(), Some(object(old)));
    assert!(store.saves("sensor").is_empty());
}

fn steps(fail_second: bool) -> Migrations<Value> {
    let first = |old: Value| Ok(json!({"offset": old["offset"], "days": ["first"]}));
    let second = move |mut value: Value| {
        if fail_second {
            return Err("on purpose".into());
        }
        value["days"].as_array_mut().ok_or("no list")?.push(json!("second"));
        Ok(value)
    };
    let [old, middle, new] = [Version::ZERO, Version::new(0, 2, 0), Version::new(0, 10, 0)];
    Migrations::new([Step::new(old, middle, first), Step::new(middle, new, second)]).unwrap()
}

/// Goal: steps run in order, numbers compare as numbers, and the result is saved at once, once.
#[test]
fn a_document_is_brought_up_to_date() {
    let new = Version::new(0, 10, 0);
    for (stored, days) in [
        (json!({"offset": 1.0}), vec!["first", "second"]),
        (json!({"version": "0.2.0", "value": {"offset": 1.0, "days": []}}), vec!["second"]),
        (json!({"version": "0.10.0", "value": {"offset": 1.0, "days": []}}), vec![]),
    ] {
        let store = probe(stored.clone());
        let dry =
            Document::<Calibration>::dry_run(&*store, "sensor", new, &mut steps(false)).unwrap();
        assert_eq!(dry.unwrap().days, days);
        assert_eq!(store.load("sensor").unwrap(), Some(object(stored)), "a dry run saves nothing");
        for _ in 0..2 {
            let document = Document::<Calibration>::open_versioned(
                store.clone(),
                "sensor",
                Calibration::default(),
                new,
                &mut steps(false),
            )
            .unwrap();
            assert_eq!(document.get().days, days);
            assert!(!document.is_dirty());
            assert_eq!(document.version(), new);
        }
        assert_eq!(store.saves("sensor").len(), usize::from(!days.is_empty()), "{days:?}");
        assert_eq!(store.load("sensor").unwrap().unwrap()["version"], "0.10.0");
    }
}

/// Goal: a step that fails, a save that fails, and a newer version leave what is stored as it was.
#[test]
fn a_document_that_cannot_be_brought_up_to_date_stays() {
    let known = Version::new(0, 10, 0);
    let open = |store: &Arc<ProbeStore>, fail_second| {
        let default = Calibration::default();
        let mut steps = steps(fail_second);
        Document::<Calibration>::open_versioned(store.clone(), "sensor", default, known, &mut steps)
    };
    let old = json!({"offset": 1.0});
    let store = probe(old.clone());
    assert_eq!(open(&store, true).unwrap_err().kind(), "migration");
    store.fail_saves("sensor", true);
    assert_eq!(open(&store, false).unwrap_err().kind(), "backend");
    store.fail_saves("sensor", false);
    assert_eq!(store.load("sensor").unwrap(), Some(object(old)));
    let newer = json!({"version": "1.0.0", "value": {"offset": 1.0}});
    let store = probe(newer.clone());
    assert_eq!(open(&store, false).unwrap_err().kind(), "too-new");
    assert_eq!(store.load("sensor").unwrap(), Some(object(newer)));
    assert!(store.saves("sensor").is_empty());
    let minor = json!({"version": "0.11.0", "value": {"offset": 1.0, "unknown": true}});
    let store = probe(minor);
    let document = open(&store, false).unwrap();
    assert!(store.saves("sensor").is_empty(), "a newer minor version is taken as it is");
    document.modify(|value| value.offset = 2.0);
    document.save().unwrap();
    assert_eq!(
        store.load("sensor").unwrap().unwrap()["version"],
        "0.11.0",
        "and keeps its version"
    );
}
