//! Spaces that come from another store, that share a number, that are reserved, or that a migration must not touch.

use std::collections::BTreeMap;

use tierce::{
    Error, Map, Migrations, Options, SpaceImport, SpaceOptions, Store, Version,
    engine::{PutOptions, io::MemoryDisk},
    migrations::Plain,
};
use tierce_kit::{rng::Rng, seed::cases};

use crate::cache::Desk;

/// Loads all entries of `from` into `to`, as the tool does with a dump.
fn load(from: &Store, to: &Store) -> tierce::Result<()> {
    let dump = from.engine().unwrap().snapshot().unwrap();
    let mut import = SpaceImport::new();
    for entry in dump.iter() {
        let (key, entry) = entry.unwrap();
        import.survey(&key, &entry.value)?;
    }
    let engine = to.engine().unwrap();
    let map = import.begin(engine)?;
    for entry in dump.iter() {
        let (mut key, mut entry) = entry.unwrap();
        if map.map(&mut key, &mut entry.scopes)? {
            engine.put_with(key, entry.value.as_ref(), &options_of(&entry)).unwrap();
        }
    }
    Ok(())
}

fn options_of(entry: &tierce::engine::Entry) -> PutOptions {
    let options = PutOptions::new().codec(entry.codec, entry.schema).evictable(entry.evictable);
    let options = entry.scopes.iter().cloned().fold(options, PutOptions::scope);
    let options = entry
        .items
        .iter()
        .fold(options, |options, (kind, bytes)| options.item(*kind, bytes.clone()));
    entry.expires_at.into_iter().fold(options, PutOptions::expires_at)
}

fn map(store: &Store, name: &str) -> Map<String, u32> {
    store.map(name).unwrap()
}

/// Everything that is in the store, byte by byte.
fn all(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entries = store.engine().unwrap().snapshot().unwrap();
    entries
        .iter()
        .map(|entry| entry.map(|(key, entry)| (key, entry.value.to_vec())).unwrap())
        .collect()
}

/// Goal: a dump is loaded by the names of its spaces, not by their numbers: nothing that is there is mixed with it or
/// overwritten, tags go with their entries, and a space that is created afterwards is empty.
#[test]
fn a_dump_is_loaded_by_name() {
    let (from, to) = (Desk::new().open(), Desk::new().open());
    map(&from, "m").insert("k", &111).unwrap();
    let tagged = from.cache::<u32, u32>("tagged").unwrap();
    tagged.insert_with(&1, &1, &tierce::Put::new().tag("t")).unwrap();
    for (value, name) in ["x", "y", "z"].iter().enumerate() {
        map(&to, name).insert("k", &(value as u32)).unwrap();
    }
    load(&from, &to).unwrap();
    let of = |name| map(&to, name).get("k").unwrap();
    assert_eq!(["m", "x", "y", "z"].map(of), [Some(111), Some(0), Some(1), Some(2)]);
    assert!(map(&to, "new").is_empty().unwrap());
    map(&to, "new").insert("k", &999).unwrap();
    assert_eq!(of("y"), Some(1));
    let tagged = to.cache::<u32, u32>("tagged").unwrap();
    assert_eq!(tagged.keys_with_tag("t").unwrap(), [1]);
    assert_eq!(tagged.invalidate_tag("t").unwrap(), 1);
    assert!(tagged.is_empty().unwrap());
    tagged.insert(&2, &2).unwrap();
    assert!(to.drop_space("tagged").unwrap());
    assert_eq!(of("m"), Some(111));
}

/// Goal: what cannot be mapped is refused before anything is written.
#[test]
fn what_cannot_be_mapped_is_refused() {
    let from = Desk::new().open();
    map(&from, "m").insert("k", &1).unwrap();
    from.queue::<u32>("jobs").unwrap().push(&1).unwrap();
    let refused = |to: &Store, kind: &str| {
        let before = all(to);
        assert_eq!(load(&from, to).unwrap_err().kind(), kind);
        assert_eq!(all(to), before);
    };
    let other_type = Desk::new().open();
    other_type.map::<String, String>("m").unwrap().insert("k", &"x".into()).unwrap();
    refused(&other_type, "type");
    let other_kind = Desk::new().open();
    other_kind.cache::<String, u32>("m").unwrap();
    refused(&other_kind, "type");
    let same_queue = Desk::new().open();
    same_queue.queue::<u32>("jobs").unwrap().push(&7).unwrap();
    refused(&same_queue, "catalog");
    let raw = Desk::new().open();
    raw.engine().unwrap().put(b"\x01k", b"raw").unwrap();
    refused(&raw, "catalog");
    // The other way round: entries of no space into a store with spaces.
    let before = all(&from);
    assert_eq!(load(&raw, &from).unwrap_err().kind(), "catalog");
    assert_eq!(all(&from), before);
    // A dump that has been mixed by hand.
    let mixed = Desk::new().open();
    map(&mixed, "a").insert("k", &1).unwrap();
    copy_record(&mixed, "a", "b");
    assert_eq!(load(&mixed, &Desk::new().open()).unwrap_err().kind(), "catalog");
}

