//! The policies that there are.

use std::{
    fmt,
    ops::{BitAnd, BitOr, Not},
    time::Duration,
};

use tierce_engine::Timestamp;

use super::{Moment, Policy, SavePolicy};

/// Save after each turn that published: what is kept is what was told. Medium I/O, good safety; for most devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnPublish;

/// Save after each turn that changed something, published or not, failed or not. The most I/O, the least loss; for
/// counters and calibrations.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnChange;

/// Save at a graceful stop only. No I/O meanwhile, and **a crash loses everything since the start**: for what can be
/// computed again. The policy of a device that names none.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnShutdown;

/// Save every so many turns or changes, or every so often.
///
/// ```
/// use std::time::Duration;
/// use tierce::state::Every;
/// let policy = Every::turns(10) | Every::duration(Duration::from_secs(3600));
/// assert_eq!(format!("{policy:?}"), "Every(10 turns) | Every(3600s)");
/// ```
#[derive(Clone, Copy)]
pub struct Every(Unit);

#[derive(Clone, Copy)]
enum Unit {
    Turns {
        every: u64,
        seen: u64,
    },
    Changes(u64),
    /// `due`: when to save what is dirty.
    Duration {
        every: Duration,
        due: Option<Timestamp>,
    },
}

impl Every {
    /// Once `turns` turns of the handler have ended since the last save; 0 is taken as 1.
    #[must_use]
    pub const fn turns(turns: u64) -> Self {
        Self(Unit::Turns { every: if turns == 0 { 1 } else { turns }, seen: 0 })
    }

    /// Once there have been `changes` changes since the last save; 0 is taken as 1.
    #[must_use]
    pub const fn changes(changes: u64) -> Self {
        Self(Unit::Changes(if changes == 0 { 1 } else { changes }))
    }

    /// When something changed and the last save is this long ago.
    #[must_use]
    pub const fn duration(every: Duration) -> Self {
        Self(Unit::Duration { every, due: None })
    }
}

impl fmt::Debug for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unit::Turns { every, .. } => write!(f, "Every({every} turns)"),
            Unit::Changes(every) => write!(f, "Every({every} changes)"),
            Unit::Duration { every, .. } => write!(f, "Every({every:?})"),
        }
    }
}

/// Save once things have been quiet for a while, and after some time even if they never are: many changes, one write.
///
/// ```
/// use std::time::Duration;
/// use tierce::state::Debounced;
/// let policy = Debounced::new(Duration::from_secs(1), Duration::from_secs(30));
/// assert_eq!(format!("{policy:?}"), "Debounced(1s, at most 30s)");
/// ```
#[derive(Clone, Copy)]
pub struct Debounced {
    delay: Duration,
    max: Duration,
    /// Since something has been unsaved: how many changes there were, and when the first and the last were seen.
    unsaved: Option<(u64, Timestamp, Timestamp)>,
}

impl Debounced {
    /// After `delay` without a change, or `max` after the first unsaved one, whichever is first.
    #[must_use]
    pub const fn new(delay: Duration, max: Duration) -> Self {
        Self { delay, max, unsaved: None }
    }
}

impl fmt::Debug for Debounced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Debounced({:?}, at most {:?})", self.delay, self.max)
    }
}

/// Save once changes have brought about so many bytes.
#[derive(Clone, Copy, Debug)]
pub struct AfterBytes(pub u64);

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.saturating_add_ms(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

impl SavePolicy for OnPublish {
    fn should_save(&mut self, moment: &Moment) -> bool {
        moment.published
    }
}

impl SavePolicy for OnChange {
    fn should_save(&mut self, moment: &Moment) -> bool {
        moment.dirty
    }
}

impl SavePolicy for OnShutdown {
    fn should_save(&mut self, _moment: &Moment) -> bool {
        false
    }
}

impl SavePolicy for AfterBytes {
    fn should_save(&mut self, moment: &Moment) -> bool {
        moment.dirty && moment.bytes >= self.0
    }
}

impl SavePolicy for Every {
    fn should_save(&mut self, moment: &Moment) -> bool {
        match &mut self.0 {
            Unit::Turns { every, seen } => {
                *seen = seen.saturating_add(u64::from(moment.turn));
                *seen >= *every
            }
            Unit::Changes(every) => moment.changes >= *every,
            Unit::Duration { every, due } => {
                let is_due = moment.dirty && moment.since_save >= *every;
                let left = every.saturating_sub(moment.since_save);
                *due = (moment.dirty && !is_due).then(|| after(moment.now, left));
                is_due
            }
        }
    }

    fn saved(&mut self) {
        match &mut self.0 {
            Unit::Turns { seen, .. } => *seen = 0,
            Unit::Changes(_) => {}
            Unit::Duration { due, .. } => *due = None,
        }
    }

    fn wake_at(&self) -> Option<Timestamp> {
        match self.0 {
            Unit::Duration { due, .. } => due,
            _ => None,
        }
    }
}

impl SavePolicy for Debounced {
    fn should_save(&mut self, moment: &Moment) -> bool {
        if !moment.dirty {
            self.unsaved = None;
            return false;
        }
        let now = moment.now;
        let (first, last) = match self.unsaved {
            Some((changes, first, last)) if changes == moment.changes => (first, last),
            Some((_, first, _)) => (first, now),
            None => (now, now),
        };
        self.unsaved = Some((moment.changes, first, last));
        now >= after(last, self.delay) || now >= after(first, self.max)
    }

    fn saved(&mut self) {
        self.unsaved = None;
    }

    fn wake_at(&self) -> Option<Timestamp> {
        let (_, first, last) = self.unsaved?;
        Some(after(last, self.delay).min(after(first, self.max)))
    }
}

macro_rules! compose {
    ($($policy:ty)*) => {
        $(impl<R: Into<Policy>> BitOr<R> for $policy {
            type Output = Policy;

            fn bitor(self, right: R) -> Policy {
                Policy::from(self) | right
            }
        }

        impl<R: Into<Policy>> BitAnd<R> for $policy {
            type Output = Policy;

            fn bitand(self, right: R) -> Policy {
                Policy::from(self) & right
            }
        }

        impl Not for $policy {
            type Output = Policy;

            fn not(self) -> Policy {
                !Policy::from(self)
            }
        })*
    };
}

compose! { OnPublish OnChange OnShutdown Every Debounced AfterBytes }
