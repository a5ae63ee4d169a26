//! `replay`: every format, every packing, every refusal; and, against a model, what the policies hit.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use lzma_rust2::{XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::Value;
use tempfile::TempDir;

use super::{Ran, arguments, command, run, run_with_input};

/// A trace in a file of its own.
fn trace(bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let path = root.path().join("trace");
    fs::write(&path, bytes).expect("the trace is written");
    (root, path)
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(6)).expect("options");
    writer.write_all(bytes).expect("a vector takes all");
    writer.finish().expect("a vector takes all")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).expect("one JSON document")
}

/// The figures of a replay that works.
#[track_caller]
fn figures(path: &Path, format: &str, more: &[&str]) -> Value {
    let mut words = arguments!["replay", path, "--json", "--format", format].to_vec();
    words.extend(more.iter().map(Into::into));
    document(&run(words).expect(0))
}

/// requests, unique keys, hits, misses.
fn counts(figures: &Value) -> [u64; 4] {
    ["requests", "unique_keys", "hits", "misses"].map(|name| figures[name].as_u64().expect(name))
}

fn big_endian(numbers: &[u64], width: usize) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| (0..width).rev().map(move |byte| (number >> (8 * byte)) as u8))
        .collect()
}

/// Goal: each format is read for what it says.
#[test]
fn formats() {
    for (format, bytes, expected) in [
        ("arc", b"10 3 0 0\n11 2 0 1\n\n99 1 0 2".to_vec(), [6, 4, 2, 4]),
        ("lines", b"a\nb 100\r\n  a \nA\n\na 5 30s get\n".to_vec(), [5, 3, 2, 3]),
        ("sized", b"1 7 100\n2 8 0\n2.5 7 100\n".to_vec(), [3, 2, 1, 2]),
        ("u32be", big_endian(&[0, 1, 0, 0xffff_ffff, 1], 4), [5, 3, 2, 3]),
        ("u64be", big_endian(&[0, 1, 1 << 63, u64::MAX, 1 << 63], 8), [5, 4, 1, 4]),
        ("lines", Vec::new(), [0, 0, 0, 0]),
        ("u32be", Vec::new(), [0, 0, 0, 0]),
    ] {
        let (_root, path) = trace(&bytes);
        let got = figures(&path, format, &[]);
        assert_eq!(counts(&got), expected, "{format}: {got}");
        assert_eq!(got["entries"], expected[1], "{format}: {got}");
        let piped = run_with_input(arguments!["replay", "-", "--json", "--format", format], &bytes);
        assert_eq!(counts(&document(&piped.expect(0))), expected, "{format} from standard input");
    }
}

/// Goal: the operations of the format `lines` do what they say, and lifetimes end.
#[test]
fn operations() {
    let (_root, path) = trace("a 10 - put\na\na 0 - del\na 3\nb 7 1d\nb 9 1d put\nc 1 - del\n");
    let got = figures(&path, "lines", &[]);
    assert_eq!(counts(&got), [7, 3, 1, 2], "{got}");
    let named = |name: &str| got[name].as_u64().expect("a number");
    assert_eq!([named("inserts"), named("puts"), named("deletes")], [2, 2, 1]);
    // The hit on `a` asks for 8 bytes, the default; the misses ask for 3 and 7.
    assert_eq!([named("hit_bytes"), named("requested_bytes")], [8, 18]);
    // 24 of header, 1 of key; `b` has 8 of expiry too: 40, 32, 40, 48, in multiples of 8.
    assert_eq!(named("put_bytes"), 40 + 32 + 40 + 48);

    let mut lines = String::from("short 1 1ms\nlong 1 1d\nplain\n");
    lines.extend((0..200_000).map(|n| format!("other-{}\n", n % 100)));
    lines.push_str("short\nlong\nplain\n");
    let (_root, path) = trace(lines);
    assert_eq!(figures(&path, "lines", &[])["misses"], 104);
    assert!(figures(&path, "lines", &["--ttl", "1ms"])["misses"].as_u64() > Some(105));
}

