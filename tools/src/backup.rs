//! `backup`, `restore`, `verify`: the engine does it, here it gets its words, and its archive.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
};

use serde_json::{Map, Value, json};
use tierce_engine::{
    Error, Restore, Restored, Verified,
    backup::{BackupOptions, BackupReport, BackupTarget, back_up, back_up_to},
    restore as restore_directory, verify_backup,
};

use crate::{
    args::{BackupArgs, RestoreArgs, VerifyArgs},
    consent::consent,
    escape::one_line,
    exit::{Code, Fail, Outcome},
    interrupt,
    look::{check_json, finding_line, verdict},
    out::Out,
    progress::Progress,
    size::human_bytes,
    store::disk,
    talk::{document, say},
    text::moment,
    text_start::packed,
};

/// Backs a store up.
pub(crate) fn backup(args: &BackupArgs, json: bool, out: &mut Out) -> Outcome {
    let mut progress = Progress::new("backup", None, "bytes");
    let mut go_on = |done, total| {
        progress.of(total);
        progress.at(done);
        if interrupt::is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let is_stream = args.dest.as_os_str() == "-";
    let report = if is_stream {
        if io::stdout().is_terminal() {
            return Err(Fail::Usage(
                "an archive is nothing for a terminal: redirect it".to_owned(),
            ));
        }
        let mut stream = out.stream();
        let (report, ended) = {
            let mut archive = Archive { builder: tar::Builder::new(&mut stream) };
            let base = args.base.as_deref();
            let report = back_up_to(&disk(), &args.dir, base, &mut archive, &mut go_on);
            (report, archive.builder.into_inner().map(drop))
        };
        stream.end()?;
        let report = report?;
        ended.map_err(|source| Fail::io("write the archive", source))?;
        report
    } else {
        let mut options = BackupOptions::new().copies(args.copy);
        if let Some(base) = &args.base {
            options = options.base(base);
        }
        back_up(&disk(), &args.dir, &args.dest, &options, &mut go_on)
            .map_err(|error| in_the_way(error, "choose a directory that is missing or empty"))?
    };
    if report.cancelled {
        return Err(Fail::Interrupted);
    }
    progress.finish();
    match (json, is_stream) {
        (true, false) => out.json(&backup_json(&report))?,
        (true, true) => document(&backup_json(&report)),
        (false, false) => out.line(sentence(&report))?,
        (false, true) => say(format_args!("tierce: {}", sentence(&report))),
    }
    Ok(Code::Done)
}

const REPLACE: &str = "--replace puts the backup in the place of a store; of anything else, or of a directory that an \
                       earlier restore left, another place is needed";

/// Says what to do about something that stands where something is to go.
fn in_the_way(error: Error, advice: &str) -> Fail {
    match &error {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
            Fail::Input(format!("{error}: {advice}"))
        }
        _ => error.into(),
    }
}

/// An archive that any tar reads.
struct Archive<W: io::Write> {
    builder: tar::Builder<W>,
}

impl<W: io::Write> BackupTarget for Archive<W> {
    fn take(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_entry_type(tar::EntryType::Regular);
        self.builder.append_data(&mut header, name, content)
    }
}

fn sentence(report: &BackupReport) -> String {
    let BackupReport { segments, bytes, linked_bytes, reused_bytes, copied_bytes, .. } = *report;
    format!(
        "{segments} segments, {}: {} linked, {} reused, {} copied; writes to {}",
        human_bytes(bytes),
        human_bytes(linked_bytes),
        human_bytes(reused_bytes),
        human_bytes(copied_bytes),
        report.sequence
    )
}

fn backup_json(report: &BackupReport) -> Value {
    json!({
        "segments": report.segments,
        "bytes": report.bytes,
        "linked_bytes": report.linked_bytes,
        "reused_bytes": report.reused_bytes,
        "copied_bytes": report.copied_bytes,
        "sequence": report.sequence.0,
    })
}

/// Proves a backup.
pub(crate) fn verify(args: &VerifyArgs, json: bool, out: &mut Out) -> Outcome {
    if args.backup.is_file() {
        let what = format!("{} is a file and not the directory of a backup", args.backup.display());
        let way = "an archive is proven when it is restored, which leaves nothing behind if it is damaged";
        return Err(Fail::Input(format!("{what}: {way}")));
    }
    let verified = verify_backup(&disk(), &args.backup)?;
    if json {
        out.json(&Value::Object(verified_json(&verified)))?;
    } else {
        for fault in &verified.faults {
            out.line(one_line(&format!("not what was backed up: {fault}")))?;
        }
        for finding in &verified.check.findings {
            out.line(finding_line(finding))?;
        }
        let word = if verified.is_sound() { "sound" } else { "damaged" };
        out.line(format_args!(
            "{word}: {} files, {}, taken at {} or later, writes to {}; {}",
            verified.files,
            human_bytes(verified.bytes),
            moment(verified.taken),
            verified.sequence,
            verdict(&verified.check)
        ))?;
    }
    Ok(if verified.is_sound() { Code::Done } else { Code::Problems })
}

