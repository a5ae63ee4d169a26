//! Typed face of tierce.

pub mod asynchronous;
pub mod cache;
pub mod codec;
pub mod collections;
pub mod config;
pub mod coordinator;
mod error;
mod found;
pub mod key;
mod kv;
mod map;
pub mod migrations;
pub mod ops;
#[allow(dead_code, reason = "its users come one after the other")]
mod pool;
pub mod recipes;
#[cfg(feature = "redis")]
mod remote;
mod room;
#[allow(dead_code, reason = "its users come one after the other")]
mod schedule;
mod space;
pub mod state;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod ttl;
mod typed;
mod version;
mod work;

pub use asynchronous::{AsyncCache, AsyncMap, AsyncStore};
pub use cache::{Cache, CacheStats, LoadPolicy, Loaded, Loading, Put};
pub use config::Config;
pub use error::{BoxError, Error, Result, Shared};
pub use key::Key;
pub use map::Map;
pub use migrations::Migrations;
#[cfg(feature = "redis")]
pub use remote::RedisOptions;
pub use space::{Migrated, SpaceInfo, SpaceOptions, SpaceStats};
pub use store::Store;
pub use tierce_engine as engine;
pub use tierce_engine::{Durability, Evict, Options, Timestamp};
pub use ttl::Ttl;
pub use version::{ParseVersionError, Version};
