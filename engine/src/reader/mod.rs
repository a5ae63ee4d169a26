//! get, contains, iterate: what a key means now. Changes nothing but counters and access epochs.
//!
//! Bytes are checked against their checksums before anyone sees them (I13).

mod snapshot;

use std::sync::Arc;

use crate::{
    error::Result,
    format::record::{Flags, ITEM_USER_FIRST, ITEM_USER_LAST},
    lookup::{Found, Lookup},
    options::PutOptions,
    segment::{Value, read::Depth},
    types::{SequenceNumber, Timestamp},
};

pub use snapshot::{Iter, Snapshot};

/// An entry with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// Order of the write that stored it.
    pub sequence: SequenceNumber,
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
    /// The entry of a write that is staged.
    pub(crate) fn staged(value: Vec<u8>, options: PutOptions) -> Self {
        Self {
            value: Value::owned(value),
            sequence: SequenceNumber::default(),
            expires_at: options.expires_at,
            evictable: options.evictable,
            codec: options.codec,
            schema: options.schema,
            scopes: options.scopes,
            items: options.items,
        }
    }
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
    let segment = Arc::clone(&found.segment);
    let head = segment.head(found.record.of(&segment), found.location.offset)?;
    let users = |kind| (ITEM_USER_FIRST..=ITEM_USER_LAST).contains(&kind);
    let extension = head.extension;
    let items = extension.iter().flat_map(|extension| extension.items());
    Ok(Entry {
        sequence: found.sequence,
        expires_at: found.expires_at,
        evictable: head.flags.has(Flags::EVICTABLE),
        codec: extension.map_or(0, |extension| extension.codec),
        schema: extension.map_or(0, |extension| extension.schema),
        scopes: extension.iter().flat_map(|e| e.scopes()).map(<[u8]>::to_vec).collect(),
        items: items.filter(|(kind, _)| users(*kind)).map(|(k, b)| (k, b.to_vec())).collect(),
        value: found.into_value(),
    })
}
