//! get, contains, iterate: what a key means now. Changes nothing but counters and access epochs.
//!
//! Bytes are checked against their checksums before anyone sees them (I13).

mod changes;
mod snapshot;

use std::sync::Arc;

use crate::{
    error::Result,
    format::record::{Extension, Flags, ITEM_USER_FIRST, ITEM_USER_LAST},
    lookup::{Found, Lookup},
    options::{EntryVersion, PutOptions},
    segment::{Value, read::Depth},
    types::{SequenceNumber, Timestamp},
};

pub use changes::{Changed, Changes, Wrote};
pub(crate) use snapshot::Standing;
pub use snapshot::{Iter, Snapshot};

/// An entry with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// Order of its last change: of the put that stored it, or of a later touch; 0 while the put is only staged. A
    /// slide that is not written down leaves it: see [`Self::version`].
    pub sequence: SequenceNumber,
    /// Order of the put that stored it: touches leave it.
    pub stored: SequenceNumber,
    /// When it stops to be live, touches counted; `None` = never.
    pub expires_at: Option<Timestamp>,
    /// Whether it may be forgotten to stay under a limit.
    pub evictable: bool,
    /// How the typed layer encoded the value; 0 = raw bytes.
    pub codec: u8,
    /// Version of the value's schema; 0 = none.
    pub schema: u32,
    /// The scopes it belongs to.
    pub scopes: Vec<Vec<u8>>,
    /// The extension items that came with it.
    pub items: Vec<(u8, Vec<u8>)>,
}

impl Entry {
    /// The entry that a put with these options makes; for other stores that stand in for this one.
    ///
    /// ```
    /// use tierce_engine::{Entry, PutOptions};
    /// let entry = Entry::new(b"v".to_vec(), PutOptions::new().codec(1, 0).scope("s"));
    /// assert_eq!((entry.codec, &entry.scopes[..]), (1, &[b"s".to_vec()][..]));
    /// ```
    #[must_use]
    pub fn new(value: Vec<u8>, options: PutOptions) -> Self {
        Self {
            value: Value::owned(value),
            sequence: SequenceNumber::default(),
            stored: SequenceNumber::default(),
            expires_at: options.expires_at,
            evictable: options.evictable,
            codec: options.codec,
            schema: options.schema,
            scopes: options.scopes,
            items: options.items,
        }
    }
}

/// An entry as it stands in the store's memory, without a copy: for layers above that decode the value in place.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct View<'a> {
    /// The value.
    pub value: &'a [u8],
    /// Order of its last change: of the put that stored it, or of a later touch; 0 while the put is only staged.
    pub sequence: SequenceNumber,
    /// Order of the put that stored it: touches leave it.
    pub stored: SequenceNumber,
    /// When it stops to be live, touches counted; `None` = never.
    pub expires_at: Option<Timestamp>,
    /// Whether it may be forgotten to stay under a limit.
    pub evictable: bool,
    /// How the typed layer encoded the value; 0 = raw bytes.
    pub codec: u8,
    /// Version of the value's schema; 0 = none.
    pub schema: u32,
    /// Bytes of its record in the log; of the value alone while it is only staged.
    pub record_bytes: u64,
    extension: Option<Extension<'a>>,
    staged: Option<&'a Entry>,
}

impl<'a> View<'a> {
    pub(crate) const fn without_value(self) -> Self {
        Self { value: &[], ..self }
    }

    /// Its state as a condition for later writes: see [`EntryVersion`].
    #[must_use]
    pub const fn version(&self) -> EntryVersion {
        EntryVersion::new(self.sequence, self.expires_at)
    }

    /// The scopes it belongs to.
    pub fn scopes(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let stored = self.extension.into_iter().flat_map(|extension| extension.scopes());
        let staged = self.staged.into_iter().flat_map(|entry| &entry.scopes).map(Vec::as_slice);
        stored.chain(staged)
    }

    /// The extension items that came with it.
    pub fn items(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let stored = self.extension.into_iter().flat_map(|extension| extension.items());
        let staged = self.staged.into_iter().flat_map(|entry| &entry.items);
        stored.filter(|(kind, _)| is_users(*kind)).chain(staged.map(|(k, b)| (*k, b.as_slice())))
    }

    /// The bytes of the first extension item of this kind.
    #[must_use]
    pub fn item(&self, kind: u8) -> Option<&'a [u8]> {
        self.items().find(|(found, _)| *found == kind).map(|(_, bytes)| bytes)
    }
}

impl Entry {
    /// Its state as a condition for later writes: see [`EntryVersion`].
    #[must_use]
    pub const fn version(&self) -> EntryVersion {
        EntryVersion::new(self.sequence, self.expires_at)
    }

    /// This entry as a view.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            value: &self.value,
            sequence: self.sequence,
            stored: self.stored,
            expires_at: self.expires_at,
            evictable: self.evictable,
            codec: self.codec,
            schema: self.schema,
            record_bytes: self.value.len() as u64,
            extension: None,
            staged: Some(self),
        }
    }
}

const fn is_users(kind: u8) -> bool {
    ITEM_USER_FIRST <= kind && kind <= ITEM_USER_LAST
}

