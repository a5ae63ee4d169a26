//! Whether a reading differs enough from the one before to be told.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};

/// What counts as a change of a reading: numbers that moved by more than a threshold, and everything else that differs.
///
/// - A number changed if it moved by *more* than the threshold: exactly the threshold is no change.
/// - `true` and `false` are no numbers: a flip is always a change.
/// - A field that comes, goes, or becomes of another kind is always a change, and so is a list's length.
/// - NaN after NaN is no change, NaN after a number is one, and the other way round.
///
/// ```
/// use serde_json::json;
/// use tierce::state::OnDelta;
/// let filter = OnDelta::new(0.5)?.field("air.humidity", 5.0)?;
/// let before = json!({"temperature": 20.0, "air": {"humidity": 40}});
/// assert!(!filter.is_change(&before, &json!({"temperature": 20.5, "air": {"humidity": 45}})));
/// assert!(filter.is_change(&before, &json!({"temperature": 20.6, "air": {"humidity": 40}})));
/// assert!(filter.is_change(&before, &json!({"temperature": 20.0, "air": {"humidity": 46}})));
/// assert!(OnDelta::new(-1.0).is_err());
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct OnDelta {
    threshold: f64,
    /// By dotted path.
    fields: BTreeMap<String, f64>,
}

fn check(threshold: f64) -> Result<f64> {
    if threshold.is_finite() && threshold >= 0.0 {
        return Ok(threshold);
    }
    Err(Error::Options {
        what: "a change filter".to_owned(),
        complaints: vec!["a threshold is a finite number and not negative".to_owned()],
    })
}

impl OnDelta {
    /// Every difference is a change.
    #[must_use]
    pub const fn exact() -> Self {
        Self { threshold: 0.0, fields: BTreeMap::new() }
    }

    /// Numbers change when they move by more than `threshold`.
    ///
    /// # Errors
    /// [`Error::Options`] if it is negative or not finite.
    pub fn new(threshold: f64) -> Result<Self> {
        Ok(Self { threshold: check(threshold)?, fields: BTreeMap::new() })
    }

    /// Another threshold for the field at a dotted path, `"air.humidity"` or `"channels.0"`, and what is in it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn field(mut self, path: impl Into<String>, threshold: f64) -> Result<Self> {
        self.fields.insert(path.into(), check(threshold)?);
        Ok(self)
    }

    /// Whether `new` differs enough from `old`.
    #[must_use]
    pub fn is_change(&self, old: &Value, new: &Value) -> bool {
        self.differs(old, new, &mut String::new(), self.threshold)
    }

    /// Whether a number moved enough, by the threshold of no field in particular.
    ///
    /// ```
    /// let filter = tierce::state::OnDelta::new(1.0)?;
    /// assert!(!filter.is_number_change(f64::NAN, f64::NAN));
    /// assert!(filter.is_number_change(f64::NAN, 1.0) && filter.is_number_change(1.0, f64::NAN));
    /// assert!(!filter.is_number_change(1.0, 2.0) && filter.is_number_change(1.0, 2.1));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn is_number_change(&self, old: f64, new: f64) -> bool {
        moved(old, new, self.threshold)
    }

    fn differs(&self, old: &Value, new: &Value, path: &mut String, above: f64) -> bool {
        let threshold = self.fields.get(path.as_str()).copied().unwrap_or(above);
        let mut inner = |key: &str, old: &Value, new: &Value| {
            let length = path.len();
            if length > 0 {
                path.push('.');
            }
            path.push_str(key);
            let differs = self.differs(old, new, path, threshold);
            path.truncate(length);
            differs
        };
        match (old, new) {
            (Value::Number(old), Value::Number(new)) => match (old.as_i128(), new.as_i128()) {
                // Exact beyond the 53 bits of a float.
                #[expect(clippy::cast_precision_loss, reason = "a threshold is a float anyway")]
                (Some(old), Some(new)) => (new - old).unsigned_abs() as f64 > threshold,
                _ => match (old.as_f64(), new.as_f64()) {
                    (Some(old), Some(new)) => moved(old, new, threshold),
                    _ => old != new,
                },
            },
            (Value::Object(old), Value::Object(new)) => {
                old.len() != new.len()
                    || old.iter().any(|(key, old)| match new.get(key) {
                        Some(new) => inner(key, old, new),
                        None => true,
                    })
            }
            (Value::Array(old), Value::Array(new)) => {
                old.len() != new.len()
                    || old
                        .iter()
                        .zip(new)
                        .enumerate()
                        .any(|(at, (old, new))| inner(&at.to_string(), old, new))
            }
            _ => old != new,
        }
    }
}

fn moved(old: f64, new: f64, threshold: f64) -> bool {
    match (old.is_nan(), new.is_nan()) {
        (true, true) => false,
        (false, false) => old != new && (new - old).abs() > threshold,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: each rule of the documentation, at its edge.
    #[test]
    fn rules() {
        let filter = OnDelta::new(1.0).unwrap();
        let is = |old: Value, new: Value| filter.is_change(&old, &new);
        assert!(!is(json!(1.0), json!(2.0)), "exactly the threshold");
        assert!(is(json!(1.0), json!(2.000_001)));
        assert!(is(json!(2), json!(0.5)), "integers and floats are both numbers");
        assert!(is(json!(true), json!(false)) && is(json!(true), json!(1)));
        assert!(is(json!(null), json!(0)) && !is(json!(null), json!(null)));
        assert!(is(json!("1"), json!("1.5")), "texts are no numbers");
        assert!(is(json!({"a": 1}), json!({"b": 1})) && is(json!({"a": 1}), json!({})));
        assert!(is(json!([1]), json!([1, 1])) && !is(json!([1, 2]), json!([2, 1])));
        let (near, far) = (u64::MAX - 1, u64::MAX - 2);
        assert!(!is(json!(near), json!(u64::MAX)) && is(json!(far), json!(u64::MAX)));
        assert!(moved(f64::INFINITY, 1.0, 1e300) && !moved(f64::INFINITY, f64::INFINITY, 0.0));
        assert!(OnDelta::exact().is_change(&json!(1.0), &json!(1.000_000_1)));
        assert!(!OnDelta::exact().is_change(&json!(1), &json!(1.0)));
    }

    #[test]
    fn fields_have_their_own() {
        let filter = OnDelta::new(0.0).unwrap().field("a.1", 5.0).unwrap().field("b", 2.0).unwrap();
        assert!(!filter.is_change(&json!({"a": [0, 0]}), &json!({"a": [0, 5]})));
        assert!(filter.is_change(&json!({"a": [0, 0]}), &json!({"a": [1, 0]})));
        assert!(!filter.is_change(&json!({"b": {"c": 0}}), &json!({"b": {"c": 2}})));
        for bad in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(OnDelta::new(bad).is_err() && OnDelta::exact().field("a", bad).is_err());
        }
    }
}
