//! State that outlives a restart: where it is kept, what it is, and when it is written.
//!
//! - **Where**: a [`StateStore`]: an engine store ([`EngineStore`]), one JSON file ([`JsonFileStore`]), SQLite, Redis,
//!   memory ([`MemoryStore`]), nowhere ([`NullStore`]), or one of your own.
//! - **What**: a [`State`], the dictionary of one device, or a [`Document`] of a type of yours.
//! - **When**: a [`Policy`], asked after every turn of a [`Runtime`]. At a graceful stop everything is saved anyway.
//!
//! ```
//! use std::sync::Arc;
//! use tierce::state::{MemoryStore, State, StateStore};
//!
//! let store = Arc::new(MemoryStore::new());
//! let state = State::open(store.clone(), "sensor")?;
//! state.set("count", state.get_or("count", 0)? + 1)?;
//! assert!(state.is_dirty());
//! state.save()?;
//! assert_eq!(store.load("sensor")?.unwrap()["count"], 1);
//! # Ok::<(), tierce::Error>(())
//! ```
//!
//! Values are JSON values. NaN and infinity are none: [`State::set`] and [`Document::save`] refuse them, rather than
//! keep a null in their place. More than [`DEPTH_MAX`] levels of nesting are refused, too.

mod damage;
mod delta;
mod document;
mod engine;
mod json;
mod memory;
mod policies;
mod policy;
#[cfg(feature = "redis")]
mod redis;
mod runtime;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod value;

mod dictionary;

#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::{
    damage::{Damage, OnCorrupt},
    delta::OnDelta,
    dictionary::{Edit, State},
    document::{Document, Ref},
    engine::EngineStore,
    json::JsonFileStore,
    memory::{MemoryStore, NullStore},
    policies::{AfterBytes, Debounced, Every, OnChange, OnPublish, OnShutdown},
    policy::{Moment, Policy, SavePolicy},
    runtime::{Failure, Handler, Outcome, Reading, Runtime, Telemetry, What},
    store::{Object, StateStore},
    value::DEPTH_MAX,
};
