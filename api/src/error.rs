//! What can go wrong in the typed layer: the engine's errors, and what types add to them.

use std::{fmt, io, path::PathBuf, sync::Arc};

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of somebody else's code: a codec, a loader, a handler.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong. Each variant says what the caller can do. No variant shows a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused or failed; see there.
    #[error(transparent)]
    Engine(#[from] tierce_engine::Error),
    /// The value could not be turned into bytes. Nothing was written.
    #[error("a value for space `{space}` cannot be encoded: {source}")]
    Encode {
        /// The space.
        space: String,
        /// What the codec says.
        source: BoxError,
    },
    /// Stored bytes could not be turned into a value: the type changed, or another program wrote them. They are kept.
    #[error("the value of {key} in space `{space}` cannot be decoded: {source}")]
    Decode {
        /// The space.
        space: String,
        /// The key, readable.
        key: String,
        /// What the codec says.
        source: BoxError,
    },
    /// The space holds values or keys of another type. Open it with that type, or use another space.
    #[error("space `{space}` holds {what} of type `{stored}`, not `{wanted}`{}", way_out(what))]
    Type {
        /// The space.
        space: String,
        /// "keys" or "values".
        what: &'static str,
        /// The type it was created with.
        stored: String,
        /// The type it was opened with.
        wanted: String,
    },
    /// A newer version of the program wrote this. It is untouched: use that version.
    #[error("{what} has version {found}, and the newest known here is {known}")]
    TooNew {
        /// What has the version.
        what: String,
        /// The version found.
        found: String,
        /// The newest known.
        known: String,
    },
    /// Too heavy for the limit of a cache. Nothing was stored or removed for it: raise the limit, or unpin entries.
    #[error(
        "{weight} has no room in cache `{space}`: its limit is {limit}, and {pinned} is pinned"
    )]
    Overweight {
        /// The space.
        space: String,
        /// What the value weighs.
        weight: u64,
        /// What the entries weigh that must stay.
        pinned: u64,
        /// The limit.
        limit: u64,
    },
    /// A migration step failed. What it was to change is as it was before.
    #[error("the migration of {what} from {from} to {to} failed: {source}")]
    Migration {
        /// What was to be migrated.
        what: String,
        /// The version before the step.
        from: String,
        /// The version after it.
        to: String,
        /// The step's own error.
        source: BoxError,
    },
    /// A name of a space, queue or state is empty, too long or reserved.
    #[error("the name `{name}` cannot be used: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// Options that contradict each other, or those stored with a space; each complaint is a sentence.
    #[error("{what}: {}", complaints.join("; "))]
    Options {
        /// Whose options.
        what: String,
        /// All complaints at once.
        complaints: Vec<String>,
    },
    /// What is stored under the name is of another kind: a counter, a queue, a document. It is untouched.
    #[error("the stored value is {found}, not {wanted}")]
    Kind {
        /// What is stored.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The records of spaces, in the store or in a dump that is loaded, contradict each other. Nothing was changed.
    #[error("the catalog of spaces: {0}")]
    Catalog(String),
    /// A number would leave its range. It is unchanged.
    #[error("{what} would overflow")]
    Overflow {
        /// Which number.
        what: String,
    },
    /// The loader failed. Nothing was stored; the next caller tries again.
    #[error("the loader failed: {0}")]
    Loader(Shared),
    /// The loader panicked. Nothing was stored; the next caller tries again.
    #[error("the loader panicked: {0}")]
    LoaderPanicked(String),
    /// A loader asked for the very key it is loading, or loaders, or fetches of coordinators, wait for each other in a
    /// circle.
    #[error("a loader asked for the key that it is loading")]
    LoaderRecursion,
    /// What is called to change an entry writes that entry itself: it would be called for ever. Return the new value
    /// instead. The inner write was not carried out.
    #[error(
        "an update of space `{space}` writes the key that it updates: return the new value instead"
    )]
    UpdateRecursion {
        /// The space.
        space: String,
    },
    /// It did not happen in time.
    #[error("{what} took longer than {ms} ms")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The patience in milliseconds.
        ms: u64,
    },
    /// A file outside the store could not be read or written.
    #[error("cannot {operation} {}: {source}", file.display())]
    Io {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// The system's own word.
        source: io::Error,
    },
    /// A file outside the store is damaged. It was not overwritten.
    #[error("{} is damaged: {reason}{}", file.display(), kept(quarantined.as_deref()))]
    CorruptFile {
        /// The file.
        file: PathBuf,
        /// Where it was moved to, if it was.
        quarantined: Option<PathBuf>,
        /// What is wrong with it.
        reason: String,
    },
    /// Files are not those that the backup was made of. Nothing was changed: restore the backup again, or another one.
    #[error("the backup in {} cannot be used: {}", directory.display(), backup_faults(missing, damaged))]
    Backup {
        /// The directory.
        directory: PathBuf,
        /// Files that are not there, relative to it.
        missing: Vec<String>,
        /// Files with other bytes than they had, relative to it.
        damaged: Vec<String>,
    },
    /// Another kind of store, beyond a network or in a foreign file, failed. Nothing is silently lost: try again.
    #[error("{backend} failed to {operation}: {source}")]
    Backend {
        /// Which one: "redis", "sqlite".
        backend: &'static str,
        /// What was being done, as a verb.
        operation: &'static str,
        /// Its own word.
        source: BoxError,
    },
    /// This is not possible with this kind of store.
    #[error("{backend} cannot {what}")]
    Unsupported {
        /// Which one.
        backend: &'static str,
        /// What was asked.
        what: &'static str,
    },
    /// It was shut down.
    #[error("{0} is shut down")]
    Closed(&'static str),
    /// The lease, or the message, is somebody else's by now.
    #[error("{what} is not held any more")]
    NotHeld {
        /// Which one.
        what: String,
    },
}

