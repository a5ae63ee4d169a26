//! Commands that count: `stats`, `hist`, `big`.

use std::{cmp::Reverse, collections::BinaryHeap, path::Path, time::Duration};

use serde_json::{Map, Value, json};
use tierce_engine::{Follower, Stats, Timestamp, View};

use crate::{
    args::{BigArgs, BigBy, HistArgs, HistOf, StatsArgs},
    buckets::{Bucket, Buckets},
    encoding::Face,
    exit::{Code, Outcome},
    interrupt,
    out::Out,
    select::Selection,
    shell::stats_fields,
    size::human_bytes,
    store::{disk, open_to_read},
};

/// What a store holds at one moment.
struct Figures {
    stats: Stats,
    dead_bytes: u64,
    /// Bytes free on the file system, and all of them.
    disk: (u64, u64),
}

impl Figures {
    fn of(reader: &Follower) -> Self {
        let stats = reader.stats();
        let dead_bytes = stats.segment_bytes.saturating_sub(stats.live_bytes);
        let space = disk().space(reader.path());
        Self {
            stats,
            dead_bytes,
            disk: space.map_or((0, 0), |space| (space.available, space.total)),
        }
    }

    fn all(&self) -> Vec<(&'static str, u64)> {
        let mut fields = stats_fields(&self.stats).to_vec();
        fields.push(("dead_bytes", self.dead_bytes));
        fields.push(("disk_free_bytes", self.disk.0));
        fields.push(("disk_total_bytes", self.disk.1));
        fields
    }
}

/// Prints what the store holds, once or again and again.
pub(crate) fn stats(args: &StatsArgs, json: bool, out: &mut Out) -> Outcome {
    let reader = open_to_read(&args.dir)?;
    if let Some(pause_ms) = args.watch {
        return watch(&reader, Duration::from_millis(pause_ms), json, out);
    }
    let figures = Figures::of(&reader);
    if args.prometheus {
        for line in exposition(&args.dir, &figures) {
            out.line(line)?;
        }
    } else if json {
        out.json(&document(&figures).into())?;
    } else {
        for (name, value) in figures.all() {
            out.line(format_args!("{name:<20} {value}"))?;
        }
    }
    Ok(Code::Done)
}

fn document(figures: &Figures) -> Map<String, Value> {
    figures.all().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn watch(reader: &Follower, pause: Duration, json: bool, out: &mut Out) -> Outcome {
    const HEADING_EVERY: usize = 20;
    const SPARKS: usize = 24;
    let (mut before, mut sparks) = (reader.stats().sequence, Vec::new());
    for round in 0.. {
        if round > 0 {
            interrupt::sleep(pause)?;
            reader.refresh()?;
        }
        let figures = Figures::of(reader);
        let written = figures.stats.sequence.saturating_sub(before);
        before = figures.stats.sequence;
        if json {
            let mut document = document(&figures);
            document.insert("type".to_owned(), "stats".into());
            document.insert("written".to_owned(), written.into());
            out.json(&document.into())?;
        } else {
            if round % HEADING_EVERY == 0 {
                out.line(
                    "   entries       live       dead  segments     writes  writes over time",
                )?;
            }
            sparks.push(written);
            let start = sparks.len().saturating_sub(SPARKS);
            let (live, dead) =
                (human_bytes(figures.stats.live_bytes), human_bytes(figures.dead_bytes));
            let (entries, segments) = (figures.stats.entries, figures.stats.segments);
            let line = sparkline(&sparks[start..]);
            out.line(format_args!(
                "{entries:>10} {live:>10} {dead:>10} {segments:>9} {written:>10}  {line}"
            ))?;
        }
        out.flush()?;
    }
    Ok(Code::Done)
}

/// One bar for each number, the greatest at its full height.
fn sparkline(numbers: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let greatest = u128::from(numbers.iter().copied().max().unwrap_or(0).max(1));
    numbers.iter().map(|number| BARS[(u128::from(*number) * 7 / greatest) as usize]).collect()
}

/// The text format of Prometheus, version 0.0.4. What a reader can know are sizes: its counters are its own, but for
/// the sequence number, which counts all writes of the store.
fn exposition(dir: &Path, figures: &Figures) -> Vec<String> {
    let stats = &figures.stats;
    let store =
        dir.to_string_lossy().replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    [
        ("tierce_entries", "gauge", "Entries in the index.", stats.entries),
        ("tierce_live_bytes", "gauge", "Bytes of records that can be read.", stats.live_bytes),
        (
            "tierce_dead_bytes",
            "gauge",
            "Bytes of segments that compaction could free.",
            figures.dead_bytes,
        ),
        ("tierce_segment_bytes", "gauge", "Bytes of all segments.", stats.segment_bytes),
        ("tierce_segments", "gauge", "Segments.", stats.segments),
        ("tierce_index_bytes", "gauge", "Bytes of memory that the index takes.", stats.index_bytes),
        ("tierce_writes_total", "counter", "Writes since the store was created.", stats.sequence),
        ("tierce_disk_free_bytes", "gauge", "Bytes free on the file system.", figures.disk.0),
        ("tierce_disk_total_bytes", "gauge", "Bytes of the file system.", figures.disk.1),
    ]
    .into_iter()
    .flat_map(|(name, kind, help, value)| {
        [
            format!("# HELP {name} {help}"),
            format!("# TYPE {name} {kind}"),
            format!("{name}{{store=\"{store}\"}} {value}"),
        ]
    })
    .collect()
}

/// Prints how many entries are how great.
pub(crate) fn hist(args: &HistArgs, json: bool, out: &mut Out) -> Outcome {
    let reader = open_to_read(&args.dir)?;
    let (newest, now, snapshot) = (reader.stats().sequence, reader.now(), reader.snapshot());
    let (mut buckets, mut never) = (Buckets::default(), 0_u64);
    Selection::default().walk(&snapshot, &mut |key, view| {
        let number = match args.of {
            HistOf::Size => Some(view.record_bytes),
            HistOf::Keylen => Some(key.len() as u64),
            HistOf::Age => Some(newest.saturating_sub(view.sequence.0)),
            HistOf::Ttl => view.expires_at.map(|at| at.0.saturating_sub(now.0) / 1_000),
        };
        match number {
            Some(number) => buckets.add(number),
            None => never += 1,
        }
    })?;
    print_histogram(args.of, &buckets, never, json, out)
}

fn print_histogram(
    of: HistOf,
    buckets: &Buckets,
    never: u64,
    json: bool,
    out: &mut Out,
) -> Outcome {
    const WIDTH: u64 = 50;
    let (name, unit) = of.names();
    let is_ttl = of == HistOf::Ttl;
    if json {
        let mut document = json!({"of": name, "unit": unit, "buckets": buckets.json()});
        if is_ttl {
            document["never"] = never.into();
        }
        out.json(&document)?;
        return Ok(Code::Done);
    }
    let used = buckets.used();
    let greatest = used.iter().map(|bucket| bucket.count).chain([never]).max().unwrap_or(0).max(1);
    let bar = |count: u64| {
        // Whoever is there at all is seen.
        let width = (u128::from(count) * u128::from(WIDTH)).div_ceil(u128::from(greatest));
        "█".repeat(width as usize)
    };
    for Bucket { from, to, count } in used {
        let range = if from == to { from.to_string() } else { format!("{from}-{to}") };
        out.line(
            format_args!("{range:>23} {unit} {count:>10} {}", bar(count)).to_string().trim_end(),
        )?;
    }
    if is_ttl && never > 0 {
        out.line(format_args!("{:>23} {unit} {never:>10} {}", "never ends", bar(never)))?;
    }
    Ok(Code::Done)
}

/// An entry, by what it is great.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Great {
    rank: u64,
    pub(crate) key: Vec<u8>,
    pub(crate) bytes: u64,
    /// Writes since.
    pub(crate) age: u64,
    pub(crate) expires_at: Option<Timestamp>,
}

