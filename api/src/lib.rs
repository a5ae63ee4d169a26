//! Typed face of tierce.

pub mod codec;
pub mod collections;
mod error;
pub mod key;
mod kv;
mod map;
pub mod recipes;
mod space;
mod store;
mod ttl;

pub use error::{BoxError, Error, Result, Shared};
pub use key::Key;
pub use map::Map;
pub use space::{SpaceInfo, SpaceOptions, SpaceStats};
pub use store::Store;
pub use tierce_engine as engine;
pub use tierce_engine::{Durability, Evict, Options, Timestamp};
pub use ttl::Ttl;
