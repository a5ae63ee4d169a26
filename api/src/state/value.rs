//! Values on their way in and out: what cannot be read back is refused, and errors never show a value.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Object;
use crate::{
    error::{BoxError, Error, Result},
    ops::document::{is_within, kind_of},
};

/// Most levels of nesting in a state, its own level counted. What goes in can be read back by every store.
pub const DEPTH_MAX: usize = 100;

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
