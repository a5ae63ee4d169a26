//! Self-describing codecs for every serde type. Each of them reads what the other wrote, so that a space can change.

use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, inspect, unknown, unreadable};
use crate::error::BoxError;

/// [MessagePack](https://github.com/msgpack/msgpack/blob/master/spec.md) with field names: fields may be added, given
/// a default, and dropped. The default.
///
/// Types that have a text form, such as IP addresses and times, are written as text (`is_human_readable`), so that
/// `#[serde(flatten)]`, `tag` and `untagged` work with them. A value that its type cannot read back is refused when it
/// is written: an `i128` inside of a flattened struct, or `Some(None)` and `Some(())`, which would be read as `None`.
///
/// ```
/// use tierce::codec::{Codec, MsgPack};
/// let mut out = Vec::new();
/// MsgPack::encode(&vec![1, 2, 3], &mut out)?;
/// let back: Vec<i32> = MsgPack::decode(&out, 1, 0)?;
/// assert_eq!(back, [1, 2, 3]);
/// # Ok::<(), tierce::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum MsgPack {}

/// JSON text: larger and slower than [`MsgPack`], and readable with anything. It has no NaN and no infinity: a value with
/// one in it is refused, rather than be read as a null. So is a value that its type cannot read back: one with more than
/// 128 levels, maps with number keys inside of a flattened struct, or `Some(None)` and `Some(())`, which would be read
/// as `None`.
///
/// ```
/// use tierce::codec::{Codec, Json};
/// let mut out = Vec::new();
/// Json::encode(&("a".to_owned(), 1), &mut out)?;
/// assert_eq!(out, br#"["a",1]"#);
/// # Ok::<(), tierce::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Json {}

const MSGPACK: u8 = 1;
const JSON: u8 = 2;
/// MessagePack for `None` and `()`.
const NIL: u8 = 0xc0;
/// Whether types with a text form and a binary form are written as text. Serde buffers values for `flatten`, `tag` and
/// `untagged`, and what it buffers is read as text whatever the format says.
const IS_READABLE: bool = true;

impl<V: Serialize + DeserializeOwned> Codec<V> for MsgPack {
    const ID: u8 = MSGPACK;

    fn encode(value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let start = out.len();
        let mut writer =
            rmp_serde::Serializer::new(&mut *out).with_struct_map().with_human_readable();
        value.serialize(&mut writer)?;
        let written = out.get(start..).unwrap_or_default();
        let back: V = read_msgpack(written, IS_READABLE).map_err(unreadable)?;
        // No text has the byte of a nil in it, so most values need no second look.
        let nothings = if written.contains(&NIL) { inspect::inspect(value).nothings } else { 0 };
        check_nothings(nothings, &back)
    }

    fn decode(bytes: &[u8], id: u8, _schema: u32) -> Result<V, BoxError> {
        decode(bytes, id)
    }
}

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    const ID: u8 = JSON;

    fn encode(value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let nothings = inspect::check(value)?.nothings;
        let start = out.len();
        serde_json::to_writer(&mut *out, value)?;
        let back: V = decode(out.get(start..).unwrap_or_default(), JSON).map_err(unreadable)?;
        check_nothings(nothings, &back)
    }

    fn decode(bytes: &[u8], id: u8, _schema: u32) -> Result<V, BoxError> {
        decode(bytes, id)
    }
}

/// What is wrong with the bytes, in words that have none of them in it: values may be secret.
fn tell(error: impl std::fmt::Display) -> BoxError {
    let text = error.to_string();
    let is_ours =
        ["missing field", "duplicate field", "invalid length", "EOF", "wrong msgpack marker"];
    match text.rsplit_once(", expected ") {
        _ if is_ours.iter().any(|start| text.starts_with(start)) => text.into(),
        Some((_, expected)) if text.starts_with("invalid type: ") => {
            format!("it is of another type, expected {expected}").into()
        }
        _ => "it cannot be read as this type".into(),
    }
}

fn decode<V: DeserializeOwned>(bytes: &[u8], id: u8) -> Result<V, BoxError> {
    match id {
        // Other programs write the binary forms, as does `rmp_serde` unless it is told.
        MSGPACK => read_msgpack(bytes, IS_READABLE)
            .or_else(|error| read_msgpack(bytes, !IS_READABLE).map_err(|_| error)),
        JSON => serde_json::from_slice(bytes).map_err(tell),
        other => Err(unknown(other)),
    }
}

fn read_msgpack<V: DeserializeOwned>(bytes: &[u8], is_readable: bool) -> Result<V, BoxError> {
    let mut rest = bytes;
    let reader = rmp_serde::Deserializer::new(&mut rest);
    let value = if is_readable {
        V::deserialize(&mut reader.with_human_readable())
    } else {
        V::deserialize(&mut { reader })
    };
    let value = value.map_err(tell)?;
    if rest.is_empty() { Ok(value) } else { Err("there are bytes behind the value".into()) }
}