/// Puts a copy of a space's record beside it, under another name and with the same number.
fn copy_record(store: &Store, name: &str, copy: &str) {
    let key = |name: &str| [b"\0s", name.as_bytes()].concat();
    let engine = store.engine().unwrap();
    let entry = engine.entry(key(name)).unwrap().unwrap();
    let text = String::from_utf8(entry.value.to_vec()).unwrap();
    let text = text.replace(&format!("\"{name}\""), &format!("\"{copy}\""));
    engine.put_with(key(copy), text, &options_of(&entry)).unwrap();
}

/// Goal: a store that is loaded into an empty one is the same, and a queue goes on where it was.
#[test]
fn a_load_into_an_empty_store_is_a_copy() {
    let (from, to) = (Desk::new().open(), Desk::new().open());
    assert!(!from.drop_space("nothing").unwrap());
    map(&from, "gone").insert("k", &0).unwrap();
    map(&from, "m").insert("k", &1).unwrap();
    from.drop_space("gone").unwrap();
    let jobs = from.queue::<u32>("jobs").unwrap();
    jobs.push_all([1, 2, 3]).unwrap();
    jobs.pull().unwrap();
    from.counter("runs").unwrap().add(3).unwrap();
    from.engine().unwrap().put(b"\0Ssensor", b"a state").unwrap();
    load(&from, &to).unwrap();
    let bytes = all(&to);
    assert_eq!(bytes, all(&from));
    let jobs = to.queue::<u32>("jobs").unwrap();
    assert_eq!((jobs.push(&4).unwrap() > 3, jobs.pull().unwrap()), (true, Some(2)));
    assert_eq!(to.counter("runs").unwrap().add(1).unwrap(), 4);
    // A store without spaces is a store of bytes, and goes as it is.
    let (raw, into) = (Desk::new().open(), Desk::new().open());
    raw.engine().unwrap().put(b"key", b"value").unwrap();
    raw.engine().unwrap().put(b"\xef", b"short").unwrap();
    load(&raw, &into).unwrap();
    assert_eq!(all(&into), all(&raw));
}

/// Goal: of two spaces with one number neither shows or overwrites the other's entries: opening is an error that names
/// both, and dropping the name that is wrong leaves the entries to the other.
#[test]
fn two_spaces_with_one_number() {
    let desk = Desk::new();
    let store = desk.open();
    map(&store, "x").insert("k", &1).unwrap();
    copy_record(&store, "x", "m");
    let error = store.map::<String, u32>("m").unwrap_err();
    assert!(matches!(error, Error::Catalog(_)), "{error:?}");
    assert!(error.to_string().contains("`m` and `x`"), "{error}");
    assert_eq!(map(&store, "x").get("k").unwrap(), Some(1), "the one whose number it is");
    // As a store was before numbers were on record: neither is known to be right.
    let engine = store.engine().unwrap();
    for key in all(&store).keys().filter(|key| key.starts_with(b"\0i")) {
        engine.delete(key).unwrap();
    }
    drop(store);
    let store = desk.crash().open();
    for name in ["m", "x"] {
        assert_eq!(store.map::<String, u32>(name).unwrap_err().kind(), "catalog");
    }
    assert!(map(&store, "new").is_empty().unwrap(), "others open");
    assert!(store.drop_space("m").unwrap());
    assert_eq!(map(&store, "x").get("k").unwrap(), Some(1));
    assert!(map(&store, "m").is_empty().unwrap());
}

/// Goal: a number is given once even if the record of the last one was set back.
#[test]
fn a_counter_that_was_set_back() {
    let store = Desk::new().open();
    for name in ["a", "b", "c"] {
        map(&store, name).insert("k", &1).unwrap();
    }
    let engine = store.engine().unwrap();
    engine.put_with(b"\0n", b"1", &PutOptions::new().codec(2, 0)).unwrap();
    let ids = |store: &Store| {
        store.spaces().unwrap().into_iter().map(|space| space.id).collect::<Vec<_>>()
    };
    assert!(map(&store, "d").is_empty().unwrap());
    assert_eq!(ids(&store), [1, 2, 3, 4]);
    assert_eq!(map(&store, "b").get("k").unwrap(), Some(1));
}

