//! The byte engine under tierce: an embedded, crash-safe cache and state store.
//!
//! One append-only log of segments, a hash index in memory, checksums everywhere. What is acknowledged is kept,
//! what is deleted stays gone, and damage is reported, never served.
//!
//! ```
//! use tierce_engine::{Durability, Options, PutOptions, io::MemoryDisk};
//!
//! let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
//! engine.put("greeting", "hello")?;
//! assert_eq!(engine.get("greeting")?.as_deref(), Some(&b"hello"[..]));
//!
//! let soon = engine.now().saturating_add_ms(30_000);
//! engine.put_with("session", "abc", &PutOptions::new().expires_at(soon).durability(Durability::Sync))?;
//! assert!(engine.delete("greeting")?);
//! engine.close()?;
//! # Ok::<(), tierce_engine::Error>(())
//! ```
//!
//! The rooms of this crate, and who may use whom, are drawn in `ARCHITECTURE.md`.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod background;
pub mod backup;
pub mod check;
mod checkpoint;
mod compactor;
mod engine;
mod error;
mod evictor;
#[cfg(any(fuzzing, feature = "testing"))]
pub mod format;
#[cfg(not(any(fuzzing, feature = "testing")))]
mod format;
mod index;
pub mod inspect;
pub mod io;
#[cfg_attr(
    not(feature = "testing"),
    expect(unreachable_pub, reason = "public to the project's own tests only")
)]
mod knobs;
mod lookup;
mod options;
mod overrides;
mod reader;
mod recency;
mod recovery;
pub mod repair;
mod segment;
mod space;
mod stats;
mod sync;
mod types;
pub mod units;
mod writer;

pub use engine::{
    CellBytes, Change, CompactionReport, Engine, Follower, Health, LastUses, PlannedJob, Restore,
    Restored, SegmentAccount, SegmentMap, Staleness, Swept, Ticket, Usage, Verified, restore,
    verify_backup,
};
pub use error::{Corruption, Damage, DecodeError, Error, Result};
pub use evictor::{Cause, Evicted, Eviction};
#[cfg(feature = "testing")]
pub use knobs::Knobs;
pub use options::{
    Compaction, Condition, Durability, EntryVersion, Evict, OnOpening, Options, PutOptions,
    ReadMode, RecoveryPolicy,
};
pub use reader::{Changed, Changes, Entry, Iter, Snapshot, View, Wrote};
pub use recovery::{RecoveryReport, TornTail};
pub use segment::Value;
pub use stats::Stats;
#[cfg(feature = "schedule")]
pub use sync::scheduled as schedule;
pub use types::{SegmentId, SequenceNumber, Timestamp, is_live};
pub use writer::Batch;
