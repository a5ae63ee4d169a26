//! The door: opens a store and its named spaces.

use std::{collections::HashMap, fmt, path::Path, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{Engine, Follower, Options, Timestamp, io::MemoryDisk};

use crate::{
    error::{Error, Result},
    kv::Kv,
    migrations::Migrations,
    pool::Pool,
    space::{Migrated, SpaceInfo, SpaceOptions, SpaceState, SpaceStats, catalog, migrate},
    sync::{Mutex, OnceLock, PoisonError},
    version::Version,
};

/// An open store with named spaces. A cheap handle: clones share it, and it may be used from any thread.
///
/// A directory that is open in this process already gives the same store. It is closed when the last handle and the
/// last cache, map and so on of it is dropped, best effort; [`Store::close`] says how it went.
///
/// ```
/// use tierce::Store;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("store");
/// let store = Store::open(&path)?;
/// let counts = store.map::<String, u64>("counts")?;
/// counts.insert("runs", &1)?;
/// assert_eq!(counts.get("runs")?, Some(1));
/// drop(counts);
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    kv: Arc<dyn Kv>,
    /// The engine behind `kv`, if it is one.
    engine: Option<Engine>,
    common: Arc<Common>,
}

/// What all handles of one store share. It holds no handle, so that the store is closed with the last of them.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// Spaces that were opened, by name.
    pub(crate) spaces: Mutex<HashMap<String, Arc<SpaceState>>>,
    pool: OnceLock<Pool>,
    storing: OnceLock<Pool>,
}

impl Common {
    /// The threads of this store.
    pub(crate) fn pool(&self) -> &Pool {
        self.pool.get_or_init(Pool::new)
    }

    /// A thread that stores what tasks have loaded. It runs no loader, so it never waits for a load: the others may all
    /// do so, for the very value that is to be stored.
    pub(crate) fn storing(&self) -> &Pool {
        self.storing.get_or_init(|| Pool::with_limits(1, Pool::QUEUE, Pool::IDLE))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.kv).finish()
    }
}

impl From<Engine> for Store {
    /// The typed face of an engine that is open already.
    fn from(engine: Engine) -> Self {
        let common = engine.attached(Common::default);
        catalog::note_entries(&engine);
        Self { kv: Arc::new(engine.clone()), engine: Some(engine), common }
    }
}

impl From<Arc<Follower>> for Store {
    /// The typed face of a reader beside a writer: the spaces that are there, every write refused
    /// ([`tierce_engine::Error::ReadOnly`]). [`Follower::refresh`] brings all that was opened through it up to date.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tierce::{Options, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("store");
    /// let writer = Store::open(&path)?.map::<String, u32>("readings")?;
    /// writer.insert("hall", &19)?;
    ///
    /// // In another process, say.
    /// let reader = Arc::new(Options::new().open_reader(&path)?);
    /// let readings = Store::from(Arc::clone(&reader)).map::<String, u32>("readings")?;
    /// assert_eq!(readings.get("hall")?, Some(19));
    /// writer.insert("hall", &20)?;
    /// reader.refresh()?;
    /// assert_eq!(readings.get("hall")?, Some(20));
    /// assert!(readings.insert("hall", &0).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn from(reader: Arc<Follower>) -> Self {
        Self { kv: Arc::new(reader), engine: None, common: Arc::default() }
    }
}

impl Store {
    /// A store that is none of the engine's.
    #[cfg(feature = "redis")]
    pub(crate) fn remote(kv: Arc<dyn Kv>, common: Arc<Common>) -> Self {
        Self { kv, engine: None, common }
    }

