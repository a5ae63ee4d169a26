//! Typed face of tierce.

pub mod codec;
mod config;
mod error;
pub mod key;
mod migrations;
pub mod ops;
mod ttl;
mod version;

pub use config::{Config, Origin, Table};
pub use error::{BoxError, Error, Result, Shared};
pub use key::Key;
pub use migrations::{Migrations, Step};
pub use tierce_engine as engine;
pub use tierce_engine::Timestamp;
pub use ttl::Ttl;
pub use version::{ParseVersionError, Version};
