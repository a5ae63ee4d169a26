//! Serde's shapes through every codec: a value comes back as it was, or it is refused when it is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    num::NonZeroU8,
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tierce::{
    Store,
    codec::{Codec, Json, MsgPack, Postcard},
};
use tierce_kit::{rng::Rng, seed::cases};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Unit;
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Newtype(Option<u8>);
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pair(u8, String);
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    One,
    Two,
}

/// Bytes as serde's bytes, not as a list of numbers.
#[derive(Debug, Clone)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Blob, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rest {
    shape: Shape,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Flat {
    name: String,
    #[serde(flatten)]
    rest: Rest,
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct FlatNumbers {
    name: String,
    #[serde(flatten)]
    numbers: BTreeMap<u32, Shape>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    Unit,
    Fields { shape: Shape, other: Option<u8> },
    Newtype(Rest),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", content = "content")]
enum Adjacent {
    Unit,
    Fields { shape: Shape },
    Newtype(Shape),
    Tuple(u8, Shape),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    One { one: Shape },
    Two { two: Shape },
}

/// A field that is left out, and that reading asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    list: Vec<u8>,
    last: u8,
}

fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<u8>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// The usual way to tell a null from what is missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Patch {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    field: Option<Option<u8>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Bool(bool),
    Signed(i8, i16, i32, i64),
    Unsigned(u8, u16, u32, u64),
    Wide(i128),
    WideUnsigned(u128),
    Single(f32),
    Double(f64),
    Char(char),
    Text(String),
    Bytes(Blob),
    Numbers(Vec<u8>),
    Empty(()),
    Unit(Unit),
    Maybe(Option<u32>),
    Twice(Option<Option<u8>>),
    MaybeUnit(Option<()>),
    MaybeUnitStruct(Option<Unit>),
    MaybeNewtype(Option<Newtype>),
    Newtype(Newtype),
    Pair(Pair),
    Tuple(u8, String, bool),
    Array([u16; 3]),
    Fields { first: u8, second: Option<String> },
    Result(Result<u8, String>),
    Set(BTreeSet<i64>),
    Ip(IpAddr),
    Socket(SocketAddr),
    Span(Duration),
    Moment(jiff::Timestamp),
    Path(PathBuf),
    NonZero(NonZeroU8),
    Range(Range<u32>),
    Json(Value),
    MaybeJson(Option<Value>),
    ByNumber(BTreeMap<u32, u8>),
    ByBool(BTreeMap<bool, u8>),
    ByChar(BTreeMap<char, u8>),
    ByName(BTreeMap<Name, u8>),
    ByPair(BTreeMap<(u8, u8), u8>),
    ByMaybe(BTreeMap<Option<u8>, u8>),
    List(Vec<Shape>),
    Map(BTreeMap<String, Shape>),
    Flat(Box<Flat>),
    FlatNumbers(Box<FlatNumbers>),
    Internal(Box<Internal>),
    Adjacent(Box<Adjacent>),
    Untagged(Box<Untagged>),
    Skips(Skips),
    Patch(Patch),
    Deep(Value),
}

const LEAVES: u64 = 41;
const ALL: u64 = 51;

fn text(rng: &mut Rng) -> String {
    ["", "a", "null", "\u{b0}C\0", "-1", "NaN", "\u{1f980}"][pick(rng, 7)].to_owned()
}

fn pick(rng: &mut Rng, below: u64) -> usize {
    usize::try_from(rng.below(below)).unwrap()
}

fn wide(rng: &mut Rng) -> u128 {
    [0, 7, u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX][pick(rng, 5)]
}

fn maybe<T>(rng: &mut Rng, some: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    (!rng.one_in(2)).then(|| some(rng))
}

fn byte(rng: &mut Rng) -> u8 {
    rng.next_u64().to_le_bytes()[0]
}

fn some_json(rng: &mut Rng) -> Value {
    match rng.below(6) {
        0 => Value::Null,
        1 => serde_json::json!({"a": [1, -1, 0.5, null], "": {}}),
        2 => u64::MAX.into(),
        3 => i64::MIN.into(),
        4 => text(rng).into(),
        _ => true.into(),
    }
}

