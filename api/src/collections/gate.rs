//! A collection whose every change goes through one record, its head: where it begins and ends, and what it counts.
//!
//! A change is one batch: the head, on condition that it is as it was read, and the items that come and go with it. So
//! of two changes at once one is asked again, and after a crash head and items agree.

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{PutOptions, SequenceNumber};

use super::shared::{Shared, shared};
use crate::{
    codec::{Codec as _, MsgPack},
    error::{Error, Result},
    key::KeyReader,
    kv::Edit,
    space::SpaceOptions,
    store::Store,
    sync::{Mutex, MutexGuard, PoisonError},
    typed::Typed,
};

/// The key of a record: what it is, and its number.
pub(super) type Slot = (u8, i64);
const HEAD: Slot = (0, 0);
const ITEM: u8 = 1;

/// Held by whoever changes the collection, or looks at several records of it. No code of others runs meanwhile.
#[derive(Debug, Default)]
struct Turn(Mutex<()>);
impl Shared for Turn {}

pub(super) struct Gate<T, H> {
    items: Typed<Slot, T, MsgPack>,
    heads: Typed<Slot, H, MsgPack>,
    turn: Arc<Turn>,
}

impl<T, H> Clone for Gate<T, H> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), heads: self.heads.clone(), turn: Arc::clone(&self.turn) }
    }
}

impl<T, H> fmt::Debug for Gate<T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.fmt(f)
    }
}

/// An item as it is stored, to be decoded when no lock is held.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) bytes: Vec<u8>,
    pub(super) codec: u8,
    pub(super) schema: u32,
}

/// A head, and the write that stored it.
pub(super) type Head<H> = (H, Option<SequenceNumber>);

impl<T, H> Gate<T, H>
where
    T: Serialize + DeserializeOwned,
    H: Serialize + DeserializeOwned + Default + Clone + PartialEq,
{
    pub(super) fn open(
        store: &Store,
        name: &str,
        kind: &str,
        options: &SpaceOptions,
    ) -> Result<Self> {
        let options = match options.value_type {
            Some(_) => options.clone(),
            None => options.clone().derived_type(std::any::type_name::<T>()),
        };
        let items = Typed::open(store, name, kind, &options)?;
        let heads = Typed::open(store, name, kind, &options)?;
        let turn = shared(store, &items.space().prefix, || Ok(Turn::default()))?;
        Ok(Self { items, heads, turn })
    }

    pub(super) const fn items(&self) -> &Typed<Slot, T, MsgPack> {
        &self.items
    }

    pub(super) fn key_of(&self, number: i64) -> Vec<u8> {
        self.items.key_bytes(&(ITEM, number))
    }

    /// The scope of everything, the head too.
    pub(super) fn prefix(&self) -> Vec<u8> {
        self.items.space().prefix.clone()
    }

    pub(super) fn put_options(&self) -> PutOptions {
        self.items.put_options(None)
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        self.turn.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn head(&self) -> Result<Head<H>> {
        let key = self.heads.key_bytes(&HEAD);
        let found = self.heads.look_if(&key, |_| true, |head, view| (head, Some(view.sequence)))?;
        Ok(found.unwrap_or_default())
    }

    /// Runs `look` while nobody changes the collection. It must not run code of others.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Head<H>) -> Result<R>) -> Result<R> {
        let _turn = self.hold();
        look(&self.head()?)
    }

    /// Changes the head and carries out the edits that `decide` adds, together. If another change came between,
    /// `decide` is asked again, with the head as it is then. It must not run code of others.
    pub(super) fn change<R>(
        &self,
        mut decide: impl FnMut(&mut Head<H>, &mut Vec<Edit>) -> Result<R>,
    ) -> Result<R> {
        let _turn = self.hold();
        loop {
            let mut head = self.head()?;
            let (before, sequence) = head.clone();
            let mut edits = Vec::new();
            let result = decide(&mut head, &mut edits)?;
            if edits.is_empty() && head.0 == before {
                return Ok(result);
            }
            let options = self.heads.put_options(None);
            let options = match sequence {
                Some(sequence) => options.only_if_unchanged(sequence),
                None => options.only_if_absent(),
            };
            // Order: the head comes last, behind a cut that ends everything.
            edits.push(Edit::Put(
                self.heads.key_bytes(&HEAD),
                self.heads.encode(&head.0)?,
                options,
            ));
            match self.items.commit(edits) {
                Ok(()) => return Ok(result),
                Err(Error::Engine(tierce_engine::Error::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn raw(&self, number: i64) -> Result<Option<Raw>> {
        let mut raw = None;
        self.items.kv().view(&self.key_of(number), &mut |view| {
            raw = Some(Raw { bytes: view.value.to_vec(), codec: view.codec, schema: view.schema });
        })?;
        Ok(raw)
    }

    pub(super) fn decode(&self, number: i64, raw: &Raw) -> Result<T> {
        MsgPack::decode(&raw.bytes, raw.codec, raw.schema).map_err(|source| {
            let key = self.key_of(number);
            let own = key.get(self.items.space().prefix.len()..).unwrap_or_default();
            Error::Decode {
                space: self.items.space().info.name.clone(),
                key: KeyReader::new(own).readable(),
                source,
            }
        })
    }
}
