//! Settings from files, from the environment and from code, each with the place it comes from.
//!
//! A source is read as names and raw values; one place knows which names there are and what their values mean. All
//! complaints about a source are told at once, and none shows a value.

mod env;
mod raw;
mod table;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use tierce_engine::{Durability, Evict, Options};

use crate::{Error, Result, SpaceOptions, Store, Ttl, ops};

pub use table::Table;

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The program's code.
    Code,
    /// TOML: a file, or a text if there is none, and the key in it.
    Toml {
        /// The file.
        file: Option<PathBuf>,
        /// The key, with its table.
        key: String,
    },
    /// An environment variable.
    Variable(String),
    /// A line of a file of variables.
    VariableFile {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The variable.
        variable: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "the default"),
            Self::Code => write!(f, "the code"),
            Self::Toml { file: Some(file), key } => write!(f, "`{key}` in {}", file.display()),
            Self::Toml { file: None, key } => write!(f, "`{key}`"),
            Self::Variable(name) => write!(f, "{name}"),
            Self::VariableFile { file, line, variable } => {
                write!(f, "{variable} in {}, line {line}", file.display())
            }
        }
    }
}

/// What complaints are about.
const WHAT: &str = "the configuration";

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting<T> {
    value: T,
    origin: Origin,
}

/// Settings of a cache.
///
/// | Setting | TOML | Variable with prefix `CACHE_` | Default |
/// |---|---|---|---|
/// | directory of the store | `directory` | `CACHE_DIRECTORY` | none; `tmp/cache` with [`Self::from_env`] |
/// | or data directory and class | `data_dir`, `class_name` | `CACHE_DATA_DIR`, `CACHE_CLASS_NAME` | none |
/// | most bytes on disk | `size_limit` or `default_cache_size` | `CACHE_SIZE_LIMIT` | 100 MiB; 500 MiB with [`Self::from_env`] |
/// | lifetime of entries | `default_ttl` | `CACHE_DEFAULT_TTL` | for ever |
/// | lifetime in one space | `ttl.search` | `CACHE_SEARCH_TTL` | the one above |
/// | durability | `durability` | `CACHE_DURABILITY` | `os` |
/// | who goes at the limit | `evict` | `CACHE_EVICT` | `lru` |
/// | most entries | `max_entries` | `CACHE_MAX_ENTRIES` | no limit |
/// | bytes of the disk left free | `min_free_bytes` | `CACHE_MIN_FREE_BYTES` | 0 |
///
/// Sizes are bytes (`524288000`) or have a unit (`"500 MiB"`, `"1.5 GB"`). Lifetimes are seconds (0: for ever) or have
/// units (`"5m"`, `"1h30m"`, `"7 days"`, `"P1D"`): see [`units`](tierce_engine::units). Relative directories start at the process's current one.
///
/// Layers are put on each other with [`Self::merge`]; what the upper one does not set, the lower one decides.
///
/// ```
/// use tierce::{Config, Ttl, config::Table};
///
/// let file = "[hassette]\ndefault_cache_size = 104857600\ndata_dir = \"/path/to/data\"\nlog_level = \"INFO\"";
/// let config = Config::from_toml_str(file, Table::foreign("hassette"))?
///     .merge(Config::from_vars("CACHE_", [("CACHE_SEARCH_TTL", "300")])?)
///     .merge(Config::new().with_class_name("WeatherApp"));
/// config.validate()?;
/// assert_eq!(config.size_limit(), 100 << 20);
/// assert_eq!(config.directory()?.to_str(), Some("/path/to/data/WeatherApp/cache"));
/// assert_eq!(config.ttl_of("search"), Ttl::minutes(5));
/// assert_eq!(config.origin("ttl.search").to_string(), "CACHE_SEARCH_TTL");
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Whether the defaults are those of a configuration that has nothing but the environment.
    is_env: bool,
    directory: Option<Setting<PathBuf>>,
    data_dir: Option<Setting<PathBuf>>,
    class_name: Option<Setting<String>>,
    size_limit: Option<Setting<u64>>,
    default_ttl: Option<Setting<Ttl>>,
    ttls: BTreeMap<String, Setting<Ttl>>,
    durability: Option<Setting<Durability>>,
    evict: Option<Setting<Evict>>,
    max_entries: Option<Setting<u64>>,
    min_free_bytes: Option<Setting<u64>>,
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what a setter of code stores is what a source stores"
)]
const fn coded<T>(value: T) -> Option<Setting<T>> {
    Some(Setting { value, origin: Origin::Code })
}

