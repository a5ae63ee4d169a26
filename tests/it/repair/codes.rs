//! Every finding of a check, produced and repaired.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::{
    check::{Code, check_store},
    io::{Disk, MemoryDisk},
    repair,
};
use tierce_kit::store::STORE;

use super::{End, Files, Lived, disk_of, has_suffix, options};

/// Where `code` can be found, and what has to be done to the files for it.
struct Wound {
    code: Code,
    end: End,
    wound: fn(&Lived, &mut Files),
}

fn manifest() -> PathBuf {
    Path::new(STORE).join("MANIFEST")
}

fn change(files: &mut Files, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    change(files.get_mut(path).expect("it is there"));
}

/// The first sealed segment.
fn sealed(lived: &Lived) -> PathBuf {
    lived.segments().into_iter().find(|path| !lived.is_tail(path)).expect("one is sealed")
}

/// The newest unsealed segment.
fn tail(lived: &Lived) -> PathBuf {
    lived.segments().into_iter().rfind(|path| lived.is_tail(path)).expect("one is not sealed")
}

fn checkpoint(files: &Files) -> PathBuf {
    files.keys().find(|path| has_suffix(path, ".ckpt")).expect("there is one").clone()
}

/// Offset of the last byte that is not zero.
fn last_byte(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).expect("something is there")
}

const WOUNDS: &[Wound] = &[
    Wound {
        code: Code::ManifestDamaged,
        end: End::Closed,
        wound: |_, files| change(files, &manifest(), |bytes| bytes[70] ^= 1),
    },
    Wound {
        code: Code::ManifestUnfinished,
        end: End::Crashed,
        wound: |_, files| change(files, &manifest(), |bytes| bytes.extend([7; 40])),
    },
    Wound {
        code: Code::EditsMissing,
        end: End::Bare,
        // The manifest as its first frame had it: all that it named later is there, and newer than it knows.
        wound: |_, files| {
            change(files, &manifest(), |bytes| {
                let payload = u32::from_le_bytes(bytes[68..72].try_into().unwrap());
                bytes.truncate((64 + 16 + payload as usize).next_multiple_of(8));
            });
        },
    },
    Wound {
        code: Code::SegmentMissing,
        end: End::Closed,
        wound: |lived, files| drop(files.remove(&sealed(lived))),
    },
    Wound {
        code: Code::SegmentLength,
        end: End::Closed,
        wound: |lived, files| change(files, &sealed(lived), |bytes| bytes.extend([1; 9])),
    },
    Wound {
        code: Code::HeaderDamaged,
        end: End::Closed,
        wound: |lived, files| change(files, &sealed(lived), |bytes| bytes[20] ^= 1),
    },
    Wound {
        code: Code::SegmentMisplaced,
        end: End::Closed,
        wound: |lived, files| {
            let (one, two) = (lived.segments()[0].clone(), lived.segments()[1].clone());
            let (first, second) = (files[&one].clone(), files[&two].clone());
            files.extend([(one, second), (two, first)]);
        },
    },
    Wound {
        code: Code::FooterDamaged,
        end: End::Closed,
        wound: |lived, files| {
            change(files, &sealed(lived), |bytes| {
                let at = bytes.len() - 20;
                bytes[at] ^= 1;
            });
        },
    },
    Wound {
        code: Code::RecordDamaged,
        end: End::Closed,
        wound: |lived, files| change(files, &sealed(lived), |bytes| bytes[4_100] ^= 1),
    },
    Wound {
        code: Code::WriteUnfinished,
        end: End::Crashed,
        wound: |lived, files| {
            change(files, &tail(lived), |bytes| {
                let at = last_byte(bytes) + 90;
                bytes.resize(bytes.len().max(at + 8), 0);
                bytes[at] = 7;
            });
        },
    },
    Wound {
        code: Code::RecordsMissing,
        end: End::Bare,
        wound: |lived, files| change(files, &tail(lived), |bytes| bytes[4_100] ^= 1),
    },
    Wound {
        code: Code::SegmentUnnamed,
        end: End::Closed,
        wound: |lived, files| {
            let bytes = files[&sealed(lived)].clone();
            files.insert(Path::new(STORE).join("0000000000000fff.seg"), bytes);
        },
    },
    Wound {
        code: Code::FileUnfinished,
        end: End::Closed,
        wound: |_, files| {
            files.insert(Path::new(STORE).join("00000000000000aa.seg.tmp"), vec![1; 99]);
            files.insert(Path::new(STORE).join("00000000000000ab.ckpt"), vec![1; 99]);
        },
    },
    Wound {
        code: Code::CheckpointDamaged,
        end: End::Closed,
        wound: |_, files| {
            let path = checkpoint(files);
            change(files, &path, |bytes| {
                let at = bytes.len() / 2;
                bytes[at] ^= 1;
            });
        },
    },
];

fn codes(files: &Files) -> Vec<Code> {
    let disk: Arc<dyn Disk> = Arc::new(disk_of(files));
    let report = check_store(&disk, Path::new(STORE)).unwrap();
    report.findings.iter().map(|finding| finding.code).collect()
}

