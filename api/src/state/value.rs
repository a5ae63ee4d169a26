//! Values on their way in and out: what JSON cannot hold is refused, and errors never show a value.

use std::fmt::Display;

use serde::{
    Serialize,
    de::DeserializeOwned,
    ser::{self, Serializer},
};
use serde_json::Value;

use super::Object;
use crate::{
    error::{BoxError, Error, Result},
    ops::document::kind_of,
};

/// Most levels of nesting in a state, its own level counted. What goes in can be read back by every store.
pub const DEPTH_MAX: usize = 100;

/// `value` as JSON. NaN, infinity, integers beyond 64 bits and map keys that are no text are refused.
pub(super) fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, BoxError> {
    value.serialize(Finite)?;
    Ok(serde_json::to_value(value)?)
}

/// `value` as a `T`. The error names kinds and types, no content.
pub(super) fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, BoxError> {
    T::deserialize(value).map_err(|error| {
        let told = error.to_string();
        let wanted = std::any::type_name::<T>();
        // Serde puts the value found into most of its messages; the name of a field is in this one only.
        if told.starts_with("missing field") {
            format!("for a `{wanted}`: {told}").into()
        } else {
            format!("it is {}, which makes no `{wanted}`", kind_of(value)).into()
        }
    })
}

/// Refuses an object that could be written but not read back.
pub(super) fn check_depth(name: &str, object: &Object) -> Result<()> {
    if object.values().all(|value| is_within(value, DEPTH_MAX - 1)) {
        return Ok(());
    }
    let source = format!("it has more than {DEPTH_MAX} levels").into();
    Err(Error::Encode { space: name.to_owned(), source })
}

fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => {
            levels > 0 && list.iter().all(|element| is_within(element, levels - 1))
        }
        Value::Object(map) => {
            levels > 0 && map.values().all(|element| is_within(element, levels - 1))
        }
        _ => true,
    }
}

/// Whether two values are written the same: as `==`, but 0.0 is not -0.0.
pub(super) fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => {
            a == b && a.as_f64().map(f64::is_sign_negative) == b.as_f64().map(f64::is_sign_negative)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => is_same_object(a, b),
        _ => left == right,
    }
}

pub(super) fn is_same_object(left: &Object, right: &Object) -> bool {
    left.len() == right.len()
        && left.iter().all(|(key, a)| right.get(key).is_some_and(|b| is_same(a, b)))
}

/// Roughly the bytes of a value in JSON.
pub(super) fn weight(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() as u64 + 2,
        Value::Array(list) => list.iter().map(|element| weight(element) + 1).sum::<u64>() + 2,
        Value::Object(map) => {
            map.iter().map(|(key, value)| key.len() as u64 + 4 + weight(value)).sum::<u64>() + 2
        }
    }
}

/// Serializes to nothing, and refuses numbers that JSON does not have: written as JSON they would become null.
struct Finite;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl ser::Error for Refused {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn finite(is_finite: bool) -> Result<(), Refused> {
    if is_finite {
        return Ok(());
    }
    Err(Refused("NaN and infinity cannot be kept; use a null or a text for them".to_owned()))
}

macro_rules! accept {
    ($($method:ident($type:ty))*) => {
        $(fn $method(self, _: $type) -> Result<(), Refused> {
            Ok(())
        })*
    };
}

impl Serializer for Finite {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    accept! {
        serialize_bool(bool) serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_i128(i128) serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_u128(u128) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_unit_struct(&'static str)
    }

    fn serialize_f32(self, number: f32) -> Result<(), Refused> {
        finite(number.is_finite())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Refused> {
        finite(number.is_finite())
    }

    fn serialize_none(self) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &str, _: u32, _: &str) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        Ok(self)
    }
}

macro_rules! visit {
    ($($compound:ident { $($method:ident($($name:ty)?)),* })*) => {
        $(impl ser::$compound for Finite {
            type Ok = ();
            type Error = Refused;

            $(fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Result<(), Refused> {
                value.serialize(Finite)
            })*

            fn end(self) -> Result<(), Refused> {
                Ok(())
            }
        })*
    };
}

visit! {
    SerializeSeq { serialize_element() }
    SerializeTuple { serialize_element() }
    SerializeTupleStruct { serialize_field() }
    SerializeTupleVariant { serialize_field() }
    SerializeMap { serialize_key(), serialize_value() }
    SerializeStruct { serialize_field(&'static str) }
    SerializeStructVariant { serialize_field(&'static str) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: NaN never turns into null, wherever in the value it hides.
    #[test]
    fn numbers_that_json_lacks_are_refused() {
        #[derive(Serialize)]
        enum Deep {
            Newtype(f32),
            Tuple(u8, f64),
            Struct { inner: Option<Vec<(f64,)>> },
        }
        assert!(to_value(&f64::NAN).is_err());
        assert!(to_value(&f32::INFINITY).is_err());
        assert!(to_value(&Deep::Newtype(f32::NAN)).is_err());
        assert!(to_value(&Deep::Tuple(1, f64::NEG_INFINITY)).is_err());
        assert!(to_value(&Deep::Struct { inner: Some(vec![(f64::NAN,)]) }).is_err());
        assert!(to_value(&std::collections::BTreeMap::from([("a", f64::NAN)])).is_err());
        assert!(to_value(&u128::MAX).is_err());
        let fine = Deep::Struct { inner: Some(vec![(1.5,)]) };
        assert_eq!(to_value(&fine).unwrap(), json!({"Struct": {"inner": [[1.5]]}}));
    }

    #[test]
    fn errors_show_no_content() {
        let error = from_value::<u64>(&json!("secret")).unwrap_err().to_string();
        assert_eq!(error, "it is a text, which makes no `u64`");
    }

    #[test]
    fn sameness() {
        assert!(!is_same(&json!(0.0), &json!(-0.0)));
        assert!(!is_same(&json!({"a": [0.0]}), &json!({"a": [-0.0]})));
        assert!(!is_same(&json!(1), &json!(1.0)));
        assert!(!is_same(&json!([1]), &json!([1, 2])));
        assert!(is_same(&json!({"a": [1, null]}), &json!({"a": [1, null]})));
    }
}
