//! For tests of programs that use this crate: a clock that stands still, a harness for handlers, stores in memory, and
//! what every state store must pass.
//!
//! ```
//! use serde_json::json;
//! use tierce::{state::{OnPublish, StateStore}, testing::Harness};
//!
//! let mut harness = Harness::new();
//! harness.telemetry("sensor", OnPublish, |state| {
//!     state.set("count", state.get_or("count", 0)? + 1)?;
//!     Ok(Some(json!({"count": state.get::<u64>("count")?})))
//! })?;
//! harness.run(1);
//! assert_eq!(harness.store().load("sensor")?.unwrap(), *json!({"count": 1}).as_object().unwrap());
//! # Ok::<(), tierce::Error>(())
//! ```

mod clock;
mod conformance;
mod harness;
mod probe;

use std::sync::Arc;

use serde_json::Value;

pub use self::{
    clock::ManualClock,
    conformance::{conformance, conformance_reopened},
    harness::{Harness, Run},
    probe::ProbeStore,
};
pub use crate::state::MemoryStore;
use crate::state::StateStore as _;

/// For fuzzing: what must hold of any bytes that a server holds under a key.
///
/// # Panics
/// If it does not.
pub fn check_frame(key: &[u8], bytes: &[u8]) {
    crate::remote::check_frame(key, bytes);
}

/// A store in memory that has something in it already.
///
/// ```
/// use serde_json::json;
/// use tierce::{state::StateStore, testing::seeded};
/// let store = seeded([("sensor", json!({"count": 99}))]);
/// assert_eq!(store.load("sensor")?.unwrap()["count"], 99);
/// # Ok::<(), tierce::Error>(())
/// ```
///
/// # Panics
/// If a value is no object, or nested too deeply.
#[must_use]
pub fn seeded<N: Into<String>>(states: impl IntoIterator<Item = (N, Value)>) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    for (name, value) in states {
        let name = name.into();
        let Value::Object(object) = value else { panic!("state `{name}` is no object") };
        if let Err(error) = store.save(&name, &object) {
            panic!("state `{name}`: {error}");
        }
    }
    Arc::new(store)
}
