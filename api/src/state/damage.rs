//! Damaged things: what to do with them, where they go, and who is told.

use std::sync::{Mutex, PoisonError};
#[cfg(feature = "sqlite")]
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tierce_engine::{Timestamp, io::Clock};

use crate::ops::time::for_file_name;

/// What a store does with bytes that are no state. An I/O error is not damage: it always fails, and nothing is
/// overwritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCorrupt {
    /// Move them aside, tell by [`StateStore::take_damage`](super::StateStore::take_damage), and go on as if the state
    /// were new.
    #[default]
    Quarantine,
    /// Fail with [`Error::CorruptFile`](crate::Error::CorruptFile) or [`Error::Decode`](crate::Error::Decode), and
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

/// Damage that nobody has asked for yet. Bounded: a state that is found damaged again and again is told once.
#[derive(Debug, Default)]
pub(super) struct Found(Mutex<Vec<Damage>>);

impl Found {
    pub(super) fn add(&self, damage: Damage) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.contains(&damage) {
            found.push(damage);
        }
    }

    pub(super) fn take(&self) -> Vec<Damage> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The end of a name for something damaged: `corrupt-20231114T221320Z`.
pub(super) fn corrupt_suffix(clock: &dyn Clock) -> String {
    format!("corrupt-{}", for_file_name(Timestamp(clock.wall_ms())))
}

#[cfg(feature = "sqlite")]
/// A path beside `file` for a damaged one, that is not taken.
pub(super) fn free_path(file: &Path, clock: &dyn Clock) -> io::Result<PathBuf> {
    let suffix = corrupt_suffix(clock);
    for number in 0_u32.. {
        let mut path = file.as_os_str().to_owned();
        path.push(format!(".{suffix}"));
        if number > 0 {
            path.push(format!("-{number}"));
        }
        let path = PathBuf::from(path);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_thing_never_covers_another() {
        let dir = tempfile::tempdir().unwrap();
        let clock = tierce_kit::clock::TestClock::new();
        let file = dir.path().join("state.json");
        let first = free_path(&file, &clock).unwrap();
        fs::write(&first, "").unwrap();
        let second = free_path(&file, &clock).unwrap();
        assert_ne!(first, second);
        assert!(second.to_str().unwrap().ends_with("Z-1"), "{second:?}");
    }
}
