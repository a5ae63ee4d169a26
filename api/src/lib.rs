//! Typed face of tierce.

pub mod codec;
pub mod coordinator;
mod error;
pub mod key;
#[allow(dead_code, reason = "its users come one after the other")]
mod pool;
#[allow(dead_code, reason = "its users come one after the other")]
mod schedule;
mod ttl;

pub use error::{BoxError, Error, Result, Shared};
pub use key::Key;
pub use tierce_engine as engine;
pub use tierce_engine::Timestamp;
pub use ttl::Ttl;
