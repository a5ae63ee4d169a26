//! What the project's own tests are made of: a disk that records and fails, every state a crash may leave, a
//! clock that stands still, operations, and a model of what must be true after them.

mod acts;
pub mod bad_blocks;
mod beside;
pub mod clock;
pub mod crash;
pub mod facet;
pub mod fault;
pub mod history;
pub mod image;
pub mod log;
pub mod model;
pub mod observe;
pub mod op;
pub mod recorder;
pub mod rng;
pub mod run;
pub mod seed;
pub mod store;
pub mod sweep;
mod upkeep;
