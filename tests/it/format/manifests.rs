//! Manifests: header, frames, edits.

use proptest::{array::uniform16, collection::vec, prelude::*};
use tierce_engine::{
    Damage, SegmentId, SequenceNumber, Timestamp,
    format::{
        FORMAT_MAJOR,
        checksum::{checksum, checksum_from},
        manifest::{
            AddSegment, EDIT_BYTES, Edit, FRAME_BYTES, Frame, MANIFEST_HEADER_BYTES,
            MANIFEST_MAGIC, ManifestHeader, SealSegment, decode_frame, encode_frame, frame_seed,
        },
        segment_header::{Class, newer_major},
    },
};

use super::{flipped, patched};

fn id() -> impl Strategy<Value = SegmentId> {
    any::<u64>().prop_map(SegmentId)
}

fn sequence() -> impl Strategy<Value = SequenceNumber> {
    any::<u64>().prop_map(SequenceNumber)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn edit() -> impl Strategy<Value = Edit> {
    let ids = || vec(id(), 0..6);
    let name = || vec(any::<u8>(), 0..20);
    prop_oneof![
        (id(), any::<u8>(), any::<u64>(), sequence(), sequence()).prop_map(
            |(id, class, salt, horizon, first_sequence)| {
                Edit::Add(AddSegment { id, class: Class(class), salt, horizon, first_sequence })
            }
        ),
        seal(),
        (ids(), ids(), sequence()).prop_map(|(inputs, outputs, at)| Edit::Replace {
            inputs,
            outputs,
            at
        }),
        id().prop_map(Edit::Retire),
        (any::<u64>(), sequence())
            .prop_map(|(number, sequence)| Edit::Checkpoint { number, sequence }),
        time().prop_map(Edit::Clock),
        (id(), sequence()).prop_map(|(segment, sequence)| Edit::Floors { segment, sequence }),
        Just(Edit::Clean),
        id().prop_map(Edit::Quarantine),
        (name(), name()).prop_map(|(name, value)| Edit::Property { name, value }),
        sequence().prop_map(Edit::Synced),
        (12..=u16::MAX).prop_map(Edit::Skipped),
    ]
}

fn seal() -> impl Strategy<Value = Edit> {
    (
        (id(), any::<u64>(), any::<u64>(), sequence(), time(), time()),
        (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>()),
    )
        .prop_map(
            |(
                (id, file_bytes, records_end, sequence_max, expiry_min, expiry_max),
                (entries, tombstones, not_fresh, trailer_checksum),
            )| {
                Edit::Seal(SealSegment {
                    id,
                    file_bytes,
                    records_end,
                    sequence_max,
                    expiry_min,
                    expiry_max,
                    entries,
                    tombstones,
                    not_fresh,
                    trailer_checksum,
                })
            },
        )
}

fn header() -> impl Strategy<Value = ManifestHeader> {
    (uniform16(any::<u8>()), any::<u64>(), time(), any::<u64>()).prop_map(
        |(store_id, hash_seed, created, generation)| ManifestHeader {
            store_id,
            hash_seed,
            created,
            generation,
        },
    )
}

/// A manifest of these frames, numbered from 1.
fn manifest(header: &ManifestHeader, frames: &[Vec<Edit>]) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    for (edits, number) in frames.iter().zip(1..) {
        let offset = bytes.len() as u64;
        encode_frame(edits, header.generation, number, offset, &mut bytes);
    }
    bytes
}

/// Header and frames up to the first that cannot be read, and what is damaged there.
fn read(bytes: &[u8]) -> Result<(Vec<Frame>, Option<Damage>), Damage> {
    let header = ManifestHeader::decode(bytes).map_err(|error| error.damage)?;
    let (mut at, mut frames) = (MANIFEST_HEADER_BYTES, Vec::new());
    while at < bytes.len() {
        match decode_frame(&bytes[at..], header.generation, at as u64) {
            Ok(frame) => {
                at += frame.bytes as usize;
                frames.push(frame);
            }
            Err(error) => return Ok((frames, Some(error.damage))),
        }
    }
    Ok((frames, None))
}

