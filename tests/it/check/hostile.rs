//! Directories that somebody made up: links, directories under our names, files without end, a disk that fails.

use std::{fs, path::Path, sync::Arc};

use tierce_engine::{
    Error, Options,
    check::{CheckOptions, CheckReport, check_store, check_store_with},
    io::{Disk, OsDisk},
};
use tierce_kit::{
    fault::{CallKind, EIO, Fault},
    image::Image,
    recorder::RecordingDisk,
    store::STORE,
};

use super::{codes_of, shapes};

fn check(dir: &Path) -> Result<CheckReport, Error> {
    check_store(&(Arc::new(OsDisk) as Arc<dyn Disk>), dir)
}

/// A closed store in a real directory, and the name of one of its segments.
fn store(dir: &Path) -> String {
    let engine = Options::new().open(dir).unwrap();
    engine.put("key", "value").unwrap();
    engine.close().unwrap();
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.into_iter().find(|name| name.ends_with(".seg")).unwrap()
}

/// Goal: a link in the place of a file is a problem under its own code and is not followed; so is a directory in the
/// place of a file that is needed.
#[cfg(unix)]
#[test]
fn c014_links_and_directories() {
    for name in ["the segment", "MANIFEST", "00000000000000ff.seg"] {
        let root = tempfile::tempdir().unwrap();
        let (dir, outside) = (root.path().join("store"), root.path().join("outside"));
        let segment = store(&dir);
        let name = if name == "the segment" { segment.as_str() } else { name };
        let path = dir.join(name);
        if path.exists() {
            fs::rename(&path, &outside).unwrap();
        } else {
            fs::copy(dir.join(&segment), &outside).unwrap();
        }
        std::os::unix::fs::symlink(&outside, &path).unwrap();
        let report = check(&dir).unwrap();
        assert!(!report.is_healthy() && codes_of(&report).contains(&"C014"), "{name}: {report:?}");
        assert!(report.findings.iter().any(|f| f.code.as_str() == "C014" && f.file == path));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let report = check(&dir).unwrap();
        let is_needed = name != "00000000000000ff.seg";
        assert_eq!(!report.is_healthy(), is_needed, "{name}: {report:?}");
    }
}

/// Goal: files that say they have a TiB are judged by what they should have, at once and without their length in
/// memory.
#[cfg(unix)]
#[test]
fn lengths_without_bytes() {
    for name in ["the segment", "MANIFEST", "the checkpoint", "00000000000000ff.seg"] {
        let root = tempfile::tempdir().unwrap();
        let segment = store(root.path());
        let checkpoint = || {
            let mut names = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name());
            names.find(|name| name.to_str().unwrap().ends_with(".ckpt")).unwrap().into_string()
        };
        let name = match name {
            "the segment" => segment,
            "the checkpoint" => checkpoint().unwrap(),
            name => name.to_owned(),
        };
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(root.path().join(&name));
        if file.unwrap().set_len(1 << 40).is_err() {
            return; // This file system has no such files.
        }
        let report = check(root.path()).unwrap();
        assert_eq!(report.is_healthy(), name == "00000000000000ff.seg", "{name}: {report:?}");
    }
}

/// Goal: what is no store is an error that says so, and a file that the device cannot read is a finding.
#[test]
fn c015_what_cannot_be_read() {
    let root = tempfile::tempdir().unwrap();
    for path in [root.path(), &root.path().join("nothing")] {
        assert!(matches!(check(path), Err(Error::NotAStore { .. })), "{}", path.display());
    }
    let shape = shapes::all().into_iter().find(|shape| shape.name == "crashed").unwrap();
    let mut image = Image::default();
    image.directories.extend(["disk".into(), STORE.into()]);
    image
        .files
        .extend(shape.files.iter().map(|(path, bytes)| (path.clone(), bytes.clone().into())));
    let mut findings = 0;
    for nth in 1..60 {
        let recording = RecordingDisk::with_image(&image);
        recording.arm(Fault::nth(nth, EIO).of(&[CallKind::Read]).lasting());
        let disk: Arc<dyn Disk> = Arc::new(recording.clone());
        let options = CheckOptions::new().threads(1);
        match check_store_with(&disk, Path::new(STORE), options) {
            Ok(report) if recording.fired() > 0 => {
                assert!(!report.is_healthy(), "read {nth} failed");
                findings += usize::from(codes_of(&report).contains(&"C015"));
            }
            Ok(report) => assert!(report.is_healthy()),
            Err(error) => assert!(matches!(error, Error::Io { .. }), "{error}"),
        }
        assert!(recording.image() == image, "nothing was written");
    }
    assert!(findings > 10, "{findings}");
}

/// Goal: very many files that nobody needs are counted, not all listed, and each costs the same.
#[test]
fn more_leftovers_than_a_report_holds() {
    let mut files = shapes::all().swap_remove(0).files;
    for number in 0..CheckReport::FINDINGS_MAX + 500 {
        files.insert(shapes::path_of(&format!("{:016x}.seg", 0x1_0000 + number)), Vec::new());
    }
    let report = super::check(&files).unwrap();
    assert!(report.is_healthy());
    assert_eq!((report.findings.len(), report.omitted), (CheckReport::FINDINGS_MAX, 500));
}
