//! Seed document 003, "Store Backends": a place of one's own for states takes two methods. Here each state is a file;
//! `tierce::testing::conformance` says whether the store does all that is asked of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;
use tierce::{
    BoxError, Error, Result,
    ops::atomic_write,
    state::{DEPTH_MAX, Object, OnChange, Runtime, StateStore},
    testing::conformance,
};

/// One file a state. Its name is that of the state in hexadecimal digits: any text is a name.
struct DirectoryStore(PathBuf);

impl DirectoryStore {
    fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Long names do not fit a file name of 255 bytes, so digits are split into directories.
    fn file(&self, name: &str) -> PathBuf {
        let mut path = self.0.clone();
        for part in name.as_bytes().chunks(100) {
            path.push(part.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        }
        path.push("state.json");
        path
    }
}

impl StateStore for DirectoryStore {
    fn load(&self, name: &str) -> Result<Option<Object>> {
        let file = self.file(name);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { operation: "read", file, source }),
        };
        // Failing leaves the file as it is: nothing that was not read is written over.
        let reason = "it is no JSON object".to_owned();
        serde_json::from_slice(&bytes).map(Some).map_err(|_| Error::CorruptFile {
            file,
            quarantined: None,
            reason,
        })
    }

    fn save(&self, name: &str, object: &Object) -> Result<()> {
        let file = self.file(name);
        let text = serde_json::to_vec_pretty(object)
            .map_err(|error| Error::Encode { space: name.to_owned(), source: error.into() })?;
        // What could not be read again is not written.
        serde_json::from_slice::<Object>(&text).map_err(|_| Error::Encode {
            space: name.to_owned(),
            source: format!("it has far more than {DEPTH_MAX} levels").into(),
        })?;
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir).map_err(|source| Error::Io {
                operation: "create",
                file: dir.to_owned(),
                source,
            })?;
        }
        atomic_write(&file, text)
    }
}

fn main() -> Result<(), BoxError> {
    let dir = tempfile::tempdir()?;
    let mut number = 0;
    conformance(|| {
        number += 1;
        Arc::new(DirectoryStore::new(&dir.path().join(number.to_string())))
    });

    let store = Arc::new(DirectoryStore::new(&dir.path().join("states")));
    let mut runtime = Runtime::new(store.clone());
    runtime.telemetry("sensor", std::time::Duration::from_secs(60), OnChange, |state| {
        state.set("count", state.get_or("count", 0)? + 1)?;
        Ok(Some(json!({"count": state.get::<u64>("count")?})))
    })?;
    assert_eq!(runtime.run_cycles(2).saved, 2);
    assert_eq!(store.load("sensor")?.ok_or("not saved")?["count"], 2);
    Ok(())
}
