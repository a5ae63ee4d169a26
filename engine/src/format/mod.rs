//! Bytes to values and back. Pure: no files, no clocks, no locks, no `unsafe`, and no allocation sized by
//! unchecked input. Decoders are total: any bytes give a value or a [`DecodeError`](crate::DecodeError) (I10).
//!
//! A store directory:
//!
//! ```text
//! store/
//!   LOCK                    advisory lock; the holder's pid for people to read
//!   MANIFEST                which segments exist: a log of edits, replaced whole by rename
//!   <id>.seg                one segment of records; 16 hexadecimal digits, never reused
//!   <n>.ckpt                the index at one moment; a shortcut, never the only copy of anything
//!   <id>.quarantine         a damaged segment that recovery set aside
//!   *.tmp                   unfinished; deleted at open
//! ```
//!
//! All integers are little-endian. `docs/format.md` holds the tables; `tests/tidy` compares them with the
//! constants here.
#![cfg_attr(
    not(any(fuzzing, feature = "testing")),
    allow(dead_code, reason = "the bytes are final before everything that reads them is written")
)]
#![allow(unreachable_pub, reason = "public to fuzzers and tests through the feature `testing`")]
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod checksum;
pub mod file_name;
pub mod footer;
pub mod hash;
pub mod manifest;
pub mod record;
pub mod segment_header;
pub(crate) mod wire;

/// Major version of the format. A reader refuses a newer one and leaves the store untouched.
pub const FORMAT_MAJOR: u16 = 1;
/// Minor version of the format. Newer minors only add things that older readers may skip.
pub const FORMAT_MINOR: u16 = 0;
