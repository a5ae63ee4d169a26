//! Values on their way into a codec: what serde's data model loses in some formats is found before it is written.

use std::fmt::Display;

use serde::{
    Serialize,
    ser::{self, Serializer},
};
use serde_json::Value;

use crate::error::BoxError;

/// What was found in a value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Findings {
    /// How often it has a `Some` of nothing, such as `Some(None)` and `Some(())`: formats with a null write it as they
    /// write `None`.
    pub(crate) nothings: u64,
    /// Fields that it left out: in a format without names the next one is read in their place.
    pub(crate) skipped: u64,
}

/// Refuses NaN and infinity, wherever in `value` they are: written as JSON they would become null.
pub(crate) fn check<T: Serialize + ?Sized>(value: &T) -> Result<Findings, BoxError> {
    let mut findings = Findings::default();
    value.serialize(Inspector::new(&mut findings, false))?;
    Ok(findings)
}

/// What is in `value`; nothing if it does not serialize, which the codec tells.
pub(crate) fn inspect<T: Serialize + ?Sized>(value: &T) -> Findings {
    let mut findings = Findings::default();
    match value.serialize(Inspector::new(&mut findings, true)) {
        Ok(()) => findings,
        Err(_) => Findings::default(),
    }
}

/// `value` as JSON. NaN, infinity, integers beyond 64 bits and map keys that are no text are refused.
pub(crate) fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, BoxError> {
    check(value)?;
    Ok(serde_json::to_value(value)?)
}

/// Serializes to nothing: it counts and refuses.
struct Inspector<'a> {
    findings: &'a mut Findings,
    takes_nan: bool,
    /// Whether the value is the content of a `Some`, directly.
    is_inside_some: bool,
}

impl<'a> Inspector<'a> {
    const fn new(findings: &'a mut Findings, takes_nan: bool) -> Self {
        Self { findings, takes_nan, is_inside_some: false }
    }

    /// For a part of the value.
    const fn part(&mut self) -> Inspector<'_> {
        Inspector::new(self.findings, self.takes_nan)
    }

    fn nothing(self) {
        self.findings.nothings += u64::from(self.is_inside_some);
    }

    fn float(&self, is_finite: bool) -> Result<(), Refused> {
        if is_finite || self.takes_nan {
            return Ok(());
        }
        Err(Refused("NaN and infinity cannot be kept; use a null or a text for them".to_owned()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl ser::Error for Refused {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

macro_rules! accept {
    ($($method:ident($type:ty))*) => {
        $(fn $method(self, _: $type) -> Result<(), Refused> {
            Ok(())
        })*
    };
}

impl Serializer for Inspector<'_> {
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
    }

    fn serialize_f32(self, number: f32) -> Result<(), Refused> {
        self.float(number.is_finite())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Refused> {
        self.float(number.is_finite())
    }

    fn serialize_none(self) -> Result<(), Refused> {
        self.nothing();
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        value.serialize(Inspector { is_inside_some: true, ..self })
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        self.nothing();
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        self.nothing();
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
        // The name of the variant stands around it.
        value.serialize(Inspector { is_inside_some: false, ..self })
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

macro_rules! skip {
    (skips) => {
        fn skip_field(&mut self, _: &'static str) -> Result<(), Refused> {
            self.findings.skipped += 1;
            Ok(())
        }
    };
}

macro_rules! visit {
    ($($compound:ident { $($method:ident($($name:ty)?)),* } $([$skips:ident])?)*) => {
        $(impl ser::$compound for Inspector<'_> {
            type Ok = ();
            type Error = Refused;

            $(fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Result<(), Refused> {
                value.serialize(self.part())
            })*

            $(skip!($skips);)?

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
    SerializeStruct { serialize_field(&'static str) } [skips]
    SerializeStructVariant { serialize_field(&'static str) } [skips]
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

    /// Goal: a `Some` whose content is written as nothing is counted wherever it is, and no other is.
    #[test]
    fn nothings_inside_something() {
        fn nothings(value: &impl Serialize) -> u64 {
            inspect(value).nothings
        }
        #[derive(Serialize)]
        struct Unit;
        #[derive(Serialize)]
        struct New<T>(T);
        assert_eq!(nothings(&Some(None::<u8>)), 1);
        assert_eq!(nothings(&Some(Some(None::<u8>))), 1);
        assert_eq!(nothings(&vec![Some(()), None, Some(())]), 2);
        assert_eq!(nothings(&Some(New(None::<u8>))), 1);
        assert_eq!(nothings(&Some(Unit)), 1);
        assert_eq!(nothings(&Some(json!(null))), 1);
        assert_eq!(nothings(&(None::<u8>, (), Unit, json!(null), Some(vec![None::<u8>]))), 0);
        assert_eq!(nothings(&Some(Ok::<Option<u8>, ()>(None))), 0, "its variant is around it");
        assert_eq!(nothings(&f64::NAN), 0);
    }
}
