//! Segment headers and footers.

use proptest::{array::uniform16, collection::vec, prelude::*, sample::select};
use tierce_engine::{
    Damage, SegmentId, SequenceNumber, Timestamp,
    format::{
        FORMAT_MAJOR,
        checksum::checksum,
        footer::{
            FOOTER_ENTRY_BYTES, FOOTER_TRAILER_BYTES, FooterDraft, FooterEntries, FooterEntry,
            FromAddress, Trailer, encode_footer,
        },
        record::{Flags, Kind},
        segment_header::{
            Class, PARENTS_MAX, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader, newer_major,
        },
    },
};

use super::{flipped, patched};

fn header() -> impl Strategy<Value = SegmentHeader> {
    (
        (any::<u8>(), uniform16(any::<u8>()), uniform16(any::<u8>())),
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()),
        (any::<u64>(), any::<u64>(), vec(any::<u64>().prop_map(SegmentId), 0..=PARENTS_MAX)),
    )
        .prop_map(
            |(
                (class, store_id, boot_id),
                (id, salt, horizon, first),
                (created, monotonic_ms, parents),
            )| {
                SegmentHeader {
                    class: Class(class),
                    store_id,
                    id: SegmentId(id),
                    salt,
                    horizon: SequenceNumber(horizon),
                    first_sequence: SequenceNumber(first),
                    created: Timestamp(created),
                    monotonic_ms,
                    boot_id,
                    parents,
                }
            },
        )
}

fn sample_header() -> Vec<u8> {
    tierce_fuzz::samples::decode_segment_header().remove(0)
}

