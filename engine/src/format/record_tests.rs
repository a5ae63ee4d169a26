//! Records, encoded and decoded.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use super::*;

fn sample() -> (Vec<u8>, usize) {
    let mut items = Vec::new();
    push_item(&mut items, ITEM_SCOPE, b"space");
    let draft = Draft {
        kind: Kind::Put,
        flags: Flags::FRESH,
        key: b"key",
        value: b"some value",
        expires_at: Some(Timestamp(77)),
        extension: Some(Extension { codec: 1, schema: 2, items: &items }),
    };
    let mut bytes = Vec::new();
    let head_bytes = encode(&draft, &mut bytes);
    let flags = flags_of(&bytes);
    stamp(&mut bytes, head_bytes, SequenceNumber(9), flags, 5, 4096);
    (bytes, head_bytes)
}

/// Goal: every field comes back as it was given.
#[test]
fn a_record_round_trips() {
    let (bytes, head_bytes) = sample();
    let Ok(Decoded::Head(head)) = decode_head(&bytes, 5, 4096) else { panic!("no head") };
    assert_eq!(
        (head.kind, head.key, head.sequence),
        (Some(Kind::Put), &b"key"[..], SequenceNumber(9))
    );
    assert_eq!(head.head_bytes, head_bytes);
    assert_eq!(head.expires_at, Some(Timestamp(77)));
    let extension = head.extension.expect("there is one");
    assert_eq!((extension.codec, extension.schema), (1, 2));
    assert_eq!(extension.scopes().collect::<Vec<_>>(), [b"space"]);
    assert_eq!(verify_value(&bytes, &head).expect("sound"), b"some value");
    assert_eq!(head.record_bytes, bytes.len() as u64);
    assert_eq!(claimed_bytes(&bytes), Some(bytes.len() as u64));
}

/// Goal: every single-bit flip anywhere in a record is detected.
#[test]
fn every_bit_flip_is_detected() {
    let (bytes, _) = sample();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let sound = match decode_head(&flipped, 5, 4096) {
            Ok(Decoded::Head(head)) => verify_value(&flipped, &head).is_ok(),
            Ok(Decoded::Unwritten) | Err(_) => false,
        };
        assert!(!sound, "flip of bit {bit} went unnoticed");
    }
}

/// Goal: a record moved to another offset or another segment does not validate.
#[test]
fn a_moved_record_does_not_validate() {
    let (bytes, _) = sample();
    assert!(decode_head(&bytes, 5, 4104).is_err());
    assert!(decode_head(&bytes, 6, 4096).is_err());
}
