//! Single bits that turned over.

use std::path::Path;

use tierce_engine::{Error, RecoveryPolicy, io::MemoryDisk};
use tierce_kit::rng::{self, Rng};

use super::{Broken, Fixture, POLICIES, Seen, data_files, has_suffix};

/// Bytes of a segment's header, and the part of it that is nothing but zeros under its checksum.
const HEADER: usize = 4096;
const ZEROS: std::ops::Range<usize> = 120..4_090;

/// The bits of a file to turn: every bit of small files, one bit of every byte of segments, and a sample of the
/// zeros in their headers.
fn bits(path: &Path, length: usize) -> Vec<usize> {
    if !has_suffix(path, ".seg") {
        return (0..length * 8).collect();
    }
    let mut rng = Rng::new(rng::hash(3, path.to_string_lossy().as_bytes()));
    let is_tried = |byte: &usize| !ZEROS.contains(byte) || byte.is_multiple_of(61);
    (0..length).filter(is_tried).map(|byte| byte * 8 + rng.below(8) as usize).collect()
}

/// Where the last record of an unsealed segment begins.
fn last_record(bytes: &[u8]) -> usize {
    let text = b"loose 4";
    let key = bytes.windows(text.len()).rposition(|window| window == text);
    key.map_or(HEADER, |key| key - 24)
}

/// Where the last frame of a manifest begins.
pub(super) fn last_frame(bytes: &[u8]) -> usize {
    let mut at = 64;
    loop {
        let payload = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        let next = (at + 16 + payload as usize).next_multiple_of(8);
        if next >= bytes.len() {
            return at;
        }
        at = next;
    }
}

/// Whether a bit of this byte may turn over unnoticed by the check, if nobody can see a difference.
fn is_harmless(path: &Path, bytes: &[u8], byte: usize, is_tail: bool) -> bool {
    // The last edit of a manifest may be one that a crash tore; what it said can be found out without it.
    if has_suffix(path, "MANIFEST") {
        return byte >= last_frame(bytes);
    }
    // The last record of the log and the commit marker before it were never said to be durable, nor the empty
    // space behind them: a crash could have left them like this.
    is_tail && byte >= last_record(bytes) - 64
}

/// Turns bits, one at a time; says how many, and how many openings were refused.
fn flip(fixture: &Fixture, policies: &[RecoveryPolicy], broken: &mut Broken) -> (usize, usize) {
    let (mut tried, mut refused, mut unseen) = (0, 0, 0);
    for (path, bytes) in data_files(fixture) {
        for bit in bits(path, bytes.len()) {
            let mut files = fixture.files.clone();
            files.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let what = format!("{} bit {} of byte {}", path.display(), bit % 8, bit / 8);
            let mut whole = true;
            for policy in policies {
                match fixture.judge(&files, *policy) {
                    Ok(seen) => {
                        whole &= Seen::is_whole(&seen);
                        refused += usize::from(seen.refused);
                    }
                    Err(rule) => {
                        broken.note(format!("{}, {policy:?}, {what}: {rule}", fixture.name))
                    }
                }
            }
            tried += 1;
            if !Fixture::is_sick(&files) {
                unseen += 1;
                if !whole || !is_harmless(path, bytes, bit / 8, fixture.is_tail(path)) {
                    broken.note(format!("{}, {what}: the check misses it", fixture.name));
                }
            }
        }
    }
    eprintln!("{}: {tried} bits, {refused} openings refused, {unseen} harmless", fixture.name);
    (tried, refused)
}

/// Goal: under the strict policy no bit of any file changes what is read: it is an error or harmless, and the
/// check sees it. Method: every fixture, all bits of manifest and checkpoint, one of every byte of the segments.
#[test]
fn strict() {
    let mut broken = Broken::default();
    for fixture in Fixture::all() {
        let (tried, refused) = flip(&fixture, &POLICIES[..1], &mut broken);
        assert!(tried > 10_000 && refused > 500, "{}: {tried}, {refused}", fixture.name);
    }
}

/// Goal: the other policies go on without what is damaged, say so, and never show what was not stored.
/// Method: as above, for one fixture of each kind.
#[test]
fn lenient() {
    let mut broken = Broken::default();
    for fixture in Fixture::all() {
        if !fixture.name.contains("position") {
            flip(&fixture, &POLICIES[1..], &mut broken);
        }
    }
}

/// Goal: a store whose bits turned over is not made worse by opening it: after the refusal every byte is as
/// before. Method: some bits of every file, under the strict policy.
#[test]
fn a_refusal_changes_nothing() {
    let mut refusals = 0;
    for fixture in Fixture::all() {
        for (path, bytes) in data_files(&fixture) {
            for bit in (0..bytes.len() * 8).step_by(4_001) {
                let mut files = fixture.files.clone();
                files.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
                let disk = MemoryDisk::with_files(files.clone());
                match fixture.open(&disk, RecoveryPolicy::Strict) {
                    Ok(_) => {}
                    Err(Error::Corruption(corruption)) => {
                        assert!(disk.files() == files, "{} changed {}", corruption, path.display());
                        refusals += 1;
                    }
                    Err(error) => assert!(matches!(error, Error::UnknownFormat { .. }), "{error}"),
                }
            }
        }
    }
    assert!(refusals > 20, "{refusals}");
}
