//! What an operator waits for: checks, backups, dumps.

use std::{
    collections::HashMap,
    env, fs,
    io::Read as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tierce_benches::{Random, median};
use tierce_engine::{
    Durability, Engine, Options, PutOptions,
    backup::{BackupOptions, back_up},
    check::check_store,
    io::{Disk, OsDisk},
};

use crate::{Bar, Figure, scratch};

const ROUNDS: usize = 5;

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// A closed store of `entries` entries with values of `value_bytes` bytes that nothing compresses.
fn filled(name: &str, entries: u64, value_bytes: usize, options: Options) -> PathBuf {
    let dir = scratch(name);
    let engine = options.durability(Durability::Buffered).open(&dir).expect("the store opens");
    let mut random = Random::new(1);
    let noise: Vec<u8> =
        (0..value_bytes + 4_096).map(|_| random.below(256).to_le_bytes()[0]).collect();
    for n in 0..entries {
        let start = usize::try_from(random.below(4_096)).expect("a small number");
        engine
            .put(format!("key {n}"), &noise[start..start + value_bytes])
            .expect("the put succeeds");
    }
    engine.close().expect("the store closes");
    dir
}

/// Seconds for a line of the shell.
fn shell(line: &str) -> f64 {
    seconds(|| {
        let status = Command::new("sh").args(["-c", line]).status().expect("a shell");
        assert!(status.success(), "{line}");
    })
}

/// Runs `ours` and `other` in turn; the speed of ours as a share of the other's.
fn share(
    name: &str,
    beside: &str,
    bytes: u64,
    bar: Bar,
    run: &mut dyn FnMut() -> (f64, f64),
) -> Figure {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| run()).collect();
    let speed = |seconds: f64| format!("{:.0} MB/s", bytes as f64 / 1e6 / seconds);
    Figure {
        name: name.to_owned(),
        ours: speed(median(rounds.iter().map(|round| round.0).collect())),
        other: format!(
            "{} ({beside})",
            speed(median(rounds.iter().map(|round| round.1).collect()))
        ),
        found: median(rounds.iter().map(|(ours, other)| other / ours).collect()),
        bar,
    }
}

/// Checking and copying a gigabyte, beside `cat`.
pub(crate) fn walks() -> Vec<Figure> {
    let dir = filled("operate", 1_000_000, 1_000, Options::new());
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let listed = fs::read_dir(&dir).expect("the store is listed").flatten();
    let bytes = listed.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
    let (cat_out, backup) = (dir.with_extension("cat"), dir.with_extension("backup"));
    let read = format!("cat '{}'/* > /dev/null", dir.display());
    let written = format!(
        "cat '{}'/* > '{}' && sync '{}'",
        dir.display(),
        cat_out.display(),
        cat_out.display()
    );
    let check = || {
        let report = check_store(&disk, &dir).expect("the store is checked");
        assert!(report.is_healthy() && report.entries == 1_000_000, "{report:?}");
    };
    let mut figures =
        vec![share("full check, pages in memory", "cat", bytes, Bar::AtLeast(0.7), &mut || {
            (seconds(check), shell(&read))
        })];
    if forget_pages() {
        let cold = |work: &mut dyn FnMut() -> f64| {
            forget_pages();
            work()
        };
        figures.push(share(
            "full check, pages on disk",
            "cat",
            bytes,
            Bar::AtLeast(0.7),
            &mut || (cold(&mut || seconds(check)), cold(&mut || shell(&read))),
        ));
    }
    let mut copy = || {
        let _ = fs::remove_dir_all(&backup);
        let options = BackupOptions::new().copies(true);
        let go_on = &mut |_, _| ControlFlow::Continue(());
        let ours = seconds(|| {
            let report = back_up(&disk, &dir, &backup, &options, go_on).expect("it is backed up");
            assert_eq!(report.linked_bytes, 0);
        });
        let _ = fs::remove_file(&cat_out);
        (ours, shell(&written))
    };
    figures.push(share(
        "backup by copy, durable",
        "cat to a file, synced",
        bytes,
        Bar::AtLeast(0.7),
        &mut copy,
    ));
    let _ = (fs::remove_dir_all(&backup), fs::remove_file(&cat_out));
    figures
}

/// Lets the system forget the pages of files; only an administrator may.
fn forget_pages() -> bool {
    Command::new("sync").status().is_ok() && fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}

/// A backup of 1,000 segments by links.
pub(crate) fn links() -> Vec<Figure> {
    let dir = filled("operate-links", 60_000, 1_000, Options::new().segment_bytes(64 << 10));
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let backup = dir.with_extension("backup");
    let mut segments = 0;
    let times = (0..ROUNDS).map(|_| {
        let _ = fs::remove_dir_all(&backup);
        let go_on = &mut |_, _| ControlFlow::Continue(());
        seconds(|| {
            let report = back_up(&disk, &dir, &backup, &BackupOptions::new(), go_on);
            let report = report.expect("it is backed up");
            assert!(report.copied_bytes < 1 << 20, "{report:?}");
            segments = report.segments;
        }) * 1e3
    });
    let found = median(times.collect()) * 1_000.0 / segments.max(1) as f64;
    let _ = fs::remove_dir_all(&backup);
    vec![Figure {
        name: "backup by links, per 1,000 segments".to_owned(),
        ours: format!("{found:.1} ms ({segments} segments)"),
        other: "milliseconds".to_owned(),
        found,
        bar: Bar::AtMost(100.0),
    }]
}

