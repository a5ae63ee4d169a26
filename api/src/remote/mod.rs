//! Stores beyond a network: a server in the place of the engine, for programs that outgrow one machine.
//!
//! | Part | Is |
//! |---|---|
//! | `frame` | an entry as bytes; pure |
//! | `script` | what the server does in one step |
//! | `clock` | the server's time, carried on between answers |
//! | `link` | connections: opened when needed, kept for the next call, given up when in doubt |
//! | `redis` | the door, and what each operation of a store of bytes is there |

mod clock;
mod frame;
mod link;
mod redis;
mod script;

pub use link::RedisOptions;
