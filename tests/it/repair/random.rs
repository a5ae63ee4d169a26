//! Any damage to any file of any store, repaired and gone back from.

use std::path::{Path, PathBuf};

use tierce_engine::{
    Error, RecoveryPolicy,
    check::Code,
    repair::{self, LostRange, LostRecord},
};
use tierce_kit::{rng::Rng, seed::cases, store::STORE};

use super::{End, Files, Lived, Told, disk_of, has_suffix, hash_seed, options, store_files};

/// What was done to the files.
#[derive(Debug)]
#[expect(dead_code, reason = "what it was is read by people, when a case fails")]
pub(super) struct Done {
    pub(super) what: String,
    /// Whether it hit the unsealed end of a log so that nobody can tell it from a crash.
    pub(super) is_end_cut: bool,
    pub(super) is_of_segments: bool,
    pub(super) is_of_segments_alone: bool,
}

fn pick(rng: &mut Rng, lived: &Lived) -> PathBuf {
    let files: Vec<_> = lived.files.keys().filter(|path| !has_suffix(path, "LOCK")).collect();
    // Half of the time a segment: that is where the data are.
    let segments = lived.segments();
    if rng.below(2) == 0 && !segments.is_empty() {
        return segments[rng.below(segments.len() as u64) as usize].clone();
    }
    files[rng.below(files.len() as u64) as usize].clone()
}

/// Damages the files of `lived` in one way.
pub(super) fn damage(rng: &mut Rng, lived: &Lived, files: &mut Files) -> Done {
    let path = pick(rng, lived);
    let mut is_of_segments = has_suffix(&path, ".seg");
    let mut is_of_segments_alone = is_of_segments;
    let mut is_end_cut = lived.is_tail(&path);
    let bytes = files.get_mut(&path).unwrap();
    let length = bytes.len() as u64;
    let what = match rng.below(10) {
        0..=3 => {
            let at = rng.below(length) as usize;
            bytes[at] ^= 1 << rng.below(8);
            is_end_cut &= at + 2_000 > bytes.len();
            format!("flip at {at}")
        }
        4 | 5 => {
            let page = rng.weighted(&[(1, 512_u64), (1, 4_096)]);
            let at = rng.below(length) / page * page;
            let end = (at + page).min(length);
            bytes[at as usize..end as usize].fill(0);
            format!("zeros at {at}, {page}")
        }
        6 => {
            let to = rng.below(length);
            bytes.truncate(to as usize);
            format!("cut to {to}")
        }
        7 => {
            bytes.extend([0xa5; 77]);
            "longer".to_owned()
        }
        8 => {
            let other = pick(rng, lived);
            let (one, two) = (files[&path].clone(), files[&other].clone());
            files.insert(path.clone(), two);
            files.insert(other.clone(), one);
            is_end_cut |= lived.is_tail(&other);
            is_of_segments |= has_suffix(&other, ".seg");
            is_of_segments_alone &= has_suffix(&other, ".seg");
            format!("exchanged with {}", other.display())
        }
        _ => {
            files.remove(&path);
            "missing".to_owned()
        }
    };
    Done {
        what: format!("{}: {what}", path.display()),
        is_end_cut,
        is_of_segments,
        is_of_segments_alone,
    }
}

const ENDS: [End; 3] = [End::Closed, End::Crashed, End::Bare];

/// The files of `lived`, damaged once or twice.
fn damaged(rng: &mut Rng, lived: &Lived) -> (Files, Vec<Done>) {
    let (mut files, mut done) = (lived.files.clone(), Vec::new());
    for _ in 0..rng.weighted(&[(3, 1), (1, 2)]) {
        if files.len() == lived.files.len() {
            done.push(damage(rng, lived, &mut files));
        }
    }
    (files, done)
}

fn is_end_cut(done: &[Done]) -> bool {
    done.iter().any(|done| done.is_end_cut)
}

/// What was said of losses, with what may excuse what.
pub(super) fn told<'a>(
    done: &[Done],
    end: End,
    (lost, unknown): (&'a [LostRecord], &'a [LostRange]),
    may_lack_segments: bool,
    files: &Files,
) -> Told<'a> {
    // Damage to the manifest alone loses nothing.
    let lacks_segments = may_lack_segments && done.iter().any(|done| done.is_of_segments);
    // A closed store whose damage is in segments alone: the checkpoint knows everything.
    let has_witness = end == End::Closed && done.iter().all(|done| done.is_of_segments_alone);
    Told { lost, unknown, hash_seed: hash_seed(files), lacks_segments, has_witness }
}

