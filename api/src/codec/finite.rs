//! Values on their way into JSON: numbers that it does not have are refused.

use std::fmt::Display;

use serde::{
    Serialize,
    ser::{self, Serializer},
};
use serde_json::Value;

use crate::error::BoxError;

/// Refuses NaN and infinity, wherever in `value` they are: written as JSON they would become null.
pub(crate) fn check<T: Serialize + ?Sized>(value: &T) -> Result<(), BoxError> {
    value.serialize(Finite).map_err(Into::into)
}

/// `value` as JSON. NaN, infinity, integers beyond 64 bits and map keys that are no text are refused.
pub(crate) fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, BoxError> {
    check(value)?;
    Ok(serde_json::to_value(value)?)
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
}
