//! Bodies of the fuzz targets: functions from bytes to nothing that panic when a promise does not hold.
//!
//! Those of the format run twice over their input: as it is, and with its checksums put right, because a random change would
//! otherwise never get behind them. What must hold of any bytes (I10): decoding ends with a value or an error,
//! never a panic; what is kept in memory is no more than a small multiple of the input; what decodes and is
//! spelled the one way in which we write is written again byte for byte.
//!
//! The binaries in `fuzz_targets` run these under libFuzzer (`cfg(fuzzing)`) or, on the stable toolchain, under
//! the small mutator in [`replay`].

mod fields;
pub mod histories;
pub mod replay;
pub mod samples;
pub mod stores;
mod targets;
pub mod texts;

pub use targets::{
    decode_checkpoint, decode_footer, decode_manifest, decode_record, decode_segment_header,
    file_name,
};
