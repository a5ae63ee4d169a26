//! Store time: wall time that never goes back (I16) and does not believe every jump.
//!
//! While a store is open, time goes on with the machine's clocks from the highest time ever seen, time spent asleep
//! included. The wall clock may pull it forward: at once by a little, and by more than five minutes only after the jump
//! has stood for a minute. A machine that boots in 1970 goes on where the store left off; one whose clock was set to
//! 2100 by mistake for a moment expires nothing.
//!
//! A jump *stands* while every reading agrees with the first one and with the machine's clocks. Between two readings
//! the wall clock may have been right again, so a pause between readings adds at most a quarter of the time that a jump
//! must stand: two glitches a minute apart, on a store that is idle in between, are not believed.
//!
//! At opening the wall clock may be far ahead of the time on record: the store was closed for long, or the clock is
//! wrong. It is shown at once, and *in doubt*: what it would expire is not served, but nothing is removed for it and
//! none of it goes on record, until it has stood for minutes, here or from one session to the next, or an operator says
//! that it is right. If the clock is set back before that, the store goes back with it.

use std::sync::Arc;

use super::Clock;
use crate::{
    knobs::Knobs,
    sync::{Mutex, PoisonError},
    types::Timestamp,
};

/// Two sessions further apart than this say nothing for each other's clock.
const SESSIONS_APART_MAX_MS: u64 = 31 * 24 * 3600 * 1000;

/// Readings after the first one that must agree before a wall clock far ahead is believed, at least.
const AGREEING_MIN: u64 = 4;

/// The clock of one open store. Cheap enough for every read of a record with an expiry.
#[derive(Debug)]
pub struct StoreClock {
    clock: Arc<dyn Clock>,
    knobs: Knobs,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Store time at the moment `elapsed`.
    base: u64,
    /// Milliseconds of the machine's clocks, those asleep included.
    elapsed: u64,
    /// The jump that the wall clock has made, while it is far ahead.
    ahead: Option<Ahead>,
    doubt: Option<Doubt>,
}

/// A jump of the wall clock that is not believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ahead {
    /// How long it has stood.
    stood: u64,
    /// The wall clock less the machine's clocks: the same while it stands.
    offset: u64,
}

/// Store time rests on a wall clock that nothing has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubt {
    /// Store time without it, at the moment `elapsed`.
    confirmed: u64,
    /// How long it has stood.
    stood: u64,
    /// What it showed when it was first seen so far ahead, perhaps by an earlier session.
    seen: u64,
}

/// A wall clock far ahead of a store's time that nothing has confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockDoubt {
    /// Store time by the wall clock: what has an expiry before it is not served.
    pub now: Timestamp,
    /// Store time without it: only what has expired by this one is removed.
    pub confirmed: Timestamp,
    /// What the wall clock showed when it was first seen so far ahead.
    pub seen: Timestamp,
}