fn way_out(what: &str) -> &'static str {
    match what {
        "values" => "; if the type only moved, name it with `SpaceOptions::value_type`",
        _ => "",
    }
}

fn kept(quarantined: Option<&std::path::Path>) -> String {
    quarantined.map_or_else(String::new, |path| format!("; it was moved to {}", path.display()))
}

fn backup_faults(missing: &[String], damaged: &[String]) -> String {
    let list = |what, files: &[String]| {
        let (first, rest) = files.split_at(files.len().min(3));
        let more =
            if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let first = first.join(", ");
        if files.is_empty() { None } else { Some(format!("{what}: {first}{more}")) }
    };
    let lists = [list("missing", missing), list("damaged", damaged)];
    lists.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// An error that several waiters share.
#[derive(Clone, Debug)]
pub struct Shared(Arc<BoxError>);

impl Shared {
    /// Makes `error` shareable.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(Arc::new(error.into()))
    }

    /// The error itself.
    #[must_use]
    pub fn get(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &**self.0
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Error {
    pub(crate) fn io(operation: &'static str, file: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { operation, file: file.into(), source }
    }

    /// A short, stable word for the kind of error.
    ///
    /// ```
    /// assert_eq!(tierce::Error::LoaderRecursion.kind(), "loader");
    /// ```
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Encode { .. } => "encode",
            Self::Decode { .. } => "decode",
            Self::Type { .. } | Self::Kind { .. } => "type",
            Self::TooNew { .. } => "too-new",
            Self::Migration { .. } => "migration",
            Self::Name { .. } => "name",
            Self::Options { .. } => "options",
            Self::Catalog(_) => "catalog",
            Self::Overflow { .. } => "overflow",
            Self::UpdateRecursion { .. } => "recursion",
            Self::Loader(_) | Self::LoaderPanicked(_) | Self::LoaderRecursion => "loader",
            Self::Timeout { .. } => "timeout",
            Self::Overweight { .. } => "overweight",
            Self::Io { .. } => "io",
            Self::CorruptFile { .. } => "corrupt-file",
            Self::Backup { .. } => "backup",
            Self::Backend { .. } => "backend",
            Self::Unsupported { .. } => "unsupported",
            Self::Closed(_) => "closed",
            Self::NotHeld { .. } => "not-held",
        }
    }
}