/// Goal: what xz or zstd packed is the same trace, in one piece or several.
#[test]
fn packings() {
    let numbers: Vec<u64> = (0..20_000_u64).map(|n| n * n % 3_001).collect();
    let bytes = big_endian(&numbers, 8);
    let plain = counts(&figures(&trace(&bytes).1, "u64be", &[]));
    assert_eq!(plain[0], 20_000);
    let (front, back) = bytes.split_at(70_003);
    let skippable = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    for (name, packed) in [
        ("xz", xz(&bytes)),
        ("xz twice", [xz(front), xz(back)].concat()),
        ("zstd", zstd(&bytes)),
        ("zstd twice", [zstd(front), skippable, zstd(back)].concat()),
    ] {
        let (_root, path) = trace(&packed);
        let got = figures(&path, "u64be", &["--capacity", "100%"]);
        assert_eq!(counts(&got), plain, "{name}");
        let piped =
            run_with_input(arguments!["replay", "-", "--json", "--format", "u64be"], &packed);
        assert_eq!(counts(&document(&piped.expect(0))), plain, "{name} from standard input");
    }
}

/// Goal: a capacity is entries, a share or bytes, and reaches the store as the limit it means.
#[test]
fn capacities() {
    let (_root, keys) = trace((0..1_999).map(|n| format!("key-{n}\n")).collect::<String>());
    let (_other, sized) = trace("1 1 1000\n2 2 3000\n3 1 9000\n4 3 105\n");
    for (path, format, capacity, entries, bytes) in [
        (&keys, "lines", "500", Some(500), None),
        (&keys, "lines", "1%", Some(19), None),
        (&keys, "lines", "0.1%", Some(1), None),
        (&keys, "lines", "100%", Some(1_999), None),
        (&keys, "lines", "500B", None, Some(500)),
        (&keys, "lines", "3KiB", None, Some(3_072)),
        (&sized, "sized", "10%", None, Some(410)),
        (&sized, "sized", "7", Some(7), None),
        (&sized, "sized", "1MB", None, Some(1_000_000)),
    ] {
        let got = figures(path, format, &["--capacity", capacity, "--max-bytes", "1GiB"]);
        let limits = &got["limits"];
        assert_eq!(limits["max_entries"].as_u64(), entries, "{format} {capacity}: {limits}");
        assert_eq!(limits["max_live_bytes"].as_u64(), bytes, "{format} {capacity}: {limits}");
        assert_eq!(limits["max_bytes"], 1_u64 << 30);
    }
    // A share is one of what is replayed.
    let got = figures(&keys, "lines", &["--capacity", "10%", "--limit", "50"]);
    assert_eq!((&got["limits"]["max_entries"], &got["requests"]), (&5.into(), &50.into()));
    let ran = run(arguments!["replay", &keys, "--format", "lines", "--capacity", "0.01%"]);
    assert!(ran.expect(8).err.contains("less than one of its 1999"));
}

/// Goal: an entry of a sized trace takes its size in the store, so that shares of bytes are comparable.
#[test]
fn sizes_count() {
    let lines: String = (0..500).map(|n| format!("{n} {} {}\n", n * 977, 40 + n * 13)).collect();
    let sum: u64 = (0..500).map(|n| 40 + n * 13).sum();
    let got = figures(&trace(lines).1, "sized", &[]);
    let live = got["live_bytes"].as_u64().expect("a number");
    assert!(live.abs_diff(sum) <= sum / 200, "{live} for {sum}");
    // The store weighs records up to half a percent too high.
    let put = got["put_bytes"].as_u64().expect("a number");
    assert!((put..=put + put / 200).contains(&live), "{put} bytes put, {live} live");
    assert_eq!(got["requested_bytes"], sum);
}

