//! Records: round trips of every kind, and every way in which one can be wrong.

use proptest::{collection::vec, option, prelude::*, sample::select};
use tierce_engine::{
    Damage, SequenceNumber, Timestamp,
    format::{
        checksum::{checksum, checksum_from, seed},
        record::{
            Commit, Decoded, Draft, Extension, Flags, HEADER_BYTES, Head, ITEM_COMPRESSION,
            ITEM_SCOPE, ITEM_SEAL, ITEM_STORED_AT, ITEM_TOUCHED, Kind, check_items, claimed_bytes,
            decode_head, encode, flags_of, push_item, stamp, verify_value,
        },
    },
};

use super::{flipped, patched};

const KINDS: &[Kind] =
    &[Kind::Put, Kind::Delete, Kind::Touch, Kind::Commit, Kind::ScopeCut, Kind::Note];

const FLAGS: &[Flags] =
    &[Flags::BATCH, Flags::FRESH, Flags::COMPRESSED, Flags::EVICTABLE, Flags::SKIPPABLE];

/// Codec, schema, items.
type Extended = (u8, u32, Vec<(u8, Vec<u8>)>);

/// Everything a record can say, owned.
#[derive(Clone, Debug)]
struct Record {
    kind: Kind,
    flags: Flags,
    key: Vec<u8>,
    value: Vec<u8>,
    expires_at: Option<Timestamp>,
    extension: Option<Extended>,
    sequence: SequenceNumber,
    salt: u64,
    offset: u64,
}

impl Record {
    fn items(&self) -> Vec<u8> {
        let mut items = Vec::new();
        for (kind, bytes) in self.extension.iter().flat_map(|(_, _, items)| items) {
            push_item(&mut items, *kind, bytes);
        }
        items
    }

    /// The flags it has on disk: two of them follow from its fields.
    fn flags_on_disk(&self) -> Flags {
        let mut flags = self.flags;
        if self.expires_at.is_some() {
            flags = flags.with(Flags::EXPIRES);
        }
        if self.extension.is_some() {
            flags = flags.with(Flags::EXTENDED);
        }
        flags
    }

    fn encode(&self) -> Vec<u8> {
        let items = self.items();
        let extension = self.extension.as_ref().map(|(codec, schema, _)| Extension {
            codec: *codec,
            schema: *schema,
            items: &items,
        });
        let draft = Draft {
            kind: self.kind,
            flags: self.flags,
            key: &self.key,
            value: &self.value,
            expires_at: self.expires_at,
            extension,
        };
        let mut bytes = Vec::new();
        let head_bytes = encode(&draft, &mut bytes);
        let flags = flags_of(&bytes);
        stamp(&mut bytes, head_bytes, self.sequence, flags, self.salt, self.offset);
        bytes
    }
}

/// One well-formed extension item.
fn item() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![
        vec(any::<u8>(), 1..40).prop_map(|name| (ITEM_SCOPE, name)),
        vec(any::<u8>(), 8).prop_map(|bytes| (ITEM_TOUCHED, bytes)),
        vec(any::<u8>(), 5).prop_map(|bytes| (ITEM_COMPRESSION, bytes)),
        vec(any::<u8>(), 0..20).prop_map(|bytes| (ITEM_SEAL, bytes)),
        (0x20..=0xffu8, vec(any::<u8>(), 0..255)),
    ]
}

/// Bytes of an item, often of a length that some kind demands.
fn item_bytes() -> impl Strategy<Value = Vec<u8>> {
    select(vec![0usize, 1, 5, 8, 11]).prop_flat_map(|length| vec(any::<u8>(), length))
}

fn record() -> impl Strategy<Value = Record> {
    (
        (select(KINDS), vec(select(FLAGS), 0..5)),
        (
            prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 65_535)],
            vec(any::<u8>(), 0..200),
        ),
        option::of(any::<u64>().prop_map(Timestamp)),
        option::of((any::<u8>(), any::<u32>(), vec(item(), 0..5))),
        (1..=u64::MAX, any::<u64>(), (0..1u64 << 28).prop_map(|unit| unit * 8)),
    )
        .prop_map(
            |((kind, flags), (key, value), expires_at, extension, (sequence, salt, offset))| {
                Record {
                    kind,
                    flags: flags.into_iter().fold(Flags::default(), Flags::with),
                    key,
                    value,
                    expires_at,
                    extension,
                    sequence: SequenceNumber(sequence),
                    salt,
                    offset,
                }
            },
        )
}

fn head_of(bytes: &[u8], salt: u64, offset: u64) -> Head<'_> {
    match decode_head(bytes, salt, offset) {
        Ok(Decoded::Head(head)) => head,
        other => panic!("no head: {other:?}"),
    }
}

/// Whether head and value both hold.
fn is_sound(bytes: &[u8], salt: u64, offset: u64) -> bool {
    match decode_head(bytes, salt, offset) {
        Ok(Decoded::Head(head)) => verify_value(bytes, &head).is_ok(),
        _ => false,
    }
}

