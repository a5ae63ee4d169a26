//! Text of the tool and bytes of the typed face: scripts, dumps, sheets of backups, keys, frames of a server.

use tierce::key::{OwnedKey, decode, encode};

/// Scripts of the shell that use every command.
#[must_use]
pub fn scripts() -> Vec<Vec<u8>> {
    [
        "put a 1\nget a\ndel a\nget a\n",
        "\u{feff}put k v ttl=1h30m\r\ntouch k ttl=never\r\nkeys\r\n",
        "incr n\nincr n -41\nbatch\nput \\x00\\xff \"\"\ndel n\ncommit\nstats\n",
        "batch\nput x\ncommit\nbatch\nput y 1\nabort\nkeys y\nsync\nhelp\nrecover\n# no\nquit\n",
    ]
    .map(|script| script.as_bytes().to_vec())
    .to_vec()
}

/// Dumps of each format and a document to import, each behind the byte that chooses it.
#[must_use]
pub fn dumps() -> Vec<Vec<u8>> {
    let jsonl = "{\"type\":\"header\",\"format\":\"tierce-jsonl\",\"version\":1}\n\
                 {\"type\":\"entry\",\"key\":\"a\",\"value\":\"1\",\"scopes\":[\"s\",{\"b64\":\"/w==\"}],\
                 \"items\":[[32,\"AA==\"]],\"expires_at_ms\":9,\"evictable\":true}\n";
    let sum = xxhash_rust::xxh3::xxh3_64(jsonl.as_bytes());
    let jsonl = format!("\0{jsonl}{{\"type\":\"end\",\"entries\":1,\"xxh3\":\"{sum:016x}\"}}\n");
    [
        jsonl.as_str(),
        "\u{1}VERSION=3\nformat=print\nHEADER=END\n a\\5c\n 1\\00\nDATA=END\n",
        "\u{1}VERSION=3\nformat=bytevalue\nHEADER=END\r\n 6100\r\n 31\r\nDATA=END\r\n",
        "\u{2}\"key\",value,expires_at_ms,evictable,key_enc\r\n\"a\"\"b\",1,5,true,utf8\r\nYQ==,2,,false,base64\r\n",
        "\u{3}{\"a\": 1.10, \"a\": [null], \"b\": \"\\ud83d\\ude00\"}",
        "\u{3}[{\"key\": \"k\", \"value\": {\"x\": true}, \"ttl\": 1.5}]",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A sheet with a line of each kind.
#[must_use]
pub fn sheets() -> Vec<Vec<u8>> {
    let text = "tierce backup 1\nstore 000102030405060708090a0b0c0d0e0f\nsequence 4711\ntaken 1763730000000\n\
                file 0000000000000001.seg 67108864 sealed 1b2c3d4e\nfile MANIFEST 4096 whole 00c0ffee\n\
                file 0000000000000009.ckpt 65536 own\nchecksum 00000000\n";
    vec![text.as_bytes().to_vec()]
}

/// Any bytes in place of a backup's sheet.
pub fn backup_sheet(bytes: &[u8]) {
    tierce_engine::backup::check_sheet(bytes);
}

/// Keys of every kind.
#[must_use]
pub fn keys() -> Vec<Vec<u8>> {
    vec![
        encode("a\0b"),
        encode(&-70_000_i64),
        encode(&u64::MAX),
        encode(&1.5_f64),
        encode(&("a", 5_u8)),
        encode(&(("x", -1_i8), true)),
        encode(&[7_u8; 4]),
        encode(&()),
    ]
}

/// Any bytes as keys of many types: what is read is written again so that it is read as the same. Of two halves of the
/// bytes, keys sort as their bytes do, and differ where they differ.
pub fn typed_key(bytes: &[u8]) {
    round_trip::<String>(bytes);
    round_trip::<Vec<u8>>(bytes);
    round_trip::<[u8; 4]>(bytes);
    round_trip::<i8>(bytes);
    round_trip::<i64>(bytes);
    round_trip::<u64>(bytes);
    round_trip::<f32>(bytes);
    round_trip::<f64>(bytes);
    round_trip::<bool>(bytes);
    round_trip::<()>(bytes);
    round_trip::<(String, i64)>(bytes);
    round_trip::<((String, i8), bool)>(bytes);
    let (a, b) = bytes.split_at(bytes.len() / 2);
    ordered(&a.to_vec(), &b.to_vec());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ordered(&text(a), &text(b));
    let number =
        |bytes: &[u8]| bytes.iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let (m, n) = (number(a), number(b));
    ordered(&m, &n);
    ordered(&(m as i64), &(n as i64));
    ordered(&(text(a), m as i64), &(text(b), n as i64));
    ordered(&(m as i32, text(a)), &(n as i32, text(b)));
    ordered(&((text(a), m as i8), true), &((text(b), n as i8), false));
}

fn round_trip<K: OwnedKey>(bytes: &[u8]) {
    let Some(key) = decode::<K>(bytes) else { return };
    let written = encode(&key);
    let again = decode::<K>(&written).expect("what is written is read");
    assert_eq!(encode(&again), written, "{bytes:?}");
}

fn ordered<K: OwnedKey + Ord>(a: &K, b: &K) {
    assert_eq!(encode(a).cmp(&encode(b)), a.cmp(b), "{:?} and {:?}", encode(a), encode(b));
    round_trip::<K>(&encode(a));
}

/// Frames of entries with everything, and of one with nothing.
#[must_use]
pub fn frames() -> Vec<Vec<u8>> {
    let head = |scopes: u8, items: u8, value: u8| {
        let mut bytes = b"t\x01".to_vec();
        bytes.extend_from_slice(&[8; 8]);
        bytes.extend_from_slice(&[1, 255, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 1, 0, 0]);
        bytes.extend_from_slice(&[scopes, 0, items, 0, value, 0, 0, 0]);
        bytes.extend_from_slice(&[0; 8]);
        bytes
    };
    let full = [&head(2, 1, 5)[..], b"\x01s\x03two\x20\x04itemvalue"].concat();
    vec![full, head(0, 0, 0)]
}

/// Any bytes in place of an entry on a server.
pub fn redis_frame(bytes: &[u8]) {
    tierce::testing::check_frame(b"key", bytes);
}
