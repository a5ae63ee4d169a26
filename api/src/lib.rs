//! An embedded, crash-safe cache and state store: what is acknowledged is kept, what is deleted stays gone, a byte
//! limit that holds, and values of any type.
//!
//! ```
//! use tierce::{Options, Put, Store, Ttl};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("store");
//! let store = Store::open_with(&path, Options::new().max_bytes(100 << 20))?;
//!
//! // A cache forgets what is too old, and what was used longest ago when there is no more room.
//! let weather = store.cache::<String, f64>("weather")?;
//! weather.insert_with("London", &17.5, &Put::new().ttl(Ttl::minutes(30)))?;
//! assert_eq!(weather.get("London")?, Some(17.5));
//! let paris = weather.try_get_or_insert_with("Paris", || Ok::<_, std::io::Error>(19.0))?;
//! assert_eq!(paris, 19.0);
//!
//! // A map keeps everything until it is removed.
//! let runs = store.map::<String, u64>("runs")?;
//! runs.update("nightly", |old| Some(old.unwrap_or(0) + 1))?;
//!
//! drop((weather, runs));
//! store.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Which one
//!
//! | You have | Use |
//! |---|---|
//! | answers that may be asked for again | [`Cache`], with a [`Loading`] to fetch them |
//! | settings, offsets, last readings | [`Map`], or [`state`] for a dictionary per device |
//! | numbers that count, rows that grow, work to be done | [`collections`] |
//! | "not more than once in four hours" | [`recipes`] |
//! | a value that is polled for several who look at it | [`coordinator`] |
//! | files around all that | [`ops`] |
//! | tasks instead of threads | [`asynchronous`] |
//!
//! The guide goes from a JSON file to state that survives power cuts: `docs/guide` in the repository. How much stands
//! behind an acknowledgement is said word for word in `docs/durability.md`.
//!
//! # Features
//!
//! `postcard` (default), `tokio`, `sqlite`, `redis`, `testing`. None changes what another does.
#![cfg_attr(docsrs, feature(doc_cfg))]

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
mod pool;
pub mod recipes;
#[cfg(any(feature = "redis", feature = "testing"))]
mod remote;
mod room;
mod schedule;
mod space;
pub mod state;
mod store;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod ttl;
mod typed;
mod version;
mod waits;
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
pub use space::{Migrated, SpaceImport, SpaceInfo, SpaceMap, SpaceOptions, SpaceStats};
pub use store::Store;
pub use tierce_engine as engine;
pub use tierce_engine::{Durability, Evict, Options, Timestamp};
pub use ttl::Ttl;
pub use version::{ParseVersionError, Version};

/// The guide's pages, so that their code is compiled and run.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/guide/1-from-a-json-file.md")]
    struct FromAJsonFile;
    #[doc = include_str!("../../docs/guide/2-a-cache.md")]
    struct ACache;
    #[doc = include_str!("../../docs/guide/3-loading.md")]
    struct LoadingWhatIsNotThere;
    #[doc = include_str!("../../docs/guide/4-state.md")]
    struct StateOfDevices;
    #[doc = include_str!("../../docs/guide/5-collections.md")]
    struct Collections;
    #[doc = include_str!("../../docs/guide/6-running-it.md")]
    struct RunningIt;
}
