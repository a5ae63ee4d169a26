//! Gives space back: chooses victims among the sealed segments, and copies what still counts of them.

pub(crate) mod copy;
mod older;
pub(crate) mod policy;
