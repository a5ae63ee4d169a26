//! Counters: numbers that many threads add to.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Serialize};

use super::COUNTERS;
use crate::{
    codec::MsgPack,
    error::{Error, Result},
    found::Found,
    key::{Lookup, OwnedKey},
    space::SpaceOptions,
    store::Store,
    ttl::{End, after},
    typed::{Outcome, Typed},
};

/// A number as it is stored: by itself, so that every tool can read it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stored {
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
}

impl Stored {
    const fn name(self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
        }
    }
}

/// What only this crate knows of numbers.
mod sealed {
    use super::Stored;

    pub trait Number: Sized {
        const NAME: &'static str;
        fn into_stored(self) -> Stored;
        fn from_stored(stored: Stored) -> Option<Self>;
        fn plus(self, delta: Self) -> Option<Self>;
    }
}

/// What counters count in: `i64` or `f64`.
pub trait Number: Copy + Default + fmt::Debug + Send + Sync + sealed::Number + 'static {}

impl Number for i64 {}
impl Number for f64 {}

impl sealed::Number for i64 {
    const NAME: &'static str = "an integer";

    fn into_stored(self) -> Stored {
        Stored::Integer(self)
    }

    fn from_stored(stored: Stored) -> Option<Self> {
        match stored {
            Stored::Integer(number) => Some(number),
            Stored::Float(_) => None,
        }
    }

    fn plus(self, delta: Self) -> Option<Self> {
        self.checked_add(delta)
    }
}

impl sealed::Number for f64 {
    const NAME: &'static str = "a float";

    fn into_stored(self) -> Stored {
        Stored::Float(self)
    }

    fn from_stored(stored: Stored) -> Option<Self> {
        match stored {
            Stored::Float(number) => Some(number),
            Stored::Integer(_) => None,
        }
    }

    fn plus(self, delta: Self) -> Option<Self> {
        let sum = self + delta;
        sum.is_finite().then_some(sum)
    }
}

/// One counter for each key. A key that was never counted is at zero.
///
/// Each call is atomic and survives a crash as its space's durability says. With a lifetime
/// ([`SpaceOptions::ttl`]) a counter ends that long after its first addition and begins anew: how often something
/// happened in the current window.
///
/// ```
/// let store = tierce::Store::in_memory()?;
/// let motion = store.counters::<String>("motion")?;
/// motion.add("hall", 1)?;
/// assert_eq!(motion.add("hall", 2)?, 3);
/// assert_eq!(motion.get("attic")?, 0);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct Counters<K, N = i64> {
    typed: Typed<K, Stored, MsgPack>,
    number: PhantomData<fn() -> N>,
}

impl<K, N> Clone for Counters<K, N> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone(), number: PhantomData }
    }
}

impl<K: OwnedKey, N: Number> Counters<K, N> {
    fn open(store: &Store, name: &str, options: &SpaceOptions) -> Result<Self> {
        let options = options.clone().derived_type("number");
        Ok(Self { typed: Typed::open(store, name, "counters", &options)?, number: PhantomData })
    }

    /// The count of `key`; zero if there is none.
    ///
    /// # Errors
    /// [`Error::Kind`] if it counts in the other type of number; the engine's.
    pub fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<N> {
        let stored = self.typed.with_key(key, |key| self.typed.get_at(key))?;
        stored.map_or_else(|| Ok(N::default()), number)
    }

    /// Adds `delta`, which may be negative, and returns the new count.
    ///
    /// # Errors
    /// [`Error::Overflow`], and the count is as it was; as [`Self::get`]; the engine's.
    pub fn add<Q: Lookup<K> + ?Sized>(&self, key: &Q, delta: N) -> Result<N> {
        self.change(key, |old| {
            let what = || format!("a counter of `{}`", self.typed.space().info.name);
            old.plus(delta).ok_or_else(|| Error::Overflow { what: what() })
        })
    }

    /// Sets the count, and returns what it was.
    ///
    /// # Errors
    /// [`Error::Overflow`] for what is no finite number; as [`Self::get`]; the engine's.
    pub fn set<Q: Lookup<K> + ?Sized>(&self, key: &Q, count: N) -> Result<N> {
        let mut was = N::default();
        self.change(key, |old| {
            was = old;
            let what = || format!("a counter of `{}`", self.typed.space().info.name);
            N::default().plus(count).ok_or_else(|| Error::Overflow { what: what() })
        })?;
        Ok(was)
    }

