//! Seed 000, "Storing Complex Data": a record of totals is loaded or made, changed every hour, and stored whole. An
//! aggregate of the same readings needs no record of its own.

use std::{error::Error, path::Path};

use serde::{Deserialize, Serialize};
use tierce::Store;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct EnergyStats {
    total_kwh: f64,
    peak_usage: f64,
    /// Milliseconds since the Unix epoch.
    last_updated: u64,
}

fn update_stats(store: &Store, current_usage: f64) -> tierce::Result<EnergyStats> {
    let stats = store.map::<String, EnergyStats>("energy")?.update("energy_stats", |old| {
        let old = old.unwrap_or_default();
        Some(EnergyStats {
            total_kwh: old.total_kwh + current_usage,
            peak_usage: old.peak_usage.max(current_usage),
            last_updated: store.now().0,
        })
    })?;
    store.aggregate("power usage")?.add(current_usage)?;
    Ok(stats.unwrap_or_default())
}

fn run(path: &Path, readings: &[f64]) -> tierce::Result<EnergyStats> {
    let store = Store::open(path)?;
    let mut stats = EnergyStats::default();
    for reading in readings {
        stats = update_stats(&store, *reading)?;
    }
    store.close()?;
    Ok(stats)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    let first = run(&path, &[0.5, 2.25])?;
    let second = run(&path, &[1.25])?;
    assert_eq!((second.total_kwh, second.peak_usage), (4.0, 2.25));
    assert!(second.last_updated >= first.last_updated);

    let store = Store::open(&path)?;
    let usage = store.aggregate("power usage")?;
    let summary = usage.pop()?.ok_or("there were readings")?;
    assert_eq!((summary.count, summary.min, summary.max), (3, 0.5, 2.25));
    assert!((summary.mean - 4.0 / 3.0).abs() < 1e-12);
    assert_eq!(usage.get()?, None, "the next day begins with nothing");
    Ok(())
}
