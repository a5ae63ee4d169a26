//! What is dead leaves the disk, what lives stays, and nothing comes back.
//!
//! - `histories`: random histories with compaction of any segments, and crashes anywhere, against the model

mod histories;
