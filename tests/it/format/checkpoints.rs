//! Checkpoints: header, sections, rows.

use proptest::{array::uniform16, collection::vec, option, prelude::*};
use tierce_engine::{
    Damage, SegmentId, SequenceNumber, Timestamp,
    format::{
        FORMAT_MAJOR,
        checkpoint::{
            CHECKPOINT_HEADER_BYTES, CheckpointHeader, CheckpointSegment, CheckpointTouch,
            SECTION_BYTES, SECTION_CUTS, SECTION_END, SECTION_ENTRIES, SECTION_SEGMENTS,
            SECTION_TOUCHES, decode_cuts, decode_sections, encode_cut, encode_section,
        },
        checksum::{checksum, checksum_from},
    },
};

use super::{flipped, patched};

/// Sections as a file has them after its header.
fn sections(list: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, content) in list {
        encode_section(*kind, content, &mut bytes);
    }
    encode_section(SECTION_END, &[], &mut bytes);
    bytes
}

fn damage_of(bytes: &[u8]) -> Option<Damage> {
    decode_sections(bytes).err().map(|error| error.damage)
}

proptest! {
    /// Goal: every field of the header comes back.
    #[test]
    fn checkpoint_headers_round_trip(
        store_id in uniform16(any::<u8>()), numbers in vec(any::<u64>(), 5), layout: u16,
    ) {
        let header = CheckpointHeader {
            store_id,
            number: numbers[0],
            sequence: SequenceNumber(numbers[1]),
            created: Timestamp(numbers[2]),
            hash_seed: numbers[3],
            layout,
            entries: numbers[4],
        };
        prop_assert_eq!(CheckpointHeader::decode(&header.encode()), Ok(header));
    }

    /// Goal: sections of any length come back, in order.
    #[test]
    fn sections_round_trip(list in vec((1..=4u16, vec(any::<u8>(), 0..70)), 0..8)) {
        let bytes = sections(&list);
        prop_assert_eq!(bytes.len() % 8, 0);
        let found = decode_sections(&bytes).expect("sound");
        let found: Vec<_> = found.into_iter().map(|(kind, content)| (kind, content.to_vec())).collect();
        prop_assert_eq!(found, list);
    }

    /// Goal: rows of segments, scope cuts and touches come back, and half a row is an error.
    #[test]
    fn rows_round_trip(
        rows in vec((any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..9),
        names in vec(vec(any::<u8>(), 0..=255), 0..5),
        expiries in vec(option::of(0..u64::MAX), 0..9),
        cut in 1..7usize,
    ) {
        let (mut segments, mut cuts, mut touches) = (Vec::new(), Vec::new(), Vec::new());
        let row = |&(slot, id, live_bytes, live_records)| CheckpointSegment {
            slot, id: SegmentId(id), live_bytes, live_records,
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        rows.iter().for_each(|row| row.encode(&mut segments));
        prop_assert_eq!(CheckpointSegment::decode_all(&segments), Ok(rows.clone()));
        let names: Vec<_> = names.iter().zip(7u64..).map(|(name, at)| (SequenceNumber(at), &name[..])).collect();
        names.iter().for_each(|(sequence, name)| encode_cut(*sequence, name, &mut cuts));
        prop_assert_eq!(decode_cuts(&cuts), Ok(names.clone()));
        let touch = |(at, expiry): (u32, &Option<u64>)| CheckpointTouch {
            slot: at, offset: u64::from(at) * 8, expires_at: expiry.map(Timestamp), sequence: SequenceNumber(9),
        };
        let list: Vec<_> = (0..).zip(&expiries).map(touch).collect();
        list.iter().for_each(|touch| touch.encode(&mut touches));
        prop_assert_eq!(CheckpointTouch::decode_all(&touches), Ok(list));
        if !rows.is_empty() {
            prop_assert!(CheckpointSegment::decode_all(&segments[..segments.len() - cut]).is_err());
        }
        if !names.is_empty() {
            prop_assert!(decode_cuts(&cuts[..cuts.len() - cut]).is_err());
        }
        if !expiries.is_empty() {
            prop_assert!(CheckpointTouch::decode_all(&touches[..touches.len() - cut]).is_err());
        }
    }
}

fn sample() -> Vec<u8> {
    tierce_fuzz::samples::decode_checkpoint().remove(0)
}

/// Goal: every single-bit flip in header or sections is detected.
#[test]
fn every_flip_is_detected() {
    let bytes = sample();
    for bit in 0..bytes.len() * 8 {
        let changed = flipped(&bytes, bit);
        let is_sound = CheckpointHeader::decode(&changed).is_ok()
            && decode_sections(&changed[CHECKPOINT_HEADER_BYTES..]).is_ok();
        assert!(!is_sound, "bit {} of byte {} went unnoticed", bit % 8, bit / 8);
    }
}

/// Goal: a checkpoint cut anywhere is an error: the last section says that it is the last.
#[test]
fn every_truncation_is_an_error() {
    let bytes = sample();
    for length in 0..CHECKPOINT_HEADER_BYTES {
        assert!(CheckpointHeader::decode(&bytes[..length]).is_err(), "cut at {length}");
    }
    let after = &bytes[CHECKPOINT_HEADER_BYTES..];
    for length in 0..after.len() {
        assert!(decode_sections(&after[..length]).is_err(), "cut at {length}");
    }
    let longer = [after, &[0; 8]].concat();
    assert_eq!(damage_of(&longer), Some(Damage::Length), "bytes after the end");
}

/// Goal: versions and reserved bytes of the header are checked, under a good checksum too.
#[test]
fn header_fields_are_checked() {
    let bytes = sample();
    let damage = |at, field: &[u8]| {
        let changed = patched(&bytes, at, field);
        let sum = checksum(&changed[..92]);
        let changed = patched(&changed, 92, &sum.to_le_bytes());
        CheckpointHeader::decode(&changed).err().map(|error| error.damage)
    };
    assert_eq!(damage(0, &[0]), Some(Damage::Magic));
    assert_eq!(damage(8, &(FORMAT_MAJOR + 1).to_le_bytes()), Some(Damage::Field("major version")));
    assert_eq!(damage(10, &[9]), None, "a newer minor version is readable");
    for at in [14, 72, 91] {
        assert_eq!(damage(at, &[1]), Some(Damage::Field("checkpoint reserved")), "byte {at}");
    }
}

/// Goal: an unknown section is left out if it is marked skippable and refused if not.
///
/// Method: our encoder does not write skippable sections. CRC-32 is linear, so what the flag does to the seed is
/// carried into the checksum of a section without content, through the zeros of its length if those are covered.
#[test]
fn unknown_sections_say_what_to_do() {
    let known = |kind| (kind, b"content".to_vec());
    let list = [known(SECTION_SEGMENTS), (900, b"later".to_vec()), known(SECTION_TOUCHES)];
    assert_eq!(damage_of(&sections(&list)), Some(Damage::Field("checkpoint section")));
    let kept = [
        known(SECTION_SEGMENTS),
        known(SECTION_ENTRIES),
        known(SECTION_CUTS),
        known(SECTION_TOUCHES),
    ];
    assert_eq!(decode_sections(&sections(&kept)).expect("sound").len(), 4);
    let mut skippable = Vec::new();
    encode_section(900, &[], &mut skippable);
    assert_eq!(skippable.len(), SECTION_BYTES);
    let sum = u32::from_le_bytes(skippable[4..8].try_into().expect("four bytes"));
    let (all, _) = kept.split_at(4);
    let with_sum = |covered: &[u8]| {
        let carried = checksum_from(1 << 16, covered) ^ checksum(covered);
        let marked = patched(&patched(&skippable, 2, &[1]), 4, &(sum ^ carried).to_le_bytes());
        let end = sections(&[]);
        let before = sections(all);
        [&before[..before.len() - end.len()], &marked, &end].concat()
    };
    let found = [with_sum(&[]), with_sum(&[0; 8])];
    let counts: Vec<_> =
        found.iter().filter_map(|bytes| Some(decode_sections(bytes).ok()?.len())).collect();
    assert_eq!(counts, [4], "the unknown section is left out, and the known ones are not");
}

/// Goal: an end in the middle, with content, or missing is refused.
#[test]
fn the_end_is_the_end() {
    let end = sections(&[]);
    assert_eq!(decode_sections(&end), Ok(Vec::new()));
    assert_eq!(damage_of(&[&end[..], &end].concat()), Some(Damage::Length));
    assert_eq!(damage_of(&sections(&[(SECTION_END, b"x".to_vec())])), Some(Damage::Length));
    assert_eq!(damage_of(&[]), Some(Damage::Truncated));
}