/// The tool, built beside this program.
fn tool() -> PathBuf {
    let tool = env::current_exe().expect("this program has a path").with_file_name("tierce");
    assert!(tool.exists(), "build the tool first: cargo build --release -p tierce-tool");
    tool
}

/// Most megabytes of memory of a run of the tool: in all, pages of mapped files included, and its own.
fn peak_mb(arguments: &[&str], dir: &Path) -> (f64, f64) {
    let mut run = Command::new(tool())
        .args(arguments)
        .arg(dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("the tool starts");
    let (mut all, mut own) = (0.0_f64, 0.0_f64);
    let status = loop {
        let status = fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap_or_default();
        let field = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or(0.0) / 1e3
        };
        (all, own) = (all.max(field("VmHWM:")), own.max(field("RssAnon:")));
        if let Some(status) = run.try_wait().expect("the tool ends") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{arguments:?}");
    (all, own)
}

/// Memory of a check and of a dump of ten gigabytes, beyond 28 bytes per key for the index.
pub(crate) fn memory() -> Vec<Figure> {
    const ENTRIES: u64 = 1_000_000;
    let dir = filled("operate-memory", ENTRIES, 10_000, Options::new());
    let index = ENTRIES as f64 * 28.0 / 1e6;
    let measured = [&["check", "--full"][..], &["dump"]].map(|arguments| {
        let (all, own) = peak_mb(arguments, &dir);
        Figure {
            name: format!("memory of `{}`, 10 GB, beyond the index", arguments.join(" ")),
            ours: format!("{all:.0} MB with pages of files, {own:.0} MB its own"),
            other: format!("{index:.0} MB (index)"),
            found: all - index,
            bar: Bar::AtMost(200.0),
        }
    });
    let _ = fs::remove_dir_all(&dir);
    measured.into()
}

/// A number that two entries share only if they are the same, chance aside.
fn print_of(key: &[u8], entry: &tierce_engine::Entry) -> (Vec<u8>, String) {
    let said = format!(
        "{:?} {} {} {} {:?} {:?} {:?}",
        entry.expires_at,
        entry.evictable,
        entry.codec,
        entry.schema,
        entry.scopes,
        entry.items,
        &*entry.value
    );
    (key.to_vec(), said)
}

fn prints(engine: &Engine) -> HashMap<Vec<u8>, String> {
    let entries = engine.iter().expect("the store is read").map(|entry| entry.expect("an entry"));
    entries.map(|(key, entry)| print_of(&key, &entry)).collect()
}

/// `tierce dump | tierce load` of a million entries with everything that an entry can have.
pub(crate) fn round_trip() -> Vec<Figure> {
    const ENTRIES: u64 = 1_000_000;
    let (from, to) = (scratch("operate-dump"), scratch("operate-load"));
    let tool = env::current_exe().expect("this program has a path").with_file_name("tierce");
    assert!(tool.exists(), "build the tool first: cargo build --release -p tierce-tool");
    let engine =
        Options::new().durability(Durability::Buffered).open(&from).expect("the store opens");
    let mut random = Random::new(2);
    let later = engine.now().saturating_add_ms(86_400_000);
    for n in 0..ENTRIES {
        let bytes = |random: &mut Random, most: u64| -> Vec<u8> {
            (0..random.below(most)).map(|_| random.below(256).to_le_bytes()[0]).collect()
        };
        let mut key = bytes(&mut random, 12);
        key.extend(n.to_le_bytes());
        let mut options = PutOptions::new().evictable(n % 2 == 0);
        if n % 3 == 0 {
            options = options.expires_at(later.saturating_add_ms(random.below(1 << 40)));
        }
        if n % 5 == 0 {
            options = options.scope(n.to_le_bytes()).scope("tag").codec(n.to_le_bytes()[0], 7);
        }
        if n % 7 == 0 {
            options = options.item(0x20, bytes(&mut random, 9));
        }
        engine.put_with(&key, bytes(&mut random, 60), &options).expect("the put succeeds");
    }
    engine.close().expect("the store closes");
    let took = seconds(|| {
        let mut dump = Command::new(&tool)
            .arg("dump")
            .arg(&from)
            .stdout(Stdio::piped())
            .spawn()
            .expect("dump");
        let piped = dump.stdout.take().expect("a pipe");
        let mut load = Command::new(&tool)
            .arg("load")
            .arg(&to)
            .stdin(piped)
            .stdout(Stdio::piped())
            .spawn()
            .expect("load");
        let mut said = String::new();
        load.stdout.take().expect("a pipe").read_to_string(&mut said).expect("what load says");
        assert!(
            load.wait().expect("load ends").success() && dump.wait().expect("dump ends").success(),
            "{said}"
        );
    });
    let open = |dir: &Path| Options::new().read_only(true).open(dir).expect("the store opens");
    let (before, after) = (prints(&open(&from)), prints(&open(&to)));
    let same = before.iter().filter(|(key, said)| after.get(*key) == Some(*said)).count();
    let found = if before.len() == after.len() { same as f64 } else { 0.0 };
    vec![Figure {
        name: "dump | load of a million entries: those that come out as they were".to_owned(),
        ours: format!("{same} of {} in {took:.1} s", before.len()),
        other: "entries".to_owned(),
        found,
        bar: Bar::AtLeast(ENTRIES as f64),
    }]
}
