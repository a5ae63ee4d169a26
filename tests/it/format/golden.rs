//! Bytes that were computed by another program from the tables of `docs/format.md`, with another CRC-32: what we
//! write is these bytes, and what we read from them is what they were made of.

use tierce_engine::{
    SegmentId, SequenceNumber, Timestamp,
    format::{
        checkpoint::{CheckpointHeader, LAYOUT_SHARDED},
        checksum::checksum,
        footer::{FooterDraft, FooterEntry, FromAddress, Trailer, encode_footer},
        manifest::{Edit, ManifestHeader, encode_frame},
        record::{
            Commit, Draft, Extension, Flags, ITEM_SCOPE, ITEM_STORED_AT, Kind, encode, flags_of,
            push_item, stamp,
        },
        segment_header::SegmentHeader,
    },
};

const RECORD: &str = "80d343a9014503000500000038671cc809000000000000000500000000000000110001000200000001057370616365\
    810807000000000000006b657976616c756500000000000000";
const COMMIT: &str = "0010000000000000080000000000000002000000efbeadde";
const MANIFEST: &str = "5449455243454d46010000000000000007070707070707070707070707070707080000000000000009000000000000\
    0002000000000000000000000057224298c1702feb18000000010000000000000004000000080000000300000000000000080000000000\
    0000";
const SEGMENT: &str = "5449455243455347010000000100000007070707070707070707070707070707030000000000000004000000000000\
    00050000000000000006000000000000000700000000000000080000000000000009090909090909090909090909090909020000000000\
    000001000000000000000200000000000000";
const FOOTER: &str = "8877665544332211000000000000020400020000050000000100000000040000544945524345465401000100010000\
    0028100000000000000a000000000000000b00000000000000ffffffffffffffff00000000000000000500000000000000010000000000\
    00000000000000000000280000000000000056e43bba0c00000003000000000000000400000000000000000000000000000000000000c9\
    c7b558";
const CHECKPOINT: &str = "54494552434543500100000001000000070707070707070707070707070707070800000000000000090000000000\
    00000a000000000000000b0000000000000001000000000000000000000000000000000000000000000000000000\
    5114b093";

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// Goal: the checksum is the one everybody calls CRC-32.
#[test]
fn the_checksum_is_crc_32() {
    assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
}

/// Goal: a record with expiry and extension stands as the table says.
#[test]
fn a_record_is_these_bytes() {
    let mut items = Vec::new();
    push_item(&mut items, ITEM_SCOPE, b"space");
    push_item(&mut items, ITEM_STORED_AT, &7u64.to_le_bytes());
    let draft = Draft {
        kind: Kind::Put,
        flags: Flags::FRESH,
        key: b"key",
        value: b"value",
        expires_at: Some(Timestamp(5)),
        extension: Some(Extension { codec: 1, schema: 2, items: &items }),
    };
    let mut bytes = Vec::new();
    let head_bytes = encode(&draft, &mut bytes);
    let flags = flags_of(&bytes);
    stamp(&mut bytes, head_bytes, SequenceNumber(9), flags, 0x5eed, 4096);
    assert_eq!(bytes, bytes_of(RECORD));
    let commit = Commit {
        durable_offset: 4096,
        durable_sequence: SequenceNumber(8),
        batch_records: 2,
        batch_checksum: 0xdead_beef,
    };
    assert_eq!(commit.encode()[..], bytes_of(COMMIT));
}

/// Goal: a manifest of one frame stands as the tables say.
#[test]
fn a_manifest_is_these_bytes() {
    let header =
        ManifestHeader { store_id: [7; 16], hash_seed: 8, created: Timestamp(9), generation: 2 };
    let mut bytes = header.encode().to_vec();
    encode_frame(&[Edit::Retire(SegmentId(3)), Edit::Clean], 2, 1, 64, &mut bytes);
    assert_eq!(bytes, bytes_of(MANIFEST));
}

/// Goal: a segment header stands as the table says.
#[test]
fn a_segment_header_is_these_bytes() {
    let mut bytes = bytes_of(SEGMENT);
    bytes.resize(4092, 0);
    bytes.extend([0xce, 0x2d, 0xc8, 0x68]);
    let header = SegmentHeader::decode(&bytes).expect("sound");
    assert_eq!(header.encode(), bytes);
    let order =
        (header.id.0, header.salt, header.horizon.0, header.first_sequence.0, header.created.0);
    assert_eq!((order, header.monotonic_ms, header.class.0), ((3, 4, 5, 6, 7), 8, 1));
    assert_eq!((header.store_id, header.boot_id), ([7; 16], [9; 16]));
    assert_eq!(header.parents, [SegmentId(1), SegmentId(2)]);
}

/// Goal: a footer of one entry with its from-address stands as the tables say.
#[test]
fn a_footer_is_these_bytes() {
    let entry = FooterEntry {
        hash: 0x1122_3344_5566_7788,
        sequence: SequenceNumber(10),
        kind: Kind::Delete,
        flags: Flags::FRESH,
        offset: 4096,
        bytes: 40,
    };
    let trailer = Trailer {
        id: SegmentId(3),
        salt: 4,
        horizon: SequenceNumber(5),
        records_end: 4136,
        entries: 0,
        has_from: false,
        sequence_min: SequenceNumber(0),
        sequence_max: SequenceNumber(11),
        expiry_min: Timestamp(u64::MAX),
        expiry_max: Timestamp(0),
        tombstones: 0,
        not_fresh: 0,
        expiring: 0,
        live_bytes: 40,
        extension_bytes: 0,
        entries_checksum: 0,
        records_checksum: 12,
    };
    let from = vec![FromAddress { parent: 1, offset: 8192 }];
    let (bytes, _) = encode_footer(FooterDraft { trailer, entries: vec![entry], from });
    assert_eq!(bytes, bytes_of(FOOTER));
}

/// Goal: the header of a checkpoint stands as the table says.
#[test]
fn a_checkpoint_header_is_these_bytes() {
    let header = CheckpointHeader {
        store_id: [7; 16],
        number: 8,
        sequence: SequenceNumber(9),
        created: Timestamp(10),
        hash_seed: 11,
        layout: LAYOUT_SHARDED,
        entries: 1,
    };
    assert_eq!(header.encode()[..], bytes_of(CHECKPOINT));
}