/// Refuses a value that has more of `Some(None)` and the like than `back`, which was read from its bytes.
fn check_nothings<V: Serialize>(nothings: u64, back: &V) -> Result<(), BoxError> {
    if nothings == 0 || inspect::inspect(back).nothings == nothings {
        return Ok(());
    }
    Err("it has a `Some` of nothing, such as `Some(None)` or `Some(())`, which this codec would read as `None`; use an enum".into())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::Deserialize;

    use super::*;

    fn round<C: Codec<V>, V>(value: &V) -> V {
        let mut out = Vec::new();
        C::encode(value, &mut out).unwrap();
        C::decode(&out, C::ID, C::SCHEMA).unwrap()
    }

    /// Goal: what JSON files of others lose on the way survives: number keys, sets, tuples, nothing inside something.
    #[test]
    fn msgpack_keeps_what_is_hard() {
        let map =
            BTreeMap::from([(1_u64, BTreeSet::from([(1_i8, true)])), (u64::MAX, BTreeSet::new())]);
        assert_eq!(round::<MsgPack, _>(&map), map);
        assert_eq!(round::<MsgPack, _>(&Some(i64::MIN)), Some(i64::MIN));
        assert_eq!(round::<MsgPack, Option<Vec<()>>>(&None), None);
        assert!(round::<MsgPack, _>(&f64::NAN).is_nan());
        assert_eq!(round::<MsgPack, _>(&-0.0_f64).to_bits(), (-0.0_f64).to_bits());
        assert_eq!(round::<MsgPack, _>(&"\u{b0}C\0".to_owned()), "\u{b0}C\0");
    }

    /// Goal: an error says which field is missing, or what was expected, and nothing of what was found.
    #[test]
    fn errors_have_no_values_in_them() {
        #[derive(Debug, Deserialize, serde::Serialize)]
        enum Only {
            One,
        }
        let secret = "secret, expected secret".to_owned();
        for json in [false, true] {
            let mut out = Vec::new();
            if json { Json::encode(&secret, &mut out) } else { MsgPack::encode(&secret, &mut out) }
                .unwrap();
            let id = if json { JSON } else { MSGPACK };
            let number = decode::<u32>(&out, id).unwrap_err().to_string();
            assert!(!number.contains("secret"), "{number}");
            assert!(!json || number.contains("expected u32"), "{number}");
            for error in [
                decode::<Only>(&out, id).unwrap_err(),
                decode::<char>(&out, id).unwrap_err(),
                decode::<std::net::IpAddr>(&out, id).unwrap_err(),
            ] {
                assert!(!error.to_string().contains("secret"), "{error}");
            }
        }
    }

    /// Goal: what JSON has no number for is refused, and is not a null afterwards.
    #[test]
    fn json_refuses_what_it_has_not() {
        let mut out = Vec::new();
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Json::encode(&Some(number), &mut out).is_err());
            assert!(Json::encode(&BTreeMap::from([(1, vec![number])]), &mut out).is_err());
        }
        assert_eq!(round::<Json, _>(&Some(f64::MAX)), Some(f64::MAX));
        assert_eq!(round::<Json, _>(&u128::MAX), u128::MAX);
        assert_eq!(round::<Json, _>(&BTreeMap::from([(1, 1)])), BTreeMap::from([(1, 1)]));
    }

    #[test]
    fn each_reads_the_other() {
        let mut out = Vec::new();
        <Json as Codec<Vec<u8>>>::encode(&vec![1, 2], &mut out).unwrap();
        assert_eq!(<MsgPack as Codec<Vec<u8>>>::decode(&out, JSON, 0).unwrap(), [1, 2]);
        assert!(<MsgPack as Codec<Vec<u8>>>::decode(&out, 9, 0).is_err());
    }

    #[test]
    fn fields_may_come_and_go() {
        #[derive(Serialize, Deserialize)]
        struct Old {
            kept: u8,
            dropped: String,
        }
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct New {
            kept: u8,
            #[serde(default)]
            added: Option<u8>,
        }
        let mut out = Vec::new();
        MsgPack::encode(&Old { kept: 7, dropped: "x".into() }, &mut out).unwrap();
        assert_eq!(MsgPack::decode(&out, 1, 0).ok(), Some(New { kept: 7, added: None }));
    }

    #[test]
    fn hostile_bytes_are_an_error() {
        for bytes in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
            &[0xc1],
            &[],
            &[0x01, 0x02],
            &[0xdb, 0xff, 0xff, 0xff],
        ] {
            assert!(<MsgPack as Codec<Vec<u32>>>::decode(bytes, MSGPACK, 0).is_err(), "{bytes:?}");
            assert!(<MsgPack as Codec<u8>>::decode(bytes, MSGPACK, 0).is_err(), "{bytes:?}");
        }
    }
}
