//! Dumps of the library's stores: spaces are mapped by name, whatever their numbers are on either side.

use std::{fs, path::Path};

use tierce::Store;

use super::{arguments, place, run, run_with_input};

fn map(store: &Path, name: &str) -> Option<u32> {
    let store = Store::open(store).expect("it opens");
    store.map::<String, u32>(name).expect("a map").get("k").expect("it reads")
}

/// Two stores whose first spaces have the same number and different names.
fn two(root: &Path) -> [std::path::PathBuf; 2] {
    let [a, b] = ["a", "b"].map(|name| root.join(name));
    let store = Store::open(&a).unwrap();
    store.map::<String, u32>("m").unwrap().insert("k", &111).unwrap();
    drop(store);
    let store = Store::open(&b).unwrap();
    for (number, name) in ["x", "y", "z"].into_iter().enumerate() {
        store.map::<String, u32>(name).unwrap().insert("k", &(number as u32)).unwrap();
    }
    drop(store);
    [a, b]
}

/// Goal: a dump that is loaded into a store with other spaces adds its own and changes none of them, from a file and
/// from a stream, sorted or not; a space that is created afterwards has a number of its own.
#[test]
fn mapped_by_name() {
    for sort in [false, true] {
        for is_file in [false, true] {
            let (root, _) = place();
            let [a, b] = two(root.path());
            let mut words = arguments!["dump", &a].to_vec();
            words.extend(sort.then(|| "--sort".into()));
            let dump = run(&words).expect(0).out;
            if is_file {
                let file = root.path().join("dump");
                fs::write(&file, dump).unwrap();
                run(arguments!["load", &b, &file]).expect(0);
            } else {
                run_with_input(arguments!["load", &b], dump.as_bytes()).expect(0);
            }
            for (name, value) in [("x", 0), ("y", 1), ("z", 2), ("m", 111)] {
                assert_eq!(map(&b, name), Some(value), "{name}, sorted {sort}, file {is_file}");
            }
            assert_eq!(map(&b, "new"), None);
        }
    }
}

/// Goal: entries that belong to no space are refused where they would show up in one, and nothing is stored.
#[test]
fn entries_of_no_space() {
    let (root, _) = place();
    let [_, b] = two(root.path());
    let plain = root.path().join("plain");
    run(arguments!["put", &plain, r"\x01k", "v"]).expect(0);
    let dump = run(arguments!["dump", &plain]).expect(0).out;
    let before = run(arguments!["dump", &b, "--sort"]).expect(0).out;
    let ran = run_with_input(arguments!["load", &b], dump.as_bytes()).expect(8);
    assert!(ran.err.contains("no space"), "{}", ran.err);
    let json = run_with_input(arguments!["import", "json", "-", &b], br#"{"a": 1}"#).expect(8);
    assert!(json.err.contains("no space"), "{}", json.err);
    let entries = |dump: &str| -> Vec<String> {
        dump.lines().filter(|line| line.contains(r#""type":"entry""#)).map(str::to_owned).collect()
    };
    assert_eq!(entries(&run(arguments!["dump", &b, "--sort"]).expect(0).out), entries(&before));
}

/// Goal: an entry that expires between dump and load takes the older one with it, as it would have had it been loaded
/// in time; with `--if-absent` the older one stays.
#[test]
fn expired_on_the_way() {
    let (root, store) = place();
    run(arguments!["put", &store, "k", "new", "--ttl", "300ms"]).expect(0);
    run(arguments!["put", &store, "other", "1"]).expect(0);
    let dump = run(arguments!["dump", &store]).expect(0).out;
    std::thread::sleep(std::time::Duration::from_millis(350));
    for (option, left, count) in [("--replace", "other\n", 1), ("--if-absent", "k\nother\n", 0)] {
        let target = root.path().join(option);
        run(arguments!["put", &target, "k", "old"]).expect(0);
        let words = arguments!["load", &target, option, "--json"];
        let ran = run_with_input(words, dump.as_bytes()).expect(0);
        let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((&document["expired"], &document["removed"]), (&1.into(), &count.into()));
        assert_eq!(run(arguments!["keys", &target]).expect(0).out, left, "{option}");
    }
}