/// What a head says is damaged, or nothing.
fn damage_of(bytes: &[u8]) -> Option<Damage> {
    decode_head(bytes, 7, 4096).err().map(|error| error.damage)
}

/// A small record of each kind, with an extension and an expiry on some.
fn samples() -> Vec<Record> {
    let one = |kind: &Kind| Record {
        kind: *kind,
        flags: Flags::FRESH,
        key: b"key".to_vec(),
        value: b"some value".to_vec(),
        expires_at: (*kind as u8).is_multiple_of(2).then_some(Timestamp(77)),
        extension: (*kind as u8)
            .is_multiple_of(3)
            .then(|| (1, 2, vec![(ITEM_SCOPE, b"space".to_vec())])),
        sequence: SequenceNumber(9),
        salt: 7,
        offset: 4096,
    };
    KINDS.iter().map(one).collect()
}

/// Puts the head checksum of a record with salt 7 at 4096 right again.
fn with_head_checksum(mut bytes: Vec<u8>, head_bytes: usize) -> Vec<u8> {
    let sum = checksum_from(seed(7, 4096), &bytes[4..head_bytes]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

proptest! {
    /// Goal: every field of every kind comes back, whatever stands behind the record.
    #[test]
    fn records_round_trip(record in record(), behind in vec(any::<u8>(), 0..32)) {
        let mut bytes = record.encode();
        let length = bytes.len() as u64;
        bytes.extend(behind);
        let head = head_of(&bytes, record.salt, record.offset);
        prop_assert_eq!(head.kind, Some(record.kind));
        prop_assert_eq!(head.flags, record.flags_on_disk());
        prop_assert_eq!(head.sequence, record.sequence);
        prop_assert_eq!(head.expires_at, record.expires_at);
        prop_assert_eq!(head.key, &record.key[..]);
        prop_assert_eq!(head.record_bytes, length);
        prop_assert_eq!(length % 8, 0);
        prop_assert_eq!(claimed_bytes(&bytes), Some(length));
        prop_assert_eq!(verify_value(&bytes, &head), Ok(&record.value[..]));
        let extension = head.extension.map(|extension| {
            let items: Vec<_> = extension.items().map(|(kind, bytes)| (kind, bytes.to_vec())).collect();
            (extension.codec, extension.schema, items)
        });
        prop_assert_eq!(extension, record.extension);
    }

    /// Goal: a record copied to another place, or read with another segment's salt, does not validate (I13).
    #[test]
    fn a_record_is_bound_to_its_place(record in record(), salt: u64, unit in 0..1u64 << 28) {
        let bytes = record.encode();
        prop_assume!(seed(salt, unit * 8) != seed(record.salt, record.offset));
        let head_only = decode_head(&bytes, salt, unit * 8);
        prop_assert_eq!(head_only.map(|_| ()).map_err(|error| error.damage), Err(Damage::Checksum));
    }

    /// Goal: a record restamped for another place is sound there, and says the same.
    #[test]
    fn a_record_can_be_moved(record in record(), salt: u64, unit in 0..1u64 << 28) {
        let mut bytes = record.encode();
        let head_bytes = head_of(&bytes, record.salt, record.offset).head_bytes;
        let flags = flags_of(&bytes);
        stamp(&mut bytes, head_bytes, record.sequence, flags, salt, unit * 8);
        let head = head_of(&bytes, salt, unit * 8);
        prop_assert_eq!(head.key, &record.key[..]);
        prop_assert_eq!(verify_value(&bytes, &head), Ok(&record.value[..]));
    }

    /// Goal: a commit marker comes back, and no other length is one.
    #[test]
    fn commit_markers_round_trip(
        durable_offset: u64, durable_sequence: u64, batch_records: u32, batch_checksum: u32, length in 0..48usize,
    ) {
        let durable_sequence = SequenceNumber(durable_sequence);
        let commit = Commit { durable_offset, durable_sequence, batch_records, batch_checksum };
        prop_assert_eq!(Commit::decode(&commit.encode()), Ok(commit));
        let other = vec![0; length];
        prop_assert_eq!(Commit::decode(&other).is_ok(), length == Commit::BYTES);
    }

    /// Goal: items are whole items of known or skippable kinds, or are refused.
    #[test]
    fn items_are_checked(items in vec((prop_oneof![0..8u8, any::<u8>()], item_bytes()), 0..4), cut in 0..40usize) {
        let is_known = |(kind, bytes): &(u8, Vec<u8>)| match *kind {
            ITEM_SCOPE => !bytes.is_empty(),
            ITEM_TOUCHED => bytes.len() == 8,
            ITEM_COMPRESSION => bytes.len() == 5,
            kind => kind == ITEM_SEAL || kind >= 0x20,
        };
        let mut encoded = Vec::new();
        for (kind, bytes) in &items {
            push_item(&mut encoded, *kind, bytes);
        }
        prop_assert_eq!(check_items(&encoded).is_ok(), items.iter().all(is_known));
        let mut ends = vec![0];
        ends.extend(items.iter().scan(0, |end, item| { *end += item.1.len() + 2; Some(*end) }));
        if cut < encoded.len() && !ends.contains(&cut) {
            prop_assert!(check_items(&encoded[..cut]).is_err(), "cut at {}", cut);
        }
    }
}

/// Goal: every single-bit flip anywhere in a record of any kind is detected.
#[test]
fn every_flip_is_detected() {
    for record in samples() {
        let bytes = record.encode();
        for bit in 0..bytes.len() * 8 {
            assert!(!is_sound(&flipped(&bytes, bit), 7, 4096), "{:?}: bit {bit}", record.kind);
        }
    }
}

/// Goal: a record cut anywhere is an error, never a shorter record.
#[test]
fn every_truncation_is_an_error() {
    for record in samples() {
        let bytes = record.encode();
        for length in 0..bytes.len() {
            let cut = decode_head(&bytes[..length], 7, 4096);
            assert!(cut.is_err(), "{:?} cut at {length}: {cut:?}", record.kind);
        }
    }
}

/// Goal: space that was never written is told from records and from damage, however long it is.
#[test]
fn zeros_are_unwritten_space() {
    for length in [HEADER_BYTES, 128, 4096] {
        let zeros = vec![0; length];
        assert!(matches!(decode_head(&zeros, 7, 4096), Ok(Decoded::Unwritten)), "{length}");
    }
    let mut almost = vec![0; 128];
    almost[HEADER_BYTES - 1] = 1;
    assert!(decode_head(&almost, 7, 4096).is_err());
}

/// Goal: a kind that is not known is ignored if it is marked skippable and refused if not.
#[test]
fn unknown_kinds_say_what_to_do() {
    let note = &samples()[5];
    for (flags, kind) in [(Flags::SKIPPABLE, 200), (Flags::default(), 200), (Flags::SKIPPABLE, 0)] {
        let bytes = Record { flags, ..note.clone() }.encode();
        let head_bytes = head_of(&bytes, 7, 4096).head_bytes;
        let changed = with_head_checksum(patched(&bytes, 4, &[kind]), head_bytes);
        if flags.has(Flags::SKIPPABLE) {
            let head = head_of(&changed, 7, 4096);
            assert_eq!((head.kind, head.record_bytes), (None, bytes.len() as u64));
        } else {
            assert_eq!(damage_of(&changed), Some(Damage::Field("kind")));
        }
    }
}

/// Goal: an unknown item that is marked skippable is kept and ignored; any other is refused.
#[test]
fn unknown_items_say_what_to_do() {
    let with_item = |kind| {
        let items = vec![(kind, b"later".to_vec()), (ITEM_SCOPE, b"space".to_vec())];
        Record { extension: Some((0, 0, items)), ..samples()[0].clone() }.encode()
    };
    let skippable = with_item(ITEM_STORED_AT + 1);
    let extension = head_of(&skippable, 7, 4096).extension.expect("it was written with one");
    assert_eq!(extension.items().count(), 2);
    assert_eq!(extension.scopes().collect::<Vec<_>>(), [b"space"]);
    assert_eq!(damage_of(&with_item(0x1f)), Some(Damage::Field("extension item")));
}

/// Goal: fields that have one legal value are refused with any other, even under a good checksum.
#[test]
fn impossible_fields_are_refused() {
    let bytes = samples()[2].encode();
    let head = head_of(&bytes, 7, 4096);
    let (head_bytes, flags) = (head.head_bytes, head.flags.0);
    let damage =
        |at, field: &[u8]| damage_of(&with_head_checksum(patched(&bytes, at, field), head_bytes));
    assert_eq!(damage(5, &[flags | 0x80]), Some(Damage::Field("flags")));
    assert_eq!(damage(16, &[0; 8]), Some(Damage::Field("sequence")));
    assert_eq!(damage(HEADER_BYTES + 3, &[1]), Some(Damage::Field("extension reserved")));
    assert_eq!(damage(12, &[1]), None, "the value checksum is the value's business");
}

/// Goal: a value cannot stand in for another, even one with a good checksum of its own.
#[test]
fn values_cannot_be_exchanged() {
    let first = samples()[0].encode();
    let second = Record { value: b"else value".to_vec(), ..samples()[0].clone() }.encode();
    let at = head_of(&first, 7, 4096).head_bytes;
    let mixed = patched(&first, at, &second[at..]);
    let head = head_of(&mixed, 7, 4096);
    assert_eq!(checksum(&second[at..]), head_of(&second, 7, 4096).value_checksum);
    assert!(verify_value(&mixed, &head).is_err());
}
