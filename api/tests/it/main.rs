//! The typed face from the outside, one module a theme.
#![expect(
    clippy::unwrap_used,
    reason = "a test that finds an error where none belongs fails by it"
)]

mod config; // settings from TOML, from the environment, and layered
mod coordinator; // polls, requests, failures, pushes
mod coordinator_life; // restarts, threads, the end of a coordinator
mod events; // what happens to entries, told to who listens
mod mutations; // what follows a write, and its order
mod ops; // files around a store: atomic writes, directories, retention, free space, logs
mod ops_data; // documents, backups, restores, migrations
mod space_versions; // values of one version become values of another
