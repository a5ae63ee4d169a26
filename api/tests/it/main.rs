//! The typed face from the outside, one module a theme.
#![expect(
    clippy::unwrap_used,
    reason = "a test that finds an error where none belongs fails by it"
)]

mod asynchronous; // tasks of any runtime, and what is dropped at any point
mod both_faces; // what the blocking face and the async one answer alike
mod config; // settings from TOML, from the environment, and layered
mod coordinator; // polls, requests, failures, pushes
mod coordinator_life; // restarts, threads, the end of a coordinator
mod events; // what happens to entries, told to who listens
mod mutations; // what follows a write, and its order
mod ops; // files around a store: atomic writes, directories, retention, free space, logs
mod ops_data; // documents, backups, restores, migrations
#[cfg(feature = "testing")]
mod policies; // when states are saved, and the loop around handlers
mod space_versions; // values of one version become values of another
#[cfg(feature = "testing")]
mod state; // the dictionary of a device, and typed documents
#[cfg(all(feature = "testing", feature = "redis"))]
mod state_redis; // states in a real server
#[cfg(feature = "testing")]
mod state_stores; // every place for states, and what each does with damage
