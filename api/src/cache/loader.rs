//! A loader that belongs to a cache: stale values while it works or when it fails, refreshes ahead of time.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tierce_engine::Timestamp;

use super::{
    Cache, Put,
    flight::Parked,
    load::{Have, value_of},
    record::Standing,
};
use crate::{
    codec::{Codec, MsgPack},
    error::{BoxError, Error, Result, Shared},
    key::{Lookup, OwnedKey},
    pool::Job,
    store::Store,
    ttl::Ttl,
};

/// What a loader brings.
#[derive(Clone, Debug)]
#[must_use]
pub struct Loaded<V> {
    pub(super) fetched: Fetched<V>,
    pub(super) ttl: Option<Ttl>,
    pub(super) tags: Vec<String>,
    pub(super) weight: Option<u64>,
    pub(super) validator: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) enum Fetched<V> {
    Value(V),
    NotModified,
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

impl<V> Loaded<V> {
    /// A value, to be stored as the policy says.
    pub const fn new(value: V) -> Self {
        Self::with(Fetched::Value(value))
    }

    /// The old value is still right: it is not written again, and lives on as if it had been loaded now.
    pub const fn not_modified() -> Self {
        Self::with(Fetched::NotModified)
    }

    const fn with(fetched: Fetched<V>) -> Self {
        Self { fetched, ttl: None, tags: Vec::new(), weight: None, validator: None }
    }

    /// How long this value is fresh, instead of what the policy says.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Adds a tag to this value. It then has these tags and none of the policy's.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// What this value weighs, instead of what the policy says: see [`Put::weight`].
    pub fn weight(mut self, weight: u64) -> Self {
        self.weight = Some(weight);
        self
    }

    /// What the next load is given back with the value, up to 255 bytes: an etag, a version, a time of change.
    pub fn validator(mut self, validator: impl Into<Vec<u8>>) -> Self {
        self.validator = Some(validator.into());
        self
    }
}

/// The value that a load is to replace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Old<V> {
    /// The value.
    pub value: V,
    /// When it was stored.
    pub stored_at: Option<Timestamp>,
    /// Until when it is, or was, fresh.
    pub fresh_until: Option<Timestamp>,
    /// How long it was to be fresh, if that was noted.
    pub(super) lifetime_ms: Option<u64>,
    /// How long loading it took.
    pub cost: Duration,
    /// What the load that brought it gave with it.
    pub validator: Option<Vec<u8>>,
    pub(super) tags: Vec<String>,
}

/// How a [`Loading`] treats what it loads. The default: the space's lifetime, and nothing stale.
///
/// ```
/// use std::time::Duration;
/// use tierce::{LoadPolicy, Ttl};
/// let policy = LoadPolicy::new()
///     .ttl(Ttl::minutes(5))
///     .stale_while_revalidate(Duration::from_secs(60))
///     .stale_if_error(Duration::from_secs(86_400))
///     .jitter(0.1);
/// ```
#[derive(Clone)]
#[must_use]
pub struct LoadPolicy {
    pub(super) put: Put,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    early: f64,
    refresh_ahead: f64,
    jitter: f64,
    error_ttl: Duration,
    retry_after: Duration,
    patience: Option<Duration>,
    dice: fn() -> f64,
}

impl fmt::Debug for LoadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadPolicy")
            .field("ttl", &self.put.ttl)
            .field("stale_while_revalidate", &self.stale_while_revalidate)
            .field("stale_if_error", &self.stale_if_error)
            .field("early", &self.early)
            .field("refresh_ahead", &self.refresh_ahead)
            .field("jitter", &self.jitter)
            .field("error_ttl", &self.error_ttl)
            .field("retry_after", &self.retry_after)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Default for LoadPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// A number from 0 up to 1.
fn dice() -> f64 {
    RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64
}

