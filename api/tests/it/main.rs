//! The typed face from the outside, one module a theme.
#![expect(
    clippy::unwrap_used,
    reason = "a test that finds an error where none belongs fails by it"
)]

mod config; // settings from TOML, from the environment, and layered
mod events; // what happens to entries, told to who listens
mod ops; // files around a store: atomic writes, directories, retention, free space, logs
mod ops_data; // documents, backups, restores, migrations
#[cfg(feature = "redis")]
mod redis; // caches and maps on a server
#[cfg(feature = "redis")]
mod redis_failing; // servers that die, are silent or full
#[cfg(feature = "redis")]
mod redis_server; // a server for a test
mod space_versions; // values of one version become values of another
