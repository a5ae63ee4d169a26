//! Pictures of a store: the page and its data, the drawing, the characters; whatever is in the store, and wherever
//! they go.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tierce_engine::{Compaction, Durability, Engine, Options, PutOptions, io::MemoryDisk};
use tierce_kit::clock::TestClock;

use super::{arguments, files, filled, place, run};

fn options(disk: &MemoryDisk, clock: &TestClock) -> Options {
    let compaction = Compaction { automatic: false, ..Compaction::default() };
    let options = Options::new().disk(disk.clone()).clock(clock.clone()).compaction(compaction);
    options.segment_bytes(16 << 10).durability(Durability::Os)
}

/// The files of a store in memory, where the tool can look at them.
fn on_disk(disk: &MemoryDisk) -> (TempDir, PathBuf) {
    let (root, store) = place();
    fs::create_dir(&store).unwrap();
    for (path, bytes) in disk.files() {
        fs::write(store.join(path.file_name().unwrap()), bytes).unwrap();
    }
    (root, store)
}

/// A store that is the same each time, on a clock that stands still.
fn fixed() -> (TempDir, PathBuf) {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new().seeded(7));
    let engine = options(&disk, &clock).open("store").unwrap();
    let never_soon =
        PutOptions::new().expires_at(engine.now().saturating_add_ms(6_000_000_000_000));
    for round in 0..6 {
        for key in 0..30 {
            engine.put(format!("key {key}"), vec![b'v'; 300]).unwrap();
        }
        // Something stays alive everywhere, so that compaction has something to copy.
        (0..3).for_each(|key| engine.put(format!("kept {round} {key}"), "kept").unwrap());
    }
    (0..5).for_each(|key| assert!(engine.delete(format!("key {key}")).unwrap()));
    engine.put_with("lasting", "x", &never_soon).unwrap();
    clock.advance(60_000);
    engine.compact().unwrap();
    engine.put("great", vec![b'g'; 9_000]).unwrap();
    let soon = PutOptions::new().expires_at(engine.now().saturating_add_ms(1_000));
    engine.put_with("over", vec![b'o'; 2_000], &soon).unwrap();
    engine.close().unwrap();
    on_disk(&disk)
}

fn page_of(store: &Path, code: i32) -> String {
    let ran = run(arguments!["report", store, "-"]).expect(code);
    check_markup(&ran.out);
    ran.out
}

/// The data in a page.
fn data_of(page: &str) -> Value {
    let start = "<script type=\"application/json\" id=\"tierce-data\">";
    let data = page.split_once(start).expect("it is embedded").1;
    serde_json::from_str(data.split_once("</script>").expect("it ends").0).expect("it is JSON")
}

/// Whether every element is closed in its order, every attribute quoted, and every `&` and `<` is markup.
#[track_caller]
fn check_markup(text: &str) {
    let mut open: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at]);
        rest = &rest[at + 1..];
        let end = end_of_tag(rest);
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if tag.starts_with("!DOCTYPE") {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {:.80}", rest);
            continue;
        }
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        assert!(!name.is_empty(), "no name: <{tag:.80}");
        check_text(tag);
        if tag.ends_with('/') {
            continue;
        }
        if name == "script" || name == "style" {
            let close = format!("</{name}>");
            let (_, after) = rest.split_once(&close).expect("it is closed");
            rest = after;
            continue;
        }
        open.push(name);
    }
    check_text(rest);
    assert!(open.is_empty(), "not closed: {open:?}");
}

/// Where a tag ends: at the first `>` that is in no quotes.
fn end_of_tag(text: &str) -> usize {
    let mut is_quoted = false;
    let mut is_end = |char: char| {
        is_quoted ^= char == '"';
        assert!(is_quoted || char != '<', "a tag in a tag: {text:.80}");
        char == '>' && !is_quoted
    };
    text.find(&mut is_end).expect("a tag ends")
}

fn check_text(text: &str) {
    for part in text.split('&').skip(1) {
        let name = part.split(';').next().unwrap_or_default();
        let known = ["amp", "lt", "gt", "quot", "#39", "#160"];
        assert!(known.contains(&name), "no reference: &{part:.20}");
    }
    let is_wrong = |char: char| char.is_control() && !matches!(char, '\n' | '\t');
    assert!(!text.contains(is_wrong), "a control character: {text:.80}");
}

