//! What is agreed when a space is made, kept with it, and checked when it is opened again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tierce_engine::Durability;

use crate::{
    error::{Error, Result},
    ttl::Ttl,
    version::Version,
};

/// How a space is to be. What is not said is as it is stored, or the default if the space is new.
///
/// ```
/// use std::time::Duration;
/// use tierce::SpaceOptions;
/// let options = SpaceOptions::new().ttl(Duration::from_secs(300)).ordered(true);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SpaceOptions {
    pub(crate) ttl: Option<Ttl>,
    pub(crate) evictable: Option<bool>,
    pub(crate) ordered: Option<bool>,
    pub(crate) value_type: Option<String>,
    pub(crate) durability: Option<Durability>,
    pub(crate) change: bool,
    pub(crate) version: Option<Version>,
    /// Whether `value_type` is no name that the caller gave.
    is_derived: bool,
    /// Whether this is a space of the library's own, with a reserved name.
    is_internal: bool,
}

impl SpaceOptions {
    /// Nothing said.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The lifetime of entries that are stored without one. Stored with the space. Default: for ever.
    #[must_use]
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Whether entries may be forgotten to stay under the store's limits. Stored with the space. Default: yes in a
    /// cache, no in everything else.
    #[must_use]
    pub const fn evictable(mut self, evictable: bool) -> Self {
        self.evictable = Some(evictable);
        self
    }

    /// Whether keys are also kept in order, in memory: for ranges, and for prefixes without reading every key. Costs
    /// the bytes of each key and about 40 more, and a look at every key when the space is opened. A store that other
    /// processes write to has nothing in memory, and looks and sorts each time it is asked. Keys that expired or
    /// were evicted leave the order when it is walked over, and a few at a time while new keys are stored. Stored with the space. Default: no.
    #[must_use]
    pub const fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = Some(ordered);
        self
    }

    /// Names the type of the values in a way that survives moving or renaming it in the program, or compiling it with
    /// another compiler. Default: the name Rust gives it, which is its path. Stored with the space.
    ///
    /// A space that was opened without a name takes the one that is given here, so a type that moved gets its values
    /// back by being named once. From then on the space asks for that name; another one replaces it with
    /// [`Self::change`]. Values of another type than the name promises are decoding errors.
    ///
    /// ```
    /// use tierce::{Map, SpaceOptions, Store};
    /// mod before { pub type Reading = f64; }
    /// # let store = Store::in_memory()?;
    /// store.map::<u32, before::Reading>("readings")?.insert(&1, &0.5)?;
    /// let named = SpaceOptions::new().value_type("reading");
    /// let readings: Map<u32, f64> = store.map_with("readings", &named)?;
    /// assert_eq!(readings.get(&1)?, Some(0.5));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn value_type(mut self, name: impl Into<String>) -> Self {
        self.value_type = Some(name.into());
        self.is_derived = false;
        self
    }

    /// Names the type of the values of a collection: no name that a caller chose, so it does not replace another one.
    pub(crate) fn derived_type(mut self, name: impl Into<String>) -> Self {
        self.value_type = Some(name.into());
        self.is_derived = true;
        self
    }

    /// Allows a reserved name.
    pub(crate) const fn internal(mut self) -> Self {
        self.is_internal = true;
        self
    }

    fn names_type(&self) -> bool {
        self.value_type.is_some() && !self.is_derived
    }

    /// How safe writes to this space are when they are acknowledged. Not stored. Default: as the store says.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// The version of the values that this program reads and writes. A space with newer ones is refused, and left as it
    /// is; one with older ones, too: bring it up to date with [`Store::migrate_space`](crate::Store::migrate_space)
    /// first. Stored with the space when it is made.
    #[must_use]
    pub const fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// Takes these options from now on where the space was made with others, instead of refusing. Entries that are
    /// stored keep what they were stored with.
    #[must_use]
    pub const fn change(mut self) -> Self {
        self.change = true;
        self
    }
}

/// A space as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpaceInfo {
    /// Its name.
    pub name: String,
    /// Its number; never reused.
    pub id: u32,
    /// What it is: "cache", "map", "queue", …
    pub kind: String,
    /// The kind of its keys.
    pub keys: String,
    /// The type of its values; empty after a migration, until it is opened.
    pub values: String,
    /// Whether that is a name that [`SpaceOptions::value_type`] gave.
    #[serde(default)]
    pub is_named: bool,
    /// The codec with which it was opened last.
    pub codec: u8,
    /// Lifetime in milliseconds of entries that are stored without one.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// Whether entries may be forgotten to stay under a limit.
    #[serde(default)]
    pub evictable: bool,
    /// Whether its keys are kept in order.
    #[serde(default)]
    pub ordered: bool,
    /// The version of its values, if somebody said one.
    #[serde(default)]
    pub version: Option<String>,
    /// The version to which its values are being brought; a migration was cut off if this is there.
    #[serde(default)]
    pub migrating_to: Option<String>,
}

