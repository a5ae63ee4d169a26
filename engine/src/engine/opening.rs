//! From a path to an open store: what may become one, who else has it, and one store per directory and process.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use super::{
    Engine, hold,
    place::{Place, lock},
    shared::Shared,
};
use crate::{
    background::{Background, Progress},
    backup::MOVING,
    error::{Error, Result},
    format::file_name::FileName,
    io::PathKind,
    options::Options,
    segment::Home,
    sync::{Mutex, atomic::Ordering},
};

/// The stores that are open in this process, by the identity of their directory.
static PLACES: LazyLock<Mutex<HashMap<String, Weak<Place<Shared>>>>> =
    LazyLock::new(Mutex::default);

fn place(identity: String) -> Arc<Place<Shared>> {
    let mut places = hold(&PLACES);
    places.retain(|_, place| place.strong_count() > 0);
    if let Some(place) = places.get(&identity).and_then(Weak::upgrade) {
        return place;
    }
    let place = Arc::new(Place::default());
    places.insert(identity, Arc::downgrade(&place));
    place
}

impl Options {
    /// Opens the store in `path`, creating it if it is missing.
    ///
    /// A directory that is open in this process already gives the same store; the options of the first opening
    /// hold. Opening a new store writes no data file.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`]; [`Error::NotAStore`] for a file or a directory with foreign content;
    /// [`Error::Locked`] if another process has it; [`Error::UnknownFormat`] if a newer version wrote it;
    /// [`Error::Corruption`] if acknowledged data is damaged and the policy is strict; [`Error::Io`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Engine> {
        self.validate()?;
        let home = Home::absolute(&self.disk, path.as_ref())?;
        for _ in 0..OPENINGS_MAX {
            let held = prepare(&home, &self)?;
            let identity = identity_of(&held)?;
            let place = place(identity.clone());
            let mut open = hold(&place.open);
            let is_usable = |shared: &Arc<Shared>| {
                !shared.fork.is_in_child() && !shared.closed.load(Ordering::Acquire)
            };
            if let Some(shared) = open.upgrade().filter(is_usable) {
                shared.handles.fetch_add(1, Ordering::Relaxed);
                return Ok(Engine { shared, counts: true });
            }
            let lock = lock(&held, &self)?;
            // Order: judged again with the lock held. A restore may have moved the directory aside and put another in its
            // place since it was opened: what is written to it then would be written to what was replaced.
            if lock.is_some() && identity_of(&home).ok() != Some(identity) {
                continue;
            }
            let shared = Arc::new(Shared::open(held, lock, self, Arc::clone(&place))?);
            let weak: Weak<Shared> = Arc::downgrade(&shared);
            shared.writer.set_housekeeper(weak);
            *open = Arc::downgrade(&shared);
            ensure_background(&shared);
            return Ok(Engine { shared, counts: true });
        }
        let reason = "another directory takes its place each time it is opened";
        Err(Error::io("open", home.dir(), std::io::Error::other(reason)))
    }
}

/// An opening begins anew so often when the directory was replaced meanwhile.
const OPENINGS_MAX: usize = 8;

fn identity_of(home: &Home) -> Result<String> {
    let found = home.disk.identity(home.dir());
    found.map_err(|source| Error::io("identify", home.dir(), source))
}

/// Makes sure that the store has its thread, if it is to have one. If the system gives none, the health says so.
pub(super) fn ensure_background(shared: &Arc<Shared>) {
    if shared.lacks_background() {
        *hold(&shared.background) = start_background(shared);
    }
}

/// The store's own thread. It holds the store only while it works.
fn start_background(shared: &Arc<Shared>) -> Option<Background> {
    const IDLE_MAX_MS: u64 = 100;
    let options = &shared.options;
    let idle = options.flush_interval_ms.min(options.periodic_ms).min(IDLE_MAX_MS);
    let store = Arc::downgrade(shared);
    let mut has_panicked = false;
    Background::start(Duration::from_millis(idle), move || {
        let Some(shared) = store.upgrade() else { return Progress::Over };
        if has_panicked && shared.writer.is_stopped() {
            // It would panic again. Once the store was recovered, there is work to do again.
            return Progress::Idle;
        }
        has_panicked = false;
        match catch_unwind(AssertUnwindSafe(|| shared.step())) {
            Ok(Ok(true)) => Progress::Done,
            // A failure is kept by the store: its health says so, and writers are told.
            Ok(Ok(false) | Err(_)) => Progress::Idle,
            Err(_) => {
                // What it was to flush and sync stays undone: the store stops.
                has_panicked = true;
                shared.writer.say_why("the background work panicked");
                Progress::Idle
            }
        }
    })
}

/// Refuses a directory with a restore that was cut off. Asked before the lock, and again under it: a restore may have
/// begun in between.
pub(super) fn refuse_unfinished(home: &Home) -> Result<()> {
    match home.disk.kind(&home.path(MOVING)) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Error::NotAStore {
            path: home.dir.clone(),
            reason: "a restore into it was cut off; restore again, which begins by putting back what was there"
                .to_owned(),
        }),
        Err(source) => Err(Error::io("look at", home.path(MOVING), source)),
    }
}

/// Makes sure that `home` is a directory that is, or may become, a store, and holds it: what is judged here is what is
/// opened afterwards.
pub(super) fn prepare(home: &Home, options: &Options) -> Result<Home> {
    let not_a_store =
        |reason: &str| Err(Error::NotAStore { path: home.dir.clone(), reason: reason.to_owned() });
    let failed = |operation| move |source| Error::io(operation, home.dir(), source);
    match home.disk.kind(home.dir()).map_err(failed("look at"))? {
        Some(PathKind::Directory) => {}
        Some(_) => return not_a_store("it is no directory"),
        None if options.create && !options.read_only => {
            home.disk.create_dir_all(home.dir()).map_err(failed("create"))?;
        }
        None => return not_a_store("there is nothing"),
    }
    let held = home.held()?;
    let listed = held.disk.list(home.dir()).map_err(failed("list"))?;
    let names = || listed.iter().map(|entry| entry.name.as_str());
    refuse_unfinished(&held)?;
    let is_store =
        |name| matches!(FileName::parse(name), Some(FileName::Manifest | FileName::Segment(_)));
    if names().any(is_store) {
        return Ok(held);
    }
    if options.read_only || !options.create {
        return not_a_store("there is no manifest");
    }
    // What mounts and desktops leave in an empty directory is no content. A ballast is made behind the manifest: without
    // one the file is not ours, and must not be given up.
    let is_foreign = |name: &&str| {
        let is_ours = FileName::parse(name).is_some_and(|name| name != FileName::Ballast);
        !is_ours && !name.starts_with('.') && *name != "lost+found"
    };
    match names().find(is_foreign) {
        Some(name) => not_a_store(&format!("it holds {name:?}, which is not part of a store")),
        None => Ok(held),
    }
}
