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
    /// Milliseconds by which the wall clock may be ahead of store time and be believed at once.
    pub jump_ms: u64,
    /// How long a wall clock further ahead must stand, while the store is open, before it is believed.
    pub jump_hold_ms: u64,
    /// How long a wall clock that was further ahead at opening must stand before anything is removed for it.
    pub opening_hold_ms: u64,
}

impl Knobs {
    /// The production values.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            resting_slots: 64,
            jump_ms: 5 * 60 * 1000,
            jump_hold_ms: 60 * 1000,
            opening_hold_ms: 5 * 60 * 1000,
        }
    }

    /// The values that make rare states common: slots are used again at once.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn worst() -> Self {
        Self { resting_slots: 0, jump_ms: 1_000, jump_hold_ms: 10_000, opening_hold_ms: 60_000 }
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Self::new()
    }
}