/// Longest time in which a stale value is served, some hundred million years: so long that no end of a lifetime that is
/// meant has to be cut short for it.
const STALE_WINDOW_MS_MAX: u64 = u64::MAX / 4;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl LoadPolicy {
    /// The default.
    pub const fn new() -> Self {
        Self {
            put: Put {
                ttl: Ttl::Default,
                tags: Vec::new(),
                weight: None,
                pinned: false,
                if_absent: false,
                keep_ttl: false,
                keep_tags: false,
                durability: None,
            },
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            early: 0.0,
            refresh_ahead: 0.0,
            jitter: 0.0,
            error_ttl: Duration::ZERO,
            retry_after: Duration::from_secs(1),
            patience: None,
            dice,
        }
    }

    /// How long values are fresh. Default: as long as the space says.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.put.ttl = ttl.into();
        self
    }

    /// Adds a tag to every value.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.put = self.put.tag(tag);
        self
    }

    /// For so long after a value was fresh it is still served, at once, while one load in the background replaces it.
    pub const fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.stale_while_revalidate = time;
        self
    }

    /// For so long after a value was fresh it is served if loading another one fails. If the loader panics, the panic
    /// goes on in the thread that called it, and those who wait for it get the stale value.
    pub const fn stale_if_error(mut self, time: Duration) -> Self {
        self.stale_if_error = time;
        self
    }

    /// Loads in the background before a value stops to be fresh, the likelier the nearer that is and the longer loading
    /// takes, so that not all that were stored together are loaded together. 1.0 is usual; larger is earlier; 0 is
    /// never, the default. (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB
    /// 2015.)
    pub const fn early(mut self, beta: f64) -> Self {
        self.early = beta.max(0.0);
        self
    }

    /// Loads in the background when this part of a value's fresh time is over, 0 to 1; 0 is never, the default.
    pub const fn refresh_ahead(mut self, part: f64) -> Self {
        self.refresh_ahead = part.clamp(0.0, 1.0);
        self
    }

    /// Takes up to this part off each lifetime at random, 0 to 1.
    pub const fn jitter(mut self, part: f64) -> Self {
        self.jitter = part.clamp(0.0, 1.0);
        self
    }

    /// Remembers for so long that loading failed, and fails at once meanwhile. Default: not at all.
    pub const fn cache_errors(mut self, time: Duration) -> Self {
        self.error_ttl = time;
        self
    }

    /// After a load in the background failed, so long passes before the next one. Default: a second.
    pub const fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = time;
        self
    }

    /// How long a caller waits for a load; then it gets the stale value if [`Self::stale_if_error`] allows it, or
    /// [`Error::Timeout`], and the load goes on in the background. Default: for ever.
    pub const fn patience(mut self, time: Duration) -> Self {
        self.patience = Some(time);
        self
    }

    pub(super) fn stale_window_ms(&self) -> u64 {
        ms(self.stale_while_revalidate.max(self.stale_if_error)).min(STALE_WINDOW_MS_MAX)
    }

    pub(super) fn refreshes_ahead(&self) -> bool {
        self.refresh_ahead > 0.0
    }

    /// Whether there is a case in which the value is served.
    pub(super) fn may_serve(&self, fresh_until: Option<Timestamp>, now: Timestamp) -> bool {
        fresh_until.is_none_or(|at| now < at)
            || self.serves_meanwhile(fresh_until, now)
            || self.serves_on_error(fresh_until, now)
    }

    pub(super) fn error_ttl_ms(&self) -> Option<u64> {
        (!self.error_ttl.is_zero()).then(|| ms(self.error_ttl).max(1))
    }

    pub(super) fn jittered(&self, ttl_ms: u64) -> u64 {
        let taken = (ttl_ms as f64 * self.jitter * (self.dice)()) as u64;
        ttl_ms.saturating_sub(taken).max(1)
    }

    pub(super) fn serves_on_error(&self, fresh_until: Option<Timestamp>, now: Timestamp) -> bool {
        let until = |at: Timestamp| now < at.saturating_add_ms(ms(self.stale_if_error));
        !self.stale_if_error.is_zero() && fresh_until.is_none_or(until)
    }

    fn serves_meanwhile(&self, fresh_until: Option<Timestamp>, now: Timestamp) -> bool {
        let until = |at: Timestamp| now < at.saturating_add_ms(ms(self.stale_while_revalidate));
        fresh_until.is_some_and(until)
    }

    /// Whether a fresh value is to be loaded anew already.
    fn is_due<V>(&self, old: &Old<V>, now: Timestamp) -> bool {
        let Some(until) = old.fresh_until else { return false };
        let left = until.0.saturating_sub(now.0) as f64;
        if self.early > 0.0 {
            // -ln of a number in (0, 1]: 0 and more, 1 on average.
            let ahead = ms(old.cost) as f64 * self.early * -(1.0 - (self.dice)()).ln();
            if ahead >= left {
                return true;
            }
        }
        // What lives on without being written again was stored longer ago than its fresh time began.
        let whole = old.stored_at.map_or(0, |at| until.0.saturating_sub(at.0));
        let whole = whole.min(old.lifetime_ms.unwrap_or(u64::MAX)) as f64;
        self.refreshes_ahead() && left <= whole - whole * self.refresh_ahead
    }
}

/// What is to be done for who asks for a key that has a loader.
pub(crate) enum Verdict<V> {
    /// It gets this, and another one is to be loaded in the background.
    Serve(V, Option<Parked>),
    /// It waits for a load, which is to replace this.
    Load(Option<Box<Old<V>>>),
}

