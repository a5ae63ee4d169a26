//! Runs every example of the typed face; each asserts its own outcome.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::step::{Failure, cargo, root, target};

/// Builds all examples at once, then runs them one after the other.
pub(crate) fn run() -> Result<(), Failure> {
    cargo(&["build", "--package", "tierce", "--all-features", "--examples"], &[])?;
    let names = names()?;
    for name in &names {
        let program = target().join("debug/examples").join(name);
        let output = Command::new(&program)
            .current_dir(root())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure(format!("could not start example {name}: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure(format!("example {name} failed ({}):\n{said}", output.status)));
        }
    }
    eprintln!("{} examples", names.len());
    Ok(())
}

fn names() -> Result<Vec<String>, Failure> {
    let dir = root().join("api/examples");
    let failed = |error| Failure(format!("could not list {}: {error}", dir.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".rs")).map(str::to_owned));
    }
    if names.is_empty() {
        return Err(Failure(format!("there are no examples in {}", dir.display())));
    }
    names.sort();
    Ok(names)
}
