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
    flight::{Boarding, Ticket},
    load::{Have, value_of},
    record::Standing,
};
use crate::{
    codec::{Codec, MsgPack},
    error::{BoxError, Error, Result, Shared},
    key::{Lookup, OwnedKey},
    ttl::Ttl,
};

/// What a loader brings.
#[derive(Clone, Debug)]
#[must_use]
pub struct Loaded<V> {
    pub(super) fetched: Fetched<V>,
    pub(super) put: Option<Put>,
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
        Self { fetched: Fetched::Value(value), put: None, validator: None }
    }

    /// The old value is still right: it is not written again, and lives on as if it had been loaded now.
    pub const fn not_modified() -> Self {
        Self { fetched: Fetched::NotModified, put: None, validator: None }
    }

    fn put(mut self, with: impl FnOnce(Put) -> Put) -> Self {
        self.put = Some(with(self.put.unwrap_or_default()));
        self
    }

    /// How long this value is fresh, instead of what the policy says.
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        self.put(|put| put.ttl(ttl))
    }

    /// Adds a tag to this value. It then has these tags and none of the policy's.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.put(|put| put.tag(tag))
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
    /// How long loading it took.
    pub cost: Duration,
    /// What the load that brought it gave with it.
    pub validator: Option<Vec<u8>>,
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
                pinned: false,
                if_absent: false,
                keep_ttl: false,
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

    /// For so long after a value was fresh it is served if loading another one fails.
    pub const fn stale_if_error(mut self, time: Duration) -> Self {
        self.stale_if_error = time;
        self
    }

    /// Loads in the background before a value stops to be fresh, the likelier the nearer that is and the longer loading
    /// takes, so that not all that were stored together are loaded together. 1.0 is usual; larger is earlier; 0 is never,
    /// the default. (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.)
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
        ms(self.stale_while_revalidate.max(self.stale_if_error))
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
        fresh_until.is_none_or(until)
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
        let whole = old.stored_at.map_or(0.0, |at| until.0.saturating_sub(at.0) as f64);
        self.refresh_ahead > 0.0 && left <= whole * (1.0 - self.refresh_ahead)
    }
}

/// What is to be done for who asks for a key that has a loader.
pub(crate) enum Verdict<V> {
    /// It gets this, and whoever has the ticket loads another one in the background.
    Serve(V, Option<Ticket>),
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
        counters.count(matches!(have, Have::Value(_, Standing::Fresh)));
        match have {
            Have::Value(old, Standing::Fresh) => {
                let is_due = policy.is_due(&old, now);
                let ticket = if is_due { self.refresh_ticket(key, policy, now) } else { None };
                Ok(Verdict::Serve(old.value, ticket))
            }
            Have::Value(old, _) if policy.serves_meanwhile(old.fresh_until, now) => {
                counters.stale_served.add(1);
                Ok(Verdict::Serve(old.value, self.refresh_ticket(key, policy, now)))
            }
            Have::Failure(text) if policy.error_ttl_ms().is_some() => {
                Err(Error::Loader(Shared::new(text)))
            }
            Have::Value(old, _) => Ok(Verdict::Load(Some(old))),
            Have::Nothing | Have::Failure(_) => Ok(Verdict::Load(None)),
        }
    }

    /// The right to load in the background, unless that is being done, or failed a moment ago.
    fn refresh_ticket(&self, key: &[u8], policy: &LoadPolicy, now: Timestamp) -> Option<Ticket> {
        let flights = &self.shared.flights;
        let again = |at: Timestamp| at.saturating_add_ms(ms(policy.retry_after));
        if flights.is_flying(key) || flights.failed_at(key).is_some_and(|at| now < again(at)) {
            return None;
        }
        match flights.board(key) {
            Boarding::Leader(ticket) => Some(ticket),
            Boarding::Passenger(_) => None,
        }
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
            Verdict::Serve(value, Some(ticket)) => {
                // Without a worker the value just gets older: the next caller tries again.
                let _ = self.send(key, &bytes, true, ticket);
                Ok(value)
            }
            Verdict::Load(old) => self.load(key, &bytes, old.as_deref(), false),
        }
    }

    /// Loads the value of `key` even if it is there.
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
            let flight = match self.cache.shared.flights.board(bytes) {
                Boarding::Passenger(flight) => flight,
                Boarding::Leader(ticket) => {
                    let flight = ticket.flight();
                    self.send(key, bytes, force, ticket)?;
                    flight
                }
            };
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
    fn send(&self, key: &K, bytes: &[u8], force: bool, ticket: Ticket) -> Result<()> {
        let (this, key, bytes) = (self.clone(), key.clone(), bytes.to_vec());
        self.cache.store().common().pool().spawn(Box::new(move || {
            let load = |old: Option<&Old<V>>| (this.load)(&key, old);
            // Whoever waits is told; if nobody does, the failure is on record.
            let _ = this.cache.lead(ticket, &bytes, force, &this.policy, load);
        }))
    }
}