impl StoreClock {
    /// A clock that starts at the later of wall time and `high_water`, the highest store time on record.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, high_water: Timestamp) -> Self {
        Self::with(clock, high_water, None, Knobs::new())
    }

    /// As [`Self::new`], for a store whose last session had seen a wall clock far ahead at `seen`.
    pub(crate) fn with(
        clock: Arc<dyn Clock>,
        high_water: Timestamp,
        seen: Option<Timestamp>,
        knobs: Knobs,
    ) -> Self {
        let (wall, elapsed) = (clock.wall_ms(), elapsed(clock.as_ref()));
        let is_far = high_water.0 > 0 && wall.saturating_sub(high_water.0) > knobs.jump_ms;
        // One that the store's time has passed is no sight of a clock far ahead.
        let seen = seen.map_or(wall, |seen| seen.0);
        let seen = if seen > high_water.0 && seen <= wall { seen } else { wall };
        let stood = wall - seen;
        let is_confirmed = (knobs.opening_hold_ms..=SESSIONS_APART_MAX_MS).contains(&stood);
        // Of an earlier session that is too long ago nothing follows.
        let seen = if stood > SESSIONS_APART_MAX_MS { wall } else { seen };
        let doubt = Doubt { confirmed: high_water.0, stood: 0, seen };
        let state = State {
            base: wall.max(high_water.0),
            elapsed,
            ahead: None,
            doubt: (is_far && !is_confirmed).then_some(doubt),
        };
        Self { clock, knobs, state: Mutex::new(state) }
    }

    /// Store time now. Never less than any earlier answer, but for those that were in doubt.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.advance().base)
    }

    /// Store time as far as it is confirmed: that by which things are removed, and that goes on record. Never less than
    /// any earlier answer.
    #[must_use]
    pub fn confirmed(&self) -> Timestamp {
        let state = self.advance();
        Timestamp(state.doubt.map_or(state.base, |doubt| doubt.confirmed))
    }

    /// Whether store time is in doubt.
    #[must_use]
    pub fn doubt(&self) -> Option<ClockDoubt> {
        let State { base, doubt, .. } = self.advance();
        let doubt = doubt?;
        Some(ClockDoubt {
            now: Timestamp(base),
            confirmed: Timestamp(doubt.confirmed),
            seen: Timestamp(doubt.seen),
        })
    }

    /// Believes the wall clock from now on: the caller says that it is right.
    pub fn trust(&self) {
        let wall = self.clock.wall_ms();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let base = state.base.max(wall);
        *state = State { base, ahead: None, doubt: None, ..*state };
    }

    fn advance(&self) -> State {
        let (wall, elapsed) = (self.clock.wall_ms(), elapsed(self.clock.as_ref()));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = advance(*state, wall, elapsed, self.knobs);
        *state
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

fn elapsed(clock: &dyn Clock) -> u64 {
    clock.boot_ms().max(clock.monotonic_ms())
}

/// What a pause of `passed` between two readings that agree adds to the time that a clock has stood, of `hold`.
fn stands(passed: u64, hold: u64) -> u64 {
    passed.min(hold.div_ceil(AGREEING_MIN))
}

fn advance(state: State, wall: u64, elapsed: u64, knobs: Knobs) -> State {
    let elapsed = elapsed.max(state.elapsed);
    let passed = elapsed - state.elapsed;
    let expected = state.base.saturating_add(passed);
    let doubt = state.doubt.map(|doubt| Doubt {
        confirmed: doubt.confirmed.saturating_add(passed),
        stood: doubt.stood + stands(passed, knobs.opening_hold_ms),
        ..doubt
    });
    if let Some(doubt) = doubt
        && wall.saturating_add(knobs.jump_ms) < expected
    {
        return corrected(doubt, wall, elapsed, knobs);
    }
    let doubt = doubt.filter(|doubt| doubt.stood < knobs.opening_hold_ms);
    let keep = |ahead| State { base: expected, elapsed, ahead, doubt };
    if wall <= expected {
        return keep(None);
    }
    let is_jump = wall - expected > knobs.jump_ms;
    if is_jump {
        let offset = wall.saturating_sub(elapsed);
        let same = state.ahead.filter(|ahead| ahead.offset.abs_diff(offset) <= knobs.jump_ms);
        let stood = same.map_or(0, |ahead| ahead.stood + stands(passed, knobs.jump_hold_ms));
        if stood < knobs.jump_hold_ms {
            let offset = same.map_or(offset, |ahead| ahead.offset);
            return keep(Some(Ahead { stood, offset }));
        }
    }
    // A clock in doubt that jumps again has to stand again.
    let doubt = doubt.map(|doubt| if is_jump { Doubt { stood: 0, ..doubt } } else { doubt });
    State { base: wall, elapsed, ahead: None, doubt }
}

/// A clock in doubt was set back: so is the store's time, to what is confirmed at most.
fn corrected(doubt: Doubt, wall: u64, elapsed: u64, knobs: Knobs) -> State {
    let base = wall.max(doubt.confirmed);
    let is_far = base - doubt.confirmed > knobs.jump_ms;
    let doubt = is_far.then_some(Doubt { stood: 0, seen: wall, ..doubt });
    State { base, elapsed, ahead: None, doubt }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEARS: u64 = 10 * 365 * 24 * 3600 * 1000;
    const KNOBS: Knobs = Knobs::new();
    const JUMP_MS: u64 = KNOBS.jump_ms;
    const JUMP_HOLD_MS: u64 = KNOBS.jump_hold_ms;
    const HOLD_MS: u64 = KNOBS.opening_hold_ms;

    fn advance(state: State, wall: u64, elapsed: u64) -> State {
        super::advance(state, wall, elapsed, KNOBS)
    }

    fn start() -> State {
        State { base: 1_000_000, elapsed: 50, ahead: None, doubt: None }
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
        let stands = |state, ms| advance(state, far + ms, 50 + ms);
        let looks = (1..AGREEING_MIN).map(|look| look * JUMP_HOLD_MS / AGREEING_MIN);
        let held = looks.fold(first, stands);
        let held = stands(held, JUMP_HOLD_MS - 1);
        assert_eq!(held.base, 1_000_000 + JUMP_HOLD_MS - 1);
        let believed = stands(held, JUMP_HOLD_MS);
        assert_eq!(believed.base, far + JUMP_HOLD_MS);
    }

    /// Goal: two glitches of the wall clock a minute or more apart, with no reading between, are not believed, nor are
    /// glitches that differ from one another.
    #[test]
    fn glitches_that_nobody_saw_end_are_not_believed() {
        let first = advance(start(), 1_000_000 + YEARS, 50);
        for apart in [JUMP_HOLD_MS, 60 * JUMP_HOLD_MS] {
            let second = advance(first, 1_000_000 + YEARS + apart, 50 + apart);
            assert_eq!(second.base, 1_000_000 + apart);
        }
        let mut state = first;
        for look in 1..50 {
            let passed = look * JUMP_HOLD_MS / 4;
            state = advance(state, 1_000_000 + YEARS + look * YEARS / 100, 50 + passed);
            assert_eq!(state.base, 1_000_000 + passed, "each look is at another jump");
        }
    }

    /// Goal: the same at opening: a clock in doubt that was looked at twice has not stood.
    #[test]
    fn a_doubt_that_was_looked_at_twice_stays() {
        let again = advance(doubtful(), 1_000_000 + YEARS + HOLD_MS, 50 + HOLD_MS);
        assert!(again.doubt.is_some());
        let back = advance(again, 1_000_000 + HOLD_MS + 10, 60 + HOLD_MS);
        assert_eq!((back.base, back.doubt), (1_000_010 + HOLD_MS, None));
    }

    /// Goal: a jump that is taken back within the minute leaves no trace.
    #[test]
    fn a_jump_taken_back_is_forgotten() {
        let first = advance(start(), 1_000_000 + YEARS, 50);
        let back = advance(first, 1_000_010, 60);
        assert_eq!((back.base, back.ahead), (1_000_010, None));
    }

    fn doubtful() -> State {
        let doubt = Doubt { confirmed: 1_000_000, stood: 0, seen: 1_000_000 + YEARS };
        State { base: 1_000_000 + YEARS, elapsed: 50, ahead: None, doubt: Some(doubt) }
    }

    /// Goal: a clock in doubt is believed after it has stood, and goes back with the wall clock before that.
    #[test]
    fn a_doubt_ends() {
        let looks = |state, ms: u64| advance(state, 1_000_000 + YEARS + ms, 50 + ms);
        let quarters = (1..AGREEING_MIN).map(|look| look * HOLD_MS / AGREEING_MIN);
        let stood = quarters.fold(doubtful(), looks);
        let stands = |ms: u64| looks(stood, ms);
        let almost = stands(HOLD_MS - 1);
        assert_eq!(almost.base, 1_000_000 + YEARS + HOLD_MS - 1);
        assert_eq!(almost.doubt.map(|doubt| doubt.confirmed), Some(1_000_000 + HOLD_MS - 1));
        assert_eq!(stands(HOLD_MS).doubt, None);
        let back = advance(almost, 1_000_000 + 10, 60 + HOLD_MS);
        assert_eq!((back.base, back.doubt), (1_000_000 + 10 + HOLD_MS, None), "what has passed");
        let nearer = advance(almost, 1_000_000 + YEARS / 2, 60 + HOLD_MS);
        assert_eq!(nearer.base, 1_000_000 + YEARS / 2);
        assert_eq!(nearer.doubt.map(|doubt| doubt.stood), Some(0), "stands again");
    }
}