    /// Opens the store in `path` with default options, creating it if it is missing.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Options::new())
    }

    /// Opens the store in `path`. If this process has it open, the options of the first opening hold.
    ///
    /// ```
    /// use tierce::{Options, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open_with(dir.path().join("cache"), Options::new().max_bytes(100 << 20))?;
    /// assert!(store.engine().is_some_and(|engine| engine.usage().total == 100 << 20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        Ok(options.internal_entries(true).open(path)?.into())
    }

    /// A store in memory, gone with its last handle: for tests, and where nothing is to be kept.
    ///
    /// # Errors
    /// None that is expected.
    pub fn in_memory() -> Result<Self> {
        Self::open_with("memory", Options::new().disk(MemoryDisk::new()))
    }

    /// The engine underneath: its statistics, health, compaction, limits. `None` if the store is a remote one.
    #[must_use]
    pub const fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    pub(crate) const fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    /// That it cannot do this: it is no engine of this process.
    pub(crate) fn unsupported(&self, what: &'static str) -> Error {
        Error::Unsupported { backend: self.kv.nature(), what }
    }

    pub(crate) const fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// Store time: what expiry is measured by. It never goes back, not even over a restart.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.kv.now()
    }

    /// Every space of this store, by name.
    ///
    /// ```
    /// # let store = tierce::Store::in_memory()?;
    /// store.map::<u32, String>("a/b")?;
    /// assert_eq!(store.spaces()?[0].name, "a/b");
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's.
    pub fn spaces(&self) -> Result<Vec<SpaceInfo>> {
        catalog::list(&*self.kv)
    }

    /// What is in a space, counted now: reads the head of every entry of the store. `None` if there is no such space.
    ///
    /// # Errors
    /// The engine's.
    pub fn space_stats(&self, name: &str) -> Result<Option<SpaceStats>> {
        catalog::stats(&*self.kv, name)
    }

    /// Brings the values of a space to version `wanted`, as JSON values, and then the space to that version. All of
    /// them are tried before the first is stored: if one fails, nothing has changed. Each is stored as one write that
    /// keeps lifetime, tags and the rest; after a crash in between, call it again: it goes on where it was, and until
    /// then the space is refused to programs that know only the old version. Do it before the space is in use.
    ///
    /// Steps take `serde_json::Value`, [`Plain`](crate::migrations::Plain), or a type of yours. A value that has
    /// something in it which that type cannot hold (bytes and NaN in JSON, fields that a struct does not have) is
    /// refused with nothing changed: `Plain` holds everything. For values in MessagePack or JSON, and raw ones, which
    /// stay bytes. A space that is not there needs nothing.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use tierce::{Migrations, SpaceOptions, Store, Version, migrations::Step};
    /// # let store = Store::in_memory()?;
    /// store.map::<u32, String>("names")?.insert(&1, &"Ada Lovelace".into())?;
    ///
    /// let (old, new) = (Version::ZERO, Version::new(0, 1, 0));
    /// let split = |name: serde_json::Value| {
    ///     let (first, last) = name.as_str().and_then(|name| name.split_once(' ')).ok_or("no space in it")?;
    ///     Ok(serde_json::json!({ "first": first, "last": last }))
    /// };
    /// let mut steps = Migrations::new([Step::new(old, new, split)])?;
    /// assert_eq!(store.rehearse_migration("names", &mut steps, new)?.entries, 1);
    /// store.migrate_space("names", &mut steps, new)?;
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooNew`], nothing changed; [`Error::Migration`], nothing
    /// changed; the engine's.
    pub fn migrate_space<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        steps: &mut Migrations<T>,
        wanted: Version,
    ) -> Result<Migrated> {
        self.migrate(name, steps, wanted, false)
    }

    /// As [`Self::migrate_space`], and stores nothing.
    ///
    /// # Errors
    /// As [`Self::migrate_space`].
    pub fn rehearse_migration<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        steps: &mut Migrations<T>,
        wanted: Version,
    ) -> Result<Migrated> {
        self.migrate(name, steps, wanted, true)
    }

    fn migrate<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        steps: &mut Migrations<T>,
        wanted: Version,
        is_rehearsal: bool,
    ) -> Result<Migrated> {
        // With no lock held: a step may open other spaces. Whoever opens this one next sees what it is then.
        let Some(info) = catalog::find(&*self.kv, name)? else { return Ok(Migrated::default()) };
        migrate::migrate(&*self.kv, &info, steps, wanted, is_rehearsal)
    }

    /// Forgets the type of a space's values: the next opening sets it. For collections of a type that
    /// was moved or renamed in the program; maps and caches can name theirs with [`SpaceOptions::value_type`]. Says
    /// whether there is such a space. No value is changed.
    ///
    /// ```
    /// use tierce::Store;
    /// mod before { pub type Job = u32; }
    /// # let store = Store::in_memory()?;
    /// store.queue::<before::Job>("jobs")?.push(&7)?;
    /// assert!(store.forget_value_type("jobs")?);
    /// assert_eq!(store.queue::<i64>("jobs")?.pull()?, Some(7));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's.
    pub fn forget_value_type(&self, name: &str) -> Result<bool> {
        catalog::forget_value_type(&*self.kv, name)
    }

    /// Drops a space with all that is in it, at a cost that does not depend on how much that is; says whether there was
    /// one. Compaction gives the bytes back. Handles of the space that are still around find nothing and refuse writes.
    ///
    /// ```
    /// # let store = tierce::Store::in_memory()?;
    /// store.map::<u32, String>("old")?.insert(&1, &"x".into())?;
    /// assert!(store.drop_space("old")?);
    /// assert!(store.map::<u32, String>("old")?.is_empty()?);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// The engine's; then the space is as it was.
    pub fn drop_space(&self, name: &str) -> Result<bool> {
        let mut spaces = self.common.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let end = || catalog::end(&*self.kv, name);
        let Some(space) = spaces.get(name) else { return end() };
        let dropped = space.end_with(&*self.kv, end)?;
        spaces.remove(name);
        Ok(dropped)
    }

    /// Opens or creates a space.
    pub(crate) fn space(
        &self,
        wanted: &SpaceInfo,
        options: &SpaceOptions,
    ) -> Result<Arc<SpaceState>> {
        let mut spaces = self.common.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let info = catalog::open(&*self.kv, wanted, options)?;
        let space = match spaces.get(&info.name) {
            Some(space) if space.info == info => return Ok(Arc::clone(space)),
            // Something else was agreed. Handles that are around already stay as they were.
            Some(space) if space.info.id == info.id => space.renewed(info, &*self.kv)?,
            _ => SpaceState::new(info, &*self.kv)?,
        };
        let space = Arc::new(space);
        spaces.insert(space.info.name.clone(), Arc::clone(&space));
        Ok(space)
    }

    /// Waits until everything acknowledged so far is on the device.
    ///
    /// # Errors
    /// The engine's.
    pub fn sync(&self) -> Result<()> {
        self.kv.sync()
    }

    /// Gives this handle up; what was acknowledged is on the device then. If it is the last, the store is closed, and
    /// this says how it went. Caches, maps and so on are handles, too, and keep the store open and locked without an error
    /// here: drop them before, or ask [`Self::close_handle`].
    ///
    /// # Errors
    /// As [`Engine::close`].
    pub fn close(self) -> Result<()> {
        self.close_handle().map(drop)
    }

    /// As [`Self::close`]; returns whether the store is closed now. `false`: other handles keep it open, and locked, until
    /// the last of them is dropped.
    ///
    /// ```
    /// # let store = tierce::Store::in_memory()?;
    /// let counts = store.map::<String, u64>("counts")?;
    /// assert!(!store.clone().close_handle()?);
    /// drop(counts);
    /// assert!(store.close_handle()?);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Engine::close`].
    pub fn close_handle(self) -> Result<bool> {
        let Some(engine) = self.engine else { return self.kv.close().map(|()| true) };
        // Order: it is a handle, too, and the last one closes the store.
        drop(self.kv);
        Ok(engine.close_handle()?)
    }
}