/// Reads keys of one open store.
#[derive(Debug)]
pub(crate) struct Reader {
    lookup: Arc<Lookup>,
}

impl Reader {
    pub(crate) const fn new(lookup: Arc<Lookup>) -> Self {
        Self { lookup }
    }

    /// The value of `key`, if it is there and live.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.find(key)?.map(Found::into_value))
    }

    /// The entry of `key`, if it is there and live.
    pub(crate) fn entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        self.find(key)?.map(describe).transpose()
    }

    /// Shows the entry of `key`, if it is there and live, to `look`.
    #[inline]
    pub(crate) fn view<R>(
        &self,
        key: &[u8],
        look: impl FnOnce(View<'_>) -> R,
    ) -> Result<Option<R>> {
        self.find(key)?.map(|found| found.show(look)).transpose()
    }

    /// As [`Self::view`], without the value. Counts as no use.
    pub(crate) fn peek<R>(
        &self,
        key: &[u8],
        look: impl FnOnce(View<'_>) -> R,
    ) -> Result<Option<R>> {
        let hash = self.lookup.hasher.hash(key);
        let candidates = self.lookup.index.peek(hash);
        let found = self.lookup.live(key, hash, candidates, Depth::Head)?;
        found.map(|found| found.show(|view| look(view.without_value()))).transpose()
    }

    #[inline]
    fn find(&self, key: &[u8]) -> Result<Option<Found>> {
        let hash = self.lookup.hasher.hash(key);
        let candidates = self.lookup.index.lookup(hash, self.lookup.recency.access());
        let found = self.lookup.live(key, hash, candidates, Depth::Whole)?;
        self.lookup.counters.reads.count(found.is_some());
        if let Some(found) = &found {
            self.lookup.recency.hit(found.epoch);
        }
        Ok(found)
    }

    /// Whether `key` is there and live. Reads no value, counts as no use.
    pub(crate) fn contains(&self, key: &[u8]) -> Result<bool> {
        let hash = self.lookup.hasher.hash(key);
        let candidates = self.lookup.index.peek(hash);
        Ok(self.lookup.live(key, hash, candidates, Depth::Head)?.is_some())
    }

    /// The values of many keys. Lookups come first and the records' first bytes are touched before any is
    /// checked, so that the waits for memory overlap.
    pub(crate) fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        /// Keys whose waits overlap.
        const OVERLAPPED: usize = 32;
        let lookup = &self.lookup;
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(OVERLAPPED) {
            let ask = |key: &&[u8]| {
                let hash = lookup.hasher.hash(key);
                (hash, lookup.index.lookup(hash, lookup.recency.access()))
            };
            let looked: Vec<_> = chunk.iter().map(ask).collect();
            for entry in looked.iter().flat_map(|(_, candidates)| candidates.iter()) {
                lookup.catalog.with(entry.location.slot, |segment| {
                    std::hint::black_box(segment.first_byte(entry.location.offset))
                });
            }
            for (key, (hash, candidates)) in chunk.iter().zip(looked) {
                let found = lookup.live(key, hash, candidates, Depth::Whole)?;
                lookup.counters.reads.count(found.is_some());
                if let Some(found) = &found {
                    lookup.recency.hit(found.epoch);
                }
                values.push(found.map(Found::into_value));
            }
        }
        Ok(values)
    }

    /// The state of the store at one moment. The caller holds the writer's turn, so that no write is half in.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let lookup = &self.lookup;
        Snapshot::new(
            lookup.index.snapshot(),
            lookup.catalog.table(),
            lookup.overrides.freeze(),
            lookup.hasher,
            lookup.clock.now(),
        )
    }
}

/// The whole entry of a record that was found.
fn describe(found: Found) -> Result<Entry> {
    let entry = found.show(|view| Entry {
        sequence: view.sequence,
        stored: view.stored,
        expires_at: view.expires_at,
        evictable: view.evictable,
        codec: view.codec,
        schema: view.schema,
        scopes: view.scopes().map(<[u8]>::to_vec).collect(),
        items: view.items().map(|(kind, bytes)| (kind, bytes.to_vec())).collect(),
        value: Value::owned(Vec::new()),
    })?;
    Ok(Entry { value: found.into_value(), ..entry })
}

impl Found {
    fn key(&self) -> Result<Vec<u8>> {
        let head = self.segment.head(self.record.of(&self.segment), self.location.offset)?;
        Ok(head.key.to_vec())
    }

    /// Shows its record to `look`.
    #[inline]
    fn show<R>(&self, look: impl FnOnce(View<'_>) -> R) -> Result<R> {
        let bytes = self.record.of(&self.segment);
        let head = self.segment.head(bytes, self.location.offset)?;
        let value = bytes.get(self.head_bytes..self.head_bytes + self.value_bytes);
        Ok(look(View {
            value: value.unwrap_or_default(),
            sequence: self.version,
            stored: self.sequence,
            expires_at: self.expires_at,
            evictable: head.flags.has(Flags::EVICTABLE),
            codec: head.extension.map_or(0, |extension| extension.codec),
            schema: head.extension.map_or(0, |extension| extension.schema),
            record_bytes: self.record_bytes,
            extension: head.extension,
            staged: None,
        }))
    }
}
