//! Leased queue item: a consumer acknowledges, releases or moves it.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::Timestamp;

use super::{Queue, end_of};
use crate::{
    collections::{
        item::PARCEL,
        queue_index::{Parcel, Places},
    },
    error::{Error, Result},
    kv::Edit,
    typed::Outcome,
};

/// An item that is leased: no other consumer gets it until the lease ends. Dropping it leaves it leased until then.
pub struct Message<T> {
    pub(super) queue: Queue<T>,
    pub(super) id: u64,
    pub(super) value: T,
    pub(super) parcel: Parcel,
    pub(super) pushed_at: Timestamp,
}

impl<T: fmt::Debug> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<T> Deref for Message<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize + DeserializeOwned> Message<T> {
    /// The item's number.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// How often the item was leased, this time included. More than once: an earlier consumer did not finish it.
    #[must_use]
    pub const fn deliveries(&self) -> u32 {
        self.parcel.deliveries
    }

    /// When it was pushed, by store time.
    #[must_use]
    pub const fn pushed_at(&self) -> Timestamp {
        self.pushed_at
    }

    /// When the lease ends, by store time.
    #[must_use]
    pub const fn leased_until(&self) -> Timestamp {
        Timestamp(self.parcel.leased_until)
    }

    /// It is done: the item is gone for good.
    ///
    /// # Errors
    /// [`Error::NotHeld`] if the lease has ended, and then another consumer may do it again; the engine's.
    pub fn ack(self) -> Result<()> {
        self.queue.settle(self.id, &self.parcel, &mut |_, _| Outcome::Remove)?;
        self.queue.index.hold().end_lease(self.id, self.parcel.leased_until);
        Ok(())
    }

    /// It could not be done: the item waits again at once, at its old place, so it is the next one. One that always
    /// fails keeps the others waiting: see [`Self::release_after`] and [`Self::move_to`].
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub fn release(self) -> Result<()> {
        let waiting = Parcel { leased_until: 0, ..self.parcel };
        self.replace(&waiting, |places, id| places.wait(id, waiting.expires))
    }

    /// It could not be done now: the item waits again after a pause, at its old place. Others come first meanwhile.
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = tierce::Store::in_memory()?.queue::<String>("jobs")?;
    /// queue.push_all(["fails".to_owned(), "works".to_owned()])?;
    /// let job = queue.lease(Duration::from_secs(60))?.unwrap();
    /// let pause = Duration::from_secs(1) * 2_u32.pow(job.deliveries());
    /// job.release_after(pause)?;
    /// assert_eq!(*queue.lease(Duration::from_secs(60))?.unwrap(), "works");
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub fn release_after(self, pause: Duration) -> Result<()> {
        let until = end_of(pause, self.queue.items.kv().now());
        let paused = Parcel { leased_until: until, ..self.parcel };
        self.replace(&paused, |places, id| places.lease(id, &paused))
    }

    /// Moves the item to the end of `queue`, in one step: to another one of the same store, for items that failed too
    /// often, or behind all others of its own. It has a new number there, which is returned, and keeps the time at
    /// which it was pushed, its lifetime and [`Self::deliveries`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let store = tierce::Store::in_memory()?;
    /// let (jobs, failed) = (store.queue::<String>("jobs")?, store.queue::<String>("jobs/failed")?);
    /// jobs.push(&"poison".to_owned())?;
    /// let job = jobs.lease(Duration::from_secs(60))?.unwrap();
    /// if job.deliveries() >= 1 {
    ///     job.move_to(&failed)?;
    /// }
    /// assert_eq!((jobs.len()?, failed.len()?), (0, 1));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::ack`]; [`Error::Unsupported`] if `queue` is in another store. Then the item is leased as before.
    pub fn move_to(self, queue: &Queue<T>) -> Result<u64> {
        let from = &self.queue;
        if !Arc::ptr_eq(from.items.store().common(), queue.items.store().common()) {
            let what = "move an item to a queue of another store";
            return Err(Error::Unsupported { backend: "a queue", what });
        }
        let bytes = queue.items.encode(&self.value)?;
        let (ids, removals) = queue.take_numbers(1)?;
        let key = from.key_of(self.id);
        let mut version = None;
        from.items.kv().peek(&key, &mut |view| {
            let parcel = Parcel::from_bytes(view.item(PARCEL));
            let is_held = parcel == self.parcel && parcel.is_leased(from.now());
            version = is_held.then_some(view.sequence);
        })?;
        let version = version.ok_or_else(|| from.not_held(self.id))?;
        let parcel = Parcel { leased_until: 0, ..self.parcel };
        // A delete knows no condition: the put before it, of the same batch, does.
        let unchanged = from.put_options(&self.parcel, self.pushed_at).only_if_unchanged(version);
        let moved = queue.items.commit(vec![
            Edit::Put(key.clone(), Vec::new(), unchanged),
            Edit::Delete(key),
            Edit::Put(queue.key_of(ids.start), bytes, queue.put_options(&parcel, self.pushed_at)),
        ]);
        if let Err(Error::Engine(tierce_engine::Error::Conflict { .. })) = moved {
            return Err(from.not_held(self.id));
        }
        moved?;
        from.index.hold().end_lease(self.id, self.parcel.leased_until);
        queue.place(ids.start, removals, |places| places.wait(ids.start, parcel.expires));
        Ok(ids.start)
    }

    /// Gives the item another parcel, and another place.
    fn replace(&self, parcel: &Parcel, place: impl FnOnce(&mut Places, u64)) -> Result<()> {
        let queue = &self.queue;
        let removals = queue.index.hold().removals;
        queue.settle(self.id, &self.parcel, &mut |value, pushed_at| {
            Outcome::Put(value, queue.put_options(parcel, pushed_at))
        })?;
        queue.index.hold().end_lease(self.id, self.parcel.leased_until);
        queue.place(self.id, removals, |places| place(places, self.id));
        Ok(())
    }

    /// It takes longer: the lease ends so long from now.
    ///
    /// ```
    /// use std::time::Duration;
    /// let queue = tierce::Store::in_memory()?.queue::<u32>("queue")?;
    /// queue.push(&1)?;
    /// let mut message = queue.lease(Duration::from_secs(60))?.unwrap();
    /// let before = message.leased_until();
    /// message.extend(Duration::from_secs(600))?;
    /// assert!(message.leased_until() > before);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub fn extend(&mut self, time: Duration) -> Result<()> {
        let until = end_of(time, self.queue.items.kv().now());
        let longer = Parcel { leased_until: until, ..self.parcel };
        self.replace(&longer, |places, id| places.lease(id, &longer))?;
        self.parcel = longer;
        Ok(())
    }
}
