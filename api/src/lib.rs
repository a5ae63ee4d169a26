//! Typed face of tierce; today the byte engine, re-exported.

pub use tierce_engine as engine;