/// Goal: the figures in the page are those of the store, in names that stay. What depends on the time and the place
/// of the test is left out.
#[test]
fn data() {
    let (_root, store) = fixed();
    let data = data_of(&page_of(&store, 0));
    assert_eq!((&data["type"], &data["version"]), (&"tierce-report".into(), &1.into()));
    assert_eq!(data["check"]["healthy"], true);
    assert_eq!(data["check"]["findings_omitted"], 0);
    assert_eq!((&data["error"], &data["losses"]), (&Value::Null, &json!([])));
    assert_eq!(data["dir"], store.to_string_lossy().as_ref());
    let names = [
        "entries",
        "unreadable_entries",
        "sequence",
        "segments",
        "bytes",
        "segment_bytes",
        "histograms",
        "greatest",
        "compaction",
    ];
    let told: serde_json::Map<_, _> =
        names.iter().map(|name| ((*name).to_owned(), data[*name].clone())).collect();
    let mut told = Value::from(told);
    told["greatest"].as_array_mut().unwrap().truncate(1);
    assert_eq!(told, snapshot(), "{told:#}");
    let map = &data["map"];
    assert_eq!(
        map["kinds"],
        json!(["live", "ended", "dead", "overhead", "free", "torn", "unreadable"])
    );
    for segment in map["segments"].as_array().unwrap() {
        let file = store.join(format!("{}.seg", segment["id"].as_str().unwrap()));
        assert_eq!(sum_of(segment), fs::metadata(file).unwrap().len());
        assert_eq!(segment["bytes"], sum_of(segment));
    }
}

fn sum_of(segment: &Value) -> u64 {
    let cells = segment["cells"].as_array().unwrap().iter();
    cells.flat_map(|cell| cell.as_array().unwrap()).map(|bytes| bytes.as_u64().unwrap()).sum()
}

/// What the fixed store holds: 25 of 30 entries of 300 bytes, 18 small ones, one that lasts, one that is great; one
/// that is over; and what compaction made of the first four segments.
fn snapshot() -> Value {
    let inputs = [1, 2, 3, 4].map(|id| format!("{id:016}"));
    let buckets = |buckets: &[[u64; 3]]| -> Value {
        let bucket = |[from, to, count]: &[u64; 3]| json!({"from": from, "to": to, "count": count});
        buckets.iter().map(bucket).collect::<Vec<_>>().into()
    };
    json!({
        "entries": 45, "unreadable_entries": 0, "sequence": 207, "segments": 4, "segment_bytes": 48280,
        "bytes": {"dead": 9280, "ended": 2040, "free": 0, "live": 18192, "overhead": 18768, "torn": 0, "unreadable": 0},
        "greatest": [{"age": 1, "bytes": 9032, "expires_at_ms": null, "key": "great"}],
        "histograms": {
            "age": {"unit": "writes", "buckets": buckets(&[
                [1, 1, 1], [2, 3, 1], [4, 7, 0], [8, 15, 7], [16, 31, 16], [32, 63, 8], [64, 127, 6], [128, 255, 6],
            ])},
            "size": {"unit": "bytes", "buckets": buckets(&[
                [32, 63, 19], [64, 127, 0], [128, 255, 0], [256, 511, 25], [512, 1023, 0], [1024, 2047, 0],
                [2048, 4095, 0], [4096, 8191, 0], [8192, 16383, 1],
            ])},
            "ttl": {"unit": "seconds", "never": 44, "buckets": buckets(&[[4294967296, 8589934591, 1]])},
            "recency": null,
        },
        "compaction": {
            "classes": [
                {"bytes": 43288, "class": 0, "live_bytes": 17712, "segments": 3},
                {"bytes": 4992, "class": 3, "live_bytes": 480, "segments": 1},
            ],
            "compacted_bytes": 4992, "recovered_bytes": 0, "written_at_least_percent": 110,
            "jobs_omitted": 0,
            "jobs": [{
                "created_ms": 1_700_000_060_000_u64, "made": ["0000000000000007"],
                "parents": inputs,
            }],
            "segments": [
                {"class": 0, "created_ms": 1_700_000_000_000_u64, "id": "0000000000000005"},
                {"class": 0, "created_ms": 1_700_000_000_000_u64, "id": "0000000000000006"},
                {"class": 3, "created_ms": 1_700_000_060_000_u64, "id": "0000000000000007"},
                {"class": 0, "created_ms": 1_700_000_060_000_u64, "id": "0000000000000008"},
            ],
        },
    })
}

