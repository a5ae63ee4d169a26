//! Writing the store that every later version must be able to open.
//!
//! The store is written by the ignored test `golden::write` of the test binary, which gets the place to write to
//! in `TIERCE_GOLDEN`. A fixture that exists was written by a released version and is the only proof that its
//! stores still open: it is replaced only by force, before the release of its format.

use std::{fs, path::Path};

use crate::step::{Failure, cargo, root};

const VERSIONS: &str = "engine/src/format/mod.rs";

pub(crate) fn run(force: bool) -> Result<(), Failure> {
    let path = root().join(VERSIONS);
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure(format!("{}: {error}", path.display())))?;
    let name = fixture(&text)
        .ok_or_else(|| Failure(format!("{VERSIONS} does not tell the version of the format")))?;
    let folder = root().join("tests/fixtures").join(name);
    make_room(&folder, force)?;
    let place = folder.display().to_string();
    let words = [
        "test",
        "--package",
        "tierce-tests",
        "--test",
        "it",
        "--",
        "--ignored",
        "--exact",
        "golden::write",
    ];
    cargo(&words, &[("TIERCE_GOLDEN", &place)])?;
    let written = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    if !written {
        return Err(Failure(format!("golden::write left nothing in {place}")));
    }
    eprintln!("written: {place}");
    Ok(())
}

/// Refuses to replace a fixture, or removes it if forced.
fn make_room(folder: &Path, force: bool) -> Result<(), Failure> {
    if !folder.exists() {
        return Ok(());
    }
    if !force {
        let place = folder.display();
        return Err(Failure(format!(
            "{place} exists; a fixture of a released format never changes (--force)"
        )));
    }
    fs::remove_dir_all(folder)
        .map_err(|error| Failure(format!("could not remove the old fixture: {error}")))
}

/// Name of the fixture of the version that `text` tells: `format-v1.0`.
fn fixture(text: &str) -> Option<String> {
    let number = |name: &str| -> Option<u16> {
        let (_, rest) = text.split_once(&format!("pub const {name}: u16 = "))?;
        rest.split(';').next()?.parse().ok()
    };
    Some(format!("format-v{}.{}", number("FORMAT_MAJOR")?, number("FORMAT_MINOR")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the version is read from the one place that tells it.
    #[test]
    fn the_version_is_read() {
        let text = "pub const FORMAT_MAJOR: u16 = 3;\npub const FORMAT_MINOR: u16 = 14;\n";
        assert_eq!(fixture(text).as_deref(), Some("format-v3.14"));
        assert_eq!(fixture("nothing"), None);
        let real = fs::read_to_string(root().join(VERSIONS)).expect("it is there");
        assert!(fixture(&real).is_some());
    }

    /// Goal: a fixture that exists is not touched unless forced.
    #[test]
    fn a_fixture_is_not_replaced_unasked() {
        let folder = std::env::temp_dir().join(format!("tierce-golden-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary directory");
        assert!(make_room(&folder, false).is_err() && folder.exists());
        assert!(make_room(&folder, true).is_ok() && !folder.exists());
        assert!(make_room(&folder, false).is_ok());
    }
}
