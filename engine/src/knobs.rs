//! Test knobs: the constants that make a state rare in practice, with their production values as defaults.
//!
//! A constant that makes a state rare makes it invisible to tests. Such a constant is a field here: production uses
//! [`Knobs::default`], and the suites run with [`Knobs::worst`] as well. To add one: a field with its reason, its two
//! values, and the value handed down from `Options` to the room that needs it (no room reads it from a global). The
//! knobs change how often a state occurs, never what is correct in it.

/// Values of the constants that make a state rare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// Free slots that wait before the one that has been free for the longest time is used again. A reader that is
    /// late by a retirement then mostly finds nothing at its slot; if it finds another segment there, `lookup` notices
    /// that the entry has moved.
    pub resting_slots: usize,
}

impl Knobs {
    /// The production values.
    #[must_use]
    pub const fn new() -> Self {
        Self { resting_slots: 64 }
    }

    /// The values that make rare states common: slots are used again at once.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn worst() -> Self {
        Self { resting_slots: 0 }
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Self::new()
    }
}