impl<K, V, C> Cache<K, V, C>
where
    K: OwnedKey,
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// Decides what who asks for `key` gets, and counts it.
    pub(crate) fn judge(&self, key: &[u8], policy: &LoadPolicy) -> Result<Verdict<V>> {
        let have = self.have(key)?;
        let now = self.now();
        let counters = &self.shared.counters;
        let is_hit = matches!(have, Have::Value(_, Standing::Fresh));
        counters.count(is_hit);
        if is_hit {
            self.note_used(key);
        }
        match have {
            Have::Value(old, Standing::Fresh) => {
                let is_due = policy.is_due(&old, now);
                let behind = if is_due { self.refresh_behind(key, policy, now) } else { None };
                Ok(Verdict::Serve(old.value, behind))
            }
            Have::Value(old, _) if policy.serves_meanwhile(old.fresh_until, now) => {
                counters.stale_served.add(1);
                Ok(Verdict::Serve(old.value, self.refresh_behind(key, policy, now)))
            }
            Have::Failure(text) if policy.error_ttl_ms().is_some() => {
                Err(Error::Loader(Shared::new(text)))
            }
            Have::Value(old, _) => Ok(Verdict::Load(Some(old))),
            Have::Nothing | Have::Failure(_) => Ok(Verdict::Load(None)),
        }
    }

    /// A load in the background, unless there is one, or one failed a moment ago.
    fn refresh_behind(&self, key: &[u8], policy: &LoadPolicy, now: Timestamp) -> Option<Parked> {
        let flights = &self.shared.flights;
        let again = |at: Timestamp| at.saturating_add_ms(ms(policy.retry_after));
        if flights.is_flying(key) || flights.failed_at(key).is_some_and(|at| now < again(at)) {
            return None;
        }
        flights.park(key).1
    }
}

type Load<K, V> = dyn Fn(&K, Option<&Old<V>>) -> Result<Loaded<V>, BoxError> + Send + Sync;

/// A cache together with the loader of its values. A cheap handle.
///
/// ```
/// use std::time::Duration;
/// use tierce::{LoadPolicy, Loaded, Ttl};
/// let cache = tierce::Store::in_memory()?.cache::<String, String>("pages")?;
/// let policy = LoadPolicy::new().ttl(Ttl::minutes(5)).stale_if_error(Duration::from_secs(3600));
/// let pages = cache.loading(policy, |url: &String, old| {
///     // Ask the server with `old.validator`, and answer `Loaded::not_modified()` if it says so.
///     let _ = old;
///     Ok(Loaded::new(format!("content of {url}")).validator("etag-1"))
/// });
/// assert_eq!(pages.get(&"/a".to_owned())?, "content of /a");
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct Loading<K, V, C = MsgPack> {
    cache: Cache<K, V, C>,
    policy: Arc<LoadPolicy>,
    load: Arc<Load<K, V>>,
}

impl<K, V, C> Clone for Loading<K, V, C> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            policy: Arc::clone(&self.policy),
            load: Arc::clone(&self.load),
        }
    }
}

impl<K, V, C> fmt::Debug for Loading<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loading").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl<K, V, C> Cache<K, V, C>
where
    K: OwnedKey + Lookup<K> + Clone,
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// This cache with a loader: it is given the key and, if there is one, the value that is to be replaced.
    pub fn loading(
        &self,
        policy: LoadPolicy,
        load: impl Fn(&K, Option<&Old<V>>) -> Result<Loaded<V>, BoxError> + Send + Sync + 'static,
    ) -> Loading<K, V, C> {
        Loading { cache: self.clone(), policy: Arc::new(policy), load: Arc::new(load) }
    }
}

