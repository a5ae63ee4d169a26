//! A list with two ends, and maybe a maximum length.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::gate::{Gate, Raw};
use crate::{
    error::{Error, Result},
    kv::Edit,
    space::SpaceOptions,
    store::Store,
};

/// Where the list stands: items `first` to `first + len - 1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ends {
    first: i64,
    len: i64,
    max: Option<i64>,
}

impl Ends {
    const fn end(&self) -> i64 {
        self.first + self.len
    }

    fn is_too_long(&self) -> bool {
        self.max.is_some_and(|max| self.len > max)
    }

    /// The number of the item at `index`, which counts from the other end if it is negative.
    const fn at(&self, index: i64) -> Option<i64> {
        let from_first = if index < 0 { index + self.len } else { index };
        if from_first >= 0 && from_first < self.len { Some(self.first + from_first) } else { None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Front,
    Back,
}

/// A list with two ends. If it has a maximum length, what comes in at one end pushes out what is too much at the other,
/// in one atomic change. The maximum is kept with the list.
///
/// Each call is one atomic change: a crash leaves it done or not done. Methods at the ends cost the same however long
/// the list is; others say what they cost.
///
/// ```
/// let store = tierce::Store::in_memory()?;
/// let backups = store.bounded_deque::<String>("backups", 2)?;
/// for name in ["a", "b", "c"] {
///     backups.push_back(&name.to_owned())?;
/// }
/// assert_eq!(backups.items()?, ["b", "c"]);
/// assert_eq!(backups.get(-1)?.as_deref(), Some("c"));
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct Deque<T> {
    gate: Gate<T, Ends>,
}

impl<T> Clone for Deque<T> {
    fn clone(&self) -> Self {
        Self { gate: self.gate.clone() }
    }
}

/// A length as the head holds it.
fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

impl<T: Serialize + DeserializeOwned> Deque<T> {
    fn open(store: &Store, name: &str, max: Option<usize>) -> Result<Self> {
        let gate = Gate::open(store, name, "deque", &SpaceOptions::new())?;
        let Some(max) = max.map(signed) else { return Ok(Self { gate }) };
        gate.change(|(ends, sequence), _| {
            // What was never written to has no maximum yet.
            if sequence.is_none() {
                ends.max = Some(max);
            }
            if ends.max == Some(max) {
                return Ok(());
            }
            let stored = ends.max.map_or_else(|| "none".to_owned(), |max| max.to_string());
            let complaint = format!("the maximum length is stored as {stored}, and {max} is asked");
            Err(Error::Options { what: format!("deque `{name}`"), complaints: vec![complaint] })
        })?;
        Ok(Self { gate })
    }

    /// The maximum length; `None` if there is none.
    ///
    /// # Errors
    /// The engine's.
    pub fn max_len(&self) -> Result<Option<usize>> {
        Ok(self.gate.head()?.0.max.map(|max| usize::try_from(max).unwrap_or(usize::MAX)))
    }

    /// Gives the list another maximum length, or none, for now and after. What is too much falls off at the front.
    ///
    /// ```
    /// let list = tierce::Store::in_memory()?.deque::<u32>("list")?;
    /// list.extend([1, 2, 3])?;
    /// list.set_max_len(Some(2))?;
    /// assert_eq!(list.items()?, [2, 3]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn set_max_len(&self, max: Option<usize>) -> Result<()> {
        self.gate.change(|(ends, _), edits| {
            ends.max = max.map(signed);
            self.cut_to_length(ends, Side::Front, edits);
            Ok(())
        })
    }

    /// Count of items.
    ///
    /// # Errors
    /// The engine's.
    pub fn len(&self) -> Result<usize> {
        Ok(usize::try_from(self.gate.head()?.0.len).unwrap_or(0))
    }

    /// Whether there is no item.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.gate.head()?.0.len == 0)
    }

