//! Store time: wall time that never goes back (I16) and does not believe every jump.
//!
//! While a store is open, time goes on with the monotonic clock from the highest time ever seen. The wall clock
//! may pull it forward: at once by a little, and by more than five minutes only after the jump has stood for
//! a minute. A machine that boots in 1970 goes on where the store left off; one whose clock was set to
//! 2100 by mistake for a moment expires nothing.

use std::sync::Arc;

use super::Clock;
use crate::{
    sync::{Mutex, PoisonError},
    types::Timestamp,
};

/// A step forward of the wall clock beyond this is not believed at once.
const JUMP_MS: u64 = 5 * 60 * 1000;
/// How long such a step must stand before it is believed.
const JUMP_HOLD_MS: u64 = 60 * 1000;

/// The clock of one open store. Cheap enough for every read of a record with an expiry.
#[derive(Debug)]
pub struct StoreClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Store time at the moment `monotonic_ms`.
    base: u64,
    monotonic_ms: u64,
    /// Since when (monotonic) the wall clock has been far ahead.
    ahead_since: Option<u64>,
}

impl StoreClock {
    /// A clock that starts at the later of wall time and `high_water`, the highest store time on record.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, high_water: Timestamp) -> Self {
        let state = State {
            base: clock.wall_ms().max(high_water.0),
            monotonic_ms: clock.monotonic_ms(),
            ahead_since: None,
        };
        Self { clock, state: Mutex::new(state) }
    }

    /// Store time now. Never less than any earlier answer.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let (wall, monotonic) = (self.clock.wall_ms(), self.clock.monotonic_ms());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = advance(*state, wall, monotonic);
        Timestamp(state.base)
    }

    /// Store time if there is an expiry to compare it with; anything otherwise.
    pub(crate) fn now_for(&self, expires_at: Option<Timestamp>) -> Timestamp {
        if expires_at.is_some() { self.now() } else { Timestamp::default() }
    }

    /// The machine's own clocks.
    #[must_use]
    pub fn machine(&self) -> &dyn Clock {
        self.clock.as_ref()
    }
}

fn advance(state: State, wall: u64, monotonic: u64) -> State {
    let monotonic = monotonic.max(state.monotonic_ms);
    let expected = state.base.saturating_add(monotonic - state.monotonic_ms);
    let keep = |ahead_since| State { base: expected, monotonic_ms: monotonic, ahead_since };
    if wall <= expected {
        return keep(None);
    }
    let since = state.ahead_since.unwrap_or(monotonic);
    if wall - expected > JUMP_MS && monotonic - since < JUMP_HOLD_MS {
        return keep(Some(since));
    }
    State { base: wall, monotonic_ms: monotonic, ahead_since: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEARS: u64 = 10 * 365 * 24 * 3600 * 1000;

    fn start() -> State {
        State { base: 1_000_000, monotonic_ms: 50, ahead_since: None }
    }

    /// Goal: time goes on with the monotonic clock while the wall clock is behind, ten years included.
    #[test]
    fn a_wall_clock_set_back_does_not_stop_time() {
        let state = advance(start(), 0, 1_050);
        assert_eq!(state.base, 1_001_000);
        assert_eq!(advance(state, 0, 1_051).base, 1_001_001);
    }

    /// Goal: a small step forward counts at once; a jump of years only after it has stood for a minute.
    #[test]
    fn a_jump_is_believed_late() {
        assert_eq!(advance(start(), 1_000_000 + JUMP_MS, 50).base, 1_000_000 + JUMP_MS);
        let far = 1_000_000 + YEARS;
        let first = advance(start(), far, 50);
        assert_eq!(first.base, 1_000_000);
        let held = advance(first, far + JUMP_HOLD_MS - 1, 50 + JUMP_HOLD_MS - 1);
        assert_eq!(held.base, 1_000_000 + JUMP_HOLD_MS - 1);
        let believed = advance(held, far + JUMP_HOLD_MS, 50 + JUMP_HOLD_MS);
        assert_eq!(believed.base, far + JUMP_HOLD_MS);
    }

    /// Goal: a jump that is taken back within the minute leaves no trace.
    #[test]
    fn a_jump_taken_back_is_forgotten() {
        let first = advance(start(), 1_000_000 + YEARS, 50);
        let back = advance(first, 1_000_010, 60);
        assert_eq!((back.base, back.ahead_since), (1_000_010, None));
    }
}
