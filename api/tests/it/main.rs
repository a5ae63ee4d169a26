//! The typed face from the outside, one module a theme.
#![expect(
    clippy::unwrap_used,
    reason = "a test that finds an error where none belongs fails by it"
)]

mod events; // what happens to entries, told to who listens
#[cfg(feature = "redis")]
mod redis; // caches and maps on a server
#[cfg(feature = "redis")]
mod redis_server; // a server for a test