fn repaired(lived: &Lived, files: &Files) -> (repair::RepairReport, MemoryDisk) {
    let disk = disk_of(files);
    let report = repair::repair(&options(&lived.setup, &disk), Path::new(STORE), None).unwrap();
    (report, disk)
}

/// Goal: whatever a check can find is repaired: the plan names the code, the check that follows is clean, and so is the
/// next plan. Method: one wound for each code, in several stores.
#[test]
fn every_finding_is_repaired() {
    for wound in WOUNDS {
        for seed in 0..6 {
            let lived = Lived::new(seed, wound.end);
            let mut files = lived.files.clone();
            (wound.wound)(&lived, &mut files);
            let code = wound.code;
            assert!(codes(&files).contains(&code), "{code} is not found: {:?}", codes(&files));
            let (report, disk) = repaired(&lived, &files);
            let named = report.plan.steps.iter().any(|step| step.codes.contains(&code));
            assert!(named, "{code} is not answered: {:#?}", report.plan.steps);
            assert!(report.after.is_healthy(), "{code}: {:#?}", report.after.findings);
            let notes: Vec<_> = report.after.findings.iter().map(|finding| finding.code).collect();
            assert!(notes.iter().all(|note| *note == Code::FileSetAside), "{code}: {notes:?}");
            let again = repair::plan(&options(&lived.setup, &disk), Path::new(STORE)).unwrap();
            assert!(again.steps.is_empty(), "{code}: {:#?}", again.steps);
            let is_note = [
                Code::ManifestUnfinished,
                Code::WriteUnfinished,
                Code::SegmentUnnamed,
                Code::FileUnfinished,
            ]
            .contains(&code);
            assert_eq!(report.plan.is_needed(), !is_note, "{code}: {:#?}", report.plan.steps);
        }
    }
}

/// Goal: what is wrong between files that are each sound is repaired too: a footer that does not say what the records
/// say, and a checkpoint that does not. Method: files of one store beside those of its later self.
#[test]
fn sound_files_that_disagree() {
    use super::forged;
    let (setup, files) = forged::footer_of_other_records();
    assert!(codes(&files).contains(&Code::FooterWrong), "{:?}", codes(&files));
    let disk = disk_of(&files);
    let report = repair::repair(&options(&setup, &disk), Path::new(STORE), None).unwrap();
    assert!(report.plan.steps.iter().any(|step| step.codes.contains(&Code::FooterWrong)));
    assert!(report.after.findings.is_empty(), "{:#?}", report.after.findings);
    let engine = options(&setup, &disk).open(STORE).unwrap();
    assert_eq!(engine.get("key").unwrap().as_deref(), Some(&b"value"[..]));
    drop(engine);

    let (setup, files) = forged::checkpoint_of_other_records();
    assert!(codes(&files).contains(&Code::CheckpointWrong), "{:?}", codes(&files));
    let disk = disk_of(&files);
    let report = repair::repair(&options(&setup, &disk), Path::new(STORE), None).unwrap();
    assert!(report.plan.steps.iter().any(|step| step.codes.contains(&Code::CheckpointWrong)));
    assert!(report.after.findings.is_empty(), "{:#?}", report.after.findings);
    assert!(!report.plan.loses(), "{:?}", report.plan);
    let engine = options(&setup, &disk).open(STORE).unwrap();
    assert_eq!(engine.get("key").unwrap().as_deref(), Some(&b"value"[..]));
}

/// Goal: what was set aside stays aside: it is the only copy of what could not be read.
#[test]
fn what_was_set_aside_stays() {
    let lived = Lived::new(3, End::Closed);
    let mut files = lived.files.clone();
    change(&mut files, &sealed(&lived), |bytes| bytes[4_100] ^= 1);
    let damaged = files[&sealed(&lived)].clone();
    let (_, disk) = repaired(&lived, &files);
    let aside = sealed(&lived).with_extension("quarantine");
    assert_eq!(disk.files().get(&aside), Some(&damaged));
    assert!(codes(&disk.files()).contains(&Code::FileSetAside));
    let (report, disk) = repaired(&lived, &disk.files());
    assert!(report.plan.steps.is_empty() && report.undo.is_none());
    assert_eq!(disk.files().get(&aside), Some(&damaged));
}

/// Goal: a healthy store has nothing to repair, and a plan for it changes nothing, whether it was closed or cut off.
#[test]
fn healthy_stores_are_left_alone() {
    for (seed, end) in (0..40).flat_map(|seed| [(seed, End::Closed), (seed, End::Crashed)]) {
        let lived = Lived::new(seed, end);
        let disk = disk_of(&lived.files);
        let plan = repair::plan(&options(&lived.setup, &disk), Path::new(STORE)).unwrap();
        assert!(!plan.is_needed() && !plan.loses(), "{end:?} {seed}: {:#?}", plan.steps);
        assert!(end == End::Crashed || plan.steps.is_empty(), "{seed}: {:#?}", plan.steps);
        assert!(disk.files() == lived.files);
    }
}