impl<K, V, C> Loading<K, V, C>
where
    K: OwnedKey + Lookup<K> + Clone,
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// The cache.
    #[must_use]
    pub const fn cache(&self) -> &Cache<K, V, C> {
        &self.cache
    }

    /// The value of `key`: from the cache, or loaded; stale ones as the policy allows. Values that are stale survive a
    /// restart as others do.
    ///
    /// # Errors
    /// [`Error::Loader`], also one that is remembered; [`Error::LoaderPanicked`]; [`Error::LoaderRecursion`];
    /// [`Error::Timeout`]; the engine's.
    pub fn get(&self, key: &K) -> Result<V> {
        let bytes = self.cache.typed.key_bytes(key);
        match self.cache.judge(&bytes, &self.policy)? {
            Verdict::Serve(value, None) => Ok(value),
            Verdict::Serve(value, Some(parked)) => {
                // Without room for it the value just gets older: the next caller tries again.
                self.store().common().pool().try_spawn(self.job(key, &bytes, true, parked));
                Ok(value)
            }
            Verdict::Load(old) => self.load(key, &bytes, old.as_deref(), false),
        }
    }

    /// Loads the value of `key` even if it is there. If that fails the old value stays; it is also the answer, if the
    /// policy has [`LoadPolicy::stale_if_error`] and it may still be served: [`Cache::force_refresh`], which knows no
    /// policy, always tells.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn refresh(&self, key: &K) -> Result<V> {
        self.load(key, &self.cache.typed.key_bytes(key), None, true)
    }

    fn load(&self, key: &K, bytes: &[u8], old: Option<&Old<V>>, force: bool) -> Result<V> {
        let Some(patience) = self.policy.patience else {
            return self.cache.load_at(bytes, force, &self.policy, |old| (self.load)(key, old));
        };
        loop {
            let (flight, parked) = self.cache.shared.flights.park(bytes);
            if let Some(parked) = parked {
                self.send(key, bytes, force, parked)?;
            }
            match flight.wait(Some(patience)) {
                Ok(None) => {}
                Ok(Some(landing)) => return value_of(landing),
                Err(error @ Error::Timeout { .. }) => {
                    let old = old.filter(|old| {
                        self.policy.serves_on_error(old.fresh_until, self.cache.now())
                    });
                    let served = old.map(|old| old.value.clone());
                    self.cache.shared.counters.stale_served.add(u64::from(served.is_some()));
                    return served.ok_or(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Has a worker carry out a load.
    fn send(&self, key: &K, bytes: &[u8], force: bool, parked: Parked) -> Result<()> {
        self.store().common().pool().spawn(self.job(key, bytes, force, parked))
    }

    const fn store(&self) -> &Store {
        self.cache.store()
    }

    fn job(&self, key: &K, bytes: &[u8], force: bool, parked: Parked) -> Job {
        let (this, key, bytes) = (self.clone(), key.clone(), bytes.to_vec());
        Box::new(move || {
            let load = |old: Option<&Old<V>>| (this.load)(&key, old);
            // Somebody who could not wait so long may have taken it over.
            if let Some(ticket) = parked.take_off() {
                // Whoever waits is told; if nobody does, the failure is on record.
                let _ = this.cache.lead(ticket, &bytes, force, &this.policy, load);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn old(cost_ms: u64, fresh_until: Option<u64>) -> Old<()> {
        Old {
            value: (),
            stored_at: Some(Timestamp(0)),
            fresh_until: match fresh_until {
                Some(at) => Some(Timestamp(at)),
                None => None,
            },
            lifetime_ms: None,
            cost: Duration::from_millis(cost_ms),
            validator: None,
            tags: Vec::new(),
        }
    }

    fn with(dice: fn() -> f64, policy: LoadPolicy) -> LoadPolicy {
        LoadPolicy { dice, ..policy }
    }

    /// Goal: a value is due the earlier the longer it took to load, the larger beta is, and the higher the dice.
    #[test]
    fn early() {
        let due = |dice, beta, cost, now| {
            let policy = with(dice, LoadPolicy::new().early(beta));
            policy.is_due(&old(cost, Some(10_000)), Timestamp(now))
        };
        // Half of all throws are ahead by 693 ms or more, of a second that it took.
        assert!(due(|| 0.5, 1.0, 1_000, 9_400));
        assert!(!due(|| 0.5, 1.0, 1_000, 9_300));
        assert!(due(|| 0.5, 2.0, 1_000, 8_700));
        assert!(due(|| 0.5, 1.0, 2_000, 8_700));
        assert!(!due(|| 0.0, 1.0, 1_000, 9_999));
        assert!(due(|| 1.0, 1.0, 1_000, 0), "the highest throw there is");
        assert!(!due(|| 1.0, 1.0, 0, 0), "it costs nothing");
        assert!(!due(|| 1.0, 0.0, 1_000, 9_999), "not asked for");
        let always = with(|| 1.0, LoadPolicy::new().early(9.0).refresh_ahead(1.0));
        assert!(!always.is_due(&old(1_000, None), Timestamp(u64::MAX)), "it never expires");
    }

    /// Goal: jitter takes up to its part off, never all, and does not overflow.
    #[test]
    fn jitter() {
        let left = |dice, part, ttl| with(dice, LoadPolicy::new().jitter(part)).jittered(ttl);
        assert_eq!(left(|| 0.0, 0.5, 1_000), 1_000);
        assert_eq!(left(|| 0.5, 0.5, 1_000), 750);
        assert_eq!(left(|| 1.0, 0.5, 1_000), 500);
        assert_eq!(left(|| 1.0, 1.0, 1_000), 1, "not at all would not be stored");
        assert_eq!(left(|| 1.0, 7.0, 1_000), 1);
        assert_eq!(left(|| 1.0, f64::NAN, 1_000), 1_000);
        assert_eq!(left(|| 0.0, 0.5, u64::MAX), u64::MAX);
        assert!(left(|| 1.0, 0.5, u64::MAX) >= u64::MAX / 2);
        assert!((0..1_000).all(|_| (0.0..=1.0).contains(&dice())));
    }
}
