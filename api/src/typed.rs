//! Keys and values of one space as types: what caches, maps and all collections are made of.

use std::{cell::RefCell, marker::PhantomData, ops::ControlFlow, sync::Arc, time::Duration};

use tierce_engine::{Change, Durability, PutOptions, Timestamp, View};

use crate::{
    codec::Codec,
    error::{BoxError, Error, Result},
    key::{self, Key, KeyReader, KeyWriter, Lookup, OwnedKey},
    kv::{Edit, Kv},
    space::{SpaceInfo, SpaceOptions, SpaceState, Writing},
    store::Store,
};

/// A space whose keys are `K`, and whose values are `V` in the form of `C`.
pub(crate) struct Typed<K, V, C> {
    store: Store,
    space: Arc<SpaceState>,
    durability: Option<Durability>,
    types: PhantomData<Types<K, V, C>>,
}

/// It makes all three, and owns none.
type Types<K, V, C> = fn() -> (K, V, C);
/// Says what to put in the place of what it is shown, if anything.
type Decide<'a> = dyn FnMut(Option<View<'_>>) -> Option<(Vec<u8>, PutOptions)> + 'a;

/// Says what becomes of what it is shown.
type Raw<'a, V> = dyn FnMut(Option<View<'_>>) -> Result<Outcome<V>> + 'a;
/// As [`Raw`], of what was decoded.
type Decoded<'a, V> = dyn FnMut(Option<(V, View<'_>)>) -> Result<Outcome<V>> + 'a;

impl<K, V, C> Clone for Typed<K, V, C> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            space: Arc::clone(&self.space),
            durability: self.durability,
            types: PhantomData,
        }
    }
}

impl<K, V, C> std::fmt::Debug for Typed<K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.space.info.name)
    }
}

/// What an update wants.
#[derive(Debug)]
pub(crate) enum Outcome<V> {
    Keep,
    Remove,
    Put(V, PutOptions),
}

