//! Deterministic scheduler: runs real threads one at a time and decides by seed which one runs next.
//!
//! [`run`] makes a *world*. Threads that are started inside it are its tasks, and exactly one task runs at any
//! moment. At every lock, wait, atomic access, start and end of a thread, and wherever a test calls [`point`], the
//! task that runs may have to hand over to another one. Which one follows from the [`Order`] alone, so a run can be
//! repeated. Waits with a time limit may time out at any point. A world in which no task can go on is reported as
//! a deadlock.
//!
//! Outside a world everything here behaves as the standard library's, so a build with the feature `schedule` runs
//! every other test as well. Memory is sequentially consistent inside a world: orderings of atomics are not tested.

pub mod atomic;
mod lock;
mod once;
pub mod thread;
mod wait;
mod world;

#[cfg(test)]
mod tests;

pub use lock::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use once::OnceLock;
pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
pub use wait::{Condvar, WaitTimeoutResult};
pub use world::{Choice, Ended, Order, current_task, point, run, settle, steps};
