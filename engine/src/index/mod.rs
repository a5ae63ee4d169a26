//! Key to location.
