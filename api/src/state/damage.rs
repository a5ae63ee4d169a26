//! Damaged things: what to do with them, where they go, and who is told.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::{
    Timestamp,
    io::{Clock, OsClock},
};

use crate::{
    error::{BoxError, Error, Result},
    ops::time::{for_file_name, numbered},
    sync::{Mutex, PoisonError},
};

/// What a store does with bytes that are no state. An I/O error is not damage: it always fails, and nothing is
/// overwritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCorrupt {
    /// Move them aside, tell by [`StateStore::take_damage`](super::StateStore::take_damage), and go on as if the state
    /// were new.
    #[default]
    Quarantine,
    /// Fail with [`Error::CorruptFile`] or [`Error::Decode`], and
    /// touch nothing.
    Fail,
}

/// Something that was found damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file, row or key.
    pub what: String,
    /// The state it belongs to; `None` if it is all of them.
    pub name: Option<String>,
    /// Where a copy of it is now. `None`: nothing was touched, it is where it was.
    pub kept: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is damaged: {}", self.what, self.reason)?;
        match &self.kept {
            Some(kept) => write!(f, "; it was moved to {kept}"),
            None => write!(f, "; it is untouched"),
        }
    }
}

/// What every store of states does with damage: whether it may move, under which names, and who is told. Clones share
/// what was found.
#[derive(Clone)]
pub(super) struct Quarantine {
    pub(super) on_corrupt: OnCorrupt,
    pub(super) clock: Arc<dyn Clock>,
    /// Damage that nobody has asked for yet. Bounded: a state that is found damaged again and again is told once.
    found: Arc<Mutex<Vec<Damage>>>,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self::new(OnCorrupt::default(), OsClock)
    }
}

impl Quarantine {
    pub(super) fn new(on_corrupt: OnCorrupt, clock: impl Clock + 'static) -> Self {
        Self { on_corrupt, clock: Arc::new(clock), found: Arc::default() }
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.on_corrupt == OnCorrupt::Quarantine
    }

    /// Refuses to go on over what is kept of state `name` under `key` and is no state, unless it may move aside.
    pub(super) fn allow(&self, key: &str, reason: impl Into<BoxError>) -> Result<()> {
        match self.on_corrupt {
            OnCorrupt::Quarantine => Ok(()),
            OnCorrupt::Fail => Err(Error::Decode {
                space: "states".to_owned(),
                key: format!("`{key}`"),
                source: reason.into(),
            }),
        }
    }

    /// The time, as records of damage say it.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.clock.wall_ms())
    }

    /// As [`stamp`], of now. It asks the clock, which is the caller's: never under a lock.
    pub(super) fn stamp(&self) -> String {
        stamp(self.now())
    }

    /// Asks `take` for a place with this stamp, or with `stamp-0002` and so on: until it took one that was free.
    pub(super) fn free_name<T>(
        &self,
        stamp: &str,
        mut take: impl FnMut(&str) -> Result<Option<T>>,
    ) -> Result<T> {
        let mut name = stamp.to_owned();
        for number in 2_u32.. {
            if let Some(taken) = take(&name)? {
                return Ok(taken);
            }
            name = numbered(stamp, number);
        }
        Err(Error::io("find a free name for", stamp, io::ErrorKind::AlreadyExists.into()))
    }

    /// A path beside `file` for a damaged one, that is not taken.
    pub(super) fn free_path(&self, stamp: &str, file: &Path) -> Result<PathBuf> {
        self.free_name(stamp, |suffix| {
            let path = with_end(file, &format!(".{suffix}"));
            match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(path)),
                Err(error) => Err(Error::io("look at", path, error)),
                Ok(_) => Ok(None),
            }
        })
    }

    pub(super) fn tell(&self, damage: Damage) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.contains(&damage) {
            found.push(damage);
        }
    }

    pub(super) fn take(&self) -> Vec<Damage> {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What names of things that are moved aside at `now` begin or end with: `corrupt-20231114T221320000Z`.
pub(super) fn stamp(now: Timestamp) -> String {
    format!("corrupt-{}", for_file_name(now))
}

/// A path with some more letters at its end.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut longer = path.as_os_str().to_owned();
    longer.push(end);
    longer.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_thing_never_covers_another() {
        let clock = tierce_kit::clock::TestClock::new();
        let quarantine = Quarantine::new(OnCorrupt::Quarantine, clock);
        let mut taken: Vec<String> = Vec::new();
        for _ in 0..3 {
            let name = quarantine.free_name(&quarantine.stamp(), |name| {
                let is_free = !taken.iter().any(|other| other == name);
                Ok(is_free.then(|| name.to_owned()))
            });
            taken.push(name.unwrap());
        }
        assert!(taken[0].starts_with("corrupt-") && taken[0].ends_with('Z'), "{taken:?}");
        assert!(taken[1].ends_with("Z-0002") && taken[2].ends_with("Z-0003"), "{taken:?}");
    }
}
