//! Constants that make a state rare: each is a test knob (`engine/src/knobs.rs`), or listed here with the reason why it
//! need not be one. A constant that makes a state rare in practice makes it invisible to tests.

use std::collections::BTreeSet;

use crate::{
    assert_none, assert_one,
    source::{Source, rust_files},
};

/// Parts of a name that say how often, how many, or how long.
const RARE: &[&str] = &[
    "MAX", "MIN", "EVERY", "RETRY", "KEPT", "FEW", "RESERVE", "IDLE", "ROUNDS", "WAITS", "MS",
    "GAP", "SHARE", "NEAR", "LOOKS", "PART", "BATCH", "LIFE", "LIFETIME", "STEPS", "REST", "HINT",
    "RESTING", "PATIENCE", "TRIES",
];

/// Rooms whose constants are no matter of chance: numbers of the format, and rooms that only read.
const EXEMPT: &[&str] = &[
    "format", "sync", "backup", "check", "repair", "inspect", "knobs", "units", "types", "options",
];

const SMALL: &str =
    "stores of the suites are beyond it: segments of 8 KiB, limits of a few entries";
const NUMBER: &str =
    "the end of a number: reached by the unit tests beside it, which set the number";
const SIZE: &str = "the size of a buffer or a read: both sides of it are in the histories' values";
const SPIN: &str = "an end of tries: the scheduler reaches it, since waits may fail at any point";
const CLOCK: &str = "suites move the clock past it; the scheduler does so at any point";

/// Constants that are no knobs, by file, with the reason.
const LISTED: &[(&str, &[&str], &str)] = &[
    (
        "engine/src/engine/opening.rs",
        &["IDLE_MAX_MS"],
        "how long a thread sleeps; the scheduler wakes it at any point",
    ),
    (
        "engine/src/engine/map.rs",
        &["CELL_BYTES_MIN"],
        "what a caller may ask for; tested at its bounds",
    ),
    ("engine/src/engine/expiry.rs", &["BAD_BLOCK_RETRY_MS"], CLOCK),
    ("engine/src/engine/upkeep.rs", &["RETRY_MS", "SWEEP_EVERY_MS", "TRIES_MAX"], CLOCK),
    (
        "engine/src/engine/opening.rs",
        &["OPENINGS_MAX"],
        "an end of tries: `trials::places` overtakes an opening at each of them",
    ),
    (
        "engine/src/engine/upkeep.rs",
        &["VAIN_JOBS_MAX"],
        "ends a compaction that gains nothing; a caller may end one at any job, which histories do (`cancels`)",
    ),
    (
        "engine/src/engine/upkeep.rs",
        &["SHARE"],
        "how much later than SWEEP_EVERY_MS a look for ended entries may come: suites move the clock past both",
    ),
    ("engine/src/engine/room.rs", &["LIVE_MAX_PERCENT", "HELD_MAX_PART"], SMALL),
    ("engine/src/engine/room.rs", &["ROUNDS_MAX", "WAITS_MAX", "REST_NS"], SPIN),
    ("engine/src/engine/follower.rs", &["HEAD_BYTES_MAX"], SIZE),
    ("engine/src/engine/follower.rs", &["LOOKS_MAX", "LOOKS_UNCHANGED"], SPIN),
    ("engine/src/reader/changes.rs", &["HINT"], SIZE),
    ("engine/src/overrides/mod.rs", &["SLIDES_PER_LIFETIME"], CLOCK),
    ("engine/src/evictor/journal.rs", &["KEPT"], "the journal's own tests run past it"),
    ("engine/src/evictor/mod.rs", &["BATCH_PART"], SMALL),
    ("engine/src/evictor/s3_fifo.rs", &["SMALL_SHARE"], "part of the policy, judged by hit ratios"),
    ("engine/src/recency/ghost.rs", &["LIFE"], NUMBER),
    ("engine/src/recency/layout.rs", &["EPOCH_MAX", "ORDER_MAX"], NUMBER),
    ("engine/src/recency/mod.rs", &["STEPS", "SMALL_STEPS", "EPOCHS_NEAR", "ORDERS_NEAR"], NUMBER),
    (
        "engine/src/compactor/policy.rs",
        &["GAIN_BYTES_MIN", "JOB_SHARE_OF_GARBAGE", "LIVE_SHARE_MAX"],
        SMALL,
    ),
    (
        "engine/src/compactor/policy.rs",
        &["FILES_FEW", "AGE_CLASS_LIFETIMES", "EXPIRY_CLASS_LIFETIMES", "EXPIRY_CLASS_MS"],
        "a choice of what to compact: histories compact any subset, chosen or not",
    ),
    ("engine/src/index/entry.rs", &["SLOT_MAX", "OFFSET_MAX"], NUMBER),
    ("engine/src/index/size.rs", &["STEPS"], "resolution of a size class"),
    ("engine/src/index/table.rs", &["HOMES_MIN"], SMALL),
    ("engine/src/segment/manifest_state.rs", &["NUMBERS_MAX"], NUMBER),
    ("engine/src/segment/append.rs", &["RESERVE_MIN", "RESERVE_MAX", "RELIEF_BYTES_MAX"], SIZE),
    (
        "engine/src/segment/ballast.rs",
        &["LIMIT_BYTES_MIN"],
        "whether a store has a ballast: `full_disk` has both kinds",
    ),
    ("engine/src/segment/catalog.rs", &["SLOTS_MAX"], NUMBER),
    (
        "engine/src/segment/manifest_file.rs",
        &["GROWN_BYTES_MIN", "GROWN_BYTES_MAX"],
        "when a manifest is written whole: `ManifestFile::bytes_max` charges the disk by them, and every opening, restore \
         and repair writes it whole at any size",
    ),
    ("engine/src/segment/manifest_file.rs", &["GENERATION_MAX"], NUMBER),
    (
        "engine/src/segment/manifest_file.rs",
        &["FORGED_BYTES_MAX"],
        "a bound on forged lengths, reached by `damage::forged`",
    ),
    ("engine/src/segment/mod.rs", &["FILE_BYTES_MAX"], NUMBER),
    ("engine/src/segment/scan.rs", &["SEQUENCE_AHEAD_MAX"], NUMBER),
    ("engine/src/space.rs", &["RESERVE_SEGMENTS"], SMALL),
    ("engine/src/io/store_clock.rs", &["SESSIONS_APART_MAX_MS", "AGREEING_MIN"], CLOCK),
    ("engine/src/io/mod.rs", &["FILE_BYTES_MAX"], NUMBER),
    ("engine/src/recovery/mod.rs", &["SEQUENCE_GAP", "ID_MAX"], NUMBER),
    ("engine/src/recovery/mod.rs", &["UNSEALED_MAX"], "part of an assertion at compile time only"),
    ("engine/src/writer/maintain.rs", &["EVERY_MS"], CLOCK),
    (
        "engine/src/writer/flush.rs",
        &["EXACT_KEYS_MAX"],
        "beyond it a write goes the ordinary way, which any write goes that is not surely within the limits",
    ),
    ("engine/src/writer/flush.rs", &["RETRY_MS"], CLOCK),
    ("engine/src/writer/effects.rs", &["EFFECTS_KEPT"], SIZE),
    ("engine/src/writer/evict.rs", &["ROUNDS_MAX"], SPIN),
    (
        "engine/src/writer/mod.rs",
        &["CLOSING_MAX"],
        "segments of 8 KiB that wait to be sealed: a history writes more than two of them between two steps",
    ),
    ("engine/src/writer/mod.rs", &["FRAME_BYTES_KEPT"], SIZE),
    ("engine/src/writer/mod.rs", &["ROOM_ROUNDS_MAX"], SPIN),
    (
        "engine/src/writer/group_commit.rs",
        &["GROUP_BYTES_MAX"],
        "the other end of a group: the knob `group_requests` ends groups in the same place of the code",
    ),
];

