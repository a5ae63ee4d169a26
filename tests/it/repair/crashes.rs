//! A repair that is cut short, at every effect it has on the disk.

use std::{collections::HashSet, path::Path, sync::Arc};

use tierce_engine::{RecoveryPolicy, check::check_store, io::Disk, repair};
use tierce_kit::{
    clock::TestClock,
    crash::{Bounds, sweep},
    image::Image,
    recorder::RecordingDisk,
    rng::Rng,
    seed::count,
    store::STORE,
};

use super::{
    End, Lived, disk_of, options,
    random::{damage, told},
    store_files,
};

const BOUNDS: Bounds = Bounds { prefixes: 3, singles: 3, randoms: 2, tears: 1 };

/// Cuts the repair of one damaged store short everywhere; says how many states that gave.
fn cut_short(seed: u64) -> usize {
    let mut rng = Rng::new(seed);
    let end = [End::Closed, End::Crashed, End::Bare][rng.below(3) as usize];
    let lived = Lived::new(seed, end);
    let mut files = lived.files.clone();
    let done = damage(&mut rng, &lived, &mut files);
    let start = disk_of(&files);
    let disk = RecordingDisk::with_image(&Image::of_memory_disk(&start));
    let recorded = lived.setup.options(Arc::new(disk.clone()), &TestClock::new());
    let Ok(report) = repair::repair(&recorded, Path::new(STORE), None) else { return 0 };
    let whole = &report.plan;
    let losses = (whole.lost.as_slice(), whole.unknown.as_slice());
    let told = told(std::slice::from_ref(&done), end, losses, whole.may_lack_segments, &files);
    let log = disk.log();
    let finished = disk_of(&disk.image().memory_disk().files());
    let finished = lived.read(&options(&lived.setup, &finished).open(STORE).unwrap());
    let mut seen = HashSet::new();
    let result: Result<(), String> = sweep(&log, 0, &BOUNDS, seed, |point, plan, image| {
        if !seen.insert(image.fingerprint()) {
            return Ok(());
        }
        let failed = |what: String| Err(format!("{done:?}, cut at {point}, {plan:?}: {what}"));
        let cut = image.memory_disk();
        let options = options(&lived.setup, &cut);
        // It shows the old damage, or it is repaired: then what is lost is what was said.
        let disk: Arc<dyn Disk> = Arc::new(cut.clone());
        let is_healthy =
            check_store(&disk, Path::new(STORE)).is_ok_and(|report| report.is_healthy());
        let was_healthy = whole.before.is_healthy();
        if is_healthy && !was_healthy {
            let opened = disk_of(&cut.files());
            let strict = super::options(&lived.setup, &opened).recovery(RecoveryPolicy::Strict);
            let engine = match strict.open(STORE) {
                Ok(engine) => engine,
                Err(error) => return failed(format!("healthy, and not opened: {error}")),
            };
            if let Err(rule) = lived.judge(&engine, &told, done.is_end_cut) {
                return failed(format!("repaired, but {rule}"));
            }
        }
        // And the repair can be had again, with nothing more lost.
        let again = match repair::repair(&options, Path::new(STORE), None) {
            Ok(again) => again,
            Err(error) => return failed(format!("not repaired again: {error}")),
        };
        if !again.after.is_healthy() {
            return failed(format!("not healthy: {:#?}", again.after.findings));
        }
        let engine = match options.clone().open(STORE) {
            Ok(engine) => engine,
            Err(error) => return failed(format!("not opened: {error}")),
        };
        for (key, found) in lived.read(&engine) {
            if found != lived.expected[&key] && found != finished[&key] {
                let key = String::from_utf8_lossy(&key).into_owned();
                return failed(format!("{key} is right no more, and not as after one repair"));
            }
        }
        lived
            .judge(&engine, &told, done.is_end_cut)
            .or_else(|rule| failed(format!("again: {rule}")))
    });
    if let Err(complaint) = result {
        panic!("seed {seed}: {complaint}");
    }
    assert!(store_files(&start) == store_files(&disk_of(&files)), "the start is as it was");
    seen.len()
}

/// Goal: a crash between any two calls to the disk leaves a store that shows the old damage or is repaired, and a repair
/// of that loses nothing more. Method: small damaged stores, every effect of their repair, with any of the unsynced
/// bytes and names lost.
#[test]
fn cut_short_anywhere() {
    let states: usize = (0..count(40)).map(cut_short).sum();
    eprintln!("{states} states");
    assert!(states > 1_000, "{states}");
}
