//! States in a store of the engine: one record a state, so that a save costs what that state costs.

use std::{fmt, ops::ControlFlow, sync::Arc};

use tierce_engine::{Change, Durability, Engine, Entry, PutOptions, Value as Bytes, io::Clock};

use super::{Damage, Object, OnCorrupt, StateStore, damage::Quarantine, value::check_depth};
use crate::{
    codec::{Codec, MsgPack},
    error::{BoxError, Error, Result},
    store::Store,
};

/// Keys of states begin so: keys of spaces do not begin with a zero, and the catalog of spaces has other second bytes.
const STATE: [u8; 2] = [0x00, b'S'];
/// Keys of damaged states, moved aside, begin so.
const ASIDE: [u8; 2] = [0x00, b'Q'];

/// States in a [`tierce_engine`] store, one record each, never evicted. The best for many states, large ones, or
/// frequent saves.
///
/// A save is on the device when it returns, unless [`Self::durability`] says otherwise. It reads the old record first:
/// one that is no state is moved aside before it is replaced. Names have up to 60,000 bytes.
///
/// ```
/// use serde_json::json;
/// use tierce::state::{EngineStore, StateStore};
/// use tierce::engine::{Options, io::MemoryDisk};
/// let store = EngineStore::new(Options::new().disk(MemoryDisk::new()).open("store")?);
/// store.save("sensor", json!({"count": 1}).as_object().unwrap())?;
/// assert_eq!(store.load("sensor")?.unwrap()["count"], 1);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone)]
pub struct EngineStore {
    engine: Engine,
    durability: Durability,
    quarantine: Quarantine,
}

impl fmt::Debug for EngineStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EngineStore").field(&self.engine.path()).finish()
    }
}

fn key(prefix: [u8; 2], name: &str) -> Vec<u8> {
    [&prefix[..], name.as_bytes()].concat()
}

impl EngineStore {
    /// The states of `engine`.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, durability: Durability::Sync, quarantine: Quarantine::default() }
    }

    /// The states of the engine under `store`, beside its spaces.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the store is a remote one.
    pub fn in_store(store: &Store) -> Result<Self> {
        store.engine().cloned().map(Self::new).ok_or_else(|| store.unsupported("keep states"))
    }

    /// Sets how safe a save is when it returns. Default: [`Durability::Sync`].
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets what to do with a record that is no state. Default: [`OnCorrupt::Quarantine`], to a record of its own. A
    /// record with a wrong checksum is an error of the engine either way.
    #[must_use]
    pub const fn on_corrupt(mut self, on_corrupt: OnCorrupt) -> Self {
        self.quarantine.on_corrupt = on_corrupt;
        self
    }

    /// Sets the clock that names damaged records.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.quarantine.clock = Arc::new(clock);
        self
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The bytes of damaged states that were moved aside, with the names they were told under.
    ///
    /// # Errors
    /// As [`Engine::snapshot`].
    pub fn quarantined(&self) -> Result<Vec<(String, Bytes)>> {
        let mut aside = Vec::new();
        for name in self.names_of(ASIDE)? {
            if let Some(bytes) = self.engine.get(key(ASIDE, &name))? {
                aside.push((name, bytes));
            }
        }
        Ok(aside)
    }

    fn names_of(&self, prefix: [u8; 2]) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.engine.snapshot()?.scan(&prefix, false, &mut |key, _| {
            let name = key.get(prefix.len()..).unwrap_or_default();
            names.extend(std::str::from_utf8(name).map(ToOwned::to_owned));
            ControlFlow::Continue(())
        })?;
        names.sort_unstable();
        Ok(names)
    }

    /// Moves a record that is no state to a place of its own, if it may be moved and is still the one that was judged.
    fn set_aside(&self, name: &str, bytes: &[u8], codec: u8, error: BoxError) -> Result<()> {
        let reason = error.to_string();
        self.quarantine.allow(name, error)?;
        let kept = self.quarantine.free_name(&self.quarantine.stamp(), |suffix| {
            let kept = format!("{name}.{suffix}");
            let options = PutOptions::new().codec(codec, 0).durability(Durability::Sync);
            // Order: the copy is there before the record goes.
            let copied = self.engine.update(key(ASIDE, &kept), |taken| match taken {
                None => Change::Put(bytes.to_vec(), options.clone()),
                Some(_) => Change::Keep,
            })?;
            Ok(copied.map(|_| kept))
        })?;
        let is_judged = |old: &Entry| old.value[..] == *bytes && old.codec == codec;
        let removed = self.engine.update(key(STATE, name), |old| match old {
            Some(old) if is_judged(old) => Change::Delete,
            // Another save took its place, and kept what it found.
            _ => Change::Keep,
        })?;
        if removed.is_none() {
            self.engine.delete_with(key(ASIDE, &kept), self.durability)?;
            return Ok(());
        }
        self.engine.sync()?;
        self.quarantine.tell(Damage {
            what: format!("the record of state `{name}`"),
            name: Some(name.to_owned()),
            kept: Some(kept),
            reason,
        });
        Ok(())
    }
}

/// What a record holds. The error shows no content.
fn decode(bytes: &[u8], codec: u8) -> Result<Object, BoxError> {
    MsgPack::decode(bytes, codec, 0).map_err(|_| match codec {
        1 | 2 => format!("its {} bytes hold no object", bytes.len()).into(),
        other => format!("it was written with codec {other}").into(),
    })
}

impl StateStore for EngineStore {
    fn load(&self, name: &str) -> Result<Option<Object>> {
        loop {
            let Some(entry) = self.engine.entry(key(STATE, name))? else { return Ok(None) };
            let error = match decode(&entry.value, entry.codec) {
                Ok(object) => return Ok(Some(object)),
                Err(error) => error,
            };
            // Again: if it was replaced meanwhile, there is a state.
            self.set_aside(name, &entry.value, entry.codec, error)?;
        }
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        check_depth(name, object)?;
        let mut bytes = Vec::new();
        MsgPack::encode(object, &mut bytes)
            .map_err(|source| Error::Encode { space: name.to_owned(), source })?;
        let codec = <MsgPack as Codec<Object>>::ID;
        let options = PutOptions::new().codec(codec, 0).durability(self.durability);
        loop {
            let mut damaged = None;
            self.engine.update(key(STATE, name), |old| {
                damaged = None;
                let Some(old) = old else { return Change::Put(bytes.clone(), options.clone()) };
                match decode(&old.value, old.codec) {
                    Ok(_) => Change::Put(bytes.clone(), options.clone()),
                    // Order: it is moved aside before anything takes its place.
                    Err(error) => {
                        damaged = Some((old.value.to_vec(), old.codec, error));
                        Change::Keep
                    }
                }
            })?;
            let Some((bytes, codec, error)) = damaged else { return Ok(()) };
            self.set_aside(name, &bytes, codec, error)?;
        }
    }

    fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.engine.delete_with(key(STATE, name), self.durability)?)
    }

    fn names(&self) -> Result<Vec<String>> {
        self.names_of(STATE)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.engine.sync()?)
    }

    fn take_damage(&self) -> Vec<Damage> {
        self.quarantine.take()
    }
}
