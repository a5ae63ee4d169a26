//! Maps the spaces of a dump to those of the store that it is loaded into.
//!
//! A key begins with the number of its space, and that number means another space in another store. So an import reads
//! the catalog in the dump, finds or creates each of its spaces by name, and gives every entry the number that its
//! space has here. What cannot be mapped is refused.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::ControlFlow,
};

use tierce_engine::{Engine, Snapshot, View};

use super::{SpaceInfo, catalog, ids, prefix_bytes, prefix_of};
use crate::{
    error::{Error, Result},
    kv::Kv,
};

/// Prefixes that are remembered to refuse a dump before it is loaded; with more of them the entry is refused.
const PREFIXES_MAX: usize = 4096;
/// Begins the keys that belong to no space: the catalog, and states.
const NO_SPACE: u8 = 0;

fn refuse<T>(complaint: String) -> Result<T> {
    Err(Error::Catalog(complaint))
}

/// The catalog of a dump, collected while it is read the first time.
///
/// 1. [`Self::survey`] every entry of the dump; of a dump that can be read once only, the entries at its beginning that
///    belong to the catalog.
/// 2. [`Self::begin`] checks that the dump fits into the store and creates the spaces that are missing.
/// 3. [`SpaceMap::map`] every entry, and store those for which it returns `true`.
///
/// ```
/// use tierce::{Options, SpaceImport, Store, engine::{PutOptions, io::MemoryDisk}};
/// let (from, to) = (Store::in_memory()?, Store::open_with("to", Options::new().disk(MemoryDisk::new()))?);
/// from.map::<u32, String>("names")?.insert(&1, &"Ada".into())?;
/// to.map::<u32, String>("other")?.insert(&1, &"stays".into())?;
/// let (dump, engine) = (from.engine().unwrap().snapshot()?, to.engine().unwrap());
///
/// let mut import = SpaceImport::new();
/// for entry in dump.iter() {
///     let (key, entry) = entry?;
///     import.survey(&key, &entry.value)?;
/// }
/// let map = import.begin(engine)?;
/// for entry in dump.iter() {
///     let (mut key, mut entry) = entry?;
///     if map.map(&mut key, &mut entry.scopes)? {
///         let options = PutOptions::new().codec(entry.codec, entry.schema);
///         let options = entry.scopes.into_iter().fold(options, PutOptions::scope);
///         engine.put_with(key, entry.value, &options)?;
///     }
/// }
/// assert_eq!(to.map::<u32, String>("names")?.get(&1)?.as_deref(), Some("Ada"));
/// assert_eq!(to.map::<u32, String>("other")?.get(&1)?.as_deref(), Some("stays"));
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SpaceImport {
    spaces: BTreeMap<String, SpaceInfo>,
    last: u32,
    /// What keys begin with, as far as they were seen.
    prefixes: BTreeSet<Vec<u8>>,
}

impl SpaceImport {
    /// A dump of which nothing has been read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `key` belongs to the catalog. A dump that can be read once only has these entries first.
    #[must_use]
    pub fn is_catalog(key: &[u8]) -> bool {
        catalog::name_of(key).is_some() || ids::is_record(key)
    }

