//! Opening a store for a command, and saying what recovery found on the way.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tierce_engine::{
    Durability, Engine, Error, Follower, Options, ReadMode, RecoveryPolicy, RecoveryReport,
    io::{Disk, OsDisk},
};

use crate::{
    exit::Outcome,
    interrupt,
    progress::Progress,
    settings::timeout_ms,
    talk::{detail, say},
};

/// The disk that stores are on, for commands that look at files without opening the store.
pub(crate) fn disk() -> Arc<dyn Disk> {
    Arc::new(OsDisk)
}

/// Settings of every command. Files are never mapped: a block that the device cannot read is then an error with a
/// message, where a map would end the process by a signal, and files do not count as memory of this process.
pub(crate) fn settings() -> Options {
    Options::new().read_mode(ReadMode::Positioned)
}

/// Opens an existing store for reading, beside any writer.
pub(crate) fn open_to_read(dir: &Path) -> Outcome<Follower> {
    open_beside(dir, RecoveryPolicy::default())
}

/// As [`open_to_read`], with another policy about damage.
pub(crate) fn open_beside(dir: &Path, policy: RecoveryPolicy) -> Outcome<Follower> {
    let options = settings().recovery(policy);
    let reader = with_progress(options, |options| Ok(options.open_reader(dir)?))?;
    // What another process is just writing is no loss.
    if holder(dir).is_none() {
        for sentence in losses(&reader.recovery_report()) {
            say(format_args!("tierce: {sentence}"));
        }
    }
    Ok(reader)
}

/// Reads what can be read of a store, damaged or not, for pictures. Says nothing of what was found: they do.
pub(crate) fn open_to_draw(dir: &Path) -> Outcome<Follower> {
    let options = settings().recovery(RecoveryPolicy::Salvage);
    with_progress(options, |options| Ok(options.open_reader(dir)?))
}

/// The process that has the store open, where the system tells: it has a lock on a file in the directory.
#[cfg(target_os = "linux")]
pub(crate) fn holder(dir: &Path) -> Option<u32> {
    use std::{fs, os::unix::fs::MetadataExt as _};
    let files: Vec<_> =
        fs::read_dir(dir).ok()?.flatten().filter_map(|file| file.metadata().ok()).collect();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (kind, pid, file) = (*words.get(3)?, words.get(4)?, words.get(5)?);
        let inode: u64 = file.rsplit(':').next()?.parse().ok()?;
        let is_ours = kind == "WRITE" && files.iter().any(|file| file.ino() == inode);
        pid.parse().ok().filter(|_| is_ours)
    };
    locks.lines().find_map(holder)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn holder(_: &Path) -> Option<u32> {
    None
}

/// Opens a store that is there, to change it.
pub(crate) fn open_to_write(dir: &Path) -> Outcome<Engine> {
    open(dir, Options::new().create(false))
}

/// Opens a store, creates it if there is none.
pub(crate) fn open_or_create(dir: &Path, durability: Durability) -> Outcome<Engine> {
    open(dir, Options::new().durability(durability))
}

/// Opens a store with these settings, without mapping its files.
pub(crate) fn open(dir: &Path, options: Options) -> Outcome<Engine> {
    open_as_given(dir, options.read_mode(ReadMode::Positioned))
}

/// As [`open`], with files mapped as the library does, for commands that measure a store of their own.
pub(crate) fn open_as_given(dir: &Path, options: Options) -> Outcome<Engine> {
    let engine = with_progress(options, |options| open_waiting(dir, &options))?;
    let report = engine.recovery_report();
    detail(format_args!(
        "tierce: {} is open after {} ms: {} segments, {} records scanned, {}",
        dir.display(),
        report.duration_ms,
        report.segments,
        report.records_scanned,
        if report.clean { "it was closed cleanly" } else { "it was not closed cleanly" }
    ));
    for sentence in losses(engine.recovery_report()) {
        say(format_args!("tierce: {sentence}"));
    }
    Ok(engine)
}

fn open_waiting(dir: &Path, options: &Options) -> Outcome<Engine> {
    patiently(dir, || options.clone().open(dir))
}

/// Opens something by these settings and tells how far that is.
fn with_progress<T>(options: Options, open: impl FnOnce(Options) -> Outcome<T>) -> Outcome<T> {
    // The store keeps the settings; the progress ends here.
    let progress = Arc::new(Mutex::new(Some(Progress::new("open", None, "parts"))));
    let shown = Arc::clone(&progress);
    let options = options.on_opening(move |done, total| {
        if let Some(progress) = &mut *shown.lock().unwrap_or_else(PoisonError::into_inner) {
            progress.of(total);
            progress.at(done);
        }
    });
    let opened = open(options);
    drop(progress.lock().unwrap_or_else(PoisonError::into_inner).take());
    opened
}

/// Tries again while another process has the store, as long as `--timeout` says.
pub(crate) fn patiently<T>(dir: &Path, attempt: impl Fn() -> Result<T, Error>) -> Outcome<T> {
    const RETRY_EVERY: Duration = Duration::from_millis(50);
    let (start, patience) = (Instant::now(), Duration::from_millis(timeout_ms()));
    loop {
        match attempt() {
            Err(Error::Locked { pid, .. }) if start.elapsed() < patience => {
                detail(format_args!("tierce: waiting for {} (process {pid:?})", dir.display()));
                interrupt::sleep(RETRY_EVERY.min(patience.saturating_sub(start.elapsed())))?;
            }
            done => return Ok(done?),
        }
    }
}

/// What recovery could not keep, one sentence each; empty after a clean open.
pub(crate) fn losses(report: &RecoveryReport) -> Vec<String> {
    let torn = report.torn.iter().map(|torn| {
        let (file, bytes, offset) = (torn.file.display(), torn.bytes, torn.offset);
        format!("{bytes} bytes of an unfinished write in {file} at {offset} do not count")
    });
    let damaged = report.damaged.iter().map(ToString::to_string);
    let aside = report.quarantined.iter().map(|file| format!("set aside {}", file.display()));
    torn.chain(damaged).chain(aside).collect()
}