/// One frame of the first generation at 64 with this edit, changed in its payload and summed again.
fn frame_with(edit: Edit, change: impl FnOnce(&mut Vec<u8>)) -> Result<Frame, Damage> {
    let mut bytes = Vec::new();
    encode_frame(&[edit], 1, 1, 64, &mut bytes);
    change(&mut bytes);
    let sum = checksum_from(frame_seed(1, 64), &bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    decode_frame(&bytes, 1, 64).map_err(|error| error.damage)
}

proptest! {
    /// Goal: the header comes back.
    #[test]
    fn manifest_headers_round_trip(header in header()) {
        prop_assert_eq!(ManifestHeader::decode(&header.encode()), Ok(header));
    }

    /// Goal: every edit of every frame comes back, in order.
    #[test]
    fn frames_round_trip(header in header(), frames in vec(vec(edit(), 0..6), 0..5)) {
        let (found, damage) = read(&manifest(&header, &frames)).expect("the header is sound");
        prop_assert_eq!(damage, None);
        let edits: Vec<Vec<Edit>> = found.iter().map(|frame| frame.edits.clone()).collect();
        prop_assert_eq!(edits, frames);
        let numbers: Vec<u64> = found.iter().map(|frame| frame.number).collect();
        prop_assert_eq!(numbers, (1..=found.len() as u64).collect::<Vec<_>>());
    }

    /// Goal: a frame of another generation or another place is not taken for one of here.
    #[test]
    fn a_frame_is_bound_to_its_place(edits in vec(edit(), 0..4), generation: u64, unit in 8..1u64 << 30) {
        prop_assume!(frame_seed(generation, unit * 8) != frame_seed(1, 64));
        let mut bytes = Vec::new();
        encode_frame(&edits, 1, 1, 64, &mut bytes);
        let found = decode_frame(&bytes, generation, unit * 8).map_err(|error| error.damage);
        prop_assert_eq!(found, Err(Damage::Checksum));
    }
}

fn sample() -> Vec<u8> {
    tierce_fuzz::samples::decode_manifest().remove(1)
}

/// Goal: every single-bit flip in header or frames is detected, at the frame it is in.
#[test]
fn every_flip_is_detected() {
    let bytes = sample();
    let (whole, damage) = read(&bytes).expect("sound");
    assert_eq!(damage, None);
    for bit in 0..bytes.len() * 8 {
        let Ok((frames, damage)) = read(&flipped(&bytes, bit)) else {
            continue;
        };
        assert!(damage.is_some(), "bit {bit} went unnoticed");
        let before: u64 = frames.iter().map(|frame| frame.bytes).sum();
        assert!(
            before as usize + MANIFEST_HEADER_BYTES <= bit / 8,
            "bit {bit} was noticed too late"
        );
        assert_eq!(frames[..], whole[..frames.len()], "bit {bit} changed an earlier frame");
    }
}

/// Goal: a manifest cut anywhere but between two frames is an error, and gives the frames before the cut.
#[test]
fn every_truncation_is_an_error() {
    let bytes = sample();
    let (whole, _) = read(&bytes).expect("sound");
    let mut ends = vec![MANIFEST_HEADER_BYTES];
    ends.extend(whole.iter().scan(MANIFEST_HEADER_BYTES, |end, frame| {
        *end += frame.bytes as usize;
        Some(*end)
    }));
    for length in 0..bytes.len() {
        match read(&bytes[..length]) {
            Err(_) => assert!(length < MANIFEST_HEADER_BYTES, "cut at {length}"),
            Ok((frames, damage)) => {
                assert_eq!(damage.is_none(), ends.contains(&length), "cut at {length}");
                assert_eq!(frames.len(), ends.iter().filter(|&&end| end <= length).count() - 1);
            }
        }
    }
}

/// Goal: a newer major version is told apart from damage, a newer minor one is read, reserved bytes are checked.
#[test]
fn header_versions_and_fields_are_checked() {
    let bytes = sample();
    let changed = |at, field: &[u8]| {
        let bytes = patched(&bytes, at, field);
        let sum = checksum(&bytes[..60]);
        patched(&bytes, 60, &sum.to_le_bytes())
    };
    let damage = |at, field: &[u8]| {
        ManifestHeader::decode(&changed(at, field)).err().map(|error| error.damage)
    };
    let newer = (FORMAT_MAJOR + 1).to_le_bytes();
    assert_eq!(damage(8, &newer), Some(Damage::Field("major version")));
    assert_eq!(newer_major(&changed(8, &newer), MANIFEST_MAGIC), Some(FORMAT_MAJOR + 1));
    assert_eq!(damage(10, &[9]), None, "a newer minor version is readable");
    for at in [12, 15, 56, 59] {
        assert_eq!(damage(at, &[1]), Some(Damage::Field("manifest reserved")), "byte {at}");
    }
    assert_eq!(damage(0, &[0]), Some(Damage::Magic));
}

/// Goal: an edit of an unknown kind is ignored if it is marked skippable and refused if not.
#[test]
fn unknown_edits_say_what_to_do() {
    let kind = |kind: u16, flags: u16| {
        move |bytes: &mut Vec<u8>| {
            bytes[FRAME_BYTES..FRAME_BYTES + 2].copy_from_slice(&kind.to_le_bytes());
            bytes[FRAME_BYTES + 2..FRAME_BYTES + 4].copy_from_slice(&flags.to_le_bytes());
        }
    };
    let property = || Edit::Property { name: b"name".to_vec(), value: b"value".to_vec() };
    let skipped = frame_with(property(), kind(700, 1)).expect("skippable");
    assert_eq!(skipped.edits, [Edit::Skipped(700)]);
    assert_eq!(frame_with(property(), kind(700, 0)), Err(Damage::Field("manifest edit")));
    assert_eq!(frame_with(property(), kind(0, 0)), Err(Damage::Field("manifest edit")));
}

/// Goal: an edit whose content is longer or shorter than its kind says is refused, under a good checksum too.
#[test]
fn edits_have_the_length_of_their_kind() {
    let at = FRAME_BYTES + 4;
    let content = |edit: &Edit| {
        let mut bytes = Vec::new();
        encode_frame(std::slice::from_ref(edit), 1, 1, 64, &mut bytes);
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    };
    let is_fixed = |edit: &Edit| {
        !matches!(edit, Edit::Property { .. } | Edit::Skipped(_) | Edit::Replace { .. })
    };
    for edit in tierce_fuzz::samples::edits().into_iter().filter(is_fixed) {
        for length in [content(&edit).wrapping_sub(8), content(&edit) + 8] {
            let resized = |bytes: &mut Vec<u8>| {
                let payload = length.wrapping_add(EDIT_BYTES as u32);
                bytes.resize(FRAME_BYTES + (payload.min(1000) as usize).next_multiple_of(8), 0);
                bytes[4..8].copy_from_slice(&payload.min(1000).to_le_bytes());
                if bytes.len() >= at + 4 {
                    bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
                }
            };
            let found = frame_with(edit.clone(), resized);
            let is_empty = found.as_ref().is_ok_and(|frame| frame.edits.is_empty());
            assert!(found.is_err() || is_empty, "{edit:?} with {length} bytes: {found:?}");
        }
    }
}
