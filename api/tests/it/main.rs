//! The typed face from the outside, one module a theme.
#![expect(
    clippy::unwrap_used,
    reason = "a test that finds an error where none belongs fails by it"
)]

mod asynchronous; // tasks of any runtime, and what is dropped at any point
mod both_faces; // what the blocking face and the async one answer alike
mod cache; // what is stored, how long, what is known of it
mod cache_invalidate; // removing many at once
mod cache_load; // one load for all who ask
mod cache_model; // random operations beside a model
mod cache_regressions; // faults found once
mod cache_stale; // stale values, refreshes ahead
mod cache_weight; // what entries weigh, and who uses them
mod config; // settings from TOML, from the environment, and layered
mod coordinator; // polls, requests, failures, pushes
mod coordinator_life; // restarts, threads, the end of a coordinator
mod counters; // counters, aggregates, sequences
mod crashes; // collections after a crash anywhere
mod deque; // deques against `VecDeque`
mod events; // what happens to entries, told to who listens
mod home; // what tests of collections and recipes open
#[path = "../../../tests/it/basics/hooks.rs"]
mod hooks; // a disk that tells a hook of every call
mod log; // logs against a list of lines
mod map; // verbs, ranges, all or none
mod mutations; // what follows a write, and its order
mod ops; // files around a store: atomic writes, directories, retention, free space, logs
mod ops_data; // documents, backups, restores, migrations
mod policies; // when states are saved, and the loop around handlers
mod queue; // queues against a list of items
mod reading; // the typed face of a reader beside a writer
mod recipes; // recipes under races and at their instants
#[cfg(feature = "redis")]
mod redis; // caches and maps on a server
#[cfg(feature = "redis")]
mod redis_failing; // servers that die, are silent or full
#[cfg(feature = "redis")]
mod redis_server; // a server for a test
mod space_versions; // values of one version become values of another
mod spaces; // names, types, options, the end of a space
mod state; // the dictionary of a device, and typed documents
#[cfg(feature = "redis")]
mod state_redis; // states in a real server
#[cfg(feature = "sqlite")]
mod state_sqlite; // states in a SQLite file
mod state_stores; // every place for states, and what each does with damage
mod trials_backup; // a backup of a directory that was broken off
mod trials_cache; // entries that cannot be decoded
mod trials_codecs; // serde's shapes through every codec
mod trials_listeners; // what fences loads, what listeners hear, callbacks that panic or come back
mod trials_queue; // items that fail, deeds that meet
#[cfg(feature = "redis")]
mod trials_redis_states; // servers that refuse, evict, or have another client
mod trials_spaces; // spaces from other stores, with one number, with reserved names
mod trials_states; // states that two use at once
mod trials_versions; // updates beside renewals
