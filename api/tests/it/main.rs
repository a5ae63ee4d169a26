//! The typed face from the outside, one module a theme.
#![expect(clippy::unwrap_used, reason = "a test that finds an error where none belongs fails by it")]

mod config; // settings from TOML, from the environment, and layered
mod events; // what happens to entries, told to who listens
mod ops; // files around a store: atomic writes, backups, migrations, retention, documents
