//! Getting a value that is loaded if it is not there, once for all who ask.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

use tierce_engine::Timestamp;

use super::{
    Cache, LoadPolicy, Loaded, Old, Removal,
    events::Raw,
    flight::{Boarding, Landing, Ticket},
    loader::Fetched,
    record::{self, Standing, standing},
};
use crate::{
    codec::Codec,
    error::{BoxError, Error, Result, Shared},
    key::{Lookup, OwnedKey},
    space::item,
    sync::thread,
    ttl::End,
};

/// What a cache has of a key.
pub(super) enum Have<V> {
    Nothing,
    Value(Box<Old<V>>, Standing),
    /// Loading it failed, and that is remembered.
    Failure(String),
}

/// What a load did to the cache, to be reported when nothing is held.
enum Change {
    Stored { was_there: bool },
    Removed,
}

/// What a leader found.
pub(super) enum Begun<V> {
    /// There is nothing to load.
    Landed(V),
    /// The value that is to be replaced, if there is one.
    Load(Ticket, Option<Box<Old<V>>>),
}

impl<K, V, C> Cache<K, V, C>
where
    K: OwnedKey,
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// The value of `key`; `load` makes it, and it is stored, if it is not there. Of all threads that ask for a key at
    /// the same time one loads and the others wait for it.
    ///
    /// ```
    /// let cache = tierce::Store::in_memory()?.cache::<String, usize>("lengths")?;
    /// assert_eq!(cache.get_or_insert_with("word", || 4)?, 4);
    /// assert_eq!(cache.get_or_insert_with("word", || unreachable!())?, 4);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::try_get_or_insert_with`].
    pub fn get_or_insert_with<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        load: impl FnOnce() -> V,
    ) -> Result<V> {
        self.get_or_load(key, || Ok::<_, Error>(load().into()))
    }

    /// As [`Self::get_or_insert_with`], with a loader that may fail. Its error goes to all who wait, and is not stored:
    /// who asks next tries again.
    ///
    /// # Errors
    /// [`Error::Loader`]; [`Error::LoaderPanicked`] for those who wait for a loader that panics (the panic goes on in
    /// the thread that called it); [`Error::LoaderRecursion`] if loaders wait for each other in a circle; as
    /// [`Self::get`] and
    /// [`Self::insert`].
    pub fn try_get_or_insert_with<Q: Lookup<K> + ?Sized, E: Into<BoxError>>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V> {
        self.get_or_load(key, || load().map(Loaded::from))
    }

    /// As [`Self::try_get_or_insert_with`], with a loader that says how long its value lives, which tags it has, and so
    /// on.
    ///
    /// ```
    /// use tierce::{Loaded, Ttl};
    /// let cache = tierce::Store::in_memory()?.cache::<String, u32>("c")?;
    /// let load = || Ok::<_, std::io::Error>(Loaded::new(7).ttl(Ttl::minutes(5)).tag("sevens"));
    /// assert_eq!(cache.get_or_load("a", load)?, 7);
    /// assert_eq!(cache.keys_with_tag("sevens")?, ["a"]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::try_get_or_insert_with`].
    #[inline]
    pub fn get_or_load<Q: Lookup<K> + ?Sized, E: Into<BoxError>>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V> {
        if let Some(value) = self.get(key)? {
            return Ok(value);
        }
        let key = self.typed.key_bytes(key);
        self.load_at(&key, false, &LoadPolicy::new(), |_| load().map_err(Into::into))
    }

    /// Loads and stores the value of `key` even if it is there, unless it is being loaded: then waits for that.
    ///
    /// # Errors
    /// As [`Self::try_get_or_insert_with`]; on an error the old value stays.
    pub fn force_refresh<Q: Lookup<K> + ?Sized, E: Into<BoxError>>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V> {
        let key = self.typed.key_bytes(key);
        self.load_at(&key, true, &LoadPolicy::new(), |_| load().map_err(Into::into))
    }

    /// What there is of `key`.
    pub(super) fn have(&self, key: &[u8]) -> Result<Have<V>> {
        let mut failure = None;
        self.typed.kv().peek(key, &mut |view| {
            failure =
                view.item(item::FAILURE).map(|text| String::from_utf8_lossy(text).into_owned());
        })?;
        if let Some(failure) = failure {
            return Ok(Have::Failure(failure));
        }
        let old = self.look_at(key, |value, view| {
            let old = Old {
                value,
                stored_at: record::stored_at(&view),
                fresh_until: record::fresh_until(&view),
                lifetime_ms: record::lifetime_ms(&view),
                cost: Duration::from_millis(record::cost_ms(&view)),
                validator: view.item(item::VALIDATOR).map(<[u8]>::to_vec),
                tags: view.scopes().filter_map(record::tag_of).collect(),
            };
            let standing = standing(&view, || self.now());
            Have::Value(Box::new(old), standing)
        })?;
        Ok(old.unwrap_or(Have::Nothing))
    }

    /// Loads the value of `key`, or waits for whoever does.
    pub(super) fn load_at(
        &self,
        key: &[u8],
        force: bool,
        policy: &LoadPolicy,
        load: impl FnOnce(Option<&Old<V>>) -> Result<Loaded<V>, BoxError>,
    ) -> Result<V> {
        loop {
            match self.shared.flights.board(key) {
                Boarding::Leader(ticket) => return self.lead(ticket, key, force, policy, load),
                Boarding::Passenger(flight) => {
                    if let Some(landing) = flight.wait(None)? {
                        return value_of(landing);
                    }
                }
            }
        }
    }

    pub(super) fn lead(
        &self,
        ticket: Ticket,
        key: &[u8],
        force: bool,
        policy: &LoadPolicy,
        load: impl FnOnce(Option<&Old<V>>) -> Result<Loaded<V>, BoxError>,
    ) -> Result<V> {
        let _waiting = ticket.take_off();
        let (ticket, old) = match self.begin(ticket, key, force, policy)? {
            Begun::Landed(value) => return Ok(value),
            Begun::Load(ticket, old) => (ticket, old),
        };
        let begun = self.now();
        let loaded = {
            let _running = ticket.run();
            catch_unwind(AssertUnwindSafe(|| load(old.as_deref())))
        };
        let cost = self.now().0.saturating_sub(begun.0);
        self.finish(ticket, key, loaded, old.map(|old| *old), cost, policy)
    }

    /// What a leader does first: looks whether there is something to load.
    pub(super) fn begin(
        &self,
        ticket: Ticket,
        key: &[u8],
        force: bool,
        policy: &LoadPolicy,
    ) -> Result<Begun<V>> {
        let have = match self.have(key) {
            Ok(have) => have,
            Err(error) => {
                let told = error.to_string();
                ticket.land(Landing::Failed(Shared::new(told)));
                return Err(error);
            }
        };
        match have {
            // Another load ended between the look that found nothing and this one.
            Have::Value(old, Standing::Fresh) if !force => {
                ticket.land_found(&old.tags, Landing::Value(Arc::new(old.value.clone())));
                Ok(Begun::Landed(old.value))
            }
            // Or it failed.
            Have::Failure(text) if !force && policy.error_ttl_ms().is_some() => {
                let error = Shared::new(text);
                ticket.land_found(&[], Landing::Failed(error.clone()));
                Err(Error::Loader(error))
            }
            Have::Value(old, _) => Ok(Begun::Load(ticket, Some(old))),
            Have::Nothing | Have::Failure(_) => Ok(Begun::Load(ticket, None)),
        }
    }

    /// What a leader does last: stores what was loaded, if anything, and tells those who wait.
    pub(super) fn finish(
        &self,
        ticket: Ticket,
        key: &[u8],
        loaded: thread::Result<Result<Loaded<V>, BoxError>>,
        old: Option<Old<V>>,
        cost: u64,
        policy: &LoadPolicy,
    ) -> Result<V> {
        match loaded {
            Ok(Ok(loaded)) => self.land_value(ticket, key, loaded, old, cost, policy),
            Ok(Err(error)) => self.land_failure(ticket, key, error, old, policy),
            Err(panic) => {
                self.shared.counters.load_failures.add(1);
                let now = self.now();
                self.shared.flights.note_failure(key, now);
                // A panic goes on in the thread that ran the loader; the others are served as after an error.
                let served = old.filter(|old| policy.serves_on_error(old.fresh_until, now));
                self.shared.counters.stale_served.add(u64::from(served.is_some()));
                match served {
                    Some(old) => ticket.land_found(&old.tags, Landing::Value(Arc::new(old.value))),
                    None => ticket.land(Landing::Panicked(text_of(&*panic))),
                }
                resume_unwind(panic)
            }
        }
    }

    fn land_value(
        &self,
        mut ticket: Ticket,
        key: &[u8],
        loaded: Loaded<V>,
        old: Option<Old<V>>,
        cost: u64,
        policy: &LoadPolicy,
    ) -> Result<V> {
        self.shared.counters.loads.add(1);
        self.shared.flights.forget_failure(key);
        let stored = match (&loaded.fetched, &old) {
            (Fetched::NotModified, Some(old)) => {
                ticket.store(&old.tags, || self.extend(key, &loaded, policy))
            }
            (Fetched::NotModified, None) => {
                let error = "the loader says that nothing was modified, and there was nothing";
                return self.land_failure(ticket, key, error.into(), None, policy);
            }
            (Fetched::Value(value), _) => {
                let tags = if loaded.tags.is_empty() { &policy.put.tags } else { &loaded.tags };
                ticket.store(tags, || self.store_loaded(key, value, &loaded, cost, policy))
            }
        };
        let (value, found) = match (loaded.fetched, old) {
            (Fetched::Value(value), _) => (value, None),
            (Fetched::NotModified, Some(old)) => (old.value, Some(old.tags)),
            (Fetched::NotModified, None) => return Err(Error::LoaderRecursion),
        };
        let land = |ticket: Ticket, landing| match &found {
            Some(tags) => ticket.land_found(tags, landing),
            None => ticket.land(landing),
        };
        // A value that was fetched is of use even if it cannot be kept: all get it, and it is counted. Only a handle whose
        // space is gone says so: it would load for ever.
        let stored = match stored {
            Ok(stored) => stored,
            Err(error @ Error::Closed(_)) => {
                land(ticket, Landing::Value(Arc::new(value)));
                return Err(error);
            }
            Err(error) => {
                self.shared.note_unstored(&error);
                None
            }
        };
        land(ticket, Landing::Value(Arc::new(value.clone())));
        // Order: with nothing held; who is woken by it may come back.
        match stored.flatten() {
            Some(Change::Stored { was_there }) => self.note_stored(key, was_there),
            Some(Change::Removed) => self.note_removed(key),
            None => {}
        }
        Ok(value)
    }

    /// When what is loaded now is fresh no more.
    fn end_of(&self, loaded: &Loaded<V>, policy: &LoadPolicy, now: Timestamp) -> End {
        let ttl = loaded.ttl.unwrap_or(policy.put.ttl);
        match ttl.end(self.typed.space().info.ttl(), now) {
            End::At(at) => {
                let ttl = policy.jittered(at.0.saturating_sub(now.0));
                End::At(now.saturating_add_ms(ttl))
            }
            other => other,
        }
    }

    fn store_loaded(
        &self,
        key: &[u8],
        value: &V,
        loaded: &Loaded<V>,
        cost: u64,
        policy: &LoadPolicy,
    ) -> Result<Option<Change>> {
        let now = self.now();
        let fresh_until = match self.end_of(loaded, policy, now) {
            // To be looked up, and never to be stored; nor is what was there right any more.
            End::Now => {
                return Ok(self.typed.delete_at(key)?.then_some(Change::Removed));
            }
            End::At(at) => Some(at),
            End::Never => None,
        };
        let window = policy.stale_window_ms();
        let expires_at = fresh_until.map(|at| at.saturating_add_ms(window));
        let mut put = policy.put.clone();
        if !loaded.tags.is_empty() {
            put.tags.clone_from(&loaded.tags);
        }
        put.weight = loaded.weight.or(put.weight);
        let mut options = self.put_options(&put, expires_at, now)?;
        if policy.refreshes_ahead()
            && let Some(at) = fresh_until
        {
            let lifetime = at.0.saturating_sub(now.0);
            options = options.item(item::LIFETIME, lifetime.to_le_bytes());
        }
        if window > 0 && expires_at.is_some() {
            options = options.item(item::STALE_WINDOW, window.to_le_bytes());
        }
        if cost > 0 {
            options = options.item(item::COST, cost.to_le_bytes());
        }
        if let Some(validator) = &loaded.validator {
            options = options.item(item::VALIDATOR, validator.as_slice());
        }
        let was_there = self.was_there(key)?;
        let _coming = self.make_room(key, put.weight.unwrap_or(1))?;
        self.typed.put_at(key, value, &options)?;
        Ok(Some(Change::Stored { was_there }))
    }

    /// The value is still right: it lives on as if it had been loaded now.
    fn extend(
        &self,
        key: &[u8],
        loaded: &Loaded<V>,
        policy: &LoadPolicy,
    ) -> Result<Option<Change>> {
        let end = self.end_of(loaded, policy, self.now());
        let is_done = self.touch_until(key, end)?;
        Ok((is_done && end == End::Now).then_some(Change::Removed))
    }

    fn land_failure(
        &self,
        mut ticket: Ticket,
        key: &[u8],
        error: BoxError,
        old: Option<Old<V>>,
        policy: &LoadPolicy,
    ) -> Result<V> {
        self.shared.counters.load_failures.add(1);
        let now = self.now();
        self.shared.flights.note_failure(key, now);
        if let Some(old) = &old
            && policy.serves_on_error(old.fresh_until, now)
        {
            self.shared.counters.stale_served.add(1);
            ticket.land_found(&old.tags, Landing::Value(Arc::new(old.value.clone())));
            return Ok(old.value.clone());
        }
        let error = Shared::new(error);
        // A value that may still be served is worth more than the word that another one could not be loaded.
        let is_of_use = old.is_some_and(|old| policy.may_serve(old.fresh_until, now));
        if let Some(ttl) = policy.error_ttl_ms()
            && !is_of_use
        {
            let mut text = error.to_string();
            while text.len() > 255 {
                text.pop();
            }
            let expires_at = Some(now.saturating_add_ms(ttl));
            // That it failed is told in any case; that it could not be remembered is not worth more words.
            let replaced = ticket.store(&policy.put.tags, || {
                let was_there = self.was_there(key)?;
                let options = self.put_options(&policy.put, expires_at, now)?;
                self.typed.put_raw(key, &[], &options.item(item::FAILURE, text))?;
                Ok(was_there)
            });
            ticket.land(Landing::Failed(error.clone()));
            if matches!(replaced, Ok(Some(true))) {
                self.tell(|| Raw::Removed(key.to_vec(), Removal::Expired));
            }
            return Err(Error::Loader(error));
        }
        ticket.land(Landing::Failed(error.clone()));
        Err(Error::Loader(error))
    }
}

/// What a load brought to those who waited.
pub(super) fn value_of<V: Clone + 'static>(landing: Landing) -> Result<V> {
    match landing {
        Landing::Value(value) => match value.downcast_ref::<V>() {
            Some(value) => Ok(value.clone()),
            // One space has one type of values, and its name was compared; two types of one name are told apart here.
            None => Err(Error::LoaderPanicked("it loads another type".to_owned())),
        },
        Landing::Failed(error) => Err(Error::Loader(error)),
        Landing::Panicked(text) => Err(Error::LoaderPanicked(text)),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