    /// The keys of the catalog in a store: what a dump has first that is to be read once only. Looks at every key of a
    /// store that has spaces, and at two keys of any other.
    ///
    /// # Errors
    /// The engine's.
    pub fn catalog_keys(snapshot: &Snapshot) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        if ids::has_any(snapshot)? {
            snapshot.scan(&[NO_SPACE], false, &mut |key, _| {
                if Self::is_catalog(key) {
                    keys.push(key.to_vec());
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(keys)
    }

    /// Takes note of one entry of the dump.
    ///
    /// # Errors
    /// [`Error::Decode`] for a damaged record of a space; [`Error::Catalog`] for one that contradicts itself.
    pub fn survey(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(name) = catalog::name_of(key) {
            let info: SpaceInfo = catalog::parse_bytes(key, value)?;
            catalog::check_name(name, true)?;
            if info.name != name || info.id == 0 {
                return refuse(format!("the dump's record of space `{name}` is of another space"));
            }
            self.last = self.last.max(info.id);
            self.spaces.insert(name.to_owned(), info);
        } else if let Some(last) = ids::last_of(key, value)? {
            self.last = self.last.max(last);
        } else if let Some(prefix) = prefix_in(key)
            && self.prefixes.len() < PREFIXES_MAX
        {
            self.prefixes.insert(prefix.to_vec());
        }
        Ok(())
    }

    /// Checks that the dump fits into the store, then creates the spaces that are missing there, with the numbers that
    /// they have in the dump where those are free.
    ///
    /// # Errors
    /// With nothing written: [`Error::Catalog`] if the dump has two spaces with one number, or entries of no space
    /// while there are spaces, or if both have a queue, deque or log of one name and the store's is not empty;
    /// [`Error::Type`] if a space is of another kind or type here. The engine's.
    pub fn begin(self, engine: &Engine) -> Result<SpaceMap> {
        let kv: &dyn Kv = engine;
        let here = catalog::list(kv)?;
        let has_spaces = !here.is_empty() || !self.spaces.is_empty();
        self.check(kv, &here, has_spaces)?;
        let mut ids = HashMap::new();
        for info in self.spaces.values().collect::<Sorted>().0 {
            let found = loop {
                if let Some(found) = catalog::find(kv, &info.name)? {
                    break found;
                }
                if let Some(made) = ids::create(kv, info, Some(info.id))? {
                    break made;
                }
            };
            ids.insert(prefix_of(info.id), prefix_of(found.id));
        }
        if here.is_empty() && self.last > 0 {
            ids::raise(kv, self.last)?;
        }
        Ok(SpaceMap { names: self.spaces.into_keys().collect(), ids, has_spaces })
    }

    fn check(&self, kv: &dyn Kv, here: &[SpaceInfo], has_spaces: bool) -> Result<()> {
        let mut by_prefix: HashMap<Vec<u8>, &SpaceInfo> = HashMap::new();
        for info in self.spaces.values() {
            if let Some(other) = by_prefix.insert(prefix_of(info.id), info) {
                return refuse(format!(
                    "the dump has two spaces with the number {}, `{}` and `{}`: its entries cannot be told apart",
                    info.id, other.name, info.name
                ));
            }
        }
        if has_spaces
            && let Some(prefix) =
                self.prefixes.iter().find(|prefix| !by_prefix.contains_key(*prefix))
        {
            return refuse(no_space(prefix));
        }
        if here.is_empty() && has_spaces && holds_any(kv, b"", |key| prefix_in(key).is_some())? {
            return refuse(
                "the store holds entries of no space, which those of the dump could overwrite: load it into a store \
                 of its own"
                    .to_owned(),
            );
        }
        for info in self.spaces.values() {
            let Some(found) = here.iter().find(|found| found.name == info.name) else { continue };
            ids::check(kv, found)?;
            found.check_same(info)?;
            let is_numbered = matches!(info.kind.as_str(), "queue" | "deque" | "log");
            if is_numbered && holds_any(kv, &prefix_of(found.id), |_| true)? {
                return refuse(format!(
                    "`{}` is {} here, too, and not empty: its items have the same numbers as those of the dump; \
                     drop the space, or load the dump into another store",
                    info.name,
                    info.kind_of().0
                ));
            }
        }
        Ok(())
    }
}

/// Spaces in the order of their numbers.
struct Sorted<'a>(Vec<&'a SpaceInfo>);

impl<'a> FromIterator<&'a SpaceInfo> for Sorted<'a> {
    fn from_iter<I: IntoIterator<Item = &'a SpaceInfo>>(spaces: I) -> Self {
        let mut spaces: Vec<_> = spaces.into_iter().collect();
        spaces.sort_by_key(|info| info.id);
        Self(spaces)
    }
}

/// What a key that belongs to a space begins with.
fn prefix_in(key: &[u8]) -> Option<&[u8]> {
    if key.first() == Some(&NO_SPACE) {
        return None;
    }
    // Of a key that is too short to be one of a space, all of it.
    Some(key.get(..prefix_bytes(key).unwrap_or(0)).unwrap_or(key))
}

fn no_space(prefix: &[u8]) -> String {
    format!(
        "an entry whose key begins with `{}` belongs to no space of the dump, and would come up in one of the store: \
         load it into a store without spaces",
        prefix.escape_ascii()
    )
}

fn holds_any(kv: &dyn Kv, prefix: &[u8], is_it: impl Fn(&[u8]) -> bool) -> Result<bool> {
    let mut holds = false;
    kv.scan(prefix, false, &mut |key: &[u8], _: View<'_>| {
        holds = is_it(key);
        if holds { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(holds)
}

/// Gives the entries of a dump the numbers that their spaces have in the store.
#[derive(Clone, Debug)]
pub struct SpaceMap {
    names: BTreeSet<String>,
    /// From the prefix in the dump to the one in the store.
    ids: HashMap<Vec<u8>, Vec<u8>>,
    /// Whether the dump or the store has spaces.
    has_spaces: bool,
}

impl SpaceMap {
    /// Maps the key and the scopes of one entry; `false` for an entry of the catalog, which is not to be stored: the
    /// store has its own.
    ///
    /// # Errors
    /// [`Error::Catalog`] for an entry of a space that was not surveyed.
    pub fn map(&self, key: &mut Vec<u8>, scopes: &mut [Vec<u8>]) -> Result<bool> {
        if let Some(name) = catalog::name_of(key) {
            return match self.names.contains(name) {
                true => Ok(false),
                false => refuse(format!(
                    "the record of space `{name}` comes after entries: load the dump from a file, or dump it again"
                )),
            };
        }
        if ids::is_record(key) {
            return Ok(false);
        }
        if !self.has_spaces {
            return Ok(true);
        }
        let Some(from) = prefix_in(key) else { return Ok(true) };
        let Some(to) = self.ids.get(from) else { return refuse(no_space(from)) };
        let from = from.to_vec();
        for name in std::iter::once(key).chain(scopes) {
            if name.starts_with(&from) {
                name.splice(..from.len(), to.iter().copied());
            }
        }
        Ok(true)
    }
}
