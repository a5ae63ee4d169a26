//! The last good value, kept where it survives the process.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::Timestamp;

use crate::{
    codec::{Codec as _, MsgPack, Raw},
    error::{Error, Result},
    map::Map,
    space::SpaceOptions,
    store::Store,
};

/// Where a coordinator keeps its last good value, so that it has something to show after a restart.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tierce::{Result, Timestamp, coordinator::{Coordinator, FetchError, LastGood}};
/// #[derive(Clone, Default)]
/// struct Kept(Arc<Mutex<Option<(u32, Timestamp)>>>);
/// impl LastGood<u32> for Kept {
///     fn load(&self) -> Result<Option<(u32, Timestamp)>> { Ok(*self.0.lock().unwrap()) }
///     fn save(&self, value: &u32, at: Timestamp) -> Result<()> {
///         *self.0.lock().unwrap() = Some((*value, at));
///         Ok(())
///     }
///     fn now(&self) -> Timestamp { Timestamp(1_000) }
/// }
/// let kept = Kept::default();
/// Coordinator::builder(|| Ok::<_, FetchError>(7)).persist(kept.clone()).build().refresh()?;
/// assert_eq!(kept.load()?, Some((7, Timestamp(1_000))));
/// # Ok::<(), tierce::Error>(())
/// ```
pub trait LastGood<T>: Send + Sync {
    /// The value saved last and the `at` it was saved with.
    ///
    /// # Errors
    /// If it cannot be read. The coordinator then begins without a value and says so in its status.
    fn load(&self) -> Result<Option<(T, Timestamp)>>;

    /// Keeps `value`, which was good at `at`. Calls of one coordinator come one after the other, the newest last.
    ///
    /// # Errors
    /// If it cannot be kept. The coordinator goes on and says so in its status.
    fn save(&self, value: &T, at: Timestamp) -> Result<()>;

    /// The time by which the age of a value is told. Should not go back, not even across restarts.
    fn now(&self) -> Timestamp;
}

/// A last good value in a space of a [`Store`], as MessagePack after eight bytes of store time. One space may hold
/// those of many coordinators, under keys that differ.
///
/// It survives what every other entry of the store survives: with the default durability, the crash of the machine. It
/// holds the store open.
///
/// ```
/// use tierce::{Options, Store, coordinator::{Coordinator, FetchError}, engine::io::MemoryDisk};
/// let disk = MemoryDisk::new();
/// let store = Store::open_with("store", Options::new().disk(disk.clone()))?;
/// Coordinator::builder(|| Ok::<_, FetchError>(21.5)).persist_in(&store, "last good", "weather")?.build().refresh()?;
/// drop(store);
///
/// let store = Store::open_with("store", Options::new().disk(disk))?;
/// let weather = Coordinator::builder(|| Err::<f64, _>(FetchError::new("down")))
///     .persist_in(&store, "last good", "weather")?
///     .build();
/// assert_eq!(weather.data().as_deref(), Some(&21.5));
/// assert!(weather.is_stale());
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct StoreLastGood<T> {
    store: Store,
    map: Map<String, Vec<u8>, Raw>,
    space: String,
    key: String,
    value: PhantomData<fn() -> T>,
}

impl<T> StoreLastGood<T> {
    /// Under `key` of the space `space`, which is created if it is missing and holds last good values only.
    ///
    /// ```
    /// use tierce::{Store, coordinator::{LastGood as _, StoreLastGood}};
    /// let store = Store::in_memory()?;
    /// let kept = StoreLastGood::new(&store, "last good", "plan")?;
    /// kept.save(&String::from("walk"), store.now())?;
    /// assert_eq!(kept.load()?.unwrap().0, "walk");
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Store::map_with`]: [`Error::Type`] if the space holds something else.
    pub fn new(store: &Store, space: &str, key: impl Into<String>) -> Result<Self> {
        let options = SpaceOptions::new().derived_type("last good value");
        let map = store.map_with(space, &options)?;
        let (store, space) = (store.clone(), space.to_owned());
        Ok(Self { store, map, space, key: key.into(), value: PhantomData })
    }
}

impl<T> LastGood<T> for StoreLastGood<T>
where
    T: Serialize + DeserializeOwned + Send + Sync,
{
    fn load(&self) -> Result<Option<(T, Timestamp)>> {
        let Some(bytes) = self.map.get(&self.key)? else { return Ok(None) };
        let refuse =
            |source| Error::Decode { space: self.space.clone(), key: self.key.clone(), source };
        let Some((at, value)) = bytes.split_first_chunk::<8>() else {
            return Err(refuse("it is too short".into()));
        };
        let value = MsgPack::decode(value, 1, 0).map_err(refuse)?;
        Ok(Some((value, Timestamp(u64::from_le_bytes(*at)))))
    }

    fn save(&self, value: &T, at: Timestamp) -> Result<()> {
        let mut bytes = at.0.to_le_bytes().to_vec();
        MsgPack::encode(value, &mut bytes)
            .map_err(|source| Error::Encode { space: self.space.clone(), source })?;
        self.map.insert(&self.key, &bytes)
    }

    fn now(&self) -> Timestamp {
        self.store.now()
    }
}
