//! Stores beyond a network: a server in the place of the engine, for programs that outgrow one machine.
//!
//! | Part | Is |
//! |---|---|
//! | `frame` | an entry as bytes; pure |
//! | `script` | what the server does in one step |
//! | `clock` | the server's time, carried on between answers |
//! | `link` | connections: opened when needed, kept for the next call, given up when in doubt |
//! | `redis` | the door, and what each operation of a store of bytes is there |

#[cfg(feature = "redis")]
mod clock;
mod frame;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod script;

#[cfg(feature = "testing")]
pub(crate) use frame::check_frame;
#[cfg(feature = "redis")]
pub use link::RedisOptions;