/// Goal: names under `tierce/` belong to recipes and named collections; a map of such a name cannot get in their way.
#[test]
fn names_of_the_library_are_reserved() {
    let store = Desk::new().open();
    for name in ["tierce/counters", "tierce/x", "tierce/leases/a"] {
        for error in [
            store.map::<u32, u32>(name).unwrap_err(),
            store.cache::<u32, u32>(name).unwrap_err(),
            store.queue::<u32>(name).unwrap_err(),
            store.log::<u32>(name).unwrap_err(),
            store.deque::<u32>(name).unwrap_err(),
            store.counters::<u32>(name).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Name { .. }), "{error:?}");
        }
    }
    store.counter("runs").unwrap().add(1).unwrap();
    assert!(store.map::<u32, u32>("tierce").is_ok());
}

fn steps() -> Migrations<Plain> {
    Migrations::new([tierce::migrations::Step::new(Version::ZERO, Version::new(1, 0, 0), |_| {
        panic!("internal records are no values for a step")
    })])
    .unwrap()
}

/// Goal: what keeps records of its own beside its items is not migrated: a typed error, nothing written, no record
/// shown to a step, and it opens as before.
#[test]
fn collections_are_not_migrated() {
    let store = Desk::new().open();
    store.log::<String>("events").unwrap().append(&"a".into()).unwrap();
    store.queue::<u32>("jobs").unwrap().push(&1).unwrap();
    store.deque::<u32>("last").unwrap().push_back(&1).unwrap();
    store.counter("runs").unwrap().add(1).unwrap();
    store.sequence("numbers").unwrap().next_id().unwrap();
    let before = (all(&store), store.engine().unwrap().stats().sequence);
    for space in store.spaces().unwrap() {
        for migrate in [Store::migrate_space, Store::rehearse_migration] {
            let error = migrate(&store, &space.name, &mut steps(), Version::new(1, 0, 0));
            assert!(matches!(error, Err(Error::Kind { .. })), "{}: {error:?}", space.name);
        }
    }
    assert_eq!((all(&store), store.engine().unwrap().stats().sequence), before);
    assert_eq!(store.log::<String>("events").unwrap().len().unwrap(), 1);
    assert_eq!(store.queue::<u32>("jobs").unwrap().pull().unwrap(), Some(1));
}

/// Goal: a collection that an earlier program migrated, and so locked, opens again.
#[test]
fn a_collection_that_was_migrated_opens_again() {
    let store = Desk::new().open();
    store.queue::<u32>("jobs").unwrap().push(&7).unwrap();
    let (key, engine) = (b"\0sjobs", store.engine().unwrap());
    let entry = engine.entry(key).unwrap().unwrap();
    let text = String::from_utf8(entry.value.to_vec()).unwrap();
    let text = text.replace("\"version\":null", "\"version\":\"1.0.0\"");
    assert!(text.contains("1.0.0"), "{text}");
    engine.put_with(key, text, &options_of(&entry)).unwrap();
    assert_eq!(store.queue::<u32>("jobs").unwrap().pull().unwrap(), Some(7));
}

/// Goal: the records of the catalog take no room of a limit on entries, with any number of spaces, over a restart, and
/// when spaces are dropped.
#[test]
fn the_catalog_is_not_counted() {
    let desk = Desk::new();
    for (limit, spaces) in [(1, 1), (2, 1), (5, 1), (4, 3), (20, 30)] {
        let desk = Desk { disk: MemoryDisk::new(), ..desk.clone() };
        let open = || Store::open_with("store", desk.options().max_entries(limit)).unwrap();
        let mut store = open();
        for round in 0..2 {
            for space in 0..spaces {
                let cache = store.cache::<u32, u32>(&format!("c{space}")).unwrap();
                (0..50).for_each(|n| cache.insert(&n, &n).unwrap());
                assert_eq!(cache.len().unwrap() as u64, limit, "{limit}, {spaces}, {round}");
            }
            store.close().unwrap();
            store = open();
        }
        for space in 1..spaces {
            assert!(store.drop_space(&format!("c{space}")).unwrap());
        }
        let cache = store.cache::<u32, u32>("c0").unwrap();
        (0..50).for_each(|n| cache.insert(&n, &n).unwrap());
        assert_eq!(cache.len().unwrap() as u64, limit);
    }
    let store = Store::open_with("store", desk.options().max_entries(2)).unwrap();
    let map = store.map::<u32, u32>("m").unwrap();
    (0..2).for_each(|n| map.insert(&n, &n).unwrap());
    let full = map.insert(&2, &2).unwrap_err();
    assert_eq!(full.to_string(), "the store is full: 2 of 2 entries are used");
}