impl Config {
    /// Size limit in bytes that holds if nobody sets one: 100 MiB.
    pub const SIZE_LIMIT_DEFAULT: u64 = 100 << 20;
    /// Size limit in bytes of a configuration from the environment alone: 500 MiB.
    pub const ENV_SIZE_LIMIT_DEFAULT: u64 = 500 << 20;
    /// Directory of a configuration from the environment alone.
    pub const ENV_DIRECTORY_DEFAULT: &str = "tmp/cache";

    /// Nothing set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the directory of the store.
    #[must_use]
    pub fn with_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = coded(directory.into());
        self
    }

    /// Sets the data directory, in which each class has its cache.
    #[must_use]
    pub fn with_data_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = coded(data_dir.into());
        self
    }

    /// Sets the class: the cache is then `{data_dir}/{class_name}/cache`, see [`ops::cache_of`].
    #[must_use]
    pub fn with_class_name(mut self, class_name: impl Into<String>) -> Self {
        self.class_name = coded(class_name.into());
        self
    }

    /// Sets the most bytes on disk.
    #[must_use]
    pub fn with_size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = coded(bytes);
        self
    }

    /// Sets the lifetime of entries.
    #[must_use]
    pub fn with_default_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.default_ttl = coded(ttl.into());
        self
    }

    /// Sets the lifetime of entries in one space.
    #[must_use]
    pub fn with_ttl(mut self, space: impl Into<String>, ttl: impl Into<Ttl>) -> Self {
        self.ttls.insert(space.into(), Setting { value: ttl.into(), origin: Origin::Code });
        self
    }

    /// Sets the durability of writes.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = coded(durability);
        self
    }

    /// Sets which entry goes first at a limit.
    #[must_use]
    pub fn with_evict(mut self, evict: Evict) -> Self {
        self.evict = coded(evict);
        self
    }

    /// Sets the most entries.
    #[must_use]
    pub fn with_max_entries(mut self, entries: u64) -> Self {
        self.max_entries = coded(entries);
        self
    }

    /// Sets how many bytes of the file system stay free.
    #[must_use]
    pub fn with_min_free_bytes(mut self, bytes: u64) -> Self {
        self.min_free_bytes = coded(bytes);
        self
    }

    /// This configuration with `over` on top: what `over` sets, counts. The defaults stay those of this one.
    ///
    /// ```
    /// use tierce::{Config, config::Table};
    ///
    /// let file = Config::from_toml_str("[cache]\nsize_limit = '1 GiB'\nmax_entries = 9", Table::own("cache"))?;
    /// let config = file.merge(Config::new().with_size_limit(2 << 30));
    /// assert_eq!(config.size_limit(), 2 << 30);
    /// assert_eq!(config.max_entries(), Some(9));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn merge(mut self, over: Self) -> Self {
        self.ttls.extend(over.ttls);
        Self {
            is_env: self.is_env,
            directory: over.directory.or(self.directory),
            data_dir: over.data_dir.or(self.data_dir),
            class_name: over.class_name.or(self.class_name),
            size_limit: over.size_limit.or(self.size_limit),
            default_ttl: over.default_ttl.or(self.default_ttl),
            ttls: self.ttls,
            durability: over.durability.or(self.durability),
            evict: over.evict.or(self.evict),
            max_entries: over.max_entries.or(self.max_entries),
            min_free_bytes: over.min_free_bytes.or(self.min_free_bytes),
        }
    }

    /// The directory of the store: the one set; else that of the class in the data directory; else the default, if
    /// there is one. Nothing is created.
    ///
    /// # Errors
    /// [`Error::Options`] if none of them is there, [`Error::Name`] if the class cannot be a directory.
    pub fn directory(&self) -> Result<PathBuf> {
        let missing = |complaint: &str| {
            let complaints = vec![complaint.to_owned()];
            Err(Error::Options { what: WHAT.to_owned(), complaints })
        };
        match (&self.directory, &self.data_dir, &self.class_name) {
            (Some(directory), ..) => Ok(directory.value.clone()),
            (None, Some(data_dir), Some(class)) => ops::cache_of(&data_dir.value, &class.value),
            (None, Some(_), None) => missing("data_dir is set, but no class_name below it"),
            (None, None, Some(_)) => missing("class_name is set, but no data_dir above it"),
            (None, None, None) if self.is_env => Ok(Self::ENV_DIRECTORY_DEFAULT.into()),
            (None, None, None) => missing("no directory is set, nor data_dir and class_name"),
        }
    }

    /// The data directory, if one is set.
    #[must_use]
    pub fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_ref().map(|setting| &*setting.value)
    }

    /// The class, if one is set.
    #[must_use]
    pub fn class_name(&self) -> Option<&str> {
        self.class_name.as_ref().map(|setting| &*setting.value)
    }

    /// Most bytes on disk.
    #[must_use]
    pub fn size_limit(&self) -> u64 {
        let default =
            if self.is_env { Self::ENV_SIZE_LIMIT_DEFAULT } else { Self::SIZE_LIMIT_DEFAULT };
        value(&self.size_limit).unwrap_or(default)
    }

    /// Lifetime of entries in spaces that have none of their own. [`Ttl::Default`] if none is set.
    #[must_use]
    pub fn default_ttl(&self) -> Ttl {
        value(&self.default_ttl).unwrap_or_default()
    }

    /// Lifetime of entries in `space`: its own, else [`Self::default_ttl`].
    #[must_use]
    pub fn ttl_of(&self, space: &str) -> Ttl {
        self.ttls.get(space).map_or_else(|| self.default_ttl(), |setting| setting.value)
    }

    /// The spaces that have lifetimes of their own, by name.
    pub fn ttls(&self) -> impl Iterator<Item = (&str, Ttl)> {
        self.ttls.iter().map(|(space, setting)| (space.as_str(), setting.value))
    }

    /// The durability of writes.
    #[must_use]
    pub fn durability(&self) -> Durability {
        value(&self.durability).unwrap_or_default()
    }

    /// Which entry goes first at a limit.
    #[must_use]
    pub fn evict(&self) -> Evict {
        value(&self.evict).unwrap_or_default()
    }

    /// Most entries; `None` = no limit.
    #[must_use]
    pub fn max_entries(&self) -> Option<u64> {
        value(&self.max_entries)
    }

    /// How many bytes of the file system stay free.
    #[must_use]
    pub fn min_free_bytes(&self) -> u64 {
        value(&self.min_free_bytes).unwrap_or_default()
    }

    /// Where the setting comes from, by its name in TOML (`size_limit`, `ttl.search`). [`Origin::Default`] if nobody
    /// set it, or there is no such setting.
    #[must_use]
    pub fn origin(&self, name: &str) -> Origin {
        fn of<T>(setting: &Option<Setting<T>>) -> Option<&Origin> {
            setting.as_ref().map(|setting| &setting.origin)
        }
        let origin = match name {
            "directory" => of(&self.directory),
            "data_dir" => of(&self.data_dir),
            "class_name" => of(&self.class_name),
            "size_limit" => of(&self.size_limit),
            "default_ttl" => of(&self.default_ttl),
            "durability" => of(&self.durability),
            "evict" => of(&self.evict),
            "max_entries" => of(&self.max_entries),
            "min_free_bytes" => of(&self.min_free_bytes),
            _ => name
                .strip_prefix("ttl.")
                .and_then(|space| self.ttls.get(space))
                .map(|setting| &setting.origin),
        };
        origin.cloned().unwrap_or(Origin::Default)
    }

    /// Checks that all of it makes sense together, and says everything that does not, each with where it comes from.
    ///
    /// # Errors
    /// [`Error::Options`].
    ///
    /// ```
    /// use tierce::{Config, Error};
    ///
    /// let config = Config::from_vars("CACHE_", [("CACHE_SIZE_LIMIT", "1KiB"), ("CACHE_MAX_ENTRIES", "0")])?;
    /// let Err(Error::Options { complaints, .. }) = config.validate() else { unreachable!() };
    /// assert!(complaints[0].starts_with("CACHE_SIZE_LIMIT: "));
    /// assert!(complaints[1].starts_with("CACHE_MAX_ENTRIES: "));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn validate(&self) -> Result<()> {
        let mut complaints = Vec::new();
        match self.directory() {
            Ok(_) => {}
            Err(Error::Options { complaints: found, .. }) => complaints.extend(found),
            Err(error) => complaints.push(format!("{}: {error}", self.origin("class_name"))),
        }
        for (name, directory) in [("directory", &self.directory), ("data_dir", &self.data_dir)] {
            let Some(Setting { value, origin }) = directory else { continue };
            if value.as_os_str().is_empty() {
                complaints.push(format!("{origin}: {name} is empty"));
            } else if value.starts_with("~") {
                complaints
                    .push(format!("{origin}: `~` is not replaced; write the home directory out"));
            }
        }
        // Each limit alone: the engine's complaint then belongs to the setting it is about.
        let options = Options::new;
        self.ask_engine("size_limit", options().max_bytes(self.size_limit()), &mut complaints);
        if let Some(entries) = self.max_entries() {
            self.ask_engine("max_entries", options().max_entries(entries), &mut complaints);
        }
        if complaints.is_empty() {
            return Ok(());
        }
        Err(Error::Options { what: WHAT.to_owned(), complaints })
    }

    fn ask_engine(&self, name: &str, options: Options, complaints: &mut Vec<String>) {
        if let Err(tierce_engine::Error::InvalidOptions { complaints: found }) = options.validate()
        {
            let origin = self.origin(name);
            complaints.extend(found.iter().map(|complaint| format!("{origin}: {complaint}")));
        }
    }

    /// The engine's options that this asks for; everything else has its default. Directory and lifetimes are not among
    /// them.
    ///
    /// ```
    /// use tierce::{Config, engine::io::MemoryDisk};
    ///
    /// let config = Config::new().with_directory("store").with_size_limit(64 << 20);
    /// let engine = config.engine_options().disk(MemoryDisk::new()).open(config.directory()?)?;
    /// engine.close()?;
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn engine_options(&self) -> Options {
        let options = Options::new()
            .durability(self.durability())
            .evict(self.evict())
            .max_bytes(self.size_limit())
            .min_free_bytes(self.min_free_bytes());
        match self.max_entries() {
            Some(entries) => options.max_entries(entries),
            None => options,
        }
    }

    /// Opens the store that these settings describe, after [`Self::validate`].
    ///
    /// ```
    /// use tierce::Config;
    /// # let dir = tempfile::tempdir()?;
    /// let config = Config::new().with_directory(dir.path().join("store")).with_size_limit(64 << 20);
    /// let store = config.open()?;
    /// assert!(store.spaces()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::validate`] and [`Store::open_with`].
    pub fn open(&self) -> Result<Store> {
        self.validate()?;
        Store::open_with(self.directory()?, self.engine_options())
    }

    /// The options of a space: the lifetime that these settings have for it. A space that was made with another one
    /// takes this one: settings may change.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tierce::{Cache, Config, Store, Ttl};
    /// let config = Config::new().with_ttl("search", Ttl::minutes(5));
    /// let store = Store::in_memory()?;
    /// let search: Cache<String, u32> = store.cache_with("search", &config.space_options("search"))?;
    /// search.insert("q", &1)?;
    /// assert!(search.ttl("q")?.flatten() <= Some(Duration::from_secs(300)));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn space_options(&self, space: &str) -> SpaceOptions {
        SpaceOptions::new().ttl(self.ttl_of(space)).change()
    }
}

fn value<T: Copy>(setting: &Option<Setting<T>>) -> Option<T> {
    setting.as_ref().map(|setting| setting.value)
}
