//! Sound inputs to begin from, made by the encoders themselves.

use tierce_engine::{
    SegmentId, SequenceNumber, Timestamp,
    format::{
        checkpoint::{
            CheckpointHeader, CheckpointSegment, CheckpointTouch, LAYOUT_SHARDED, SECTION_CUTS,
            SECTION_END, SECTION_ENTRIES, SECTION_SEGMENTS, SECTION_TOUCHES, encode_cut,
            encode_section,
        },
        file_name as names,
        footer::{FooterDraft, FooterEntry, FromAddress, Trailer, encode_footer},
        manifest::{AddSegment, Edit, ManifestHeader, SealSegment, encode_frame},
        record::{
            Commit, Draft, Extension, Flags, ITEM_SCOPE, ITEM_STORED_AT, Kind, encode, flags_of,
            push_item, stamp,
        },
        segment_header::{Class, SegmentHeader},
    },
};

/// Records of every kind.
#[must_use]
pub fn decode_record() -> Vec<Vec<u8>> {
    let commit = Commit { durable_offset: 4096, batch_records: 2, ..Commit::default() }.encode();
    let mut items = Vec::new();
    push_item(&mut items, ITEM_SCOPE, b"space");
    push_item(&mut items, ITEM_STORED_AT, &7u64.to_le_bytes());
    let extension = Extension { codec: 1, schema: 2, items: &items };
    let sequence = 9u64.to_le_bytes();
    let draft = |kind, flags, key, value| Draft {
        kind,
        flags,
        key,
        value,
        expires_at: None,
        extension: None,
    };
    let none = Flags::default();
    let mut drafts = [
        draft(Kind::Put, Flags::FRESH, b"key", b"value"),
        draft(Kind::Put, Flags::EVICTABLE, b"key", b"value"),
        draft(Kind::Delete, Flags::BATCH, b"key", b""),
        draft(Kind::Touch, none, b"key", &sequence),
        draft(Kind::Commit, none, b"", &commit),
        draft(Kind::ScopeCut, none, b"space", b""),
        draft(Kind::Note, Flags::SKIPPABLE, b"", b"note"),
    ];
    drafts[1].extension = Some(extension);
    drafts[1].expires_at = Some(Timestamp(5));
    drafts[3].expires_at = Some(Timestamp(6));
    drafts.iter().map(stamped).collect()
}

/// The record as it would stand at 4096 of a segment with salt 0x5eed.
fn stamped(draft: &Draft<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head_bytes = encode(draft, &mut bytes);
    let flags = flags_of(&bytes);
    stamp(&mut bytes, head_bytes, SequenceNumber(9), flags, 0x5eed, 4096);
    bytes
}

/// A header with parents and one without.
#[must_use]
pub fn decode_segment_header() -> Vec<Vec<u8>> {
    let parents = vec![SegmentId(1), SegmentId(2)];
    let header = SegmentHeader {
        class: Class::REWRITTEN,
        store_id: [7; 16],
        id: SegmentId(3),
        salt: 4,
        horizon: SequenceNumber(5),
        first_sequence: SequenceNumber(6),
        created: Timestamp(7),
        monotonic_ms: 8,
        boot_id: [9; 16],
        parents,
    };
    let alone = SegmentHeader { class: Class::FOREGROUND, parents: Vec::new(), ..header.clone() };
    vec![header.encode(), alone.encode()]
}

/// Footers of none, one and many entries, with and without from-addresses.
#[must_use]
pub fn decode_footer() -> Vec<Vec<u8>> {
    let entry = |index: u64| FooterEntry {
        hash: index.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        sequence: SequenceNumber(10 + index),
        kind: if index.is_multiple_of(3) { Kind::Delete } else { Kind::Put },
        flags: if index.is_multiple_of(2) { Flags::FRESH } else { Flags::default() },
        offset: 4096 + index * 40,
        bytes: 40,
    };
    let from = |index: u64| FromAddress { parent: 0, offset: 8192 + index * 40 };
    let footer = |count: u64, has_from: bool| {
        let trailer = Trailer {
            id: SegmentId(3),
            salt: 4,
            horizon: SequenceNumber(5),
            records_end: 4096 + count * 40,
            entries: 0,
            has_from,
            sequence_min: SequenceNumber(0),
            sequence_max: SequenceNumber(10 + count),
            expiry_min: Timestamp(u64::MAX),
            expiry_max: Timestamp(u64::MAX),
            tombstones: 0,
            not_fresh: 0,
            expiring: 0,
            live_bytes: 40,
            extension_bytes: 0,
            entries_checksum: 0,
            records_checksum: 11,
        };
        let from = if has_from { (0..count).map(from).collect() } else { Vec::new() };
        encode_footer(FooterDraft { trailer, entries: (0..count).map(entry).collect(), from }).0
    };
    vec![footer(0, false), footer(1, false), footer(9, false), footer(9, true)]
}