/// Goal: a space can be given a name for its values' type, whatever Rust called it; a name that was given is replaced
/// only on request, and a path never replaces a name.
#[test]
fn a_type_that_moved() {
    let store = Desk::new().open();
    store.map::<u32, i64>("m").unwrap().insert(&1, &1).unwrap();
    let open =
        |options: SpaceOptions| store.map_with::<u32, i32, tierce::codec::MsgPack>("m", &options);
    let moved = open(SpaceOptions::new()).unwrap_err();
    assert!(matches!(moved, Error::Type { what: "values", .. }), "{moved:?}");
    assert!(moved.to_string().contains("SpaceOptions::value_type"), "{moved}");
    let named = || SpaceOptions::new().value_type("number");
    assert_eq!(open(named()).unwrap().get(&1).unwrap(), Some(1));
    assert!(matches!(open(SpaceOptions::new()), Err(Error::Type { .. })), "it has a name now");
    assert!(matches!(open(SpaceOptions::new().value_type("other")), Err(Error::Type { .. })));
    assert!(open(SpaceOptions::new().value_type("other").change()).is_ok());
    assert!(matches!(open(named()), Err(Error::Type { .. })));
    // Other collections name the type of their items themselves.
    store.queue::<i64>("jobs").unwrap().push(&7).unwrap();
    assert!(matches!(store.queue::<i32>("jobs"), Err(Error::Type { .. })));
    assert!(store.forget_value_type("jobs").unwrap());
    assert_eq!(store.queue::<i32>("jobs").unwrap().pull().unwrap(), Some(7));
    assert!(!store.forget_value_type("none").unwrap());
}

/// Random spaces of a random store, and what is in them.
fn random_store(rng: &mut Rng) -> (Store, BTreeMap<String, BTreeMap<u32, u32>>) {
    let store = Store::open_with(
        "store",
        Options::new().disk(MemoryDisk::new()).background(false).segment_bytes(64 << 10),
    )
    .unwrap();
    let mut model = BTreeMap::<String, BTreeMap<u32, u32>>::new();
    // Beyond 238 numbers have five bytes.
    let before = if rng.between(0, 7) == 0 { 236 } else { rng.between(0, 3) };
    for space in 0..before {
        store.map::<u32, u32>(&format!("gone{space}")).unwrap().insert(&0, &7).unwrap();
        store.drop_space(&format!("gone{space}")).unwrap();
    }
    for _ in 0..rng.between(0, 30) {
        let name = ["a", "b", "c", "d", "e", "f"][rng.between(0, 5) as usize];
        if rng.between(0, 9) == 0 {
            assert_eq!(store.drop_space(name).unwrap(), model.remove(name).is_some());
            continue;
        }
        let map = store.map::<u32, u32>(name).unwrap();
        let (key, value) = (rng.between(0, 5) as u32, rng.between(0, 1_000) as u32);
        map.insert(&key, &value).unwrap();
        model.entry(name.to_owned()).or_default().insert(key, value);
    }
    (store, model)
}

/// Goal: however two stores came about, loading one into the other gives every space its own entries and those of the
/// dump under the same name, and nothing else; spaces that are made afterwards are empty.
#[test]
fn random_pairs_of_stores() {
    cases("trials_spaces::random_pairs_of_stores", 100, |seed| {
        let mut rng = Rng::new(seed);
        let ((from, dump), (to, mut model)) = (random_store(&mut rng), random_store(&mut rng));
        load(&from, &to).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (name, entries) in dump {
            model.entry(name).or_default().extend(entries);
        }
        let names: Vec<_> = to.spaces().unwrap().into_iter().map(|space| space.name).collect();
        assert_eq!(names, model.keys().cloned().collect::<Vec<_>>(), "seed {seed}");
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            let map = to.map::<u32, u32>(name).unwrap();
            let found: BTreeMap<_, _> = map.entries().unwrap().into_iter().collect();
            assert_eq!(found, model.get(name).cloned().unwrap_or_default(), "seed {seed}: {name}");
        }
    });
}
