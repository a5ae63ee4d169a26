//! The typed face from the outside, one module a theme.
#![expect(
    clippy::unwrap_used,
    reason = "a test that finds an error where none belongs fails by it"
)]

mod asynchronous; // tasks of any runtime, and what is dropped at any point
mod both_faces; // what the blocking face and the async one answer alike
mod config; // settings from TOML, from the environment, and layered
mod events; // what happens to entries, told to who listens
mod ops; // files around a store: atomic writes, directories, documents, logs
mod ops_data;
mod space_versions; // values of one version become values of another // backups, restores, migrations, retention, free space
