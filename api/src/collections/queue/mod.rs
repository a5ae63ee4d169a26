//! A queue for any number of producers and consumers.

mod message;

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{PutOptions, Timestamp, View};

use super::{
    item::PARCEL,
    queue_index::{Parcel, Places, QueueIndex},
    shared::shared,
};
use crate::{
    codec::MsgPack,
    error::{Error, Result},
    kv::Edit,
    space::{SpaceOptions, item},
    store::Store,
    ttl::{End, Ttl, after},
    typed::{Outcome, Typed},
};

pub use message::Message;

/// The key of a record: what it is, and its number.
type Slot = (u8, i64);
/// The record of the last reserved number.
const RESERVED: Slot = (0, 0);
const ITEM: u8 = 1;
/// Numbers that one write reserves.
const RESERVED_AT_ONCE: u64 = 256;

/// A queue: what is pushed first is pulled first, by one of any number of consumers, also after a restart.
///
/// [`Queue::pull`] takes an item off for good: if the consumer crashes, it is lost. [`Queue::lease`] only hides it
/// until the consumer says that it is done, or time is up: then somebody else gets it. Each change is atomic.
///
/// An item keeps its number from push to the end; numbers rise, with gaps, and are not given twice. An item may have a
/// lifetime ([`Queue::push_for`]); it is never delivered after that. One that is leased at that moment can still be
/// finished.
///
/// Beside the records, some 60 bytes of memory are taken for each item, and opening reads the head of every entry of
/// the store. An item that cannot be decoded stays where it is, and blocks the ones behind it with an error that names
/// it, until it is taken out with [`Queue::remove`].
///
/// ```
/// use std::time::Duration;
/// let store = tierce::Store::in_memory()?;
/// let jobs = store.queue::<String>("jobs")?;
/// jobs.push(&"mail".to_owned())?;
/// jobs.push(&"print".to_owned())?;
///
/// let job = jobs.lease(Duration::from_secs(60))?.unwrap();
/// assert_eq!(*job, "mail");
/// assert_eq!(jobs.pull()?.as_deref(), Some("print"));
/// job.ack()?;
/// assert_eq!(jobs.len()?, 0);
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct Queue<T> {
    items: Typed<Slot, T, MsgPack>,
    reserved: Typed<Slot, u64, MsgPack>,
    index: Arc<QueueIndex>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
            reserved: self.reserved.clone(),
            index: Arc::clone(&self.index),
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(&self.items).finish()
    }
}

/// Puts an item back among those that wait, unless it was disarmed: for errors, and for panics of a decoder.
struct Claim<'a, T: Serialize + DeserializeOwned> {
    queue: &'a Queue<T>,
    removals: u64,
    item: Option<(u64, u64)>,
}

impl<T: Serialize + DeserializeOwned> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        if let Some((id, expires)) = self.item.take() {
            self.queue.place(id, self.removals, |places| places.wait(id, expires));
        }
    }
}

/// What a consumer finds in a record that it has claimed.
enum Found<T> {
    /// It is not there, or expired.
    Gone,
    /// The record says that it is leased.
    Leased(Parcel),
    /// It was got; the value, unless it was stored again.
    Got(Option<T>, Timestamp),
}

/// An item that was claimed.
struct Claimed<T> {
    id: u64,
    value: T,
    pushed_at: Timestamp,
    /// What there were when it was claimed.
    removals: u64,
}

/// What is done with a record, and the value, unless that is stored again.
type Deed<T> = (Outcome<T>, Option<T>);

fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn time_of(view: &View<'_>) -> Timestamp {
    let bytes = view.item(item::STORED_AT).and_then(|bytes| bytes.try_into().ok());
    Timestamp(bytes.map_or(0, u64::from_le_bytes))
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    fn open(store: &Store, name: &str) -> Result<Self> {
        if store.engine().is_none() {
            return Err(store.unsupported("hold a queue"));
        }
        let options = SpaceOptions::new().derived_type(std::any::type_name::<T>());
        let items: Typed<Slot, T, MsgPack> = Typed::open(store, name, "queue", &options)?;
        let reserved: Typed<Slot, u64, MsgPack> = Typed::open(store, name, "queue", &options)?;
        let prefix = &items.space().prefix;
        let index = shared(store, prefix, || Ok(QueueIndex::new(Self::read(&items, &reserved)?)))?;
        Ok(Self { items, reserved, index })
    }

    /// What the records say.
    fn read(
        items: &Typed<Slot, T, MsgPack>,
        reserved: &Typed<Slot, u64, MsgPack>,
    ) -> Result<Places> {
        let mut places = Places::default();
        let last = reserved.get_at(&reserved.key_bytes(&RESERVED))?.unwrap_or(0);
        (places.last, places.reserved) = (last, last);
        let now = items.kv().now().0;
        let mut failed = None;
        items.scan_at(&items.space().prefix, false, &mut |key, view| {
            match items.key_of(key) {
                Ok((ITEM, id)) => {
                    let id = id.unsigned_abs();
                    let parcel = Parcel::from_bytes(view.item(PARCEL));
                    match parcel.is_leased(now) {
                        true => places.lease(id, &parcel),
                        false => places.wait(id, parcel.expires),
                    }
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
            std::ops::ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(places), Err)
    }

    fn now(&self) -> u64 {
        self.items.kv().now().0
    }

    fn key_of(&self, id: u64) -> Vec<u8> {
        self.items.key_bytes(&(ITEM, number(id)))
    }

    /// What an item is stored with. Its record ends when its lifetime and its lease are over.
    fn put_options(&self, parcel: &Parcel, pushed_at: Timestamp) -> PutOptions {
        let end = (parcel.expires != 0).then(|| parcel.expires.max(parcel.leased_until));
        let options = self.items.put_options(end.map(Timestamp));
        options.item(item::STORED_AT, pushed_at.0.to_le_bytes()).item(PARCEL, parcel.to_bytes())
    }

    /// Adds an item at the end; returns its number.
    ///
    /// # Errors
    /// [`Error::Encode`]; the engine's. Then the item is not in the queue.
    pub fn push(&self, item: &T) -> Result<u64> {
        self.push_for(item, Ttl::Never)
    }

    /// As [`Self::push`], for an item that is not to be delivered any more when its lifetime is over. With a zero
    /// lifetime it never is.
    ///
    /// ```
    /// use tierce::Ttl;
    /// let alerts = tierce::Store::in_memory()?.queue::<String>("alerts")?;
    /// alerts.push_for(&"door open".to_owned(), Ttl::minutes(5))?;
    /// assert_eq!(alerts.len()?, 1);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_for(&self, item: &T, ttl: impl Into<Ttl>) -> Result<u64> {
        Ok(self.push_encoded(&[self.items.encode(item)?], ttl.into())?.start)
    }

    /// Adds all these items, or, if anything fails, none; returns their numbers.
    ///
    /// ```
    /// let queue = tierce::Store::in_memory()?.queue::<u32>("queue")?;
    /// assert_eq!(queue.push_all([7, 8])?, 1..3);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_all(&self, items: impl IntoIterator<Item = T>) -> Result<std::ops::Range<u64>> {
        let encode = |item| self.items.encode(&item);
        let all = items.into_iter().map(encode).collect::<Result<Vec<_>>>()?;
        self.push_encoded(&all, Ttl::Never)
    }

    fn push_encoded(&self, all: &[Vec<u8>], ttl: Ttl) -> Result<std::ops::Range<u64>> {
        let now = self.items.kv().now();
        let (ids, removals) = self.take_numbers(all.len() as u64)?;
        let expires = match ttl.end(None, now) {
            End::Now => return Ok(ids),
            End::At(at) => at.0,
            End::Never => 0,
        };
        if all.is_empty() {
            return Ok(ids);
        }
        let options = self.put_options(&Parcel { expires, ..Parcel::default() }, now);
        let put = |(id, bytes): (u64, &Vec<u8>)| {
            Edit::Put(self.key_of(id), bytes.clone(), options.clone())
        };
        self.items.commit(ids.clone().zip(all).map(put).collect())?;
        let mut places = self.index.hold();
        let may_be_gone = places.removals != removals;
        for id in ids.clone() {
            // A clearing since the numbers were taken came before the items, or took them with it.
            if !may_be_gone || self.items.kv().contains(&self.key_of(id)).unwrap_or(true) {
                places.wait(id, expires);
            }
        }
        drop(places);
        Ok(ids)
    }

    /// Order: numbers are reserved by a write of their own before the first item has one of them, so that no crash
    /// leaves an item with a number that is not reserved. With them, how often items were removed by then.
    fn take_numbers(&self, count: u64) -> Result<(std::ops::Range<u64>, u64)> {
        let overflow = || {
            let name = &self.items.space().info.name;
            Error::Overflow { what: format!("the numbers of queue `{name}`") }
        };
        let mut places = self.index.hold();
        let last = places.last.checked_add(count).ok_or_else(overflow)?;
        if last > places.reserved {
            let end = last.checked_add(RESERVED_AT_ONCE).ok_or_else(overflow)?;
            let put = Edit::Put(
                self.reserved.key_bytes(&RESERVED),
                self.reserved.encode(&end)?,
                self.reserved.put_options(None),
            );
            self.reserved.commit(vec![put])?;
            places.reserved = end;
        }
        let start = places.last + 1;
        places.last = last;
        Ok((start..last + 1, places.removals))
    }

    /// Takes the first waiting item off for good; `None` if none waits.
    ///
    /// # Errors
    /// [`Error::Decode`] of the first item; the engine's. Then it still waits.
    pub fn pull(&self) -> Result<Option<T>> {
        let taken = self.claim(&mut |item, _, _| (Outcome::Remove, Some(item)))?;
        Ok(taken.map(|taken| taken.value))
    }

    /// Hides the first waiting item from all others for so long, and hands it out; `None` if none waits. It is gone
    /// after
    /// [`Message::ack`]; otherwise it waits again, at its old place, when the time is up, also over a restart.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub fn lease(&self, time: Duration) -> Result<Option<Message<T>>> {
        let mut leased = Parcel::default();
        let claimed = self.claim(&mut |item, parcel: Parcel, pushed_at| {
            leased = Parcel {
                deliveries: parcel.deliveries.saturating_add(1),
                leased_until: end_of(time, self.items.kv().now()),
                ..parcel
            };
            (Outcome::Put(item, self.put_options(&leased, pushed_at)), None)
        })?;
        let Some(Claimed { id, value, pushed_at, removals }) = claimed else { return Ok(None) };
        self.place(id, removals, |places| places.lease(id, &leased));
        Ok(Some(Message { queue: self.clone(), id, value, parcel: leased, pushed_at }))
    }

    /// Has the index say of an item what its record says, unless the record is gone. `removals` is what there were when
    /// the record was not changed yet: if items were removed since, this one may be among them.
    fn place(&self, id: u64, removals: u64, place: impl FnOnce(&mut Places)) {
        let mut places = self.index.hold();
        let is_there = || self.items.kv().contains(&self.key_of(id)).unwrap_or(true);
        if places.removals == removals || is_there() {
            place(&mut places);
        }
    }

    /// Claims the first waiting item, and does with its record what `change` says.
    fn claim(
        &self,
        change: &mut dyn FnMut(T, Parcel, Timestamp) -> Deed<T>,
    ) -> Result<Option<Claimed<T>>> {
        loop {
            let now = self.now();
            let mut places = self.index.hold();
            places.go_on(now);
            let Some((id, expires)) = places.take_first() else { return Ok(None) };
            let removals = places.removals;
            drop(places);
            let mut claim = Claim { queue: self, removals, item: Some((id, expires)) };
            let mut found = Found::Gone;
            let put = self.items.update_at(&self.key_of(id), &mut |old| {
                let Some((value, view)) = old else {
                    found = Found::Gone;
                    return Ok(Outcome::Keep);
                };
                let parcel = Parcel::from_bytes(view.item(PARCEL));
                if parcel.is_leased(now) {
                    found = Found::Leased(parcel);
                    return Ok(Outcome::Keep);
                }
                if parcel.has_expired(now) {
                    found = Found::Gone;
                    return Ok(Outcome::Remove);
                }
                let pushed_at = time_of(&view);
                let (outcome, value) = change(value, parcel, pushed_at);
                found = Found::Got(value, pushed_at);
                Ok(outcome)
            })?;
            // From here on the item is where the record says.
            claim.item = None;
            match found {
                Found::Gone => {}
                Found::Leased(parcel) => {
                    self.place(id, removals, |places| places.lease(id, &parcel));
                }
                Found::Got(value, pushed_at) => {
                    let claimed = |value| Claimed { id, value, pushed_at, removals };
                    return Ok(put.or(value).map(claimed));
                }
            }
        }
    }

    /// The first waiting item with its number, which goes on waiting.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub fn peek(&self) -> Result<Option<(u64, T)>> {
        let mut places = self.index.hold();
        places.go_on(self.now());
        let mut next = places.first();
        drop(places);
        while let Some(id) = next {
            if let Some(item) = self.items.get_at(&self.key_of(id))? {
                return Ok(Some((id, item)));
            }
            // Somebody took it meanwhile.
            next = self.index.hold().after(id);
        }
        Ok(None)
    }

    /// Takes the item with this number out, wherever it stands, also one that cannot be decoded; says whether it was
    /// there. Who has it leased finds out when acknowledging.
    ///
    /// # Errors
    /// The engine's.
    pub fn remove(&self, id: u64) -> Result<bool> {
        // One step: of several who take the item out, one is told that it was there.
        let key = self.key_of(id);
        let was_there = self.items.delete_at(&key)?;
        let mut places = self.index.hold();
        // It may have been pushed since.
        if !self.items.kv().contains(&key)? {
            places.forget(id);
        }
        drop(places);
        Ok(was_there)
    }

    /// Count of items: those that wait and those that are leased.
    ///
    /// # Errors
    /// None that is expected.
    pub fn len(&self) -> Result<usize> {
        let mut places = self.index.hold();
        places.go_on(self.now());
        Ok(places.waiting() + places.leased())
    }

    /// Whether there is no item, waiting or leased.
    ///
    /// # Errors
    /// As [`Self::len`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Count of items that wait.
    ///
    /// # Errors
    /// As [`Self::len`].
    pub fn waiting(&self) -> Result<usize> {
        let mut places = self.index.hold();
        places.go_on(self.now());
        Ok(places.waiting())
    }

    /// Removes every item, waiting or leased, at a cost that hardly depends on how many there are.
    ///
    /// # Errors
    /// The engine's; then nothing has changed.
    pub fn clear(&self) -> Result<()> {
        // The index is held, so that what is pushed later is not forgotten.
        let mut places = self.index.hold();
        let reserved = Edit::Put(
            self.reserved.key_bytes(&RESERVED),
            self.reserved.encode(&places.reserved)?,
            self.reserved.put_options(None),
        );
        self.items.commit(vec![Edit::Cut(self.items.space().prefix.clone()), reserved])?;
        places.forget_all();
        drop(places);
        Ok(())
    }

    /// Does with the record of a leased item what `change` says, if the lease is still this one.
    fn settle(
        &self,
        id: u64,
        lease: &Parcel,
        change: &mut dyn FnMut(T, Timestamp) -> Outcome<T>,
    ) -> Result<()> {
        let mut is_held = false;
        self.items.update_at(&self.key_of(id), &mut |old| {
            is_held = false;
            let Some((value, view)) = old else { return Ok(Outcome::Keep) };
            let parcel = Parcel::from_bytes(view.item(PARCEL));
            if parcel != *lease || !parcel.is_leased(self.now()) {
                return Ok(Outcome::Keep);
            }
            is_held = true;
            Ok(change(value, time_of(&view)))
        })?;
        if is_held {
            return Ok(());
        }
        Err(self.not_held(id))
    }

    fn not_held(&self, id: u64) -> Error {
        let name = &self.items.space().info.name;
        Error::NotHeld { what: format!("message {id} of queue `{name}`") }
    }
}

fn end_of(time: Duration, now: Timestamp) -> u64 {
    match after(time, now) {
        End::At(at) => at.0,
        End::Now | End::Never => now.0,
    }
}

impl Store {
    /// The queue of this name. Queues never see each other's items, whatever they are called.
    ///
    /// # Errors
    /// As [`Store::map_with`]; [`Error::Unsupported`] if the store is a remote one.
    pub fn queue<T: Serialize + DeserializeOwned>(&self, name: &str) -> Result<Queue<T>> {
        Queue::open(self, name)
    }
}
