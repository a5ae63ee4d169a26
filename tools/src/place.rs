//! A directory for a store that a command makes for itself.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    exit::{Fail, Outcome},
    talk::say,
};

/// Where a store goes that a command makes for itself; a place made here is removed at the end.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    temporary: Option<PathBuf>,
}

impl Place {
    /// `dir` if given, else a fresh directory named after the command.
    pub(crate) fn new(dir: Option<&Path>, command: &str) -> Outcome<Self> {
        if let Some(dir) = dir {
            return Ok(Self { dir: dir.to_owned(), temporary: None });
        }
        let root = env::temp_dir();
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        for attempt in 0..100 {
            let name = format!("tierce-{command}-{}-{}", process::id(), start + attempt);
            let path = root.join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { dir: path.join("store"), temporary: Some(path) }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    return Err(Fail::io(
                        format!("create a directory in {}", root.display()),
                        source,
                    ));
                }
            }
        }
        Err(Fail::io("create a temporary directory", io::ErrorKind::AlreadyExists.into()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary
            && let Err(error) = fs::remove_dir_all(path)
        {
            say(format_args!("tierce: could not remove {}: {error}", path.display()));
        }
    }
}
