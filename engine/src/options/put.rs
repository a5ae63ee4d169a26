//! Options of one put, and the conditions of conditional writes.

use super::Durability;
use crate::{
    error::{Error, Result},
    format::record::{ITEM_USER_FIRST, ITEM_USER_LAST, KEY_BYTES_MAX},
    types::{SequenceNumber, Timestamp},
};

/// A condition that a write is refused without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// None: the write wins.
    #[default]
    Always,
    /// The key is absent (an expired entry counts as absent).
    Absent,
    /// The entry is still the one that was read.
    Unchanged(EntryVersion),
}

/// The state of an entry at one moment, to be compared with a later one: everything that a reader can have judged by,
/// its expiry included.
///
/// From an entry (`Entry::version`, `View::version`) it covers every change. From a bare [`SequenceNumber`] it covers
/// puts and touches, but not a slide (`Engine::slide`) that was not written down: such a slide takes no number.
/// An entry that is only staged ([`Durability::Periodic`]) has no number so far: a write under the condition that it is
/// unchanged is refused, and brings it into the log, so that the version of the next read can be used.
///
/// ```
/// use tierce_engine::{Error, Options, PutOptions, io::MemoryDisk};
/// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
/// engine.put("lease", "mine")?;
/// let read = engine.entry("lease")?.expect("it is there").version();
/// engine.touch("lease", Some(engine.now().saturating_add_ms(60_000)))?;
/// let late = engine.put_with("lease", "other", &PutOptions::new().only_if_unchanged(read));
/// assert!(matches!(late, Err(Error::Conflict { .. })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryVersion {
    sequence: SequenceNumber,
    /// The expiry in force, if it was part of what was read.
    expires_at: Option<Option<Timestamp>>,
}

impl EntryVersion {
    pub(crate) const fn new(sequence: SequenceNumber, expires_at: Option<Timestamp>) -> Self {
        Self { sequence, expires_at: Some(expires_at) }
    }

    /// The number of the entry's last change: of its put, or of a touch that came later.
    #[must_use]
    pub const fn sequence(self) -> SequenceNumber {
        self.sequence
    }

    /// The expiry in force (`None` = never), if it was part of what was read.
    #[must_use]
    pub const fn expires_at(self) -> Option<Option<Timestamp>> {
        self.expires_at
    }

    /// Whether an entry that has this now is unchanged.
    pub(crate) fn is(self, sequence: SequenceNumber, expires_at: Option<Timestamp>) -> bool {
        self.sequence == sequence && self.expires_at.is_none_or(|read| read == expires_at)
    }
}

impl From<SequenceNumber> for EntryVersion {
    fn from(sequence: SequenceNumber) -> Self {
        Self { sequence, expires_at: None }
    }
}

/// What goes with one put. The default is a plain put: it clears the expiry and the scopes of the old entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) evictable: bool,
    pub(crate) scopes: Vec<Vec<u8>>,
    pub(crate) codec: u8,
    pub(crate) schema: u32,
    pub(crate) items: Vec<(u8, Vec<u8>)>,
    pub(crate) durability: Option<Durability>,
    pub(crate) condition: Condition,
}

impl PutOptions {
    /// A plain put.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry is live before this moment of store time and gone from it on. In the past: gone at once.
    #[must_use]
    pub const fn expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// The entry may be forgotten to stay under a limit. Default: never.
    #[must_use]
    pub const fn evictable(mut self, evictable: bool) -> Self {
        self.evictable = evictable;
        self
    }

    /// Adds a scope, 1 to 255 bytes: `Engine::cut_scope` with the same name ends this entry.
    #[must_use]
    pub fn scope(mut self, name: impl Into<Vec<u8>>) -> Self {
        self.scopes.push(name.into());
        self
    }

    /// How the value is encoded (0 = raw bytes) and the version of its schema (0 = none).
    #[must_use]
    pub const fn codec(mut self, codec: u8, schema: u32) -> Self {
        self.codec = codec;
        self.schema = schema;
        self
    }

    /// Adds an extension item: a kind from 0x20 to 0x7f and up to 255 bytes, kept with the entry.
    #[must_use]
    pub fn item(mut self, kind: u8, bytes: impl Into<Vec<u8>>) -> Self {
        self.items.push((kind, bytes.into()));
        self
    }

    /// Overrides the store's durability for this write.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// What must hold for the write to happen.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        self.condition
    }

    /// Refuses the write with [`Error::Conflict`] if the key is there.
    #[must_use]
    pub const fn only_if_absent(mut self) -> Self {
        self.condition = Condition::Absent;
        self
    }

    /// Refuses the write with [`Error::Conflict`] if the entry was changed since it was read: put again, deleted, or
    /// given another expiry. A bare sequence number of an entry will do, but for slides: see [`EntryVersion`].
    #[must_use]
    pub fn only_if_unchanged(mut self, version: impl Into<EntryVersion>) -> Self {
        self.condition = Condition::Unchanged(version.into());
        self
    }

    /// Bytes of scopes and items in a record.
    pub(crate) fn bytes(&self) -> usize {
        let scopes = self.scopes.iter().map(Vec::len);
        scopes.chain(self.items.iter().map(|item| item.1.len())).map(|length| length + 2).sum()
    }

    /// Checks the limits of everything but key and value.
    pub(crate) fn validate(&self) -> Result<()> {
        let too_large =
            |what, bytes: usize, limit| Err(Error::TooLarge { what, bytes: bytes as u64, limit });
        for scope in &self.scopes {
            if scope.is_empty() {
                let complaints = vec!["a scope name is empty".to_owned()];
                return Err(Error::InvalidOptions { complaints });
            }
            if scope.len() > 255 {
                return too_large("scope name", scope.len(), 255);
            }
        }
        for (kind, bytes) in &self.items {
            if !(ITEM_USER_FIRST..=ITEM_USER_LAST).contains(kind) {
                let complaints = vec![format!("item kind {kind:#04x} is not 0x20 to 0x7f")];
                return Err(Error::InvalidOptions { complaints });
            }
            if bytes.len() > 255 {
                return too_large("extension item", bytes.len(), 255);
            }
        }
        let total = self.bytes();
        if total as u64 > KEY_BYTES_MAX {
            return too_large("extension", total, KEY_BYTES_MAX);
        }
        Ok(())
    }
}