/// The header with its checksum put right.
fn resummed(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = checksum(&bytes[..at]);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Footer entries with hashes that often collide and sequence numbers that are never the same.
fn entries() -> impl Strategy<Value = Vec<FooterEntry>> {
    const KINDS: &[Kind] = &[Kind::Put, Kind::Delete, Kind::Touch, Kind::ScopeCut];
    let one = (0..9u64, select(KINDS), any::<u8>(), 0..100u64, 1..50u64);
    (vec(one, 0..60), 0..1u64 << 60, 1..1000u64).prop_map(|(rows, base, stride)| {
        let entry =
            |(index, (hash, kind, flags, unit, units)): (usize, (u64, Kind, u8, u64, u64))| {
                FooterEntry {
                    hash: hash.wrapping_mul(0x1fff_ffff_ffff_fff7),
                    sequence: SequenceNumber(base + index as u64 * stride),
                    kind,
                    flags: Flags(flags),
                    offset: 4096 + unit * 8,
                    bytes: units * 8,
                }
            };
        rows.into_iter().enumerate().map(entry).collect()
    })
}

fn draft(entries: Vec<FooterEntry>, has_from: bool) -> FooterDraft {
    let from_of = |entry: &FooterEntry| FromAddress { parent: 3, offset: entry.offset + 8 };
    let from = if has_from { entries.iter().map(from_of).collect() } else { Vec::new() };
    let trailer = Trailer {
        id: SegmentId(3),
        salt: 4,
        horizon: SequenceNumber(5),
        records_end: 4096 + 150 * 8,
        entries: 0,
        has_from: false,
        sequence_min: SequenceNumber(0),
        sequence_max: SequenceNumber(u64::MAX),
        expiry_min: Timestamp(6),
        expiry_max: Timestamp(u64::MAX),
        tombstones: 0,
        not_fresh: 0,
        expiring: 7,
        live_bytes: 8,
        extension_bytes: 0,
        entries_checksum: 0,
        records_checksum: 9,
    };
    FooterDraft { trailer, entries, from }
}

/// Trailer and entries of an encoded footer, or what is damaged.
fn read(footer: &[u8]) -> Result<(Trailer, Vec<FooterEntry>), Damage> {
    let body_bytes = footer.len().checked_sub(FOOTER_TRAILER_BYTES).ok_or(Damage::Truncated)?;
    let (body, tail) = footer.split_at(body_bytes);
    let file_bytes = 4096 + 150 * 8 + footer.len() as u64;
    let trailer = Trailer::decode(tail, file_bytes).map_err(|error| error.damage)?;
    let view = FooterEntries::decode(body, &trailer).map_err(|error| error.damage)?;
    Ok((trailer, view.iter().collect()))
}

proptest! {
    /// Goal: every field of a segment header comes back, up to the last parent, whatever follows it.
    #[test]
    fn segment_headers_round_trip(header in header()) {
        let mut bytes = header.encode();
        prop_assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
        bytes.extend([0xff; 64]);
        prop_assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
    }

    /// Goal: a footer comes back sorted by hash and sequence, with its counts, and from-addresses follow their
    /// entries.
    #[test]
    fn footers_round_trip(entries in entries(), has_from: bool) {
        let mut sorted = entries.clone();
        sorted.sort_by_key(|entry| (entry.hash, entry.sequence));
        let deaths = entries.iter().filter(|e| matches!(e.kind, Kind::Delete | Kind::ScopeCut)).count();
        let old = |e: &&FooterEntry| matches!(e.kind, Kind::Put | Kind::Delete) && !e.flags.has(Flags::FRESH);
        let not_fresh = entries.iter().filter(old).count();
        let (bytes, trailer) = encode_footer(draft(entries, has_from));
        let (found, again) = read(&bytes).expect("sound");
        prop_assert_eq!(found, trailer);
        prop_assert_eq!(&again, &sorted);
        prop_assert_eq!((found.tombstones as usize, found.not_fresh as usize), (deaths, not_fresh));
        let view = FooterEntries::decode(&bytes[..bytes.len() - FOOTER_TRAILER_BYTES], &found).expect("sound");
        for (index, entry) in again.iter().enumerate() {
            let from = has_from.then_some(FromAddress { parent: 3, offset: entry.offset + 8 });
            prop_assert_eq!(view.from_address(index), from);
        }
        prop_assert_eq!(view.get(again.len()), None);
    }

    /// Goal: the search says the same as looking at every entry, for hashes that are there and that are not.
    #[test]
    fn lower_bound_finds_membership(entries in entries(), other: u64) {
        let hashes: Vec<u64> = entries.iter().map(|entry| entry.hash).chain([0, other, u64::MAX]).collect();
        let (bytes, trailer) = encode_footer(draft(entries.clone(), false));
        let view = FooterEntries::decode(&bytes[..bytes.len() - FOOTER_TRAILER_BYTES], &trailer).expect("sound");
        for hash in hashes {
            let at = view.lower_bound(hash);
            prop_assert_eq!(at, view.iter().filter(|entry| entry.hash < hash).count());
            let is_there = view.get(at).is_some_and(|entry| entry.hash == hash);
            prop_assert_eq!(is_there, entries.iter().any(|entry| entry.hash == hash));
        }
    }
}

/// Goal: every single-bit flip in a segment header is detected.
#[test]
fn every_flip_of_a_header_is_detected() {
    let bytes = sample_header();
    for bit in 0..bytes.len() * 8 {
        assert!(SegmentHeader::decode(&flipped(&bytes, bit)).is_err(), "bit {bit}");
    }
}

/// Goal: a header cut anywhere is an error.
#[test]
fn every_truncation_of_a_header_is_an_error() {
    let bytes = sample_header();
    for length in 0..bytes.len() {
        let found = SegmentHeader::decode(&bytes[..length]).map_err(|error| error.damage);
        assert_eq!(found, Err(Damage::Truncated), "cut at {length}");
    }
}

/// Goal: a newer major version is told apart from damage, a newer minor one is read, and no zero is taken on trust.
#[test]
fn header_versions_and_fields_are_checked() {
    let bytes = sample_header();
    let changed = |at, field: &[u8]| resummed(patched(&bytes, at, field), SEGMENT_HEADER_BYTES - 4);
    let damage = |at, field: &[u8]| {
        SegmentHeader::decode(&changed(at, field)).err().map(|error| error.damage)
    };
    let newer = (FORMAT_MAJOR + 1).to_le_bytes();
    assert_eq!(damage(8, &newer), Some(Damage::Field("major version")));
    assert_eq!(newer_major(&changed(8, &newer), SEGMENT_MAGIC), Some(FORMAT_MAJOR + 1));
    assert_eq!(newer_major(&bytes, SEGMENT_MAGIC), None);
    assert_eq!(newer_major(&changed(8, &newer), *b"TIERCEMF"), None);
    assert_eq!(damage(10, &[0xff]), None, "a newer minor version is readable");
    assert_eq!(damage(13, &[1]), Some(Damage::Field("segment header reserved")));
    assert_eq!(damage(100, &[1]), Some(Damage::Field("segment header reserved")));
    assert_eq!(damage(96, &257u32.to_le_bytes()), Some(Damage::Length));
    assert_eq!(damage(96, &u32::MAX.to_le_bytes()), Some(Damage::Length));
    let foreign =
        SegmentHeader::decode(&patched(&bytes, 0, b"SQLite f")).err().map(|error| error.damage);
    assert_eq!(foreign, Some(Damage::Magic));
}

fn sample_footer() -> Vec<u8> {
    let entry = |index: u64| FooterEntry {
        hash: index.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        sequence: SequenceNumber(100 + index),
        kind: Kind::Put,
        flags: Flags::FRESH,
        offset: 4096 + index * 8,
        bytes: 8,
    };
    encode_footer(draft((0..5).map(entry).collect(), true)).0
}

/// Goal: every single-bit flip in entries, from-addresses or trailer is detected.
#[test]
fn every_flip_of_a_footer_is_detected() {
    let bytes = sample_footer();
    assert!(read(&bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        assert!(read(&flipped(&bytes, bit)).is_err(), "bit {bit}");
    }
}

/// Goal: a footer that lost bytes at its front or at its end is an error.
#[test]
fn every_truncation_of_a_footer_is_an_error() {
    let bytes = sample_footer();
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "the first {length}");
        assert!(read(&bytes[bytes.len() - length..]).is_err(), "the last {length}");
    }
}