/// Goal: what is no trace is refused with 8 and the place of the fault; nothing is left behind.
#[test]
fn bad_traces() {
    let long = "k".repeat(70_000);
    let good_xz = xz(&big_endian(&[1, 2, 3], 8));
    let good_zstd = zstd(&big_endian(&[1, 2, 3], 8));
    let mut unchecked = good_zstd.clone();
    *unchecked.last_mut().expect("a checksum") ^= 1;
    let mut flipped = xz(&vec![7; 80_000]);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("u32be", b"some text".to_vec(), "1 of 4 bytes are left at byte 8"),
        ("u64be", vec![0; 15], "7 of 8 bytes are left at byte 8"),
        ("arc", b"1 2 0 0\nx 2 0 0\n".to_vec(), "line 2: the number x"),
        ("arc", b"1 2 0 0\n1 16777217 0 0\n".to_vec(), "line 2: the count 16777217"),
        ("arc", b"1\n".to_vec(), "line 1: 1 words"),
        ("sized", b"1 1 10\n\n2 2 -5\n".to_vec(), "line 3: the size -5"),
        ("sized", b"1 1 9999999999\n".to_vec(), "line 1: the size 9999999999"),
        ("sized", b"1 1\n".to_vec(), "line 1: 2 words are no TIME ID SIZE"),
        ("lines", format!("a\n{long}\nb\n").into_bytes(), "line 2: it is longer than 65536"),
        ("lines", long.clone().into_bytes(), "line 1: it is longer than 65536"),
        ("lines", b"a 1 never\n".to_vec(), "line 1: \"never\" is no lifetime"),
        ("lines", b"a 1 - frob\n".to_vec(), "line 1: frob is none of get, put, del"),
        ("lines", b"a\\q\n".to_vec(), "line 1: "),
        ("u64be", good_xz[..good_xz.len() - 9].to_vec(), "xz packed cannot be unpacked at byte"),
        ("u64be", good_zstd[..good_zstd.len() - 1].to_vec(), "zstd packed cannot be unpacked"),
        ("u64be", unchecked, "the checksum does not match"),
        ("lines", flipped, "xz packed cannot be unpacked at byte"),
        ("lines", [&good_xz[..], b"junk"].concat(), "xz packed cannot be unpacked"),
        ("lines", [&good_zstd[..], b"junk"].concat(), "zstd packed cannot be unpacked"),
    ];
    for (format, bytes, reason) in cases {
        let (root, path) = trace(bytes);
        let temporary = root.path().join("temporary");
        fs::create_dir(&temporary).unwrap();
        let output = command(arguments!["replay", &path, "--format", format, "--json"])
            .env("TMPDIR", &temporary)
            .output()
            .unwrap();
        let ran = Ran::of(&output).expect(8);
        assert!(ran.err.contains(reason) && ran.out.is_empty(), "{format} {reason}: {}", ran.err);
        let error: Value =
            serde_json::from_str(ran.err.lines().last().unwrap_or_default()).unwrap();
        assert_eq!(error["error"]["kind"], "input", "{error}");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{reason}");
    }
}

/// Goal: a command line that makes no sense is 2, a file that is not there 8, and neither makes a store.
#[test]
fn refusals() {
    let (root, path) = trace("a\n");
    let store = root.path().join("store");
    for more in [
        &["--format", "lines", "--capacity", "0"][..],
        &["--format", "lines", "--capacity", "0%"],
        &["--format", "lines", "--capacity", "-1"],
        &["--format", "lines", "--capacity", "101%"],
        &["--format", "lines", "--capacity", "0MiB"],
        &["--format", "lines", "--max-bytes", "0"],
        &["--format", "lines", "--limit", "0"],
        &["--format", "lines", "--evict", "random"],
        &["--format", "lines", "--ttl", "0"],
        &["--format", "lines", "--value-bytes", "1073741825"],
        &["--format", "words"],
        &[],
    ] {
        let mut words = arguments!["replay", &path, "--dir", &store].to_vec();
        words.extend(more.iter().map(Into::into));
        let ran = run(words).expect(2);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{more:?}");
    }
    let share = arguments!["replay", "-", "--format", "lines", "--capacity", "10%"];
    assert!(run_with_input(share, b"a\n").expect(2).err.contains("second pass"));
    let missing =
        arguments!["replay", root.path().join("none"), "--format", "arc", "--dir", &store];
    assert!(run(missing).expect(8).err.contains("none"));
    run(arguments!["replay", root.path(), "--format", "arc", "--dir", &store]).expect(8);
    assert!(!store.exists());
}

