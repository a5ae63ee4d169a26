//! Fuzz targets on the stable toolchain.

use std::{fs, path::Path};

use crate::step::{Failure, cargo, root};

/// Runs one target for a while: `--seconds N` and `--seed S` are passed on.
pub(crate) fn run(target: &str, rest: &[&str]) -> Result<(), Failure> {
    let targets = targets(&root())?;
    if !targets.iter().any(|known| known == target) {
        return Err(Failure(format!("no fuzz target {target}; there are: {}", targets.join(", "))));
    }
    let mut words =
        vec!["run", "--quiet", "--release", "--package", "tierce-fuzz", "--bin", target, "--"];
    words.extend_from_slice(rest);
    if !rest.contains(&"--seconds") {
        words.extend_from_slice(&["--seconds", "60"]);
    }
    cargo(&words, &[])
}

/// Runs every target for its share of `seconds`, with assertions on, and with the same inputs each time.
pub(crate) fn smoke(seconds: u64) -> Result<(), Failure> {
    let targets = targets(&root())?;
    let share = (seconds / targets.len() as u64).max(1).to_string();
    for target in &targets {
        let words = [
            "run",
            "--quiet",
            "--package",
            "tierce-fuzz",
            "--bin",
            target,
            "--",
            "--seconds",
            &share,
            "--seed",
            "1",
        ];
        cargo(&words, &[])?;
    }
    Ok(())
}

/// Prints the names of the targets.
pub(crate) fn list() -> Result<(), Failure> {
    for target in targets(&root())? {
        eprintln!("{target}");
    }
    Ok(())
}

/// The names of the targets: one file each.
fn targets(root: &Path) -> Result<Vec<String>, Failure> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&folder).map_err(|error| Failure(format!("{}: {error}", folder.display())))?;
    let mut targets: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    targets.sort();
    if targets.is_empty() {
        return Err(Failure(format!("no fuzz targets in {}", folder.display())));
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: targets are found where they are, and a folder without any is a failure and not a pass.
    #[test]
    fn targets_are_found() {
        let found = targets(&root()).expect("this workspace has targets");
        assert!(found.iter().any(|target| target == "decode_record"), "{found:?}");
        assert!(targets(&root().join("docs")).is_err());
    }

    /// Goal: a misspelled target is refused with the names there are.
    #[test]
    fn a_wrong_target_is_refused() {
        let failure = run("decode_recrod", &[]).expect_err("there is none of that name");
        assert!(failure.to_string().contains("decode_record"), "{failure}");
    }
}
