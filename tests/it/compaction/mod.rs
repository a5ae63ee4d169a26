//! What is dead leaves the disk, what lives stays, and nothing comes back.
//!
//! - `crashes`: power or the disk fails at every call of a compaction
//! - `histories`: random histories with compaction of any segments, and crashes anywhere, against the model
//! - `named`: the ways in which stores went wrong, one by one

mod crashes;
mod histories;
mod named;