/// Goal: the store is kept where it was asked for and is an ordinary one; a used directory is refused.
#[test]
fn directory() {
    let (root, path) = trace("a 3\nb 4\na\n");
    let store = root.path().join("store");
    let replay = || run(arguments!["replay", &path, "--format", "lines", "--dir", &store]);
    let ran = replay().expect(0);
    assert!(ran.err.contains("kept"), "{}", ran.err);
    assert_eq!(run(arguments!["keys", &store]).expect(0).out, "a\nb\n");
    assert!(run(arguments!["check", &store]).expect(0).out.starts_with("ok: 0 problems"));
    assert!(replay().expect(2).err.contains("is not empty"));

    let temporary = root.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let mut quiet = command(arguments!["replay", &path, "--format", "lines"]);
    let ran = Ran::of(&quiet.env("TMPDIR", &temporary).output().unwrap()).expect(0);
    assert_eq!(ran.err, "", "no progress where nobody looks");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

/// Goal: the names in the document are a promise; `--limit` stops, and the figures are of what was replayed.
#[test]
fn document_shape() {
    let (_root, path) = trace("a 5\nb\na 5\na 5\nc\n");
    let more = ["--limit", "4", "--evict", "s3-fifo", "--capacity", "9", "--ttl", "1h"];
    let got = figures(&path, "lines", &[&more[..], &["--durability", "os"]].concat());
    let names: BTreeSet<&str> = got.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "trace format limits durability requests unique_keys hits misses hit_ratio \
        requested_bytes hit_bytes byte_hit_ratio inserts puts deletes refused evicted expired entries live_bytes \
        put_bytes written_bytes compacted_bytes write_amplification seconds requests_per_second";
    assert_eq!(names, expected.split_whitespace().collect());
    assert_eq!(
        got["limits"],
        serde_json::json!({"max_entries": 9, "max_live_bytes": null, "max_bytes": null,
            "evict": "s3-fifo", "ttl_ms": 3_600_000, "requests": 4})
    );
    assert_eq!(got["format"], "lines");
    assert_eq!(got["durability"], "os");
    assert_eq!(counts(&got), [4, 2, 2, 2]);
    assert_eq!(got["hit_ratio"], 0.5);
    assert_eq!(got["byte_hit_ratio"].as_f64(), Some(10.0 / 23.0));
    assert!(got["write_amplification"].as_f64() >= Some(1.0), "{got}");

    let text = run(arguments!["replay", &path, "--format", "lines"]).expect(0).out;
    assert!(text.contains("hit ratio            40.00 %, 2 hits and 3 misses\n"), "{text}");
    let empty = figures(&trace("").1, "lines", &[]);
    assert!(empty["hit_ratio"].is_null() && empty["write_amplification"].is_null(), "{empty}");
}

/// Requests for `keys` keys, the n-th of them 1/n as often as the first.
fn zipf(requests: usize, keys: u64) -> Vec<u64> {
    let mut sum = 0.0;
    let shares: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = (state >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        // Scattered, so that the order of keys says nothing about how often they come.
        shares.partition_point(|share| *share < at) as u64 * 7_919 % keys
    };
    (0..requests).map(|_| next()).collect()
}

/// What an exact LRU of `capacity` hits.
fn exact_lru(requests: &[u64], capacity: usize) -> u64 {
    let (mut used, mut order, mut hits) = (HashMap::new(), BTreeMap::new(), 0);
    for (time, key) in requests.iter().enumerate() {
        if let Some(before) = used.insert(key, time) {
            order.remove(&before);
            hits += 1;
        } else if used.len() > capacity
            && let Some((_, oldest)) = order.pop_first()
        {
            used.remove(oldest);
        }
        order.insert(time, key);
    }
    hits
}

/// What an exact FIFO of `capacity` hits.
fn exact_fifo(requests: &[u64], capacity: usize) -> u64 {
    let (mut held, mut order, mut hits) = (HashSet::new(), VecDeque::new(), 0);
    for key in requests {
        if !held.insert(key) {
            hits += 1;
            continue;
        }
        order.push_back(key);
        if order.len() > capacity
            && let Some(oldest) = order.pop_front()
        {
            held.remove(oldest);
        }
    }
    hits
}

/// Goal: the models that the policies are compared with are right themselves.
#[test]
fn models() {
    let requests = [1, 2, 1, 3, 1, 2];
    // LRU of 2: 3 pushes 2 out, 1 stays. FIFO of 2: 3 pushes 1 out, which then pushes 2 out.
    assert_eq!((exact_lru(&requests, 2), exact_fifo(&requests, 2)), (2, 1));
    let requests = zipf(20_000, 2_000);
    assert_eq!(exact_lru(&requests, 2_000), exact_fifo(&requests, 2_000));
    assert!(exact_lru(&requests, 200) > exact_fifo(&requests, 200));
}

/// Goal: each policy hits what it should: 20,000 requests over 2,000 keys, a tenth of which fit.
#[test]
fn policies() {
    let requests = zipf(20_000, 2_000);
    let (_root, path) = trace(big_endian(&requests, 4));
    let keys = requests.iter().collect::<HashSet<_>>().len();
    let capacity = keys / 10;
    let percent = |hits: u64| hits as f64 * 100.0 / requests.len() as f64;
    let (lru, fifo) =
        (percent(exact_lru(&requests, capacity)), percent(exact_fifo(&requests, capacity)));
    let mut got = HashMap::new();
    for policy in ["lru", "fifo", "s3-fifo", "none"] {
        let figures = figures(&path, "u32be", &["--capacity", "10%", "--evict", policy]);
        assert_eq!(figures["limits"]["max_entries"], capacity);
        let number = |name: &str| figures[name].as_u64().expect("a number");
        assert!(number("entries") <= capacity as u64, "{policy}: {figures}");
        if policy == "none" {
            assert_eq!((number("evicted"), number("inserts")), (0, capacity as u64), "{figures}");
            assert_eq!(number("refused"), number("misses") - capacity as u64, "{figures}");
        } else {
            assert_eq!(number("evicted"), number("inserts") - number("entries"), "{figures}");
            assert_eq!(number("refused"), 0, "{figures}");
        }
        got.insert(policy, percent(number("hits")));
    }
    assert!((got["lru"] - lru).abs() <= 1.0, "lru: {got:?}, exact {lru}");
    assert!((got["fifo"] - fifo).abs() <= 1.0, "fifo: {got:?}, exact {fifo}");
    assert!(got["s3-fifo"] >= fifo, "s3-fifo: {got:?}, exact FIFO {fifo}");
}

/// Goal: a limit on bytes holds, of live records and of files, and an entry larger than the limit is left out.
#[test]
fn limits_on_bytes() {
    let lines: String = zipf(20_000, 2_000)
        .iter()
        .map(|key| format!("0 {key} {}\n", 100 + key % 97 * 20))
        .collect();
    let (_root, path) = trace(lines + "0 99999999 5000000\n");
    for policy in ["lru", "fifo", "s3-fifo"] {
        let more = ["--capacity", "10%", "--evict", policy, "--max-bytes", "4MiB"];
        let figures = figures(&path, "sized", &more);
        let number = |value: &Value| value.as_u64().expect("a number");
        let limit = number(&figures["limits"]["max_live_bytes"]);
        assert!(number(&figures["live_bytes"]) <= limit, "{policy}: {figures}");
        assert!(number(&figures["evicted"]) > 0, "{policy}: {figures}");
        assert_eq!(figures["refused"], 1, "{policy}: {figures}");
    }
}