impl SpaceInfo {
    /// What a new space would be.
    pub(crate) fn wanted(
        name: &str,
        kind: &str,
        types: (String, String),
        codec: u8,
        options: &SpaceOptions,
    ) -> Result<Self> {
        super::catalog::check_name(name, options.is_internal)?;
        let ttl = match options.ttl {
            None | Some(Ttl::Default | Ttl::Never) => None,
            Some(Ttl::For(ttl)) if !ttl.is_zero() => Some(ttl),
            Some(Ttl::For(_) | Ttl::Until(_)) => {
                let complaint = "a default lifetime is a time span that is not zero";
                return Err(complain(name, vec![complaint.to_owned()]));
            }
        };
        Ok(Self {
            name: name.to_owned(),
            id: 0,
            kind: kind.to_owned(),
            keys: types.0,
            values: options.value_type.clone().unwrap_or(types.1),
            is_named: options.names_type(),
            codec,
            ttl_ms: ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)),
            evictable: options.evictable.unwrap_or(kind == "cache"),
            ordered: options.ordered.unwrap_or(false),
            version: options.version.map(|version| version.to_string()),
            migrating_to: None,
        })
    }

    /// What it is, with an article, and whether its values may be migrated: they are the caller's, and who opens it can
    /// say which version they have.
    pub(super) fn kind_of(&self) -> (&'static str, bool) {
        let kind = match self.kind.as_str() {
            "map" => "a map",
            "cache" => "a cache",
            "counters" => "counters",
            "queue" => return ("a queue", false),
            "deque" => return ("a deque", false),
            "log" => return ("a log", false),
            "aggregates" => return ("aggregates", false),
            "sequences" => return ("sequences", false),
            _ => return ("a recipe's space", false),
        };
        if self.values == "last good value" {
            return ("last good values", false);
        }
        (kind, !self.name.starts_with(super::catalog::RESERVED))
    }

    fn has_version(&self) -> bool {
        self.kind_of().1
    }

    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.ttl_ms.map(Duration::from_millis)
    }

    fn check_type(&self, what: &'static str, stored: &str, wanted: &str) -> Result<()> {
        if stored == wanted {
            return Ok(());
        }
        let (stored, wanted) = (stored.to_owned(), wanted.to_owned());
        Err(Error::Type { space: self.name.clone(), what, stored, wanted })
    }

    /// Refuses `other` if entries of it would not be right in this space.
    pub(super) fn check_same(&self, other: &Self) -> Result<()> {
        self.check_type("a collection", &self.kind, &other.kind)?;
        self.check_type("keys", &self.keys, &other.keys)?;
        if !self.values.is_empty() && !other.values.is_empty() {
            self.check_type("values", &self.values, &other.values)?;
        }
        if (&self.version, &self.migrating_to) == (&other.version, &other.migrating_to) {
            return Ok(());
        }
        let version = |info: &Self| info.version.clone().unwrap_or_else(|| "0.0.0".to_owned());
        Err(Error::Catalog(format!(
            "the values of space `{}` have version {} here and {} in the dump: migrate one of them first",
            self.name,
            version(self),
            version(other)
        )))
    }

    /// This stored space as it is when it is opened as `wanted`.
    pub(super) fn reconcile(&self, wanted: &Self, options: &SpaceOptions) -> Result<Self> {
        self.check_type("a collection", &self.kind, &wanted.kind)?;
        self.check_type("keys", &self.keys, &wanted.keys)?;
        // A name that was given goes before a path that Rust made up, and before another name if it is to change.
        let takes_name = options.names_type() && (!self.is_named || options.change);
        if !self.values.is_empty() && !takes_name {
            self.check_type("values", &self.values, &wanted.values)?;
        }
        // Of what cannot say a version, none counts: a migration that was let happen to it does not lock it for ever.
        let versioned = self.has_version();
        if versioned {
            // A program that says no version knows of none: what was migrated is newer.
            super::migrate::check_version(self, options.version.unwrap_or(Version::ZERO))?;
        }
        let mut complaints = Vec::new();
        if versioned
            && options.version.is_some()
            && (self.version != wanted.version || self.migrating_to.is_some())
        {
            let stored = self.version.as_deref().unwrap_or("0.0.0");
            complaints.push(format!(
                "its values have version {stored}: call `Store::migrate_space` before it is opened"
            ));
        }
        let mut differs = |is_asked: bool,
                           is_same: bool,
                           what: &str,
                           stored: String,
                           asked: String| {
            if is_asked && !is_same && !options.change {
                complaints.push(format!(
                        "{what} is stored as {stored}, and {asked} is asked: `SpaceOptions::change` replaces it"
                    ));
            }
        };
        let show = |ms: Option<u64>| ms.map_or("never".to_owned(), |ms| format!("{ms} ms"));
        let asks_ttl = options.ttl.is_some_and(|ttl| ttl != Ttl::Default);
        let is_same = self.ttl_ms == wanted.ttl_ms;
        differs(asks_ttl, is_same, "the lifetime", show(self.ttl_ms), show(wanted.ttl_ms));
        for (asked, stored, wanted, what) in [
            (options.evictable, self.evictable, wanted.evictable, "whether entries are evictable"),
            (options.ordered, self.ordered, wanted.ordered, "whether keys are ordered"),
        ] {
            differs(
                asked.is_some(),
                stored == wanted,
                what,
                stored.to_string(),
                wanted.to_string(),
            );
        }
        if !complaints.is_empty() {
            return Err(complain(&self.name, complaints));
        }
        Ok(Self {
            values: wanted.values.clone(),
            is_named: self.is_named || wanted.is_named,
            version: self.version.clone().filter(|_| versioned),
            migrating_to: self.migrating_to.clone().filter(|_| versioned),
            codec: wanted.codec,
            ttl_ms: if asks_ttl { wanted.ttl_ms } else { self.ttl_ms },
            evictable: options.evictable.unwrap_or(self.evictable),
            ordered: options.ordered.unwrap_or(self.ordered),
            ..self.clone()
        })
    }
}

fn complain(name: &str, complaints: Vec<String>) -> Error {
    Error::Options { what: format!("space `{name}`"), complaints }
}

/// What is in a space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaceStats {
    /// Live entries.
    pub entries: u64,
    /// Bytes of their records in the log.
    pub bytes: u64,
    /// How many of them expire.
    pub expiring: u64,
}
