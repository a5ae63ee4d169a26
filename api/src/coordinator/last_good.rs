//! The last good value, kept where it survives the process.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{Engine, Timestamp};

use crate::{
    codec::{Codec as _, MsgPack},
    error::{Error, Result},
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

/// A last good value under a key of an [`Engine`], as MessagePack after eight bytes of store time.
///
/// It survives what every other entry survives: with the default durability, the crash of the machine. It holds the
/// engine open.
///
/// ```
/// use tierce::coordinator::{Coordinator, EngineLastGood, FetchError};
/// use tierce::engine::{Options, io::MemoryDisk};
/// let disk = MemoryDisk::new();
/// let engine = Options::new().disk(disk.clone()).open("store")?;
/// let kept = EngineLastGood::new(&engine, "weather");
/// Coordinator::builder(|| Ok::<_, FetchError>(21.5)).persist(kept).build().refresh()?;
/// drop(engine);
///
/// let engine = Options::new().disk(disk).open("store")?;
/// let kept = EngineLastGood::new(&engine, "weather");
/// let weather = Coordinator::builder(|| Err::<f64, _>(FetchError::new("down"))).persist(kept).build();
/// assert_eq!(weather.data().as_deref(), Some(&21.5));
/// assert!(weather.is_stale());
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct EngineLastGood<T> {
    engine: Engine,
    key: Vec<u8>,
    value: PhantomData<fn() -> T>,
}

impl<T> EngineLastGood<T> {
    /// Under `key` of `engine`. The key must be used for nothing else.
    ///
    /// ```
    /// use tierce::{coordinator::{EngineLastGood, LastGood as _}, engine::{Options, io::MemoryDisk}};
    /// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
    /// let kept = EngineLastGood::new(&engine, "plan");
    /// kept.save(&String::from("walk"), engine.now())?;
    /// assert_eq!(kept.load()?.unwrap().0, "walk");
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn new(engine: &Engine, key: impl Into<Vec<u8>>) -> Self {
        Self { engine: engine.clone(), key: key.into(), value: PhantomData }
    }
}

/// What errors call the place.
const PLACE: &str = "last good values";

impl<T> LastGood<T> for EngineLastGood<T>
where
    T: Serialize + DeserializeOwned + Send + Sync,
{
    fn load(&self) -> Result<Option<(T, Timestamp)>> {
        let Some(bytes) = self.engine.get(&self.key)? else { return Ok(None) };
        let refuse = |source| Error::Decode {
            space: PLACE.to_owned(),
            key: String::from_utf8_lossy(&self.key).into_owned(),
            source,
        };
        let Some((at, value)) = bytes.split_first_chunk::<8>() else {
            return Err(refuse("it is too short".into()));
        };
        let value = MsgPack::decode(value, 1, 0).map_err(refuse)?;
        Ok(Some((value, Timestamp(u64::from_le_bytes(*at)))))
    }

    fn save(&self, value: &T, at: Timestamp) -> Result<()> {
        let mut bytes = at.0.to_le_bytes().to_vec();
        MsgPack::encode(value, &mut bytes)
            .map_err(|source| Error::Encode { space: PLACE.to_owned(), source })?;
        Ok(self.engine.put(&self.key, bytes)?)
    }

    fn now(&self) -> Timestamp {
        self.engine.now()
    }
}
