//! The hit ratios of the tool on real traces, beside what others have measured on the same ones.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::step::{Failure, cargo, root, target};

/// Where the traces are, from the root of the workspace; they are not ours to keep here.
const TRACES: &str = "../shared/data/traces";
const POLICIES: [&str; 3] = ["lru", "fifo", "s3-fifo"];

/// One trace at one capacity, and the hit ratios in percent of exact LRU, FIFO and S3-FIFO.
struct Row {
    file: &'static str,
    format: &'static str,
    capacity: &'static str,
    expected: [f64; 3],
}

const fn row(
    file: &'static str,
    format: &'static str,
    capacity: &'static str,
    expected: [f64; 3],
) -> Row {
    Row { file, format, capacity, expected }
}

const TABLE: [Row; 8] = [
    row("OLTP.lis.zst", "arc", "1%", [41.6, 36.6, 46.5]),
    row("OLTP.lis.zst", "arc", "10%", [66.5, 63.3, 67.8]),
    row("scarab-recs.trace.xz", "u64be", "1%", [34.7, 31.8, 42.8]),
    row("scarab-recs.trace.xz", "u64be", "10%", [60.6, 57.1, 62.8]),
    row("web12.trace.xz", "u32be", "1%", [39.7, 37.6, 41.0]),
    row("web12.trace.xz", "u32be", "10%", [68.5, 64.5, 72.2]),
    row("adaptsize.trace.xz", "sized", "1%", [24.6, 23.4, 27.4]),
    row("adaptsize.trace.xz", "sized", "10%", [34.4, 32.9, 37.8]),
];

/// Prints the table. Nothing fails by it: it is for eyes, and for the benchmarks' document.
pub(crate) fn run(traces: Option<&str>) -> Result<(), Failure> {
    let traces = traces.map_or_else(|| root().join(TRACES), PathBuf::from);
    cargo(&["build", "--release", "--package", "tierce-tool"], &[])?;
    let tool = target().join("release").join(format!("tierce{}", std::env::consts::EXE_SUFFIX));
    eprintln!(
        "{:<22} {:>4}  {:<8} {:>8} {:>8} {:>7}  {:>6} {:>10}",
        "trace", "room", "policy", "expected", "got", "off by", "WA", "requests/s"
    );
    let mut skipped = 0;
    for row in &TABLE {
        let path = traces.join(row.file);
        if !path.is_file() {
            eprintln!(
                "{:<22} {:>4}  skipped: {} is not there",
                row.file,
                row.capacity,
                path.display()
            );
            skipped += 1;
            continue;
        }
        for (policy, expected) in POLICIES.into_iter().zip(row.expected) {
            let document = replay(&tool, &path, row, policy)?;
            let got = number(&document, "hit_ratio")? * 100.0;
            let amplification = number(&document, "write_amplification")?;
            let speed = number(&document, "requests_per_second")?;
            eprintln!(
                "{:<22} {:>4}  {policy:<8} {expected:>8.1} {got:>8.1} {:>+7.1}  {amplification:>6.2} {speed:>10.0}",
                row.file,
                row.capacity,
                got - expected
            );
        }
    }
    if skipped == TABLE.len() {
        return Err(Failure(format!("no trace is in {}; say --traces DIR", traces.display())));
    }
    Ok(())
}

fn replay(tool: &Path, trace: &Path, row: &Row, policy: &str) -> Result<String, Failure> {
    let mut command = Command::new(tool);
    command.args(["replay", "--json", "--format", row.format, "--capacity", row.capacity]);
    command.args(["--evict", policy]).arg(trace).stderr(Stdio::inherit());
    let output = command
        .output()
        .map_err(|error| Failure(format!("could not start {}: {error}", tool.display())))?;
    if !output.status.success() {
        return Err(Failure(format!("the replay failed ({}): {command:?}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number called `name` in a flat part of a JSON document.
fn number(document: &str, name: &str) -> Result<f64, Failure> {
    let found = document.split_once(&format!("\"{name}\":")).and_then(|(_, rest)| {
        let end = rest.find([',', '}'])?;
        rest[..end].trim().parse().ok()
    });
    found.ok_or_else(|| Failure(format!("the replay told no {name}: {document}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a number is found by its whole name; none is a failure and not a zero.
    #[test]
    fn numbers() {
        let document = r#"{"byte_hit_ratio":0.25,"hit_ratio":0.5,"inner":{"last":7}}"#;
        assert_eq!(number(document, "hit_ratio").ok(), Some(0.5));
        assert_eq!(number(document, "last").ok(), Some(7.0));
        assert!(number(document, "missing").is_err());
        assert!(number(r#"{"hit_ratio":null}"#, "hit_ratio").is_err());
    }
}