fn verified_json(verified: &Verified) -> Map<String, Value> {
    let fault = |fault: &tierce_engine::Corruption| {
        json!({
            "file": fault.file.to_string_lossy(),
            "offset": fault.offset,
            "message": fault.damage.to_string(),
        })
    };
    let faults: Vec<Value> = verified.faults.iter().map(fault).collect();
    let mut object = Map::new();
    for (name, value) in [
        ("sound", json!(verified.is_sound())),
        ("files", json!(verified.files)),
        ("bytes", json!(verified.bytes)),
        ("sequence", json!(verified.sequence.0)),
        ("taken_ms", json!(verified.taken.0)),
        ("faults", json!(faults)),
        ("check", check_json(&verified.check)),
    ] {
        object.insert(name.to_owned(), value);
    }
    object
}

/// Puts a backup in the place of a store.
pub(crate) fn restore(args: &RestoreArgs, json: bool, out: &mut Out) -> Outcome {
    if args.replace {
        let question = format!("Replace the store in {}?", args.dir.display());
        consent(args.yes, &question)?;
    }
    let restored = if args.backup.is_dir() {
        let mut progress = Progress::new("restore", None, "bytes");
        let go_on = &mut |done, total| {
            progress.of(total);
            progress.at(done);
            if interrupt::is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let done = restore_directory(&disk(), &args.backup, &args.dir, args.replace, go_on)
            .map_err(|error| in_the_way(error, REPLACE))?;
        progress.finish();
        done.ok_or(Fail::Interrupted)?
    } else if args.backup.as_os_str() == "-" {
        restore_archive(io::stdin().lock(), args)?
    } else {
        let failed = |source| Fail::io(format!("read {}", args.backup.display()), source);
        restore_archive(File::open(&args.backup).map_err(failed)?, args)?
    };
    say_restored(&restored, &args.dir, json, out)
}

fn restore_archive(mut archive: impl Read, args: &RestoreArgs) -> Outcome<Restored> {
    let failed = |source| Fail::io("read the archive", source);
    let mut head = Vec::new();
    archive.by_ref().take(16).read_to_end(&mut head).map_err(failed)?;
    if let Some(what) = packed(&head) {
        return Err(Fail::Input(format!("{}: {what}", args.backup.display())));
    }
    let mut archive = tar::Archive::new(io::Cursor::new(head).chain(archive));
    let restore = Restore::begin(&disk(), &args.dir, args.replace)
        .map_err(|error| in_the_way(error, REPLACE))?;
    let mut progress = Progress::new("restore", None, "bytes");
    let (mut done, mut home) = (0, None);
    for file in archive.entries().map_err(failed)? {
        interrupt::check()?;
        let mut file = file.map_err(failed)?;
        let kind = file.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let path = file.path().map_err(failed)?.into_owned();
        if !(kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse()) {
            let what = format!("the archive holds {}, which is no file", path.display());
            return Err(Fail::Input(what));
        }
        let name = name_in(&mut home, &path).map_err(Fail::Input)?;
        done += file.size();
        restore.take(&name, &mut file)?;
        progress.at(done);
    }
    progress.finish();
    Ok(restore.finish(args.base.as_deref())?)
}

/// The name of a file of an archive. Another program that packed the files again may have put a directory before their
/// names, the same one before all.
fn name_in(home: &mut Option<PathBuf>, path: &Path) -> Result<String, String> {
    let parts: Vec<_> = path.components().filter(|part| *part != Component::CurDir).collect();
    let shown = path.display();
    if !parts.iter().all(|part| matches!(part, Component::Normal(_))) {
        return Err(format!("{shown} leads out of the archive"));
    }
    let Some((name, above)) = parts.split_last() else {
        return Err(format!("{shown} is no name"));
    };
    let above: PathBuf = above.iter().collect();
    let home = home.get_or_insert_with(|| above.clone());
    if *home != above {
        let home = home.display();
        return Err(format!("{shown} is not in the directory {home:?} of the files before it"));
    }
    let name = name.as_os_str().to_str().map(str::to_owned);
    name.ok_or_else(|| format!("the name {shown} is no text"))
}

fn say_restored(restored: &Restored, dir: &Path, json: bool, out: &mut Out) -> Outcome {
    let Restored { verified, replaced, .. } = restored;
    if json {
        let mut object = verified_json(verified);
        let replaced = replaced.as_ref().map(|path| path.to_string_lossy().into_owned());
        object.insert("replaced".to_owned(), replaced.into());
        out.json(&Value::Object(object))?;
        return Ok(Code::Done);
    }
    let entries = verified.check.entries;
    out.line(one_line(&format!("{}: {entries} entries, proven and in place", dir.display())))?;
    if let Some(path) = replaced {
        out.line(one_line(&format!("what was there is in {} now", path.display())))?;
    }
    Ok(Code::Done)
}
