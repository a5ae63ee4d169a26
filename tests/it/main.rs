//! Everything that is tested through the door, in one binary: one module a theme.
#![expect(
    clippy::unwrap_used,
    reason = "a test that finds an error where none belongs fails by it"
)]

mod backups; // what is in a backup, beside a writer, proofs, and putting one back
mod basics; // every operation, its meaning and its limits
mod changes; // following a store by what was written and what was evicted
mod check; // the check finds every fault, calls nothing healthy sick, changes nothing
mod compaction; // what is dead leaves the disk, what lives stays, nothing comes back
mod concurrency; // many threads, one store; many handles, one directory; a forked child
mod crash; // power cuts at every disk call, against the model
mod damage; // flipped, cut, zeroed, missing and swapped bytes of every file kind
mod durability; // what each mode promises: calls counted, crashes tried
mod eviction; // who goes first, what is remembered of it, and what never goes
mod expiring; // what has expired leaves the disk; compaction when it may
mod faults; // disk calls that fail, and the way on
mod format; // bytes to values and back, and the bytes of format version 1
mod golden; // stores written by each version of the format
mod kill; // the real process, killed from outside
mod limits; // bytes, entries and free space: never too much, never refused in vain
mod map; // every byte of the files in one cell, under the right word
mod opening; // directories, locks, versions, clocks
mod regressions; // faults that were found once, by what went wrong
mod regressions_of_upkeep; // the same, of compaction, limits and eviction
mod repair; // damaged stores mended or salvaged: losses named, nothing brought back, the way back exact
mod tool; // the command line, from outside
mod trials; // what adversaries broke, each fault as a kind
