//! What a series of numbers comes to, without keeping the numbers.

use serde::{Deserialize, Serialize};

use super::AGGREGATES;
use crate::{
    codec::MsgPack,
    error::{Error, Result},
    space::SpaceOptions,
    store::Store,
    typed::{Outcome, Typed},
};

/// What a series of numbers comes to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// How many there were; at least one.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their average, computed so that it does not suffer from a large sum.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The last one.
    pub last: f64,
    /// The average in which later numbers weigh more; see [`Aggregate::smoothing`].
    pub smoothed: f64,
    /// Sum of the squared distances from the average.
    spread: f64,
}

impl Summary {
    const fn of(number: f64) -> Self {
        Self {
            count: 1,
            sum: number,
            mean: number,
            min: number,
            max: number,
            last: number,
            smoothed: number,
            spread: 0.0,
        }
    }

    /// With one more number; `None` if a field would leave its range.
    fn with(self, number: f64, weight: f64) -> Option<Self> {
        let count = self.count.checked_add(1)?;
        // Welford's recurrence: no difference of large sums.
        let distance = number - self.mean;
        let mean = self.mean + distance / lossy(count);
        let next = Self {
            count,
            sum: self.sum + number,
            mean,
            min: self.min.min(number),
            max: self.max.max(number),
            last: number,
            smoothed: self.smoothed + weight * (number - self.smoothed),
            spread: self.spread + distance * (number - mean),
        };
        let all = [next.sum, next.mean, next.smoothed, next.spread];
        all.iter().all(|field| field.is_finite()).then_some(next)
    }

    /// The mean squared distance from the average: of these numbers, not of others that they stand for.
    ///
    /// ```
    /// let wind = tierce::Store::in_memory()?.aggregate("wind")?;
    /// for speed in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
    ///     wind.add(speed)?;
    /// }
    /// let summary = wind.get()?.unwrap();
    /// assert_eq!((summary.mean, summary.variance(), summary.deviation()), (5.0, 4.0, 2.0));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.spread / lossy(self.count)
    }

    /// The square root of the variance.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        self.variance().sqrt()
    }
}

/// Counts above 2⁵³ lose their last digits, which no average shows.
const fn lossy(count: u64) -> f64 {
    count as f64
}

/// Count, sum, average, extremes and spread of a series of numbers that is not kept.
///
/// Each call is atomic. `None` is said of an empty series, so that no average of nothing is taken for a zero.
///
/// ```
/// let store = tierce::Store::in_memory()?;
/// let power = store.aggregate("power")?;
/// assert_eq!(power.get()?, None);
/// power.add(100.0)?;
/// assert_eq!(power.add(300.0)?.mean, 200.0);
/// assert_eq!(power.pop()?.map(|hour| (hour.count, hour.max)), Some((2, 300.0)));
/// assert_eq!(power.get()?, None);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Aggregate {
    typed: Typed<String, Summary, MsgPack>,
    name: String,
    weight: f64,
}

impl Aggregate {
    /// How much the last number weighs in [`Summary::smoothed`]: above 0, where nothing changes, up to 1, where only
    /// the last one counts. Default 0.1. It is not stored: it holds for what is added through this handle.
    ///
    /// ```
    /// let level = tierce::Store::in_memory()?.aggregate("level")?.smoothing(0.5)?;
    /// level.add(10.0)?;
    /// assert_eq!(level.add(20.0)?.smoothed, 15.0);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Options`] if it is not in that range.
    pub fn smoothing(mut self, weight: f64) -> Result<Self> {
        if !(weight > 0.0 && weight <= 1.0) {
            let complaints = vec!["the weight is above 0 and at most 1".to_owned()];
            return Err(Error::Options { what: format!("aggregate `{}`", self.name), complaints });
        }
        self.weight = weight;
        Ok(self)
    }

    /// Adds a number, and returns what the series comes to now.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the number or what it would lead to is not finite; the engine's. Then nothing has
    /// changed.
    pub fn add(&self, number: f64) -> Result<Summary> {
        let mut sum = Summary::of(number);
        let key = self.typed.key_bytes(&self.name);
        self.typed.update_at(&key, &mut |old| {
            let next = match old {
                Some((summary, _)) => summary.with(number, self.weight),
                None => number.is_finite().then_some(Summary::of(number)),
            };
            let what = || format!("aggregate `{}`", self.name);
            sum = next.ok_or_else(|| Error::Overflow { what: what() })?;
            Ok(Outcome::Put(sum, self.typed.put_options(None)))
        })?;
        Ok(sum)
    }

    /// What the series comes to; `None` if it is empty.
    ///
    /// # Errors
    /// [`Error::Decode`]; the engine's.
    pub fn get(&self) -> Result<Option<Summary>> {
        self.typed.get_at(&self.typed.key_bytes(&self.name))
    }

    /// What the series comes to; it is empty from then on. Of several callers one gets it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn pop(&self) -> Result<Option<Summary>> {
        let mut popped = None;
        let key = self.typed.key_bytes(&self.name);
        self.typed.update_at(&key, &mut |old| {
            popped = old.map(|(summary, _)| summary);
            Ok(Outcome::Remove)
        })?;
        Ok(popped)
    }
}

impl Store {
    /// The aggregate of this name. All of them stand in the space `tierce/aggregates`.
    ///
    /// # Errors
    /// The engine's.
    pub fn aggregate(&self, name: &str) -> Result<Aggregate> {
        let options = SpaceOptions::new().derived_type("summary").internal();
        let typed = Typed::open(self, AGGREGATES, "aggregates", &options)?;
        Ok(Aggregate { typed, name: name.to_owned(), weight: 0.1 })
    }
}
