//! So many in a while, and a burst of so many at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Entries, open};
use crate::{
    error::{Error, Result},
    key::Key,
    store::Store,
    typed::Outcome,
};
use tierce_engine::Timestamp;

const NANOS_PER_MS: u128 = 1_000_000;

/// How many in a time span, and how many at once.
///
/// ```
/// use std::time::Duration;
/// use tierce::recipes::Rate;
/// let calls = Rate::new(60, Duration::from_secs(60)).burst(10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
}

impl Rate {
    /// `count` in each `per`, all of which may come at once.
    #[must_use]
    pub const fn new(count: u32, per: Duration) -> Self {
        Self { count, per, burst: count }
    }

    /// So many may come at once after a pause.
    #[must_use]
    pub const fn burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }
}

/// A bucket as it is stored: when it will be full again. Nothing else is needed, and nothing has to be refilled.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Bucket {
    full_at_ms: u64,
    /// Nanoseconds above the milliseconds.
    nanos: u32,
}

impl Bucket {
    fn full_at(self) -> u128 {
        u128::from(self.full_at_ms) * NANOS_PER_MS + u128::from(self.nanos)
    }

    fn of(full_at: u128) -> Self {
        Self {
            full_at_ms: u64::try_from(full_at / NANOS_PER_MS).unwrap_or(u64::MAX),
            nanos: u32::try_from(full_at % NANOS_PER_MS).unwrap_or(0),
        }
    }
}

/// A token bucket for each key: a full one holds the burst; each permission takes tokens out, and time puts them back.
/// What was taken is remembered over a restart; a bucket that is full again takes no space.
///
/// ```
/// use std::time::Duration;
/// use tierce::recipes::Rate;
/// let store = tierce::Store::in_memory()?;
/// let api = store.throttle("api", Rate::new(1, Duration::from_secs(60)).burst(2))?;
/// assert!(api.try_acquire("user", 2)?.is_ok());
/// let wait = api.try_acquire("user", 1)?.unwrap_err();
/// assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60));
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Throttle {
    entries: Entries<Bucket>,
    /// Nanoseconds in which one token comes back.
    token: u128,
    burst: u32,
    name: String,
}

impl Throttle {
    /// Takes `count` tokens, all or none; if there are too few, says how long it takes until there are enough.
    ///
    /// # Errors
    /// [`Error::Options`] for more tokens than the bucket ever holds; the engine's. Then none was taken.
    pub fn try_acquire<Q: Key + ?Sized>(
        &self,
        key: &Q,
        count: u32,
    ) -> Result<Result<(), Duration>> {
        if count > self.burst {
            let complaints = vec![format!("{count} are asked of at most {}", self.burst)];
            return Err(Error::Options { what: format!("throttle `{}`", self.name), complaints });
        }
        let (asked, room) = (self.token * u128::from(count), self.token * u128::from(self.burst));
        let mut wait = None;
        self.entries.update_at(&self.entries.key_bytes(key), &mut |old| {
            let now_ms = self.entries.kv().now();
            let now = u128::from(now_ms.0) * NANOS_PER_MS;
            let full_at = old.map_or(now, |(bucket, _)| bucket.full_at().max(now));
            let then = full_at + asked;
            wait = then.checked_sub(now + room).filter(|wait| *wait > 0);
            if wait.is_some() || count == 0 {
                return Ok(Outcome::Keep);
            }
            let bucket = Bucket::of(then);
            // A bucket that is full is as good as none.
            let end = Timestamp(bucket.full_at_ms.saturating_add(1));
            Ok(Outcome::Put(bucket, self.entries.put_options(Some(end))))
        })?;
        Ok(wait.map_or(Ok(()), |wait| {
            Err(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
        }))
    }

    /// Fills the bucket of `key`; says whether tokens were missing.
    ///
    /// # Errors
    /// The engine's.
    pub fn reset<Q: Key + ?Sized>(&self, key: &Q) -> Result<bool> {
        super::forget(&self.entries, key)
    }
}

impl Store {
    /// The throttle of this name. The rate is not stored: what was taken counts in time, which another rate makes
    /// another number of tokens.
    ///
    /// # Errors
    /// [`Error::Options`] if the rate or the burst is zero; [`Error::Name`]; the engine's.
    pub fn throttle(&self, name: &str, rate: Rate) -> Result<Throttle> {
        let mut complaints = Vec::new();
        for (is_wrong, complaint) in [
            (rate.count == 0, "a rate of none at all lets nothing through"),
            (rate.per.is_zero(), "the time span of a rate is not zero"),
            (rate.burst == 0, "a burst of none lets nothing through"),
        ] {
            if is_wrong {
                complaints.push(complaint.to_owned());
            }
        }
        if !complaints.is_empty() {
            return Err(Error::Options { what: format!("throttle `{name}`"), complaints });
        }
        let token = rate.per.as_nanos().div_ceil(u128::from(rate.count));
        let entries = open(self, "throttles", Some(name))?;
        Ok(Throttle { entries, token, burst: rate.burst, name: name.to_owned() })
    }
}