thread_local! {
    /// This thread's buffer for the bytes of a key, so that a read allocates nothing.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The keys that this thread is updating, each with its store: a write to one of them from within would be seen as
    /// one that came between, for ever.
    static UPDATES: RefCell<Vec<(usize, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// On record as long as what changes a key runs on this thread.
struct Updating;

impl Drop for Updating {
    fn drop(&mut self) {
        UPDATES.with_borrow_mut(|updates| {
            updates.pop();
        });
    }
}

/// Says of a key that is too long that its bytes are not those that the caller has.
fn tell_key(error: Error) -> Error {
    match error {
        Error::Engine(tierce_engine::Error::TooLarge { what: "key", bytes, limit }) => {
            let what = "encoded key (two bytes for each zero, and some that separate its parts)";
            tierce_engine::Error::TooLarge { what, bytes, limit }.into()
        }
        other => other,
    }
}

impl<K: OwnedKey, V, C: Codec<V>> Typed<K, V, C> {
    pub(crate) fn open(
        store: &Store,
        name: &str,
        kind: &str,
        options: &SpaceOptions,
    ) -> Result<Self> {
        let types = (K::kind(), std::any::type_name::<V>().to_owned());
        let wanted = SpaceInfo::wanted(name, kind, types, C::ID, options)?;
        Ok(Self {
            space: store.space(&wanted, options)?,
            store: store.clone(),
            durability: options.durability,
            types: PhantomData,
        })
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn kv(&self) -> &dyn Kv {
        &**self.store.kv()
    }

    pub(crate) fn space(&self) -> &SpaceState {
        &self.space
    }

    /// Runs `with` with the bytes of `key`.
    pub(crate) fn with_key<Q, R>(&self, key: &Q, with: impl FnOnce(&[u8]) -> R) -> R
    where
        Q: Lookup<K> + ?Sized,
    {
        let mut bytes = KEY.take();
        bytes.clear();
        bytes.extend_from_slice(&self.space.prefix);
        key.write(&mut KeyWriter::new(&mut bytes));
        let result = with(&bytes);
        KEY.set(bytes);
        result
    }

    /// The bytes of `key`, kept.
    pub(crate) fn key_bytes<Q: Key + ?Sized>(&self, key: &Q) -> Vec<u8> {
        let mut bytes = self.space.prefix.clone();
        key.write(&mut KeyWriter::new(&mut bytes));
        bytes
    }

    /// The key of some bytes that begin with the space's prefix.
    pub(crate) fn key_of(&self, bytes: &[u8]) -> Result<K> {
        let own = bytes.get(self.space.prefix.len()..).unwrap_or_default();
        key::decode(own).ok_or_else(|| self.undecodable(bytes, "the key is of another type".into()))
    }

    /// The value of a record.
    pub(crate) fn value_of(&self, key: &[u8], view: &View<'_>) -> Result<V> {
        C::decode(view.value, view.codec, view.schema)
            .map_err(|source| self.undecodable(key, source))
    }

    fn undecodable(&self, key: &[u8], source: BoxError) -> Error {
        let own = key.get(self.space.prefix.len()..).unwrap_or_default();
        Error::Decode {
            space: self.space.info.name.clone(),
            key: KeyReader::new(own).readable(),
            source,
        }
    }

    pub(crate) fn encode(&self, value: &V) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        C::encode(value, &mut bytes)
            .map_err(|source| Error::Encode { space: self.space.info.name.clone(), source })?;
        Ok(bytes)
    }

    /// The options that every entry of this space is put with, and an expiry.
    pub(crate) fn put_options(&self, expires_at: Option<Timestamp>) -> PutOptions {
        let options = PutOptions::new()
            .codec(C::ID, C::SCHEMA)
            .evictable(self.space.info.evictable)
            .scope(self.space.prefix.as_slice());
        let options = expires_at.into_iter().fold(options, PutOptions::expires_at);
        self.durability.into_iter().fold(options, PutOptions::durability)
    }

    pub(crate) fn get_at(&self, key: &[u8]) -> Result<Option<V>> {
        self.look_if(key, |_| true, |value, _| value)
    }

    /// Shows the value of `key` with what is known of it to `look`, if `is_value` says that there is one.
    #[inline]
    pub(crate) fn look_if<R>(
        &self,
        key: &[u8],
        is_value: impl Fn(&View<'_>) -> bool,
        look: impl FnOnce(V, View<'_>) -> R,
    ) -> Result<Option<R>> {
        let (mut look, mut seen) = (Some(look), None);
        self.kv().view(key, &mut |view| {
            if is_value(&view)
                && let Some(look) = look.take()
            {
                seen = Some(self.value_of(key, &view).map(|value| look(value, view)));
            }
        })?;
        seen.transpose()
    }

    fn writing(&self) -> Result<Writing<'_>> {
        self.space.writing(self.kv())
    }

    /// As [`Self::writing`], for one key.
    fn writing_key(&self, key: &[u8]) -> Result<Writing<'_>> {
        self.refuse_recursion(key)?;
        self.writing()
    }

    /// What tells this store from others of the process.
    fn identity(&self) -> usize {
        std::ptr::from_ref(&**self.store.common()).addr()
    }

    fn refuse_recursion(&self, key: &[u8]) -> Result<()> {
        let is_updated = UPDATES.with_borrow(|updates| {
            updates.iter().any(|(store, updated)| updated == key && *store == self.identity())
        });
        match is_updated {
            true => Err(Error::UpdateRecursion { space: self.space.info.name.clone() }),
            false => Ok(()),
        }
    }

    fn updating(&self, key: &[u8]) -> Updating {
        UPDATES.with_borrow_mut(|updates| updates.push((self.identity(), key.to_vec())));
        Updating
    }

    pub(crate) fn put_at(&self, key: &[u8], value: &V, options: &PutOptions) -> Result<()> {
        self.put_raw(key, &self.encode(value)?, options)
    }

    /// As [`Self::put_at`], with bytes in the place of a value.
    pub(crate) fn put_raw(&self, key: &[u8], bytes: &[u8], options: &PutOptions) -> Result<()> {
        let _writing = self.writing_key(key)?;
        self.kv().put(key, bytes, options).map_err(tell_key)?;
        self.space.note_stored(self.kv(), [key]);
        Ok(())
    }

    /// Puts what `decide` says in the place of what it is shown, if it says something, atomically; says whether it did.
    pub(crate) fn put_over(&self, key: &[u8], decide: &mut Decide<'_>) -> Result<bool> {
        let _writing = self.writing_key(key)?;
        let updating = self.updating(key);
        let put = self.kv().update(key, &mut |view| match decide(view) {
            Some((bytes, options)) => Change::Put(bytes, options),
            None => Change::Keep,
        });
        drop(updating);
        let put = put.map_err(tell_key)?;
        if put.is_some() {
            self.space.note_stored(self.kv(), [key]);
        }
        Ok(put.is_some())
    }

    /// Deletes `key` if `is_it` says so of what is there; says whether it did. `is_it` is asked again if another change
    /// comes between.
    pub(crate) fn delete_if_at(
        &self,
        key: &[u8],
        is_it: &mut dyn FnMut(&View<'_>) -> bool,
    ) -> Result<bool> {
        let _writing = self.writing_key(key)?;
        let deleted = self.kv().update(key, &mut |view| match view {
            Some(view) if is_it(&view) => Change::Delete,
            _ => Change::Keep,
        })?;
        self.space.note_gone(self.kv(), [key])?;
        Ok(deleted.is_some())
    }

    pub(crate) fn delete_at(&self, key: &[u8]) -> Result<bool> {
        let _writing = self.writing_key(key)?;
        let deleted = self.kv().delete(key, self.durability)?;
        self.space.note_gone(self.kv(), [key])?;
        Ok(deleted)
    }

    pub(crate) fn touch_at(&self, key: &[u8], expires_at: Option<Timestamp>) -> Result<bool> {
        let _writing = self.writing_key(key)?;
        self.kv().touch(key, expires_at)
    }

    pub(crate) fn slide_at(&self, key: &[u8], lifetime: Duration) -> Result<bool> {
        let _writing = self.writing_key(key)?;
        self.kv().slide(key, lifetime)
    }

    /// Changes what is stored of `key`, atomically: `change` is asked again if another write came between. An error of
    /// it, or of its value's codec, changes nothing. Returns what was put, if something was.
    pub(crate) fn update_at(&self, key: &[u8], change: &mut Decoded<'_, V>) -> Result<Option<V>> {
        self.update_raw_at(key, &mut |view| {
            let old = view.map(|view| self.value_of(key, &view).map(|value| (value, view)));
            old.transpose().and_then(&mut *change)
        })
    }

    /// As [`Self::update_at`], and leaves it to `change` to decode what is stored.
    pub(crate) fn update_raw_at(&self, key: &[u8], change: &mut Raw<'_, V>) -> Result<Option<V>> {
        let _writing = self.writing_key(key)?;
        let (mut failed, mut put) = (None, None);
        let updating = self.updating(key);
        let changed = self.kv().update(key, &mut |view| {
            put = None;
            let outcome = change(view).and_then(|outcome| match outcome {
                Outcome::Put(value, options) => {
                    let bytes = self.encode(&value)?;
                    put = Some(value);
                    Ok(Change::Put(bytes, options))
                }
                Outcome::Remove => Ok(Change::Delete),
                Outcome::Keep => Ok(Change::Keep),
            });
            outcome.unwrap_or_else(|error| {
                failed = Some(error);
                Change::Keep
            })
        });
        drop(updating);
        let changed = changed.map_err(tell_key)?;
        if let Some(error) = failed {
            return Err(error);
        }
        match (&put, changed) {
            (Some(_), _) => self.space.note_stored(self.kv(), [key]),
            (None, Some(_)) => self.space.note_gone(self.kv(), [key])?,
            (None, None) => {}
        }
        Ok(put)
    }

    /// Several changes that happen together or not at all.
    pub(crate) fn commit(&self, edits: Vec<Edit>) -> Result<()> {
        for edit in &edits {
            if let Edit::Put(key, ..) | Edit::Delete(key) = edit {
                self.refuse_recursion(key)?;
            }
        }
        let _writing = self.writing()?;
        // Order: what it wrote is noted if somebody began to keep the order before it was written.
        let keys = edits.iter().map(Edit::without_value).collect::<Vec<_>>();
        self.kv().commit(edits, self.durability)?;
        if !self.space.keeps_order() {
            return Ok(());
        }
        for edit in &keys {
            match edit {
                Edit::Put(key, ..) => self.space.note_stored(self.kv(), [key.as_slice()]),
                Edit::Delete(key) => self.space.note_gone(self.kv(), [key.as_slice()])?,
                Edit::Cut(_) => self.space.note_all_gone(self.kv()),
            }
        }
        Ok(())
    }

    /// Ends every entry of a scope of this space: its prefix, or what begins with it.
    pub(crate) fn cut(&self, scope: &[u8]) -> Result<()> {
        let _writing = self.writing()?;
        self.kv().commit(vec![Edit::Cut(scope.to_vec())], self.durability)?;
        self.space.note_all_gone(self.kv());
        Ok(())
    }

    /// Shows every entry whose key's bytes begin with `prefix`, which begins with the space's own. In the order of keys
    /// if the space is ordered.
    pub(crate) fn scan_at(
        &self,
        prefix: &[u8],
        values: bool,
        each: &mut dyn FnMut(&[u8], View<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let keys = self.space.with_order(self.kv(), prefix, |order| {
            let from = order.range(prefix.to_vec()..);
            from.take_while(|key| key.starts_with(prefix)).cloned().collect::<Vec<_>>()
        })?;
        match keys {
            Some(keys) => self.visit(&keys, values, each),
            None => self.kv().scan(prefix, values, each),
        }
    }

    /// Shows the entries of these keys that are there; without values it counts as no use of them. What expired or was
    /// evicted leaves the order here.
    pub(crate) fn visit(
        &self,
        keys: &[Vec<u8>],
        values: bool,
        each: &mut dyn FnMut(&[u8], View<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut gone = Vec::new();
        for key in keys {
            let mut flow = ControlFlow::Continue(());
            let look = &mut |view: View<'_>| flow = each(key, view);
            let is_there = match values {
                true => self.kv().view(key, look)?,
                false => self.kv().peek(key, look)?,
            };
            if !is_there {
                gone.push(key.as_slice());
            }
            if flow.is_break() {
                break;
            }
        }
        self.space.note_gone(self.kv(), gone)
    }
}
