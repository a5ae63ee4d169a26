//! The figures of `docs/benchmarks.md`: each a ratio against a peer or a bare loop in the same run, with its bar.
//!
//! `cargo run --release -p tierce-benches --features lmdb --bin figures [-- NAME ...]`

mod amplification;
mod expiry;
mod kit;
mod latency;
mod memory;
mod operate;
mod reads;
mod small;
mod space;
mod typed;
mod writes;

use std::{env, path::PathBuf, process::ExitCode};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// One line of the table.
pub(crate) struct Figure {
    name: String,
    ours: String,
    other: String,
    found: f64,
    bar: Bar,
}

/// What a figure must reach.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// Shown for information.
    None,
}

impl Figure {
    fn is_reached(&self) -> bool {
        match self.bar {
            Bar::AtMost(bar) => self.found <= bar,
            Bar::AtLeast(bar) => self.found >= bar,
            Bar::None => true,
        }
    }

    #[expect(clippy::print_stdout, reason = "this is what the program is for")]
    fn print(&self) {
        let bar = match self.bar {
            Bar::AtMost(bar) => format!("<= {bar}"),
            Bar::AtLeast(bar) => format!(">= {bar}"),
            Bar::None => "-".to_owned(),
        };
        let verdict = if self.is_reached() { "reached" } else { "MISSED" };
        let Self { name, ours, other, found, .. } = self;
        println!("| {name} | {ours} | {other} | {found:.2} | {bar} | {verdict} |");
    }
}

/// Measures some figures.
type Measure = fn() -> Vec<Figure>;

/// Where stores stand: a real file system, not one in memory.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let root = env::var_os("TIERCE_BENCH_DIR")
        .map_or_else(|| PathBuf::from("target/bench-data"), PathBuf::from);
    let dir = root.join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&root).expect("the scratch directory can be made");
    dir
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn main() -> ExitCode {
    let wanted: Vec<String> = env::args().skip(1).collect();
    if let [child, dir] = wanted.as_slice()
        && child == "fill-and-abort"
    {
        small::fill_and_abort(dir);
    }
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    println!("| figure | ours | other | ratio or value | bar | |");
    println!("|---|---|---|---:|---|---|");
    let mut all = true;
    let groups: [(&str, Measure); 20] = [
        ("get", reads::get),
        ("put-os", writes::put_os),
        ("put-buffered", writes::put_buffered),
        ("put-sync", writes::put_sync),
        ("group", writes::group),
        ("small", small::small),
        ("memory", small::memory_per_key),
        ("open", small::open_times),
        ("space-overwrites", amplification::overwrites),
        ("space-lifetimes", amplification::lifetimes),
        ("space-settled", space::settled),
        ("space-latency", latency::latency),
        ("space-expiry", expiry::expiry),
        ("space-heap", small::memory_with_limits),
        ("space-limit", space::limits),
        ("typed-hits", typed::hits),
        ("operate-walks", operate::walks),
        ("operate-links", operate::links),
        ("operate-dump", operate::round_trip),
        ("operate-memory", operate::memory),
    ];
    for (name, measure) in groups {
        if is_wanted(name) {
            for figure in measure() {
                all &= figure.is_reached();
                figure.print();
            }
        }
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
