//! A log of typed lines: appended, read by number or time, forgotten from the front.

use std::ops::Range;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tierce_engine::Timestamp;

use super::{
    gate::{Gate, Raw},
    log_options::LogOptions,
};
use crate::{
    error::Result,
    kv::Edit,
    space::{SpaceOptions, item},
    store::Store,
};

/// Where the log stands: lines `gone + 1` to `last` are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    gone: u64,
    last: u64,
    /// Bytes of the values of what is kept.
    bytes: u64,
    /// When the last line was appended, in milliseconds: times never go back from one line to the next.
    last_ms: u64,
}

impl Kept {
    const fn count(&self) -> u64 {
        self.last - self.gone
    }
}

/// Lines that an append forgets beside as many as it appends: a log that is to keep less from now on gets there in
/// small steps.
const FORGOTTEN_MORE: u64 = 8;
/// Lines that one change of [`Log::prune`] forgets.
const PRUNED_AT_ONCE: u64 = 256;

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line<T> {
    /// Its number: 1 is the first, and no number is given twice.
    pub id: u64,
    /// When it was appended, by store time.
    pub at: Timestamp,
    /// What it says.
    pub value: T,
}

/// A log of typed lines. Each gets a number, from 1 on, and the time; lines are read in their order and forgotten from
/// the front, as [`LogOptions`] say.
///
/// An append is atomic: after a crash the line is there with its number, or neither is. Numbers of lines that were
/// forgotten or cleared are not given again.
///
/// Fields that are added to `T` later need a default ([`#[serde(default)]`](https://serde.rs/field-attrs.html)); old
/// lines then show it, without being written again.
///
/// ```
/// let store = tierce::Store::in_memory()?;
/// let events = store.log::<String>("events")?;
/// let id = events.append(&"started".to_owned())?;
/// events.append(&"stopped".to_owned())?;
/// let after: Vec<String> = events.read(id + 1, 10)?.into_iter().map(|line| line.value).collect();
/// assert_eq!(after, ["stopped"]);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct Log<T> {
    gate: Gate<T, Kept>,
    options: LogOptions,
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self { gate: self.gate.clone(), options: self.options.clone() }
    }
}

fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// The time in an extension item.
fn time_of(bytes: Option<&[u8]>) -> u64 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl<T: Serialize + DeserializeOwned> Log<T> {
    fn open(store: &Store, name: &str, options: &LogOptions) -> Result<Self> {
        let name_of_type = options.value_type.iter();
        let space = name_of_type.fold(SpaceOptions::new(), SpaceOptions::value_type);
        let gate = Gate::open(store, name, "log", &space)?;
        Ok(Self { gate, options: options.clone() })
    }

    /// Appends a line; returns its number. Forgets what is too much by now, at most nine lines.
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode); the engine's. Then nothing has changed.
    pub fn append(&self, value: &T) -> Result<u64> {
        let bytes = self.gate.items().encode(value)?;
        Ok(self.append_encoded(&[bytes])?.start)
    }

    /// Appends all these lines, or, if anything fails, none; returns their numbers.
    ///
    /// ```
    /// let log = tierce::Store::in_memory()?.log::<u32>("log")?;
    /// assert_eq!(log.append_all([7, 8, 9])?, 1..4);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_all(&self, values: impl IntoIterator<Item = T>) -> Result<Range<u64>> {
        let encode = |value| self.gate.items().encode(&value);
        let all = values.into_iter().map(encode).collect::<Result<Vec<_>>>()?;
        self.append_encoded(&all)
    }

    fn append_encoded(&self, all: &[Vec<u8>]) -> Result<Range<u64>> {
        self.gate.change(|(kept, _), edits| {
            let start = kept.last + 1;
            if all.is_empty() {
                return Ok(start..start);
            }
            kept.last_ms = self.now_ms().max(kept.last_ms);
            for bytes in all {
                kept.last += 1;
                kept.bytes += bytes.len() as u64;
                let time = kept.last_ms.to_le_bytes();
                let options = self.gate.put_options().item(item::STORED_AT, time);
                edits.push(Edit::Put(self.gate.key_of(number(kept.last)), bytes.clone(), options));
            }
            // What was appended in this very change is not looked for: it is not there yet.
            let most = (all.len() as u64 + FORGOTTEN_MORE).min(start - 1 - kept.gone);
            self.forget(kept, most, edits)?;
            Ok(start..kept.last + 1)
        })
    }

    fn now_ms(&self) -> u64 {
        self.gate.items().kv().now().0
    }

    /// Forgets up to `most` lines that are too much.
    fn forget(&self, kept: &mut Kept, most: u64, edits: &mut Vec<Edit>) -> Result<()> {
        let oldest = self.oldest_ms();
        let is_over = |limit: Option<u64>, now: u64| limit.is_some_and(|limit| now > limit);
        for _ in 0..most {
            let id = kept.gone + 1;
            let is_too_much = is_over(self.options.max_count, kept.count())
                || is_over(self.options.max_bytes, kept.bytes) && kept.count() > 1;
            if !is_too_much && oldest.is_none() {
                break;
            }
            let found = self.look(id)?;
            let is_old = found.is_none_or(|(ms, _)| oldest.is_some_and(|oldest| ms <= oldest));
            if !is_too_much && !is_old {
                break;
            }
            kept.gone = id;
            kept.bytes = kept.bytes.saturating_sub(found.map_or(0, |(_, bytes)| bytes));
            edits.push(Edit::Delete(self.gate.key_of(number(id))));
        }
        if kept.count() == 0 {
            // Lines that a repair left out are counted until here.
            kept.bytes = 0;
        }
        Ok(())
    }

    /// Lines of this time and before are too old.
    fn oldest_ms(&self) -> Option<u64> {
        self.options.max_age_ms.and_then(|age| self.now_ms().checked_sub(age))
    }

    /// Time, and bytes of the value, of a line.
    fn look(&self, id: u64) -> Result<Option<(u64, u64)>> {
        let mut found = None;
        self.gate.items().kv().view(&self.gate.key_of(number(id)), &mut |view| {
            found = Some((time_of(view.item(item::STORED_AT)), view.value.len() as u64));
        })?;
        Ok(found)
    }

    /// Forgets everything that is too much by now; returns how many lines. Appending does it too, in small steps.
    ///
    /// # Errors
    /// The engine's; what was forgotten until then stays so.
    pub fn prune(&self) -> Result<u64> {
        let mut pruned = 0;
        loop {
            let step = self.gate.change(|(kept, _), edits| {
                let gone = kept.gone;
                self.forget(kept, PRUNED_AT_ONCE.min(kept.count()), edits)?;
                Ok(kept.gone - gone)
            })?;
            pruned += step;
            if step < PRUNED_AT_ONCE {
                return Ok(pruned);
            }
        }
    }

    /// Forgets every line. Numbers go on where they were.
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn clear(&self) -> Result<()> {
        self.gate.change(|(kept, _), edits| {
            if kept.count() > 0 {
                edits.push(Edit::Cut(self.gate.prefix()));
                (kept.gone, kept.bytes) = (kept.last, 0);
            }
            Ok(())
        })
    }

    /// The first line at or behind `id` that is there, up to `last`: its number and its time.
    fn at_or_behind(&self, id: u64, last: u64) -> Result<Option<(u64, u64)>> {
        for id in id..=last {
            if let Some((ms, _)) = self.look(id)? {
                return Ok(Some((id, ms)));
            }
        }
        Ok(None)
    }

    /// The number of the first line that is younger than `ms`; one behind the last if none is.
    fn first_after(&self, kept: &Kept, ms: u64) -> Result<u64> {
        let (mut low, mut high) = (kept.gone + 1, kept.last + 1);
        // Times rise with numbers: all lines before `low` are as old or older, all from `high` on are younger.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.at_or_behind(middle, high - 1)? {
                Some((id, found_ms)) if found_ms <= ms => low = id + 1,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    /// The numbers of the lines that are to be shown now.
    fn shown(&self, kept: &Kept) -> Result<Range<u64>> {
        let mut first = kept.gone + 1;
        if let Some(count) = self.options.max_count {
            first = first.max((kept.last + 1).saturating_sub(count));
        }
        if let Some(oldest) = self.oldest_ms() {
            first = first.max(self.first_after(kept, oldest)?);
        }
        Ok(first..kept.last + 1)
    }

    /// Count of lines. With a maximum age, a search by time.
    ///
    /// # Errors
    /// The engine's.
    pub fn len(&self) -> Result<u64> {
        let shown = self.gate.look(|(kept, _)| self.shown(kept))?;
        Ok(shown.end.saturating_sub(shown.start))
    }

    /// Whether there is no line.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The number that the next line gets.
    ///
    /// # Errors
    /// The engine's.
    pub fn next_id(&self) -> Result<u64> {
        Ok(self.gate.head()?.0.last + 1)
    }

    /// The line with this number, if it is still kept.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode); the engine's.
    pub fn get(&self, id: u64) -> Result<Option<Line<T>>> {
        let line = self.read(id, 1)?.into_iter().next();
        Ok(line.filter(|line| line.id == id))
    }

    /// Up to `most` lines, from number `from` on, or from the first one that is kept. To go on, ask from one behind the
    /// last number seen.
    ///
    /// # Errors
    /// Of the first line that fails: [`Error::Decode`](crate::Error::Decode); the engine's.
    pub fn read(&self, from: u64, most: usize) -> Result<Vec<Line<T>>> {
        self.lines(most, |_, shown| Ok(from.max(shown.start)))
    }

    /// The last `count` lines, in their order.
    ///
    /// ```
    /// let log = tierce::Store::in_memory()?.log::<u32>("log")?;
    /// log.append_all([7, 8, 9])?;
    /// let last: Vec<u64> = log.tail(2)?.iter().map(|line| line.id).collect();
    /// assert_eq!(last, [2, 3]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn tail(&self, count: usize) -> Result<Vec<Line<T>>> {
        self.lines(count, |_, shown| Ok(shown.end.saturating_sub(count as u64).max(shown.start)))
    }

    /// The lines that were appended at this moment of store time or later. Finds them by a binary search.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn since(&self, time: Timestamp) -> Result<Vec<Line<T>>> {
        self.lines(usize::MAX, |kept, shown| match time.0.checked_sub(1) {
            Some(before) => Ok(self.first_after(kept, before)?.max(shown.start)),
            None => Ok(shown.start),
        })
    }

    /// Up to `most` lines from the one that `start` says, as of one moment.
    fn lines(
        &self,
        most: usize,
        start: impl FnOnce(&Kept, &Range<u64>) -> Result<u64>,
    ) -> Result<Vec<Line<T>>> {
        let raw = self.gate.look(|(kept, _)| {
            let shown = self.shown(kept)?;
            let mut found = Vec::new();
            for id in start(kept, &shown)?..shown.end {
                if found.len() == most {
                    break;
                }
                found.extend(self.raw(id)?);
            }
            Ok(found)
        })?;
        let line = |(id, ms, raw): (u64, u64, Raw)| {
            let value = self.gate.decode(number(id), &raw)?;
            Ok(Line { id, at: Timestamp(ms), value })
        };
        raw.into_iter().map(line).collect()
    }

    fn raw(&self, id: u64) -> Result<Option<(u64, u64, Raw)>> {
        let mut raw = None;
        self.gate.items().kv().view(&self.gate.key_of(number(id)), &mut |view| {
            let bytes = view.value.to_vec();
            let found = Raw { bytes, codec: view.codec, schema: view.schema };
            raw = Some((id, time_of(view.item(item::STORED_AT)), found));
        })?;
        Ok(raw)
    }
}

impl Store {
    /// The log of this name, which keeps everything.
    ///
    /// # Errors
    /// As [`Store::map_with`].
    pub fn log<T: Serialize + DeserializeOwned>(&self, name: &str) -> Result<Log<T>> {
        self.log_with(name, &LogOptions::new())
    }

    /// The log of this name, with limits to what it keeps.
    ///
    /// ```
    /// use tierce::{Store, collections::LogOptions};
    /// let store = Store::in_memory()?;
    /// let last = store.log_with::<u32>("readings", &LogOptions::new().max_count(2))?;
    /// last.append_all([1, 2, 3])?;
    /// assert_eq!(last.read(0, 10)?.iter().map(|line| line.value).collect::<Vec<_>>(), [2, 3]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::map_with`].
    pub fn log_with<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        options: &LogOptions,
    ) -> Result<Log<T>> {
        Log::open(self, name, options)
    }
}