/// Goal: keys and directories that are markup stay text, in the page, in its script and in its data, and nothing is
/// loaded.
#[test]
fn hostile_names() {
    let (root, _) = place();
    let store = root.path().join(if cfg!(windows) {
        "a & b"
    } else {
        "</title><img src=x onerror='1'>\"&"
    });
    let keys: [&[u8]; 7] = [
        b"</script><img onerror=alert(1) src=x>",
        b"\"><svg onload=alert(1)>",
        b"]]> <!-- <script>",
        b"' onmouseover='alert(1)",
        "\u{202e}txt.exe".as_bytes(),
        b"\x00\xff\xfe line\n two",
        b"&lt;&#x3c;",
    ];
    let engine = Engine::open(&store).unwrap();
    keys.iter().for_each(|key| engine.put(key, vec![0; 500]).unwrap());
    engine.close().unwrap();
    let page = page_of(&store, 0);
    for word in ["<img", "<svg onload", "<!--", "\u{202e}"] {
        assert!(!page.contains(word), "{word}");
    }
    let shown = page.split_once("<script").expect("the data come last").0;
    assert!(!shown.contains("onmouseover='"));
    assert_eq!(page.matches("</script").count(), 2);
    for word in ["http://", "https://", "src=\"", "href=", "@import", "url(//"] {
        assert!(!page.contains(word), "{word}");
    }
    let greatest = data_of(&page)["greatest"].as_array().unwrap().clone();
    assert_eq!(greatest.len(), keys.len());
    for key in keys.iter().filter_map(|key| std::str::from_utf8(key).ok()) {
        assert!(greatest.iter().any(|entry| entry["key"] == key), "{key}");
    }
    check_markup(&run(arguments!["map", &store, "-"]).expect(0).out);
}

/// Goal: stores of no entry, of one segment and of a thousand have pages of a size that a browser takes.
#[test]
fn small_and_great() {
    let (_root, store) = place();
    run(arguments!["put", &store, "a", "b"]).expect(0);
    let data = data_of(&page_of(&store, 0));
    assert_eq!((&data["segments"], &data["entries"]), (&1.into(), &1.into()));
    run(arguments!["del", &store, "a"]).expect(0);
    run(arguments!["compact", &store]).expect(0);
    let page = page_of(&store, 0);
    assert!(page.contains("No segments") && page.contains("No entries"));
    assert_eq!(data_of(&page)["entries"], 0);
    run(arguments!["map", &store]).expect(0);

    for count in [1_000, 1_600] {
        let (disk, clock) = (MemoryDisk::new(), TestClock::new());
        let engine = options(&disk, &clock).segment_bytes(8 << 10).open("store").unwrap();
        (0..count).for_each(|key| engine.put(format!("{key}"), vec![b'v'; 3_800]).unwrap());
        engine.close().unwrap();
        let (_root, store) = on_disk(&disk);
        let page = page_of(&store, 0);
        assert!(page.len() < 2_000_000, "{} bytes", page.len());
        let data = data_of(&page);
        assert!(data["segments"].as_u64().unwrap() >= count, "{}", data["segments"]);
        let listed = data["map"]["segments"].as_array().unwrap().len() as u64;
        assert_eq!(
            listed + data["map"]["segments_omitted"].as_u64().unwrap(),
            data["segments"].as_u64().unwrap()
        );
        check_markup(&run(arguments!["map", &store, "-"]).expect(0).out);
    }
}

/// Goal: of a damaged store the page tells what is wrong and where, shows the rest, and the exit code says so.
#[test]
fn damage_is_told() {
    let (root, store) = fixed();
    let mut segments: Vec<_> = files(&store)
        .into_iter()
        .filter(|(name, _)| name.to_string_lossy().ends_with(".seg"))
        .collect();
    let (name, bytes) = segments.first_mut().expect("a segment");
    let at = 4_096 + 60;
    bytes[at] ^= 1;
    fs::write(store.join(name), bytes).unwrap();
    let before = files(&store);
    let page = page_of(&store, 4);
    assert!(page.contains("class=\"mark\"") && page.contains("C021"));
    assert!(page.contains("1 problem"), "the verdict");
    let data = data_of(&page);
    assert_eq!(data["check"]["healthy"], false);
    assert!(data["entries"].as_u64().unwrap() > 20);
    // Without a check nobody looked.
    let out = root.path().join("page.html");
    let ran = run(arguments!["report", &store, &out, "--no-check", "--json"]).expect(0);
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&told["healthy"], &told["problems"]), (&Value::Null, &Value::Null));
    assert_eq!(told["bytes"], fs::metadata(&out).unwrap().len());
    assert!(fs::read_to_string(&out).unwrap().contains("not checked"));
    let ran = run(arguments!["report", &store, &out, "--json"]).expect(4);
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&told["healthy"], &told["problems"]), (&false.into(), &1.into()));
    run(arguments!["map", &store]).expect(0);
    assert_eq!(files(&store), before, "nothing was written");

    // Not even the manifest: there is a page that says so.
    let manifest = fs::read(store.join("MANIFEST")).unwrap();
    let mut damaged = manifest.clone();
    damaged[20] ^= 1;
    fs::write(store.join("MANIFEST"), damaged).unwrap();
    let page = page_of(&store, 4);
    assert!(page.contains("C001"));
    assert_eq!(data_of(&page)["info"], Value::Null);
}