    /// Adds an item at the back; what is too much falls off at the front.
    ///
    /// # Errors
    /// [`Error::Encode`]; the engine's. Then nothing has changed.
    pub fn push_back(&self, item: &T) -> Result<()> {
        let bytes = self.gate.items().encode(item)?;
        self.push_all(&[bytes], Side::Back)
    }

    /// Adds an item at the front; what is too much falls off at the back.
    ///
    /// # Errors
    /// As [`Self::push_back`].
    pub fn push_front(&self, item: &T) -> Result<()> {
        let bytes = self.gate.items().encode(item)?;
        self.push_all(&[bytes], Side::Front)
    }

    /// Adds all these items at the back, one after the other, in one atomic change.
    ///
    /// # Errors
    /// As [`Self::push_back`].
    pub fn extend(&self, items: impl IntoIterator<Item = T>) -> Result<()> {
        let encode = |item| self.gate.items().encode(&item);
        let all = items.into_iter().map(encode).collect::<Result<Vec<_>>>()?;
        self.push_all(&all, Side::Back)
    }

    fn push_all(&self, all: &[Vec<u8>], side: Side) -> Result<()> {
        self.gate.change(|(ends, _), edits| {
            let max = ends.max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(0));
            // What would fall off in the same change is not written.
            let stay = all.get(all.len().saturating_sub(max)..).unwrap_or_default();
            for bytes in stay {
                let number = match side {
                    Side::Back => ends.end(),
                    Side::Front => {
                        ends.first -= 1;
                        ends.first
                    }
                };
                ends.len += 1;
                edits.push(Edit::Put(
                    self.gate.key_of(number),
                    bytes.clone(),
                    self.gate.put_options(),
                ));
            }
            let other = if side == Side::Back { Side::Front } else { Side::Back };
            self.cut_to_length(ends, other, edits);
            Ok(())
        })
    }

    /// Lets fall off at `side` what is too much.
    fn cut_to_length(&self, ends: &mut Ends, side: Side, edits: &mut Vec<Edit>) {
        while ends.is_too_long() {
            let number = shorten(ends, side);
            edits.push(Edit::Delete(self.gate.key_of(number)));
        }
    }

    /// Takes the last item off. Of several callers one gets it.
    ///
    /// # Errors
    /// [`Error::Decode`], and the item stays; the engine's.
    pub fn pop_back(&self) -> Result<Option<T>> {
        self.pop(Side::Back)
    }

    /// Takes the first item off. Of several callers one gets it.
    ///
    /// # Errors
    /// As [`Self::pop_back`].
    pub fn pop_front(&self) -> Result<Option<T>> {
        self.pop(Side::Front)
    }

    fn pop(&self, side: Side) -> Result<Option<T>> {
        let index = if side == Side::Front { 0 } else { -1 };
        loop {
            // Order: decoded before it is taken off, and without the turn, for it is the caller's code.
            let seen = self.gate.look(|(ends, sequence)| {
                let Some(number) = ends.at(index) else { return Ok(None) };
                Ok(Some((number, self.stored(number)?, *sequence)))
            })?;
            let Some((number, raw, seen)) = seen else { return Ok(None) };
            let item = self.gate.decode(number, &raw)?;
            let is_taken = self.gate.change(|(ends, sequence), edits| {
                if *sequence != seen {
                    return Ok(false);
                }
                edits.push(Edit::Delete(self.gate.key_of(shorten(ends, side))));
                Ok(true)
            })?;
            if is_taken {
                return Ok(Some(item));
            }
        }
    }

    /// The item that the head says is there.
    fn stored(&self, number: i64) -> Result<Raw> {
        self.gate.raw(number)?.ok_or_else(|| Error::Decode {
            space: self.gate.items().space().info.name.clone(),
            key: number.to_string(),
            source: "the item is missing: the store was repaired by leaving it out".into(),
        })
    }

    /// The first item.
    ///
    /// # Errors
    /// [`Error::Decode`]; the engine's.
    pub fn front(&self) -> Result<Option<T>> {
        self.get(0)
    }

    /// The last item.
    ///
    /// # Errors
    /// As [`Self::front`].
    pub fn back(&self) -> Result<Option<T>> {
        self.get(-1)
    }

    /// The item at `index`: 0 is the first, 1 the next, -1 the last, -2 the one before it.
    ///
    /// # Errors
    /// As [`Self::front`].
    pub fn get(&self, index: i64) -> Result<Option<T>> {
        let found = self.gate.look(|(ends, _)| {
            let Some(number) = ends.at(index) else { return Ok(None) };
            Ok(Some((number, self.stored(number)?)))
        })?;
        found.map(|(number, raw)| self.gate.decode(number, &raw)).transpose()
    }

    /// Puts `item` in the place of the one at `index`, which counts as in [`Self::get`]; says whether there was one.
    ///
    /// ```
    /// let list = tierce::Store::in_memory()?.deque::<u32>("list")?;
    /// list.extend([1, 2])?;
    /// assert!(list.set(-1, &9)?);
    /// assert!(!list.set(2, &9)?);
    /// assert_eq!(list.items()?, [1, 9]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::push_back`].
    pub fn set(&self, index: i64, item: &T) -> Result<bool> {
        let bytes = self.gate.items().encode(item)?;
        self.gate.change(|(ends, _), edits| {
            let Some(number) = ends.at(index) else { return Ok(false) };
            let options = self.gate.put_options();
            edits.push(Edit::Put(self.gate.key_of(number), bytes.clone(), options));
            Ok(true)
        })
    }

    /// Every item as of this moment, from front to back.
    ///
    /// # Errors
    /// Of the first that fails; as [`Self::front`].
    pub fn items(&self) -> Result<Vec<T>> {
        let all = self.gate.look(|(ends, _)| self.all(ends))?;
        all.iter().map(|(number, raw)| self.gate.decode(*number, raw)).collect()
    }

    fn all(&self, ends: &Ends) -> Result<Vec<(i64, Raw)>> {
        (ends.first..ends.end()).map(|number| Ok((number, self.stored(number)?))).collect()
    }

    /// How many items are equal to `item`. Reads them all.
    ///
    /// # Errors
    /// As [`Self::items`].
    pub fn count(&self, item: &T) -> Result<usize>
    where
        T: PartialEq,
    {
        Ok(self.items()?.iter().filter(|found| *found == item).count())
    }

    /// Removes the first item that is equal to `item`; says whether there was one. Reads the items up to there, and
    /// writes those between it and the nearer end again.
    ///
    /// ```
    /// let list = tierce::Store::in_memory()?.deque::<u32>("list")?;
    /// list.extend([1, 2, 3, 2])?;
    /// assert!(list.remove(&2)?);
    /// assert!(!list.remove(&7)?);
    /// assert_eq!(list.items()?, [1, 3, 2]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::items`]; the engine's. Then nothing has changed.
    pub fn remove(&self, item: &T) -> Result<bool>
    where
        T: PartialEq,
    {
        loop {
            // Order: compared without the turn, for it is the caller's code; then taken off if nothing has changed.
            let (all, seen) =
                self.gate.look(|(ends, sequence)| Ok((self.all(ends)?, *sequence)))?;
            let mut found = None;
            for (number, raw) in &all {
                if self.gate.decode(*number, raw)? == *item {
                    found = Some(*number);
                    break;
                }
            }
            let Some(number) = found else { return Ok(false) };
            let is_done = self.gate.change(|(ends, sequence), edits| {
                if *sequence != seen {
                    return Ok(false);
                }
                self.close_gap(ends, number, &all, edits);
                Ok(true)
            })?;
            if is_done {
                return Ok(true);
            }
        }
    }

    /// Moves the items on the shorter side of `number` over it.
    fn close_gap(&self, ends: &mut Ends, number: i64, all: &[(i64, Raw)], edits: &mut Vec<Edit>) {
        let is_nearer_front = number - ends.first < ends.end() - number;
        for (at, raw) in all {
            match is_nearer_front {
                true if *at < number => edits.push(self.put(at + 1, raw)),
                false if *at > number => edits.push(self.put(at - 1, raw)),
                _ => {}
            }
        }
        let side = if is_nearer_front { Side::Front } else { Side::Back };
        edits.push(Edit::Delete(self.gate.key_of(shorten(ends, side))));
    }

    fn put(&self, number: i64, raw: &Raw) -> Edit {
        let options = self.gate.put_options().codec(raw.codec, raw.schema);
        Edit::Put(self.gate.key_of(number), raw.bytes.clone(), options)
    }

    /// Moves so many items from the back to the front, one after the other; the other way round if negative. Writes the
    /// items that move again, at most half of them.
    ///
    /// ```
    /// let list = tierce::Store::in_memory()?.deque::<u32>("list")?;
    /// list.extend([1, 2, 3, 4])?;
    /// list.rotate(1)?;
    /// assert_eq!(list.items()?, [4, 1, 2, 3]);
    /// list.rotate(-2)?;
    /// assert_eq!(list.items()?, [2, 3, 4, 1]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn rotate(&self, steps: i64) -> Result<()> {
        self.gate.change(|(ends, _), edits| {
            let steps = steps.checked_rem_euclid(ends.len).unwrap_or(0);
            let back = ends.len - steps;
            if steps <= back {
                for _ in 0..steps {
                    let from = shorten(ends, Side::Back);
                    ends.first -= 1;
                    self.carry(from, ends.first, edits)?;
                    ends.len += 1;
                }
            } else {
                for _ in 0..back {
                    let from = shorten(ends, Side::Front);
                    self.carry(from, ends.end(), edits)?;
                    ends.len += 1;
                }
            }
            Ok(())
        })
    }

    fn carry(&self, from: i64, to: i64, edits: &mut Vec<Edit>) -> Result<()> {
        edits.push(self.put(to, &self.stored(from)?));
        edits.push(Edit::Delete(self.gate.key_of(from)));
        Ok(())
    }

    /// Turns the order round. Writes every item again.
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn reverse(&self) -> Result<()> {
        self.gate.change(|(ends, _), edits| {
            if ends.len > 1 {
                for (number, raw) in self.all(ends)? {
                    edits.push(self.put(ends.first + ends.end() - 1 - number, &raw));
                }
            }
            Ok(())
        })
    }

    /// Removes every item, at a cost that does not depend on how many there are. The maximum length stays.
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn clear(&self) -> Result<()> {
        self.gate.change(|(ends, _), edits| {
            if ends.len > 0 {
                edits.push(Edit::Cut(self.gate.prefix()));
                (ends.first, ends.len) = (0, 0);
            }
            Ok(())
        })
    }
}

/// Makes the list one shorter; says which item is off it. There is one.
const fn shorten(ends: &mut Ends, side: Side) -> i64 {
    ends.len -= 1;
    match side {
        Side::Back => ends.end(),
        Side::Front => {
            ends.first += 1;
            ends.first - 1
        }
    }
}

impl Store {
    /// The deque of this name, with the maximum length that is stored with it; a new one has none.
    ///
    /// # Errors
    /// As [`Store::map_with`].
    pub fn deque<T: Serialize + DeserializeOwned>(&self, name: &str) -> Result<Deque<T>> {
        Deque::open(self, name, None)
    }

    /// The deque of this name, which has this maximum length. To change it, see [`Deque::set_max_len`].
    ///
    /// # Errors
    /// [`Error::Options`] if it is stored with another one, or was used without; as [`Store::map_with`].
    pub fn bounded_deque<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        max_len: usize,
    ) -> Result<Deque<T>> {
        Deque::open(self, name, Some(max_len))
    }
}
