//! One entry on its way, with everything that a store keeps of it.

use tierce_engine::{Entry, Options, PutOptions, Timestamp};

/// An entry that came from somewhere or goes there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// Milliseconds since 1970; `None` = never.
    pub(super) expires_at_ms: Option<u64>,
    pub(super) evictable: bool,
    pub(super) codec: u8,
    pub(super) schema: u32,
    pub(super) scopes: Vec<Vec<u8>>,
    pub(super) items: Vec<(u8, Vec<u8>)>,
}

impl Item {
    /// The longest key of a store.
    const KEY_BYTES_MAX: usize = 65_535;
    /// The longest scope, and extension item.
    const SHORT_BYTES_MAX: usize = 255;

    pub(super) fn of(key: Vec<u8>, entry: Entry) -> Self {
        Self {
            key,
            value: entry.value.to_vec(),
            expires_at_ms: entry.expires_at.map(|at| at.0),
            evictable: entry.evictable,
            codec: entry.codec,
            schema: entry.schema,
            scopes: entry.scopes,
            items: entry.items,
        }
    }

    /// What a put of it asks for, beside key and value.
    pub(super) fn put_options(&self) -> PutOptions {
        let mut options =
            PutOptions::new().evictable(self.evictable).codec(self.codec, self.schema);
        if let Some(at) = self.expires_at_ms {
            options = options.expires_at(Timestamp(at));
        }
        for scope in &self.scopes {
            options = options.scope(scope.clone());
        }
        for (kind, bytes) in &self.items {
            options = options.item(*kind, bytes.clone());
        }
        options
    }

    /// Whether it has anything that a plain pair of key and value would lose.
    pub(super) fn has_more_than_value(&self) -> bool {
        let Self { expires_at_ms, evictable, codec, schema, scopes, items, .. } = self;
        expires_at_ms.is_some()
            || *evictable
            || (*codec, *schema) != (0, 0)
            || !scopes.is_empty()
            || !items.is_empty()
    }

    /// About what it takes in a store.
    pub(super) fn bytes(&self) -> u64 {
        let scopes: usize = self.scopes.iter().map(Vec::len).sum();
        let items: usize = self.items.iter().map(|(_, bytes)| bytes.len()).sum();
        (self.key.len() + self.value.len() + scopes + items) as u64
    }

    /// What no store would take, as a sentence.
    pub(super) fn fault(&self) -> Option<String> {
        let is_short = |bytes: &Vec<u8>| bytes.len() <= Self::SHORT_BYTES_MAX;
        if self.key.len() > Self::KEY_BYTES_MAX {
            return Some(format!("a key of {} bytes is over the limit of 65535", self.key.len()));
        }
        if self.value.len() as u64 > Options::VALUE_BYTES_MAX {
            let limit = Options::VALUE_BYTES_MAX;
            return Some(format!(
                "a value of {} bytes is over the limit of {limit}",
                self.value.len()
            ));
        }
        if !self.scopes.iter().all(|scope| !scope.is_empty() && is_short(scope)) {
            return Some("a scope has 1 to 255 bytes".to_owned());
        }
        let is_item =
            |(kind, bytes): &(u8, Vec<u8>)| (0x20..=0x7f).contains(kind) && is_short(bytes);
        if !self.items.iter().all(is_item) {
            return Some("an item has a kind from 32 to 127 and at most 255 bytes".to_owned());
        }
        let more: usize = self
            .scopes
            .iter()
            .chain(self.items.iter().map(|(_, bytes)| bytes))
            .map(|b| b.len() + 2)
            .sum();
        (more > Self::KEY_BYTES_MAX)
            .then(|| format!("{more} bytes of scopes and items are over the limit of 65535"))
    }
}
