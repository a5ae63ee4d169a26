//! What damage took: records that a footer or their own head still tells of, and ranges of which nothing is told.

use std::{fmt, path::PathBuf};

use crate::{format::record::Kind, types::SequenceNumber};

/// What became of a key whose record was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The key is gone with it; nothing older of it is left that could show.
    Gone,
    /// An older value is left; a tombstone in the place of the lost record keeps it hidden. The key is gone.
    Hidden,
    /// It was a delete or a scope cut, and it is written again as it was. Nothing is lost.
    Restored,
    /// A newer record of the key is there: what was lost did not count any more.
    Superseded,
    /// It was a touch: the entry is there, with the expiry that it had before.
    OlderExpiry,
    /// This record can be read, but the checkpoint says that one which is gone had replaced or deleted it: it stays
    /// hidden behind a tombstone.
    Outdated,
}

impl Fate {
    /// A short, stable word for it.
    ///
    /// ```
    /// assert_eq!(tierce_engine::repair::Fate::Gone.name(), "gone");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Hidden => "hidden",
            Self::Restored => "restored",
            Self::Superseded => "superseded",
            Self::OlderExpiry => "older-expiry",
            Self::Outdated => "outdated",
        }
    }

    /// Whether something that had been stored cannot be had any more.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::Gone | Self::Hidden | Self::OlderExpiry | Self::Outdated)
    }
}

/// A record that cannot be read, and of which something is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRecord {
    /// The segment it stood in.
    pub file: PathBuf,
    /// Where it stood.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// put, delete, touch or scope-cut.
    pub kind: &'static str,
    /// Order of its write.
    pub sequence: SequenceNumber,
    /// Hash of its key, if a footer tells it.
    pub hash: Option<u64>,
    /// Its key (of a scope cut: the scope), if its own head or an older record of the key tells it.
    pub key: Option<Vec<u8>>,
    /// What it means for the key.
    pub fate: Fate,
}

/// A range of bytes of which nobody knows which records stood there. Older values of keys that were written in it
/// may show, and deletes that stood in it may be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRange {
    /// The file; it may be missing as a whole.
    pub file: PathBuf,
    /// Where the range begins.
    pub offset: u64,
    /// Its bytes, as far as the file still has them or the manifest tells.
    pub bytes: u64,
    /// How many records it held, if that is known.
    pub records: Option<u64>,
    /// The sequence numbers that are gone, from the first up to but not including the second, if that is known.
    pub sequences: Option<(SequenceNumber, SequenceNumber)>,
}

impl LostRecord {
    pub(super) fn is_version(&self) -> bool {
        [name_of(Kind::Put), name_of(Kind::Delete)].contains(&self.kind)
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.kind == name_of(kind)
    }
}

pub(super) const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Put => "put",
        Kind::Delete => "delete",
        Kind::Touch => "touch",
        Kind::ScopeCut => "scope-cut",
        Kind::Commit => "commit",
        Kind::Note => "note",
    }
}

impl fmt::Display for LostRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, bytes, kind, sequence, .. } = self;
        write!(f, "{kind} {sequence} in {} at {offset}, {bytes} bytes", file.display())?;
        match (&self.key, self.hash) {
            (Some(key), _) => write!(f, ", key {}", key.escape_ascii())?,
            (None, Some(hash)) => write!(f, ", hash of its key {hash:016x}")?,
            (None, None) => write!(f, ", key unknown")?,
        }
        let what = match self.fate {
            Fate::Gone => "it is gone",
            Fate::Hidden => "it is gone; an older value stays hidden",
            Fate::Restored => "it is written again",
            Fate::Superseded => "a newer record of the key is there",
            Fate::OlderExpiry => "the entry has the expiry it had before",
            Fate::Outdated => "a record that is gone had replaced or deleted it; it stays hidden",
        };
        write!(f, ": {what}")
    }
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, bytes, .. } = self;
        write!(f, "{bytes} bytes in {} at {offset}: ", file.display())?;
        match self.records {
            Some(records) => write!(f, "{records} records")?,
            None => write!(f, "nobody knows how many records")?,
        }
        if let Some((from, to)) = self.sequences {
            write!(f, ", sequence numbers {from} to before {to}")?;
        }
        write!(f, "; older values of keys that were written there may show")
    }
}