/// Goal: a trailer fits a file of exactly one length.
#[test]
fn a_trailer_tells_the_length_of_its_file() {
    let bytes = sample_footer();
    let tail = &bytes[bytes.len() - FOOTER_TRAILER_BYTES..];
    let length = 4096 + 150 * 8 + bytes.len() as u64;
    let damage = |length| Trailer::decode(tail, length).err().map(|error| error.damage);
    assert_eq!(damage(length), None);
    for other in [0, length - 8, length - 1, length + 1, length + 8, u64::MAX] {
        assert_eq!(damage(other), Some(Damage::Length), "{other}");
    }
}

/// Goal: a footer with good checksums is still refused if it speaks of another file, of a later version, of
/// records outside the records, or of kinds that are none.
#[test]
fn footers_are_checked_behind_their_checksums() {
    let bytes = sample_footer();
    let body = bytes.len() - FOOTER_TRAILER_BYTES;
    let in_trailer = |at: usize, field: &[u8]| {
        let mut changed = patched(&bytes, body + at, field);
        let tail = resummed(changed.split_off(body), 124);
        changed.extend(tail);
        read(&changed).err()
    };
    assert_eq!(in_trailer(8, &[2]), Some(Damage::Field("footer version")));
    assert_eq!(in_trailer(10, &[3]), Some(Damage::Field("footer flags")));
    assert_eq!(in_trailer(112, &[1]), Some(Damage::Field("footer reserved")));
    for (at, field) in [
        (12, &[6u8][..]),
        (12, &[0xff; 4]),
        (16, &[0xff; 8]),
        (16, &[8, 0, 0, 0]),
        (76, &[0xff; 4]),
    ] {
        assert_eq!(in_trailer(at, field), Some(Damage::Length), "field at {at}");
    }
    let in_entry = |at: usize, field: &[u8]| {
        let mut changed = patched(&bytes, at, field);
        let sum = checksum(&changed[..body]).to_le_bytes();
        changed[body + 88..body + 92].copy_from_slice(&sum);
        let tail = resummed(changed.split_off(body), 124);
        changed.extend(tail);
        read(&changed).err()
    };
    let last = 4 * FOOTER_ENTRY_BYTES;
    let bad = Some(Damage::Field("footer entry"));
    assert_eq!(in_entry(last + 14, &[0]), bad, "no kind");
    assert_eq!(in_entry(last + 16, &511u32.to_le_bytes()), bad, "before the records");
    assert_eq!(in_entry(last + 16, &u32::MAX.to_le_bytes()), bad, "after the records");
    assert_eq!(in_entry(last + 20, &[0; 4]), bad, "a record of no bytes");
    assert_eq!(in_entry(last + 20, &u32::MAX.to_le_bytes()), bad, "longer than the records");
    assert_eq!(in_entry(last + 15, &[0xff]), None, "flags are the record's business");
}
