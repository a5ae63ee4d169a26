//! What the typed layer asks of a store of bytes. The engine is one; a server beyond a network can be another.

use std::{fmt, ops::ControlFlow, sync::Arc, time::Duration};

use tierce_engine::{
    Batch, Change, Durability, Engine, Follower, PutOptions, SequenceNumber, Timestamp, View,
};

use crate::error::Result;

/// Changes what is stored of one key, given what is stored.
pub(crate) type Changer<'a> = dyn FnMut(Option<View<'_>>) -> Change + 'a;
/// Looks at one entry.
pub(crate) type Look<'a> = dyn FnMut(View<'_>) + 'a;
/// Looks at one of many entries, and says whether it wants more.
pub(crate) type Each<'a> = dyn FnMut(&[u8], View<'_>) -> ControlFlow<()> + 'a;

/// One of several changes that happen together or not at all.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Put(Vec<u8>, Vec<u8>, PutOptions),
    Delete(Vec<u8>),
    /// Ends every entry of a scope.
    Cut(Vec<u8>),
}

impl Edit {
    /// What it does to which key, or scope.
    pub(crate) fn without_value(&self) -> Self {
        match self {
            Self::Put(key, ..) => Self::Put(key.clone(), Vec::new(), PutOptions::new()),
            Self::Delete(key) => Self::Delete(key.clone()),
            Self::Cut(scope) => Self::Cut(scope.clone()),
        }
    }
}

/// A store of bytes with expiry, scopes and atomic changes. Each method means what the one of the same name of
/// [`Engine`] does.
pub(crate) trait Kv: fmt::Debug + Send + Sync {
    /// Shows the entry of `key` to `look`; `false` if there is none.
    fn view(&self, key: &[u8], look: &mut Look<'_>) -> Result<bool>;
    /// As [`Self::view`], without the value, and without counting as a use.
    fn peek(&self, key: &[u8], look: &mut Look<'_>) -> Result<bool>;
    fn contains(&self, key: &[u8]) -> Result<bool>;
    fn put(&self, key: &[u8], value: &[u8], options: &PutOptions) -> Result<SequenceNumber>;
    fn delete(&self, key: &[u8], durability: Option<Durability>) -> Result<bool>;
    fn touch(&self, key: &[u8], expires_at: Option<Timestamp>) -> Result<bool>;
    fn slide(&self, key: &[u8], lifetime: Duration) -> Result<bool>;
    fn update(&self, key: &[u8], change: &mut Changer<'_>) -> Result<Option<SequenceNumber>>;
    fn commit(&self, edits: Vec<Edit>, durability: Option<Durability>) -> Result<()>;
    /// Shows every entry whose key begins with `prefix`, as they were at one moment, in no meaningful order.
    fn scan(&self, prefix: &[u8], values: bool, each: &mut Each<'_>) -> Result<()>;
    fn sync(&self) -> Result<()>;
    fn now(&self) -> Timestamp;
    /// Closes it for every handle.
    fn close(&self) -> Result<()>;
    /// Whether others write to it without this process being told: nothing that is in it is known for sure.
    fn is_shared(&self) -> bool;
    /// What it is, with an article.
    fn nature(&self) -> &'static str;
    /// Has it reported that the entry of `key` expired, if it did and that was not noticed yet.
    fn note_expired(&self, _key: &[u8]) -> Result<()> {
        Ok(())
    }
    /// The catalog has so many records, which a limit on entries does not count.
    fn set_internal_entries(&self, _entries: u64) {}
}

impl Kv for Engine {
    fn view(&self, key: &[u8], look: &mut Look<'_>) -> Result<bool> {
        Ok(Self::view(self, key, &mut *look)?.is_some())
    }

    fn peek(&self, key: &[u8], look: &mut Look<'_>) -> Result<bool> {
        Ok(Self::peek(self, key, &mut *look)?.is_some())
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.contains_key(key)?)
    }

    fn put(&self, key: &[u8], value: &[u8], options: &PutOptions) -> Result<SequenceNumber> {
        Ok(self.put_with(key, value, options)?)
    }

    fn delete(&self, key: &[u8], durability: Option<Durability>) -> Result<bool> {
        Ok(match durability {
            Some(durability) => self.delete_with(key, durability)?,
            None => Self::delete(self, key)?,
        })
    }

    fn touch(&self, key: &[u8], expires_at: Option<Timestamp>) -> Result<bool> {
        Ok(Self::touch(self, key, expires_at)?)
    }

    fn slide(&self, key: &[u8], lifetime: Duration) -> Result<bool> {
        Ok(Self::slide(self, key, lifetime)?)
    }

    fn update(&self, key: &[u8], change: &mut Changer<'_>) -> Result<Option<SequenceNumber>> {
        Ok(Self::update(self, key, |entry| change(entry.map(tierce_engine::Entry::view)))?)
    }

    fn commit(&self, edits: Vec<Edit>, durability: Option<Durability>) -> Result<()> {
        let mut batch = Batch::new();
        if let Some(durability) = durability {
            batch.durability(durability);
        }
        for edit in edits {
            match edit {
                Edit::Put(key, value, options) => batch.put_with(key, value, options),
                Edit::Delete(key) => batch.delete(key),
                Edit::Cut(scope) => batch.cut_scope(scope),
            };
        }
        Ok(Self::commit(self, batch)?)
    }

    fn scan(&self, prefix: &[u8], values: bool, each: &mut Each<'_>) -> Result<()> {
        Ok(self.snapshot()?.scan(prefix, values, each)?)
    }

    fn sync(&self) -> Result<()> {
        Ok(Self::sync(self)?)
    }

    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    fn close(&self) -> Result<()> {
        Ok(self.clone().close()?)
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn nature(&self) -> &'static str {
        "a store"
    }

    fn note_expired(&self, key: &[u8]) -> Result<()> {
        Ok(self.expire_key(key).map(drop)?)
    }

    fn set_internal_entries(&self, entries: u64) {
        Self::set_internal_entries(self, entries);
    }
}

/// A reader beside a writer: every write is refused.
impl Kv for Arc<Follower> {
    fn view(&self, key: &[u8], look: &mut Look<'_>) -> Result<bool> {
        Ok(Follower::view(self, key, &mut *look)?.is_some())
    }

    fn peek(&self, key: &[u8], look: &mut Look<'_>) -> Result<bool> {
        Ok(Follower::peek(self, key, &mut *look)?.is_some())
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.contains_key(key)?)
    }

    fn put(&self, _: &[u8], _: &[u8], _: &PutOptions) -> Result<SequenceNumber> {
        read_only()
    }

    fn delete(&self, _: &[u8], _: Option<Durability>) -> Result<bool> {
        read_only()
    }

    fn touch(&self, _: &[u8], _: Option<Timestamp>) -> Result<bool> {
        read_only()
    }

    fn slide(&self, _: &[u8], _: Duration) -> Result<bool> {
        read_only()
    }

    fn update(&self, _: &[u8], _: &mut Changer<'_>) -> Result<Option<SequenceNumber>> {
        read_only()
    }

    fn commit(&self, _: Vec<Edit>, _: Option<Durability>) -> Result<()> {
        read_only()
    }

    fn scan(&self, prefix: &[u8], values: bool, each: &mut Each<'_>) -> Result<()> {
        Ok(self.snapshot().scan(prefix, values, each)?)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn now(&self) -> Timestamp {
        Follower::now(self)
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn nature(&self) -> &'static str {
        "a reader"
    }
}

fn read_only<T>() -> Result<T> {
    Err(tierce_engine::Error::ReadOnly.into())
}
