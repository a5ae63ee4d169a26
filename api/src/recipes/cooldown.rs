//! Not more than once in a while.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tierce_engine::Timestamp;

use super::{Entries, between, millis, nonce, open};
use crate::{error::Result, key::Key, store::Store, typed::Outcome};

/// When something was done last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    at_ms: u64,
    nonce: u64,
}

/// Says for each key whether it is long enough ago, and marks it as done, in one atomic step: of any number of threads
/// that ask at once, one is told to go ahead.
///
/// The mark is made before the deed. A crash between them means that it is not done in this period; where that is worse
/// than doing it twice, use a [`Queue`](crate::collections::Queue) whose messages are acknowledged after the deed.
///
/// ```
/// use std::time::Duration;
/// let store = tierce::Store::in_memory()?;
/// let alerts = store.cooldown("leak", Duration::from_secs(4 * 3600))?;
/// match alerts.try_acquire("binary_sensor.cellar")? {
///     Ok(permit) => {
///         let is_sent = true;
///         if !is_sent {
///             permit.cancel()?;
///         }
///     }
///     Err(wait) => println!("the last one was {:?} ago", wait.since),
/// }
/// assert!(alerts.try_acquire("binary_sensor.cellar")?.is_err());
/// assert!(alerts.try_acquire("binary_sensor.attic")?.is_ok());
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cooldown {
    entries: Entries<Mark>,
    period: Duration,
    /// Whether marks stay when their period is over.
    keeps: bool,
}

/// It is too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long it will be too early.
    pub remaining: Duration,
    /// How long ago the last one was.
    pub since: Duration,
}

/// Leave to do it. Dropping it changes nothing: it counts as done.
#[derive(Debug)]
pub struct Permit {
    entries: Entries<Mark>,
    key: Vec<u8>,
    mark: Mark,
    /// What was on record before, if marks stay.
    before: Option<Mark>,
}

impl Permit {
    /// It was not done after all: the next one who asks may. A permit that is given back too late, when somebody else
    /// has got one, changes nothing.
    ///
    /// # Errors
    /// The engine's; then it counts as done.
    pub fn cancel(self) -> Result<()> {
        self.entries.update_at(&self.key, &mut |old| {
            let is_mine = old.is_some_and(|(mark, _)| mark == self.mark);
            Ok(match (is_mine, self.before) {
                (false, _) => Outcome::Keep,
                (true, None) => Outcome::Remove,
                (true, Some(before)) => Outcome::Put(before, self.entries.put_options(None)),
            })
        })?;
        Ok(())
    }
}

impl Cooldown {
    pub(super) fn open(
        store: &Store,
        kind: &str,
        name: Option<&str>,
        period: Duration,
        keeps: bool,
    ) -> Result<Self> {
        Ok(Self { entries: open(store, kind, name)?, period, keeps })
    }

    /// Leave to do it now, or how long it is too early. With a zero period it never is.
    ///
    /// # Errors
    /// The engine's, and nobody has got leave by this.
    pub fn try_acquire<Q: Key + ?Sized>(&self, key: &Q) -> Result<Result<Permit, Wait>> {
        let key = self.entries.key_bytes(key);
        let mut mark = Mark { at_ms: 0, nonce: nonce() };
        let (mut wait, mut before) = (None, None);
        self.entries.update_at(&key, &mut |old| {
            let now = self.entries.kv().now();
            before = old.map(|(mark, _)| mark);
            wait = before.and_then(|before| self.wait(before, now));
            if wait.is_some() {
                return Ok(Outcome::Keep);
            }
            mark.at_ms = now.0;
            let end = now.saturating_add_ms(millis(self.period));
            let expires_at = (!self.keeps).then_some(end);
            Ok(Outcome::Put(mark, self.entries.put_options(expires_at)))
        })?;
        let before = before.filter(|_| self.keeps);
        let permit = || Permit { entries: self.entries.clone(), key, mark, before };
        Ok(wait.map_or_else(|| Ok(permit()), Err))
    }

    /// How long it is too early, if it is. Period and mark are judged by this handle's period: one that is shorter than
    /// the one the mark was made with holds at once.
    fn wait(&self, old: Mark, now: Timestamp) -> Option<Wait> {
        let last = Timestamp(old.at_ms);
        let end = last.saturating_add_ms(millis(self.period));
        let wait = Wait { remaining: between(now, end), since: between(last, now) };
        (!wait.remaining.is_zero()).then_some(wait)
    }

    /// How long it is too early, without asking for leave; `None` if it is not.
    ///
    /// # Errors
    /// The engine's.
    pub fn remaining<Q: Key + ?Sized>(&self, key: &Q) -> Result<Option<Wait>> {
        let mark = self.entries.get_at(&self.entries.key_bytes(key))?;
        Ok(mark.and_then(|mark| self.wait(mark, self.entries.kv().now())))
    }

    /// When it was done last, as long as that is on record: during its period.
    pub(super) fn last<Q: Key + ?Sized>(&self, key: &Q) -> Result<Option<Timestamp>> {
        let mark = self.entries.get_at(&self.entries.key_bytes(key))?;
        Ok(mark.map(|mark| Timestamp(mark.at_ms)))
    }

    /// Forgets that it was done: the next one who asks may do it. Says whether something was on record.
    ///
    /// # Errors
    /// The engine's.
    pub fn reset<Q: Key + ?Sized>(&self, key: &Q) -> Result<bool> {
        super::forget(&self.entries, key)
    }
}

impl Store {
    /// The cooldown of this name. The period is not stored: marks made with a longer one are judged by this one; those
    /// made with a shorter one are forgotten when that is over.
    ///
    /// # Errors
    /// [`Error::Name`](crate::Error::Name); the engine's.
    pub fn cooldown(&self, name: &str, period: Duration) -> Result<Cooldown> {
        Cooldown::open(self, "cooldowns", Some(name), period, false)
    }
}