/// Goal: what was in the place of the page is replaced whole or not at all, and never a file of the store.
#[test]
fn where_it_goes() {
    let (root, store) = filled(20);
    let before = files(&store);
    for (command, name) in [("report", "page.html"), ("map", "map.svg")] {
        let out = root.path().join(name);
        fs::write(&out, "old").unwrap();
        let mut old = File::open(&out).unwrap();
        run(arguments![command, root.path().join("nowhere"), &out]).expect(10);
        assert_eq!(fs::read(&out).unwrap(), b"old", "{command}");
        run(arguments![command, &store, &out]).expect(0);
        check_markup(&fs::read_to_string(&out).unwrap());
        let mut text = String::new();
        old.seek(SeekFrom::Start(0)).unwrap();
        old.read_to_string(&mut text).unwrap();
        assert!(cfg!(windows) || text == "old", "{command}: it was written over");
        run(arguments![command, &store, store.join("MANIFEST")]).expect(2);
        run(arguments![command, &store, store.join("new")]).expect(2);
        run(arguments![command, &store, "-", "--json"]).expect(2);
        run(arguments![command, &store, root.path().join("no").join("place")]).expect(8);
    }
    run(arguments!["map", &store, "--cell", "1KiB"]).expect(2);
    let mut names: Vec<_> =
        fs::read_dir(root.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["map.svg", "page.html", "store"], "nothing is left beside");
    assert_eq!(files(&store), before);
    assert!(before.iter().all(|(name, _)| name != "new"));
}

/// Goal: a full disk behind standard output is an operational error; what is no regular file is written to and stays
/// what it is; a link stays one.
///
/// Method: a pipe of the test's own. A device of the system is never the place to write to: whoever runs this as root
/// with a fault in the tool would lose it.
#[cfg(target_os = "linux")]
#[test]
fn pipes_and_links() {
    use std::{
        os::unix::fs::{FileTypeExt as _, symlink},
        process::{Command, Stdio},
    };
    let (root, store) = filled(5);
    for command in ["report", "map"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut to_full = super::command(arguments![command, &store, "-"]);
        let output = to_full.stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(8), "{command}");

        let pipe = root.path().join(format!("{command} pipe"));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Both ends, so that neither side waits for the other.
        let mut ends = File::options().read(true).write(true).open(&pipe).unwrap();
        run(arguments![command, &store, &pipe]).expect(0);
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "{command}");
        let mut start = [0; 4];
        ends.read_exact(&mut start).unwrap();
        assert!(&start == b"<!DO" || &start == b"<svg", "{command}");

        let (target, link) = (root.path().join("target"), root.path().join(command));
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        run(arguments![command, &store, &link]).expect(0);
        assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
        assert!(fs::metadata(&target).unwrap().len() > 1_000, "{command}");
        // A link into the store is a place in the store.
        let inside = root.path().join(format!("{command} inside"));
        symlink(store.join("MANIFEST"), &inside).unwrap();
        run(arguments![command, &store, &inside]).expect(2);
    }
}

/// Goal: the characters are one for each cell of the document, told apart without colours; colours come when they are
/// asked for.
#[test]
fn characters() {
    let (_root, store) = fixed();
    let document = run(arguments!["map", &store, "--json"]).expect(0).out;
    let document: Value = serde_json::from_str(&document).unwrap();
    let cells: usize = document["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["cells"].as_array().unwrap().len())
        .sum();
    let text = run(arguments!["map", &store]).expect(0).out;
    let letters: String = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(letters.len(), cells, "{text}");
    assert!(letters.chars().all(|letter| "#e-o.~X".contains(letter)), "{letters}");
    assert!(letters.contains('#') && letters.contains('o'), "{letters}");
    assert!(!text.contains('\u{1b}') && text.contains("# live"), "{text}");
    let colored = run(arguments!["map", &store, "--color", "always"]).expect(0).out;
    assert!(colored.contains('\u{1b}') && colored.contains('#'));
    let large = run(arguments!["map", &store, "--cell", "1MiB", "--json"]).expect(0).out;
    let large: Value = serde_json::from_str(&large).unwrap();
    assert_eq!(large["cell_bytes"], 1 << 20);
    assert!(
        large["segments"]
            .as_array()
            .unwrap()
            .iter()
            .all(|s| s["cells"].as_array().unwrap().len() == 1)
    );
}