fn deep(levels: u64) -> Value {
    (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

fn leaf(rng: &mut Rng, which: u64) -> Shape {
    let bits = rng.next_u64();
    match which {
        0 => Shape::Nothing,
        1 => Shape::Bool(rng.one_in(2)),
        2 => Shape::Signed(i8::MIN, -1, i32::MAX, bits.cast_signed()),
        3 => Shape::Unsigned(byte(rng), u16::MAX, u32::MAX, bits),
        4 => Shape::Wide(wide(rng).cast_signed()),
        5 => Shape::WideUnsigned(wide(rng)),
        6 => Shape::Single([0.1, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE][pick(rng, 5)]),
        7 => Shape::Double([0.1, -0.0, f64::NAN, 1e300, f64::from_bits(bits)][pick(rng, 5)]),
        8 => Shape::Char(['a', '\0', '\u{10ffff}'][pick(rng, 3)]),
        9 => Shape::Text(text(rng)),
        10 => Shape::Bytes(Blob(vec![byte(rng), 0xc0, 0xff])),
        11 => Shape::Numbers(vec![byte(rng), 0xc0]),
        12 => Shape::Empty(()),
        13 => Shape::Unit(Unit),
        14 => Shape::Maybe(maybe(rng, |_| 7)),
        15 => Shape::Twice(maybe(rng, |rng| maybe(rng, byte))),
        16 => Shape::MaybeUnit(maybe(rng, |_| ())),
        17 => Shape::MaybeUnitStruct(maybe(rng, |_| Unit)),
        18 => Shape::MaybeNewtype(maybe(rng, |rng| Newtype(maybe(rng, byte)))),
        19 => Shape::Newtype(Newtype(maybe(rng, byte))),
        20 => Shape::Pair(Pair(byte(rng), text(rng))),
        21 => Shape::Tuple(byte(rng), text(rng), false),
        22 => Shape::Array([1, 0xc0, u16::MAX]),
        23 => Shape::Fields { first: byte(rng), second: maybe(rng, text) },
        24 => Shape::Result(if rng.one_in(2) { Ok(1) } else { Err(text(rng)) }),
        25 => Shape::Set([0, -1, bits.cast_signed()].into()),
        26 => Shape::Ip(["192.168.1.7", "::1"][pick(rng, 2)].parse().unwrap()),
        27 => Shape::Socket(["10.0.0.1:80", "[::1]:8080"][pick(rng, 2)].parse().unwrap()),
        28 => Shape::Span(Duration::new(bits >> 1, 999_999_999)),
        29 => Shape::Moment(jiff::Timestamp::from_second(i64::from(bits as u32)).unwrap()),
        30 => Shape::Path(text(rng).into()),
        31 => Shape::NonZero(NonZeroU8::MAX),
        32 => Shape::Range(1..u32::MAX),
        33 => Shape::Json(some_json(rng)),
        34 => Shape::MaybeJson(maybe(rng, some_json)),
        35 => Shape::ByNumber([(0, 1), (u32::MAX, 2)].into()),
        36 => Shape::ByBool([(true, 1)].into()),
        37 => Shape::ByChar([('\u{b0}', 1)].into()),
        38 => Shape::ByName([(Name::One, 1), (Name::Two, 2)].into()),
        39 => Shape::ByPair([((1, 2), 3)].into()),
        _ => Shape::ByMaybe([(None, 1), (Some(1), 2)].into()),
    }
}

fn shape(rng: &mut Rng, levels: u32) -> Shape {
    let which = rng.below(if levels == 0 { LEAVES } else { ALL + 20 });
    let inner = |rng: &mut Rng| shape(rng, levels.saturating_sub(1));
    // Those that hold others come more often.
    match if which >= ALL { LEAVES + which % 7 } else { which } {
        41 => Shape::List((0..rng.below(3)).map(|_| inner(rng)).collect()),
        42 => Shape::Map([(text(rng), inner(rng))].into()),
        43 => Shape::Flat(Box::new(Flat {
            name: text(rng),
            rest: Rest { shape: inner(rng) },
            more: maybe(rng, |rng| ("more".to_owned(), some_json(rng))).into_iter().collect(),
        })),
        44 => Shape::FlatNumbers(Box::new(FlatNumbers {
            name: text(rng),
            numbers: maybe(rng, |rng| (7, inner(rng))).into_iter().collect(),
        })),
        45 => Shape::Internal(Box::new(match rng.below(3) {
            0 => Internal::Unit,
            1 => Internal::Fields { shape: inner(rng), other: maybe(rng, byte) },
            _ => Internal::Newtype(Rest { shape: inner(rng) }),
        })),
        46 => Shape::Adjacent(Box::new(match rng.below(4) {
            0 => Adjacent::Unit,
            1 => Adjacent::Fields { shape: inner(rng) },
            2 => Adjacent::Newtype(inner(rng)),
            _ => Adjacent::Tuple(byte(rng), inner(rng)),
        })),
        47 => Shape::Untagged(Box::new(if rng.one_in(2) {
            Untagged::One { one: inner(rng) }
        } else {
            Untagged::Two { two: inner(rng) }
        })),
        48 => Shape::Skips(Skips { list: maybe(rng, byte).into_iter().collect(), last: 1 }),
        49 => Shape::Patch(Patch { field: maybe(rng, |rng| maybe(rng, byte)) }),
        50 => Shape::Deep(deep(rng.below(200))),
        leaf_of => leaf(rng, leaf_of),
    }
}

/// Whether it was written. What was written is read again as it was: the text tells NaN and signs of zero apart.
fn is_kept<C: Codec<V>, V: Debug>(value: &V) -> bool {
    let mut out = b"before".to_vec();
    if C::encode(value, &mut out).is_err() {
        return false;
    }
    let back = C::decode(&out[6..], C::ID, C::SCHEMA);
    let back = back.unwrap_or_else(|error| panic!("{value:?} is not read again: {error}"));
    assert_eq!(format!("{back:?}"), format!("{value:?}"), "as {out:?}");
    true
}

/// Goal: whatever a value is made of, each codec returns it as it was, or refuses it when it is written; what serde can
/// do, `MsgPack` refuses only for reasons that its documentation names.
#[test]
fn every_shape_is_kept_or_refused() {
    let (mut kept, mut count) = ([0_u64; 3], 0);
    cases("trials_codecs::every_shape_is_kept_or_refused", 20_000, |seed| {
        let value = shape(&mut Rng::new(seed), 3);
        count += 1;
        let found = [
            is_kept::<MsgPack, _>(&value),
            is_kept::<Json, _>(&value),
            is_kept::<Postcard<1>, _>(&value),
        ];
        found.iter().zip(&mut kept).for_each(|(is_kept, sum)| *sum += u64::from(*is_kept));
    });
    // Mostly numbers of 128 bits in what serde buffers, and `Some` of nothing.
    let least = [85, 70, 40].map(|percent| count * percent / 100);
    assert!(kept.iter().zip(&least).all(|(kept, least)| kept >= least), "{kept:?} of {count}");
}

/// Goal: types that have a text form work with all of serde's attributes; the store gives back what it took.
#[test]
fn text_forms_inside_of_what_serde_buffers() {
    let ip = || Shape::Ip("192.168.1.7".parse().unwrap());
    let at = || Shape::Moment("2026-01-01T00:00:00Z".parse().unwrap());
    let map = Store::in_memory().unwrap().map::<u32, Shape>("m").unwrap();
    for leaf in [ip, at] {
        let rest = Rest { shape: leaf() };
        let flat = Flat { name: "a".into(), rest: rest.clone(), more: BTreeMap::new() };
        for value in [
            Shape::Flat(Box::new(flat)),
            Shape::Internal(Box::new(Internal::Newtype(rest.clone()))),
            Shape::Internal(Box::new(Internal::Fields { shape: leaf(), other: None })),
            Shape::Untagged(Box::new(Untagged::Two { two: leaf() })),
            Shape::Adjacent(Box::new(Adjacent::Newtype(leaf()))),
        ] {
            map.insert(&1, &value).unwrap();
            let back = map.get(&1).unwrap();
            assert_eq!(format!("{back:?}"), format!("{:?}", Some(value)));
        }
    }
}

/// Goal: a `Some` of nothing is refused where the codec has one null for both, and kept where it has not.
#[test]
fn some_of_nothing() {
    let store = Store::in_memory().unwrap();
    let map = store.map::<u32, Option<Option<u32>>>("twice").unwrap();
    for value in [None, Some(Some(7))] {
        map.insert(&1, &value).unwrap();
        assert_eq!(map.get(&1).unwrap(), Some(value));
    }
    let error = map.insert(&1, &Some(None)).unwrap_err();
    assert_eq!(error.kind(), "encode");
    assert_eq!(map.get(&1).unwrap(), Some(Some(Some(7))), "what was there is still there");
    assert!(!is_kept::<Json, _>(&Some(())) && !is_kept::<MsgPack, _>(&Some(())));
    assert!(is_kept::<Postcard<1>, _>(&Some(())) && is_kept::<Postcard<1>, _>(&Some(None::<u8>)));
    let patch = Patch { field: Some(None) };
    assert!(is_kept::<Json, _>(&patch) && is_kept::<MsgPack, _>(&patch), "its type reads it right");
}

/// Goal: values in the binary forms of MessagePack, as other programs write them, are read.
#[test]
fn msgpack_in_binary_forms_is_read() {
    let value: (IpAddr, jiff::Timestamp) =
        ("192.168.1.7".parse().unwrap(), jiff::Timestamp::from_second(7).unwrap());
    let binary = rmp_serde::to_vec_named(&value).unwrap();
    let mut own = Vec::new();
    MsgPack::encode(&value, &mut own).unwrap();
    assert_ne!(binary, own);
    for bytes in [binary, own] {
        let back: (IpAddr, jiff::Timestamp) = MsgPack::decode(&bytes, 1, 0).unwrap();
        assert_eq!(back, value);
    }
}
