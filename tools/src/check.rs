//! `check` and `codes`: what is wrong with a store, and what each finding means.

use std::{ops::ControlFlow, path::PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tierce_engine::check::{CheckLevel, CheckOptions, Code as Finds, check_store_with};

use crate::{
    exit::{Code, Outcome},
    interrupt,
    look::{check_json, finding_line, severity, verdict},
    out::Out,
    progress::Progress,
    store::disk,
};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The store.
    pub(crate) dir: PathBuf,
    /// Only manifest, lengths, headers, footers and the checkpoint: no record is read.
    #[arg(long, conflicts_with_all = ["full", "sample"])]
    pub(crate) quick: bool,
    /// Everything, every record and every checksum. The default.
    #[arg(long, conflicts_with = "sample")]
    pub(crate) full: bool,
    /// As --quick, and the records of every T-th segment from the N-th on.
    #[arg(long, value_name = "N/T", value_parser = parse_sample)]
    pub(crate) sample: Option<CheckLevel>,
}

impl CheckArgs {
    fn level(&self) -> CheckLevel {
        match self.sample {
            Some(sample) => sample,
            None if self.quick => CheckLevel::Quick,
            None => CheckLevel::Full,
        }
    }
}

/// `2/7`: the second of seven parts.
fn parse_sample(text: &str) -> Result<CheckLevel, String> {
    let parts = text.split_once('/').and_then(|(n, t)| Some((n.parse().ok()?, t.parse().ok()?)));
    match parts {
        Some((n, t)) if (1..=t).contains(&n) => Ok(CheckLevel::Sample { n, t }),
        _ => Err("a part of a whole is wanted: 1/10 to 10/10, say".to_owned()),
    }
}

/// Checks the store, prints what is wrong, and one verdict.
pub(crate) fn check(args: &CheckArgs, json: bool, out: &mut Out) -> Outcome {
    let mut progress: Option<Progress> = None;
    let options = CheckOptions::new().level(args.level()).progress(|so_far| {
        let told =
            progress.get_or_insert_with(|| Progress::new("check", Some(so_far.total), "bytes"));
        told.at(so_far.bytes);
        if interrupt::is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = check_store_with(&disk(), &args.dir, options)?;
    if let Some(progress) = progress {
        progress.finish();
    }
    if json {
        out.json(&check_json(&report))?;
    } else {
        for finding in &report.findings {
            out.line(finding_line(finding))?;
        }
        out.line(verdict(&report))?;
    }
    interrupt::check()?;
    Ok(if report.is_healthy() { Code::Done } else { Code::Problems })
}

/// Lists what a check can say.
pub(crate) fn codes(json: bool, out: &mut Out) -> Outcome {
    if json {
        let row = |code: &Finds| -> Value {
            let (severity, meaning) = (severity(code.severity()), code.meaning());
            json!({
                "code": code.as_str(), "severity": severity, "meaning": meaning, "advice": code.advice(),
            })
        };
        let findings: Vec<Value> = Finds::ALL.iter().map(row).collect();
        out.json(&json!({ "findings": findings }))?;
        return Ok(Code::Done);
    }
    for code in Finds::ALL {
        let severity = severity(code.severity());
        out.line(format_args!("{code} {severity:<7} {}. {}", code.meaning(), code.advice()))?;
    }
    Ok(Code::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a sample is a part of a whole, and nothing else.
    #[test]
    fn samples() {
        assert_eq!(parse_sample("2/7"), Ok(CheckLevel::Sample { n: 2, t: 7 }));
        for wrong in ["", "2", "0/7", "8/7", "1/0", "a/b", "1/2/3", "-1/2"] {
            assert!(parse_sample(wrong).is_err(), "{wrong}");
        }
    }
}