/// One store, damaged once or twice, repaired, looked at, and gone back from.
fn case(seed: u64) {
    let mut rng = Rng::new(seed);
    let end = ENDS[rng.below(3) as usize];
    let lived = Lived::new(seed, end);
    let (files, done) = damaged(&mut rng, &lived);
    let disk = disk_of(&files);
    let before = store_files(&disk);
    let options = options(&lived.setup, &disk);
    let report = match repair::repair(&options, Path::new(STORE), None) {
        Ok(report) => report,
        // A version field that damage made a newer one: refused, and nothing touched.
        Err(Error::UnknownFormat { .. }) => {
            return assert_eq!(store_files(&disk), before, "{done:?}");
        }
        Err(error) => panic!("{end:?}, {done:?}: {error}"),
    };
    let plan = &report.plan;
    let complain = |rule: &str| {
        let steps: Vec<_> = plan.steps.iter().map(ToString::to_string).collect();
        panic!("{end:?}, {done:?}: {rule}\nplan: {steps:#?}\nbefore: {:#?}", plan.before.findings)
    };
    if !report.after.is_healthy() {
        complain(&format!("not healthy after: {:#?}", report.after.findings));
    }
    let again = repair::plan(&options, Path::new(STORE)).unwrap();
    if !again.steps.is_empty() {
        complain(&format!("there is more to do: {:#?}", again.steps));
    }
    let losses = (plan.lost.as_slice(), plan.unknown.as_slice());
    let told = told(&done, end, losses, plan.may_lack_segments, &files);
    // A manifest that lost its last edits is one that a crash cut: then what is not sealed by it may be torn.
    let is_torn =
        plan.before.findings.iter().any(|finding| finding.code == Code::ManifestUnfinished);
    let is_end_cut = is_end_cut(&done) || is_torn && done.len() > 1;
    let engine = options.clone().recovery(RecoveryPolicy::Strict).open(STORE).unwrap();
    if let Err(rule) = lived.judge(&engine, &told, is_end_cut) {
        complain(&rule);
    }
    drop(engine);
    if let Some(undo) = report.undo {
        // The store was only opened and closed since.
        repair::undo(&options, Path::new(STORE), &undo).unwrap();
        assert!(store_files(&disk) == before, "{done:?}: the way back leads elsewhere");
    }
}

/// Goal: after a repair every key is right, or is said to be lost; nothing that was deleted or replaced shows, where
/// anything could tell; a second check is clean and a second plan empty; the way back gives the very bytes.
/// Method: random lives, random damage; the seed is printed.
#[test]
fn any_damage() {
    cases("repair::random::any_damage", 1_500, case);
}

/// One store, damaged once or twice, and what can be salvaged of it.
fn salvaged(seed: u64) {
    let mut rng = Rng::new(seed);
    let end = ENDS[rng.below(3) as usize];
    let lived = Lived::new(seed, end);
    let (files, done) = damaged(&mut rng, &lived);
    let disk = disk_of(&files);
    let options = options(&lived.setup, &disk);
    let out = Path::new("disk/new");
    let report = match repair::salvage(&options, Path::new(STORE), out) {
        Ok(report) => report,
        Err(Error::UnknownFormat { .. }) => return assert_eq!(disk.files(), files, "{done:?}"),
        Err(error) => panic!("{end:?}, {done:?}: {error}"),
    };
    let complain = |rule: &str| panic!("{end:?}, {done:?}: {rule}: {report:#?}");
    if !report.after.findings.is_empty() {
        complain("the new store is not sound");
    }
    if store_files(&disk) != store_files(&disk_of(&files)) {
        complain("the old store is changed");
    }
    let told = told(&done, end, (&report.lost, &report.unknown), report.may_lack_segments, &files);
    let engine = options.recovery(RecoveryPolicy::Strict).open(out).unwrap();
    if let Err(rule) = lived.judge(&engine, &told, is_end_cut(&done)) {
        complain(&rule);
    }
}

/// Goal: of a salvaged store every key is right, or is said to be lost, as after a repair; and not a byte of the old one
/// is changed. Method: as for repairs.
#[test]
fn any_damage_salvaged() {
    cases("repair::random::any_damage_salvaged", 1_500, salvaged);
}
