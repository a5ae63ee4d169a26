//! Typed face of tierce; today the byte engine, re-exported.
#![doc = ""]
pub use tierce_engine as engine;
