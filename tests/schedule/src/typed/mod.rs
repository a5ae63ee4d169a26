//! Programs of the typed face: a few clients of one cache, queue, semaphore and so on, each topic with rules of its own
//! that tell whether what the clients saw may be.
//!
//! - `case`: what is done; `world`: what all topics share; `linear`: is there an order that explains the answers?
//! - the others: one topic each, what its clients do and how it is judged

mod case;
mod events;
mod keyed;
mod linear;
mod loads;
mod loads_judge;
#[cfg(test)]
mod named;
mod permits;
mod queue;
mod queue_judge;
mod world;

pub(crate) use case::Case;