/// The greatest entries of those that were shown, and no more.
#[derive(Debug)]
pub(crate) struct Greatest {
    by: BigBy,
    top: usize,
    newest: u64,
    heap: BinaryHeap<Reverse<Great>>,
}

impl Greatest {
    /// `newest` is the sequence number that age counts from.
    pub(crate) const fn new(by: BigBy, top: usize, newest: u64) -> Self {
        Self { by, top, newest, heap: BinaryHeap::new() }
    }

    pub(crate) fn show(&mut self, key: &[u8], view: &View<'_>) {
        let age = self.newest.saturating_sub(view.sequence.0);
        let rank = if self.by == BigBy::Bytes { view.record_bytes } else { age };
        let is_wanted = self.heap.len() < self.top
            || self.heap.peek().is_some_and(|Reverse(least)| rank > least.rank);
        if is_wanted {
            let (key, bytes, expires_at) = (key.to_vec(), view.record_bytes, view.expires_at);
            self.heap.push(Reverse(Great { rank, key, bytes, age, expires_at }));
            if self.heap.len() > self.top {
                self.heap.pop();
            }
        }
    }

    /// Greatest first.
    pub(crate) fn into_list(self) -> Vec<Great> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(entry)| entry).collect()
    }
}

/// An entry as JSON.
pub(crate) fn great_json(entry: &Great, face: Face) -> Value {
    let mut object = Map::new();
    face.insert_key(&mut object, "key", &entry.key);
    object.insert("bytes".to_owned(), entry.bytes.into());
    object.insert("age".to_owned(), entry.age.into());
    object.insert("expires_at_ms".to_owned(), entry.expires_at.map(|at| at.0).into());
    Value::from(object)
}

/// Prints the greatest entries. Holds no more than those.
pub(crate) fn big(args: &BigArgs, face: Face, out: &mut Out) -> Outcome {
    let reader = open_to_read(&args.dir)?;
    let mut greatest = Greatest::new(args.by, args.top, reader.stats().sequence);
    Selection::default().walk(&reader.snapshot(), &mut |key, view| greatest.show(key, &view))?;
    let greatest = greatest.into_list();
    if face.json {
        let entries: Vec<Value> = greatest.iter().map(|entry| great_json(entry, face)).collect();
        out.json(&json!({ "entries": entries }))?;
        return Ok(Code::Done);
    }
    for Great { key, bytes, age, .. } in &greatest {
        out.line(format_args!("{bytes:>12} bytes {age:>12} writes ago {}", face.key_word(key)?))?;
    }
    Ok(Code::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the greatest is full, nothing is empty, and no number breaks it.
    #[test]
    fn sparklines() {
        assert_eq!(sparkline(&[0, 1, 4, 8]), "▁▁▄█");
        assert_eq!(sparkline(&[0, 0]), "▁▁");
        assert_eq!(sparkline(&[u64::MAX, 0]), "█▁");
        assert_eq!(sparkline(&[]), "");
    }
}
