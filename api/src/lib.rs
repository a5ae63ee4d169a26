//! Typed face of tierce.

pub mod cache;
pub mod codec;
mod error;
mod found;
pub mod key;
mod kv;
mod map;
#[allow(dead_code, reason = "its users come one after the other")]
mod pool;
#[cfg(feature = "redis")]
mod remote;
#[allow(dead_code, reason = "its users come one after the other")]
mod schedule;
mod space;
mod store;
mod ttl;

pub use cache::{Cache, CacheStats, LoadPolicy, Loaded, Loading, Put};
pub use error::{BoxError, Error, Result, Shared};
pub use key::Key;
pub use map::Map;
#[cfg(feature = "redis")]
pub use remote::RedisOptions;
pub use space::{SpaceInfo, SpaceOptions, SpaceStats};
pub use store::Store;
pub use tierce_engine as engine;
pub use tierce_engine::{Durability, Evict, Options, Timestamp};
pub use ttl::Ttl;