    /// Sets the count to zero, and returns what it was. Of several callers one gets it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn reset<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Result<N> {
        let mut was = N::default();
        self.typed.with_key(key, |key| {
            self.typed.update_at(key, &mut |old| {
                was = old.map_or_else(|| Ok(N::default()), |(stored, _)| number(stored))?;
                Ok(Outcome::Remove)
            })
        })?;
        Ok(was)
    }

    /// Every counter that is not reset, in the order of keys if the space is ordered. Reads the head of every entry of
    /// the store.
    ///
    /// # Errors
    /// As [`Self::get`], of the first that fails.
    pub fn entries(&self) -> Result<Vec<(K, N)>> {
        let mut found = Found::default();
        self.typed.scan_at(&self.typed.space().prefix, true, &mut |key, view| {
            let read = || Ok((self.typed.key_of(key)?, number(self.typed.value_of(key, &view)?)?));
            found.add(read())
        })?;
        found.finish()
    }

    fn change<Q: Lookup<K> + ?Sized>(
        &self,
        key: &Q,
        mut change: impl FnMut(N) -> Result<N>,
    ) -> Result<N> {
        let mut count = N::default();
        self.typed.with_key(key, |key| {
            self.typed.update_at(key, &mut |old| {
                // An addition leaves the end of the window where it is.
                let (old, expires_at) = match old {
                    Some((stored, view)) => (number(stored)?, view.expires_at),
                    None => (N::default(), self.window()),
                };
                count = change(old)?;
                Ok(Outcome::Put(count.into_stored(), self.typed.put_options(expires_at)))
            })
        })?;
        Ok(count)
    }

    /// When a counter that begins now ends.
    fn window(&self) -> Option<tierce_engine::Timestamp> {
        let ttl = self.typed.space().info.ttl()?;
        match after(ttl, self.typed.kv().now()) {
            End::At(at) => Some(at),
            End::Now | End::Never => None,
        }
    }
}

fn number<N: Number>(stored: Stored) -> Result<N> {
    N::from_stored(stored).ok_or(Error::Kind { found: stored.name(), wanted: N::NAME })
}

/// One counter, which has a name.
///
/// ```
/// let store = tierce::Store::in_memory()?;
/// let runs = store.counter("runs")?;
/// assert_eq!(runs.add(1)?, 1);
/// assert_eq!(runs.reset()?, 1);
/// assert_eq!(runs.get()?, 0);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Counter<N = i64> {
    all: Counters<String, N>,
    name: String,
}

impl<N: Number> Counter<N> {
    /// The count.
    ///
    /// # Errors
    /// As [`Counters::get`].
    pub fn get(&self) -> Result<N> {
        self.all.get(&self.name)
    }

    /// Adds `delta`, which may be negative, and returns the new count.
    ///
    /// # Errors
    /// As [`Counters::add`].
    pub fn add(&self, delta: N) -> Result<N> {
        self.all.add(&self.name, delta)
    }

    /// Sets the count, and returns what it was.
    ///
    /// # Errors
    /// As [`Counters::set`].
    pub fn set(&self, count: N) -> Result<N> {
        self.all.set(&self.name, count)
    }

    /// Sets the count to zero, and returns what it was. Of several callers one gets it.
    ///
    /// # Errors
    /// As [`Counters::reset`].
    pub fn reset(&self) -> Result<N> {
        self.all.reset(&self.name)
    }
}

impl Store {
    /// The counter of this name, in whole numbers. All of them stand in the space `tierce/counters`.
    ///
    /// # Errors
    /// The engine's.
    pub fn counter(&self, name: &str) -> Result<Counter> {
        let all = Counters::open(self, COUNTERS, &SpaceOptions::new().internal())?;
        Ok(Counter { all, name: name.to_owned() })
    }

    /// The counter of this name, in fractions. Names are shared with [`Self::counter`].
    ///
    /// ```
    /// let store = tierce::Store::in_memory()?;
    /// let energy = store.float_counter("kwh")?;
    /// energy.add(0.25)?;
    /// assert_eq!(energy.add(0.5)?, 0.75);
    /// assert_eq!(store.counter("kwh")?.get().unwrap_err().kind(), "type");
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's.
    pub fn float_counter(&self, name: &str) -> Result<Counter<f64>> {
        let all = Counters::open(self, COUNTERS, &SpaceOptions::new().internal())?;
        Ok(Counter { all, name: name.to_owned() })
    }

    /// A space of counters, one for each key.
    ///
    /// # Errors
    /// As [`Store::map_with`].
    pub fn counters<K: OwnedKey>(&self, name: &str) -> Result<Counters<K>> {
        self.counters_with(name, &SpaceOptions::new())
    }

    /// As [`Self::counters`], with options, and in the numbers that the type says.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tierce::{SpaceOptions, collections::Counters};
    /// let store = tierce::Store::in_memory()?;
    /// let per_hour = SpaceOptions::new().ttl(Duration::from_secs(3600));
    /// let alerts: Counters<(String, u32), f64> = store.counters_with("alerts", &per_hour)?;
    /// assert_eq!(alerts.add(&("attic", 1), 0.5)?, 0.5);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::map_with`].
    pub fn counters_with<K: OwnedKey, N: Number>(
        &self,
        name: &str,
        options: &SpaceOptions,
    ) -> Result<Counters<K, N>> {
        Counters::open(self, name, options)
    }
}