/// Names of constants with a number in `code`.
fn constants(code: &str) -> BTreeSet<String> {
    const TYPES: &[&str] = &["u8", "u16", "u32", "u64", "usize", "i64", "f64", "Duration"];
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("const ") {
        let Some((name, rest)) = code[at + 6..].split_once(':') else { continue };
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let kind = rest.trim_start().split([' ', '=', ';']).next().unwrap_or_default();
        if !name.is_empty() && name.chars().all(is_name) && TYPES.contains(&kind) {
            found.insert(name.to_owned());
        }
    }
    found
}

fn is_rare(name: &str) -> bool {
    name.split('_').any(|part| RARE.contains(&part))
}

/// Constants that are neither knobs nor listed, and listed ones that are not there.
fn unlisted(files: &[Source], listed: &[(&str, &[&str], &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    let rooms = files.iter().filter(|file| file.path.starts_with("engine/src/"));
    for file in rooms.filter(|file| !file.room().is_some_and(|room| EXEMPT.contains(&room))) {
        let is_knob = |name: &str| {
            let start = file.code.find(&format!("const {name}:")).unwrap_or_default();
            file.code[start..].split(';').next().is_some_and(|text| text.contains("KNOBS."))
        };
        for name in constants(&file.shipped).iter().filter(|name| is_rare(name) && !is_knob(name)) {
            let is_listed =
                listed.iter().any(|row| row.0 == file.path && row.1.contains(&name.as_str()));
            if is_listed {
                seen.insert((file.path.clone(), name.clone()));
            } else {
                faults.push(format!(
                    "{}: `{name}` makes a state rare: make it a knob (engine/src/knobs.rs), or list it in \
                     tests/tidy/knobs.rs with the reason why not",
                    file.path
                ));
            }
        }
    }
    for (path, names, _) in listed {
        for name in names.iter().filter(|name| is_rare(name)) {
            if !seen.contains(&((*path).to_owned(), (*name).to_owned())) {
                faults.push(format!("tests/tidy/knobs.rs: {path} has no constant `{name}`"));
            }
        }
    }
    faults
}

#[test]
fn constants_that_make_a_state_rare_are_listed() {
    assert_none(&unlisted(&rust_files(), LISTED));
}

#[test]
fn a_planted_constant_is_found() {
    let file = |text: &str| vec![Source::new("engine/src/writer/x.rs", text)];
    assert_one(&unlisted(&file("const RESTING: usize = 64;"), &[]), "`RESTING` makes a state rare");
    assert_one(&unlisted(&file("fn f() { const EVERY_MS: u64 = 5 * 60; }"), &[]), "EVERY_MS");
    assert_none(&unlisted(&file("const HOLD_MS: u64 = KNOBS.hold_ms;"), &[]));
    assert_none(&unlisted(&file("const SHARDS: usize = 256;\nconst NAME_MAX: &str = \"\";"), &[]));
    let row: &[(&str, &[&str], &str)] = &[("engine/src/writer/x.rs", &["A_MAX"], "why")];
    assert_none(&unlisted(&file("const A_MAX: u64 = 1;"), row));
    assert_one(&unlisted(&file("const SHARDS: usize = 1;"), row), "has no constant `A_MAX`");
}
