//! Properties of the source itself. Each rule is a pure function from sources to faults, run twice: over this
//! workspace, where it must find nothing, and over a planted fault, which it must find.
//!
//! - `source`: the workspace as text, with comments and literals told apart from code
//! - `doors`: locks, atomics and threads come through one room of each library
//! - `floors`: who may import whom, and the words that belong to one room only
//! - `knobs`: constants that make a state rare are knobs, or listed with the reason why not
//! - `sizes`: length of files and functions, with exceptions that may only shrink
//! - `manners`: module docs, no hidden docs, no machine's paths, no registry's hosts
//! - `tables`: the tables of the format are the same in the code, in `docs/format.md` and in the constants
//! - `seeds`: what `docs/seeds.md` names is there
//! - `lists`: invariants, fuzz targets, test modules and record kinds are listed where people look for them

mod doors;
mod floors;
mod knobs;
mod lists;
mod manners;
mod seeds;
mod sizes;
mod source;
mod tables;

/// Fails with all faults, one on a line.
#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Fails unless exactly one fault was found and it says `needle`.
#[track_caller]
fn assert_one(faults: &[String], needle: &str) {
    assert!(
        faults.len() == 1 && faults[0].contains(needle),
        "wanted one fault with {needle:?}, got {faults:?}"
    );
}
