//! Entries in and out of a store: `dump`, `load`, `import`.
//!
//! A dump reads a snapshot and streams; a load stores in batches and never leaves half an entry. Each format is a pair
//! of pure halves over lines or records; what they exchange with the store is an [`item::Item`].

mod csv;
#[cfg(feature = "sqlite")]
mod diskcache;
mod dump;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod import;
mod input;
mod item;
mod jsonl;
mod lmdb;
mod load;
mod sink;

pub(crate) use dump::dump;
#[cfg(feature = "fuzzing")]
pub(crate) use fuzzing::check_text;
pub(crate) use import::import;
pub(crate) use load::load;
