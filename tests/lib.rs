//! Holds nothing: this package exists for its two test binaries.
