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
    /// Entries that an eviction, a sweep or a compaction changes in one turn. Stores of tests have fewer than the
    /// production value, so that nothing ever came between two turns of one job.
    pub turn_entries: usize,
    /// Requests of one group commit. The few threads of a test never fill the production value, so that no group ever
    /// ended for it.
    pub group_requests: usize,
    /// Tickets that may wait before the thread that queues another one writes itself. No test queues as many as in
    /// production.
    pub queued_tickets: usize,
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
            turn_entries: 256,
            group_requests: 256,
            queued_tickets: 4096,
            jump_ms: 5 * 60 * 1000,
            jump_hold_ms: 60 * 1000,
            opening_hold_ms: 5 * 60 * 1000,
        }
    }

    /// The values that make rare states common: slots are used again at once, each entry of a job has a turn of its own,
    /// and a third request begins another group or finds the queue full.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn worst() -> Self {
        Self {
            resting_slots: 0,
            turn_entries: 1,
            group_requests: 2,
            queued_tickets: 2,
            jump_ms: 1_000,
            jump_hold_ms: 10_000,
            opening_hold_ms: 60_000,
        }
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Self::new()
    }
}
