//! Trials by adversaries: what broke once, and everything that could break in the same way.

mod ballast; // the file that a store gives up on a full disk
mod between; // what comes between two steps of one piece of work
mod blocks; // what the device cannot read
mod checkpoints; // that cannot be published
mod clocks; // wall clocks far ahead at opening, machines that slept
mod combined; // every mode under every limit, at random
mod full_disk; // a disk with a few KiB left
mod groups; // requests that share a group
mod health; // what the store says of itself after a failure is over
mod judged_again; // what was judged outside the writer's turn, and what outlived what it was named by
mod lowered; // stores that are opened with smaller limits
mod marks; // what was synced is provably so
mod pairs; // every two things that a store has meet in a history
mod panics; // panics in the turn, in the background and in callbacks; readers of torn batches
mod places; // names that mean something else by now: working directories, renamed and emptied directories, links
mod restore_fails; // restores of which one call fails, and ones that are cut off twice
mod restores; // restores and backups cut off anywhere, into every kind of place
mod sealing; // a seal that fails half-way, batches at the end of a segment, feeds across a crash
mod staged; // staged writes and limits
mod sweep; // one call fails or panics, and everything is looked at
mod unreadable; // one record that cannot be read, and all that goes on beside it
