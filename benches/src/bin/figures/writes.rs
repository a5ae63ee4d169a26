//! Writes: against bare loops of the same system calls, and against a hash map.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    time::Instant,
};

use tierce_benches::{Versus, key, nanos_per, shuffled, value, versus};
use tierce_engine::{Durability, Engine, Options};

use crate::{Bar, Figure, scratch};

const ROUNDS: usize = 5;
/// Bytes of one record of the bench: header, key, value, padding.
const RECORD_BYTES: usize = 144;
/// Bytes of the commit marker that follows a sync.
const MARKER_BYTES: usize = 48;

fn figure(
    name: &'static str,
    unit: f64,
    suffix: &str,
    other: &str,
    of: Versus,
    bar: Bar,
) -> Figure {
    Figure {
        name: name.to_owned(),
        ours: format!("{:.1} {suffix}", of.ours / unit),
        other: format!("{other} {:.1} {suffix}", of.other / unit),
        found: of.ratio,
        bar,
    }
}

fn store(name: &str, durability: Durability) -> Engine {
    Options::new().durability(durability).open(scratch(name)).expect("the store opens")
}

fn bare(name: &str, bytes: u64) -> File {
    let dir = scratch(name);
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    let mut options = OpenOptions::new();
    let file = options.create(true).write(true).truncate(true).open(dir.join("bare"));
    let file = file.expect("the file opens");
    if bytes > 0 {
        let none = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, none, 0, bytes).expect("room can be reserved");
    }
    file.sync_all().expect("the file syncs");
    file
}

/// Fills a new store; time per put.
fn puts(name: &str, durability: Durability, order: &[u64]) -> f64 {
    let engine = store(name, durability);
    let took = nanos_per(order.len() as u64, || {
        for &index in order {
            engine.put(key(index), value(index)).expect("the put succeeds");
        }
    });
    drop(engine);
    took
}

/// One thread, each put handed to the operating system.
pub(crate) fn put_os() -> Vec<Figure> {
    let order = shuffled(crate::reads::KEYS, 2);
    let bare_loop = || {
        let file = bare("bare-os", 0);
        let mut record = [7; RECORD_BYTES];
        nanos_per(order.len() as u64, || {
            for (at, &index) in order.iter().enumerate() {
                record[24..40].copy_from_slice(&key(index));
                record[40..140].copy_from_slice(&value(index));
                file.write_all_at(&record, (at * RECORD_BYTES) as u64).expect("the write succeeds");
            }
        })
    };
    let found = versus(ROUNDS, || puts("put-os", Durability::Os, &order), bare_loop);
    vec![figure("put, Os", 1.0, "ns", "pwrite loop", found, Bar::AtMost(1.5))]
}

/// One thread, each put in this process only.
pub(crate) fn put_buffered() -> Vec<Figure> {
    let order = shuffled(crate::reads::KEYS, 3);
    let inserts = || {
        let map = crate::reads::Map::default();
        let took = nanos_per(order.len() as u64, || {
            for &index in &order {
                map.write().insert(key(index).into(), value(index).into());
            }
        });
        drop(map);
        took
    };
    let found = versus(ROUNDS, || puts("put-buffered", Durability::Buffered, &order), inserts);
    vec![figure("put, Buffered", 1.0, "ns", "hash map insert", found, Bar::AtMost(3.0))]
}

/// Write requests, sectors and flushes of the device that holds `path`, from its own counters.
fn device_counters(path: &Path) -> Option<[u64; 3]> {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata(path).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let fields: Vec<u64> = text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    Some([*fields.get(4)?, *fields.get(6)?, *fields.get(15)?])
}

/// One thread, each put on the device.
pub(crate) fn put_sync() -> Vec<Figure> {
    const PUTS: u64 = 2_000;
    let order: Vec<u64> = (0..PUTS).collect();
    let (mut counters, mut bare_counters) = (None, None);
    let ours = || {
        let engine = store("put-sync", Durability::Sync);
        engine.put("first", "creates the files").expect("the put succeeds");
        let before = device_counters(engine.path());
        let took = nanos_per(PUTS, || {
            for &index in &order {
                engine.put(key(index), value(index)).expect("the put succeeds");
            }
        });
        let after = device_counters(engine.path());
        counters = before.zip(after);
        took
    };
    let bare_loop = || {
        let each = RECORD_BYTES + MARKER_BYTES;
        let file = bare("bare-sync", PUTS * each as u64);
        let record = vec![7; each];
        let place = std::env::current_dir().expect("there is a directory");
        let before = device_counters(&place);
        let took = nanos_per(PUTS, || {
            for at in 0..PUTS {
                file.write_all_at(&record, at * each as u64).expect("the write succeeds");
                file.sync_data().expect("the sync succeeds");
            }
        });
        bare_counters = before.zip(device_counters(&place));
        took
    };
    let found = versus(ROUNDS, ours, bare_loop);
    let mut figures =
        vec![figure("put, Sync", 1e3, "us", "pwrite + fdatasync", found, Bar::AtMost(1.1))];
    if let Some((ours, bare)) = counters.zip(bare_counters) {
        let each = |(before, after): ([u64; 3], [u64; 3]), at: usize| {
            (after[at] - before[at]) as f64 / PUTS as f64
        };
        let per_put = |at: usize| each(ours, at);
        let bare = |at: usize| format!("bare loop {:.2}", each(bare, at));
        for (name, at, bar) in [
            ("put, Sync: device write requests each", 0, Bar::AtMost(2.0)),
            ("put, Sync: device flushes each", 2, Bar::AtMost(1.05)),
        ] {
            let ours = format!("{:.2}", per_put(at));
            figures.push(Figure {
                name: name.to_owned(),
                ours,
                other: bare(at),
                found: per_put(at),
                bar,
            });
        }
        let bytes = per_put(1) * 512.0;
        figures.push(Figure {
            name: "put, Sync: device bytes each".to_owned(),
            ours: format!("{bytes:.0}"),
            other: "-".to_owned(),
            found: bytes,
            bar: Bar::None,
        });
    }
    figures
}

/// Many threads share flushes.
pub(crate) fn group() -> Vec<Figure> {
    const THREADS: u64 = 32;
    let rate = |threads: u64, each: u64| {
        let engine = Arc::new(store("group", Durability::Sync));
        engine.put("first", "creates the files").expect("the put succeeds");
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let engine = Arc::clone(&engine);
                scope.spawn(move || {
                    for index in 0..each {
                        let index = thread * each + index;
                        engine.put(key(index), value(index)).expect("the put succeeds");
                    }
                });
            }
        });
        (threads * each) as f64 / start.elapsed().as_secs_f64()
    };
    let found = versus(ROUNDS, || rate(THREADS, 500), || rate(1, 1_000));
    vec![figure(
        "put, Sync, rate of 32 threads over 1",
        1.0,
        "/s",
        "1 thread",
        found,
        Bar::AtLeast(8.0),
    )]
}
