//! One holder at a time, for a while, with a number that proves it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tierce_engine::{Durability, Timestamp};

use super::{Entries, between, millis, open};
use crate::{
    error::{Error, Result},
    store::Store,
    typed::Outcome,
};

/// What is on record of a name. It is never removed, so that the token only grows.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Holder {
    token: u64,
    owner: String,
    until_ms: u64,
}

impl Holder {
    /// Whether nobody has it: it was given back, or its time is over.
    const fn is_free(&self, now: Timestamp) -> bool {
        self.until_ms <= now.0
    }
}

/// Somebody else holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What the holder calls itself.
    pub owner: String,
    /// How long it holds it at most, unless it renews.
    pub remaining: Duration,
}

/// A name that is held by one at a time, until it is given back or time is up. Dropping it gives it back, best effort;
/// if the process dies it ends with its time.
///
/// Each lease of a name has a larger token than all before it. A holder that was slow may believe that it still holds
/// the name: hand the token to whatever it writes to, which refuses a smaller token than it has seen.
///
/// ```
/// use std::time::Duration;
/// let store = tierce::Store::in_memory()?;
/// let minute = Duration::from_secs(60);
/// let lease = store.lease("report", "worker 1", minute)?.unwrap();
/// let held = store.lease("report", "worker 2", minute)?.unwrap_err();
/// assert_eq!(held.owner, "worker 1");
/// let token = lease.token();
/// lease.release()?;
/// assert!(store.lease("report", "worker 2", minute)?.unwrap().token() > token);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct Lease {
    entries: Entries<Holder>,
    name: String,
    token: u64,
    is_released: bool,
}

impl Lease {
    /// Proves the holder: larger than that of every earlier lease of this name.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// Whether it is still held. By the time you act on it, it may not be: that is what the token is for.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_held(&self) -> Result<bool> {
        let now = self.entries.kv().now();
        let holder = self.entries.get_at(&self.entries.key_bytes(&self.name))?;
        Ok(holder.is_some_and(|holder| holder.token == self.token && !holder.is_free(now)))
    }

    /// Holds it for so long from now on; the token stays.
    ///
    /// # Errors
    /// [`Error::NotHeld`] if its time was over: somebody else may have had it; the engine's.
    pub fn renew(&self, time: Duration) -> Result<()> {
        self.set_end(&|now| now.saturating_add_ms(millis(time)))
    }

    /// Gives it back.
    ///
    /// # Errors
    /// [`Error::NotHeld`] if its time was over: whoever has it now keeps it; the engine's.
    pub fn release(mut self) -> Result<()> {
        self.is_released = true;
        self.set_end(&|_| Timestamp(0))
    }

    fn set_end(&self, end: &dyn Fn(Timestamp) -> Timestamp) -> Result<()> {
        let mut is_held = false;
        self.entries.update_at(&self.entries.key_bytes(&self.name), &mut |old| {
            let now = self.entries.kv().now();
            let mine = old.map(|(holder, _)| holder);
            let mine = mine.filter(|holder| holder.token == self.token && !holder.is_free(now));
            is_held = mine.is_some();
            let Some(holder) = mine else { return Ok(Outcome::Keep) };
            let holder = Holder { until_ms: end(now).0, ..holder };
            Ok(Outcome::Put(holder, self.entries.put_options(None)))
        })?;
        let what = || format!("lease `{}`", self.name);
        if is_held { Ok(()) } else { Err(Error::NotHeld { what: what() }) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_released {
            // Best effort: if it fails, the lease ends with its time.
            let _ = self.set_end(&|_| Timestamp(0));
        }
    }
}

impl Store {
    /// Takes the lease of this name for so long, or says who holds it. `owner` only tells others who it is; the same
    /// owner does not get it twice. The token is on the device when this returns.
    ///
    /// # Errors
    /// [`Error::Overflow`] behind the last token; the engine's.
    pub fn lease(&self, name: &str, owner: &str, time: Duration) -> Result<Result<Lease, Held>> {
        let entries: Entries<Holder> = open(self, "leases", None)?;
        let (mut held, mut token) = (None, 0);
        entries.update_at(&entries.key_bytes(name), &mut |old| {
            let now = self.now();
            let old = old.map(|(holder, _)| holder);
            held = old.as_ref().filter(|holder| !holder.is_free(now)).map(|holder| Held {
                owner: holder.owner.clone(),
                remaining: between(now, Timestamp(holder.until_ms)),
            });
            if held.is_some() {
                return Ok(Outcome::Keep);
            }
            let what = || format!("the token of lease `{name}`");
            let last = old.map_or(0, |holder| holder.token);
            token = last.checked_add(1).ok_or_else(|| Error::Overflow { what: what() })?;
            let until_ms = now.saturating_add_ms(millis(time)).0;
            let holder = Holder { token, owner: owner.to_owned(), until_ms };
            // A token that was shown to others must not be given again after a power cut.
            let options = entries.put_options(None).durability(Durability::Sync);
            Ok(Outcome::Put(holder, options))
        })?;
        let lease = || Lease { entries, name: name.to_owned(), token, is_released: false };
        Ok(held.map_or_else(|| Ok(lease()), Err))
    }
}
