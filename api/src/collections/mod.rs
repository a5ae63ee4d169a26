//! Things that a program keeps besides maps: counters, queues, deques, logs, aggregates, sequences.
//!
//! Every change is atomic, for all threads and over a crash: it is there whole, or not at all. Each collection opens
//! with a method of [`Store`](crate::Store), is a cheap handle, and may be used from any thread.

mod aggregate;
mod counter;
mod deque;
mod gate;
mod log;
mod log_options;
mod queue;
mod queue_index;
mod sequence;
mod shared;

pub use aggregate::{Aggregate, Summary};
pub use counter::{Counter, Counters, Number};
pub use deque::Deque;
pub use log::{Line, Log};
pub use log_options::LogOptions;
pub use queue::{Message, Queue};
pub use sequence::Sequence;

pub(crate) use shared::{Shared, shared};

/// Kinds of extension items that collections add to their records.
pub(crate) mod item {
    /// A queue's item: deliveries (4 bytes), end of the lease (8), expiry (8); 0 = none.
    pub(crate) const PARCEL: u8 = 0x40;
}

/// Where the collections stand that have one entry a name.
const COUNTERS: &str = "tierce/counters";
const AGGREGATES: &str = "tierce/aggregates";
const SEQUENCES: &str = "tierce/sequences";