/// Every edit there is.
#[must_use]
pub fn edits() -> Vec<Edit> {
    let (id, sequence) = (SegmentId(3), SequenceNumber(5));
    vec![
        Edit::Add(AddSegment {
            id,
            class: Class::COMPACTED,
            salt: 4,
            horizon: sequence,
            first_sequence: sequence,
        }),
        Edit::Seal(SealSegment {
            id,
            file_bytes: 8192,
            records_end: 5000,
            sequence_max: sequence,
            expiry_min: Timestamp(1),
            expiry_max: Timestamp(u64::MAX),
            entries: 6,
            tombstones: 1,
            not_fresh: 2,
            trailer_checksum: 0xdead_beef,
        }),
        Edit::Replace { inputs: vec![SegmentId(1), SegmentId(2)], outputs: vec![id], at: sequence },
        Edit::Retire(id),
        Edit::Checkpoint { number: 8, sequence },
        Edit::Clock(Timestamp(9)),
        Edit::Floors { segment: id, sequence },
        Edit::Quarantine(id),
        Edit::Property { name: b"name".to_vec(), value: b"value".to_vec() },
        Edit::Synced(sequence),
        Edit::Skipped(99),
        Edit::Clean,
    ]
}

/// A manifest with every edit in a frame of its own, then all in one.
#[must_use]
pub fn decode_manifest() -> Vec<Vec<u8>> {
    let header =
        ManifestHeader { store_id: [7; 16], hash_seed: 8, created: Timestamp(9), generation: 2 };
    let mut single = header.encode().to_vec();
    for (edit, number) in edits().into_iter().zip(1..) {
        let offset = single.len() as u64;
        encode_frame(&[edit], header.generation, number, offset, &mut single);
    }
    let mut whole = header.encode().to_vec();
    encode_frame(&edits(), header.generation, 1, whole.len() as u64, &mut whole);
    vec![header.encode().to_vec(), single, whole]
}

/// A checkpoint with a section of every kind, and an empty one.
#[must_use]
pub fn decode_checkpoint() -> Vec<Vec<u8>> {
    let header = CheckpointHeader {
        store_id: [7; 16],
        number: 8,
        sequence: SequenceNumber(9),
        created: Timestamp(10),
        hash_seed: 11,
        layout: LAYOUT_SHARDED,
        entries: 1,
    };
    let (mut segments, mut cuts, mut touches) = (Vec::new(), Vec::new(), Vec::new());
    for slot in 0..3 {
        let id = SegmentId(u64::from(slot) + 1);
        CheckpointSegment { slot, id, live_bytes: 40, live_records: 1 }.encode(&mut segments);
        encode_cut(SequenceNumber(u64::from(slot)), b"scope", &mut cuts);
        let expires_at = (slot > 0).then_some(Timestamp(12));
        CheckpointTouch { slot, offset: 4096, expires_at, sequence: SequenceNumber(4) }
            .encode(&mut touches);
    }
    let mut entries = [0u32.to_le_bytes(), 1u32.to_le_bytes()].concat();
    entries.extend_from_slice(&[0xab; 16]);
    let mut full = header.encode().to_vec();
    encode_section(SECTION_SEGMENTS, &segments, &mut full);
    encode_section(SECTION_ENTRIES, &entries, &mut full);
    encode_section(SECTION_CUTS, &cuts, &mut full);
    encode_section(SECTION_TOUCHES, &touches, &mut full);
    encode_section(SECTION_END, &[], &mut full);
    let mut empty = header.encode().to_vec();
    encode_section(SECTION_END, &[], &mut empty);
    vec![full, empty]
}

/// A name of every kind.
#[must_use]
pub fn file_name() -> Vec<Vec<u8>> {
    let id = SegmentId(0x00ab_cdef_0123_4567);
    let names = [
        names::LOCK.to_owned(),
        names::MANIFEST.to_owned(),
        names::MANIFEST_TMP.to_owned(),
        names::segment(id),
        names::segment_tmp(id),
        names::quarantine(id),
        names::checkpoint(9),
        names::checkpoint_tmp(9),
    ];
    names.into_iter().map(String::into_bytes).collect()
}
