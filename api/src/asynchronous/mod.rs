//! The async face: the same stores, caches and maps, for tasks. It needs no runtime and works in each.
//!
//! - **A read answers at once**, when its future is polled first, on the thread that polls it: from the index and the
//!   mapped log, as the sync face does. There is no thread to hop to. A page of the log that is not in memory is read
//!   by the system meanwhile, as with every mapped file.
//! - **What may wait for a disk** (writes, scans, invalidations, opening, closing) is a [`Work`]: a future that is
//!   carried out by a few threads which belong to the store. See there what dropping one means.
//! - **Loads** run in the task that asks, one for each key over all tasks and threads of both faces; see
//!   [`AsyncCache::get_or_load`].
//!
//! Both faces are handles of one thing: [`AsyncCache::blocking`] and
//! [`Cache::asynchronous`](crate::Cache::asynchronous) lead from one to the other, and what one writes the other reads.
//! Do not call the blocking one in a task: it holds up the thread, and a load of another task that the same thread
//! would have to go on with never ends.
//!
//! ```
//! use tierce::{Put, Ttl, asynchronous::{AsyncStore, block_on}};
//! block_on(async {
//!     let store = AsyncStore::in_memory().await?;
//!     let users = store.cache::<String, String>("users").await?;
//!     users.insert_with("7", &"Ada".into(), &Put::new().ttl(Ttl::minutes(5))).await?;
//!     assert_eq!(users.get("7").await?, Some("Ada".into()));
//!     assert_eq!(users.get_or_insert_with("8", async { "Grace".into() }).await?, "Grace");
//!     drop(users);
//!     store.close().await
//! })?;
//! # Ok::<(), tierce::Error>(())
//! ```
//!
//! # Runtimes
//!
//! The threads are the store's own, with a runtime and without one: their number is bounded, they end with the store,
//! and a burst of writes does not take the threads that a runtime keeps for blocking work. The feature `tokio` adds
//! only what spares a line: `AsyncCache::loading` spawns its refreshes on the runtime it is called in.

mod block_on;
mod cache;
mod loading;
mod map;
mod store;

pub use crate::work::Work;
pub use block_on::block_on;
pub use cache::AsyncCache;
pub use loading::{AsyncLoading, BoxFuture};
pub use map::AsyncMap;
pub use store::AsyncStore;
