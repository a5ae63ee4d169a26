//! A value of any type, as it is stored: what steps get that must not lose what JSON cannot say.

use std::{cmp::Ordering, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap as _,
};

/// Elements for which room is made before they are seen: a length that is read may lie.
const RESERVED: usize = 1024;

/// A value of any type with all that is stored of it: bytes stay bytes, NaN stays NaN, whole numbers are not floats,
/// and keys of maps need not be texts. For steps of [`Store::migrate_space`](crate::Store::migrate_space).
///
/// A struct is a map from the names of its fields, an enum's variant its name, or a map from that to what is in it.
///
/// ```
/// use tierce::{Migrations, Store, Version, migrations::{Plain, Step}};
/// # let store = Store::in_memory()?;
/// store.map::<u32, (f64, Vec<u8>)>("readings")?.insert(&1, &(f64::NAN, vec![0xff]))?;
/// let (old, new) = (Version::ZERO, Version::new(0, 1, 0));
/// let name = |pair: Plain| Ok(Plain::Map(vec![("pair".into(), pair)]));
/// store.migrate_space("readings", &mut Migrations::new([Step::new(old, new, name)])?, new)?;
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Plain {
    /// Nothing: `()`, `None`.
    #[default]
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number above [`i64::MAX`].
    Uint(u64),
    /// A floating-point number; one of 32 bits is the same number here.
    Float(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list or tuple.
    List(Vec<Self>),
    /// A map or struct, in the order in which it is stored.
    Map(Vec<(Self, Self)>),
}

impl Plain {
    /// What a map has under the text `name`.
    ///
    /// ```
    /// use tierce::migrations::Plain;
    /// let mut sensor = Plain::Map(vec![("celsius".into(), 21.5.into())]);
    /// assert_eq!(sensor.get("celsius"), Some(&Plain::Float(21.5)));
    /// assert_eq!(sensor.set("priority", 0), None);
    /// assert_eq!(sensor.remove("celsius"), Some(Plain::Float(21.5)));
    /// ```
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(pairs) = self else { return None };
        pairs.iter().find(|(key, _)| key.is_text(name)).map(|(_, value)| value)
    }

    /// Puts `value` under the text `name` of a map, and returns what was there. Nothing else becomes a map.
    pub fn set(&mut self, name: &str, value: impl Into<Self>) -> Option<Self> {
        let Self::Map(pairs) = self else { return None };
        match pairs.iter_mut().find(|(key, _)| key.is_text(name)) {
            Some((_, old)) => Some(std::mem::replace(old, value.into())),
            None => {
                pairs.push((name.into(), value.into()));
                None
            }
        }
    }

    /// Takes what a map has under the text `name` out of it.
    pub fn remove(&mut self, name: &str) -> Option<Self> {
        let Self::Map(pairs) = self else { return None };
        let at = pairs.iter().position(|(key, _)| key.is_text(name))?;
        Some(pairs.remove(at).1)
    }

    fn is_text(&self, wanted: &str) -> bool {
        matches!(self, Self::Text(text) if text == wanted)
    }

    /// Whether it is the same to the last bit, but for the order of maps.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.clone().sorted().order(&other.clone().sorted()) == Ordering::Equal
    }

    fn sorted(self) -> Self {
        match self {
            Self::List(list) => Self::List(list.into_iter().map(Self::sorted).collect()),
            Self::Map(pairs) => {
                let pairs = pairs.into_iter().map(|(key, value)| (key.sorted(), value.sorted()));
                let mut pairs: Vec<_> = pairs.collect();
                pairs.sort_by(|one, other| one.0.order(&other.0));
                Self::Map(pairs)
            }
            other => other,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        let all = |pairs: &mut dyn Iterator<Item = (&Self, &Self)>, lengths: Ordering| {
            pairs
                .map(|(one, other)| one.order(other))
                .find(|order| order.is_ne())
                .unwrap_or(lengths)
        };
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (Self::Int(one), Self::Int(other)) => one.cmp(other),
            (Self::Uint(one), Self::Uint(other)) => one.cmp(other),
            (Self::Float(one), Self::Float(other)) => one.total_cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Bytes(one), Self::Bytes(other)) => one.cmp(other),
            (Self::List(one), Self::List(other)) => {
                all(&mut one.iter().zip(other), one.len().cmp(&other.len()))
            }
            (Self::Map(one), Self::Map(other)) => {
                let pairs = one.iter().zip(other);
                let mut both =
                    pairs.flat_map(|(one, other)| [(&one.0, &other.0), (&one.1, &other.1)]);
                all(&mut both, one.len().cmp(&other.len()))
            }
            (one, other) => one.rank().cmp(&other.rank()),
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Nil => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Uint(_) => 3,
            Self::Float(_) => 4,
            Self::Text(_) => 5,
            Self::Bytes(_) => 6,
            Self::List(_) => 7,
            Self::Map(_) => 8,
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident,)*) => {
        $(impl From<$type> for Plain {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

from! {
    bool => Bool,
    i32 => Int,
    i64 => Int,
    f64 => Float,
    &str => Text,
    String => Text,
    Vec<u8> => Bytes,
    Vec<Self> => List,
}

impl From<u64> for Plain {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Uint(value), Self::Int)
    }
}

impl Serialize for Plain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Uint(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_bytes(value),
            Self::List(value) => value.serialize(serializer),
            Self::Map(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

macro_rules! read {
    ($($method:ident($type:ty))*) => {
        $(fn $method<E>(self, value: $type) -> Result<Plain, E> {
            Ok(Plain::from(value))
        })*
    };
}

impl<'de> Visitor<'de> for Reading {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    read! {
        visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str)
        visit_string(String) visit_byte_buf(Vec<u8>)
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Plain, E> {
        Ok(Plain::Bytes(value.to_vec()))
    }

    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain::Nil)
    }

    fn visit_none<E>(self) -> Result<Plain, E> {
        Ok(Plain::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Plain, D::Error> {
        Plain::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, _: D) -> Result<Plain, D::Error> {
        Err(D::Error::custom("extension types of MessagePack are not known here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Plain, A::Error> {
        let mut list = Vec::with_capacity(from.size_hint().unwrap_or(0).min(RESERVED));
        while let Some(value) = from.next_element()? {
            list.push(value);
        }
        Ok(Plain::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Plain, A::Error> {
        let mut pairs = Vec::with_capacity(from.size_hint().unwrap_or(0).min(RESERVED));
        while let Some(pair) = from.next_entry()? {
            pairs.push(pair);
        }
        Ok(Plain::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::codec::{Codec, MsgPack};

    fn plain_of<T: Serialize>(value: &T) -> Plain {
        MsgPack::decode(&rmp_serde::to_vec_named(value).unwrap(), 1, 0).unwrap()
    }

    /// Goal: everything that can be stored comes back as it was, to the last bit.
    #[test]
    fn nothing_is_lost() {
        let hard = Plain::Map(vec![
            (Plain::Int(-1), Plain::Bytes(vec![0xff, 0])),
            (Plain::Uint(u64::MAX), Plain::Float(f64::from_bits(0x7ff8_0000_0000_0001))),
            (Plain::Bytes(vec![]), Plain::List(vec![Plain::Nil, Plain::Bool(true)])),
            ("\u{b0}".into(), Plain::Float(-0.0)),
        ]);
        assert!(plain_of(&hard).is_same(&hard));
        let Plain::Map(mut turned) = hard.clone() else { panic!() };
        turned.reverse();
        assert!(hard.is_same(&Plain::Map(turned)), "the order of a map is no matter");
        for other in [Plain::Nil, Plain::Map(vec![]), Plain::Float(0.0)] {
            assert!(!hard.is_same(&other));
        }
        assert!(!Plain::Float(0.0).is_same(&Plain::Float(-0.0)));
        assert_eq!(plain_of(&BTreeMap::from([(1_u8, Some("x"))])), {
            Plain::Map(vec![(Plain::Int(1), "x".into())])
        });
    }

    #[test]
    fn hostile_bytes_are_an_error() {
        for bytes in [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xdf, 0xff, 0xff, 0xff, 0xff], &[0xc1]]
        {
            assert!(<MsgPack as Codec<Plain>>::decode(bytes, 1, 0).is_err(), "{bytes:?}");
        }
        let deep = vec![0x91; 100_000];
        assert!(<MsgPack as Codec<Plain>>::decode(&deep, 1, 0).is_err());
    }
}
