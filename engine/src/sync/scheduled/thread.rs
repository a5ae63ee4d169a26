//! Threads under the scheduler: a thread that a task spawns is a task of the same world.

pub use std::thread::{
    Result, Scope, ScopedJoinHandle, Thread, ThreadId, available_parallelism, current, panicking,
    scope,
};
use std::{
    io,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    sync::Arc,
    thread as plain,
    time::Duration,
};

use super::world::{State, World, here, stack_bytes};

/// Starts a thread.
///
/// # Panics
/// If the system has none.
#[track_caller]
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().spawn(work).expect("the system gives a thread")
}

/// Lets another thread go on.
#[track_caller]
pub fn yield_now() {
    match here() {
        Some((world, me)) => drop(world.wait(me, State::Sleeping, Location::caller())),
        None => plain::yield_now(),
    }
}

/// Rests for so long; in a world until the scheduler says so.
#[track_caller]
pub fn sleep(time: Duration) {
    match here() {
        Some((world, me)) => drop(world.wait(me, State::Sleeping, Location::caller())),
        None => plain::sleep(time),
    }
}

/// Waits to be unparked; in a world for some time, as the standard library's may.
#[track_caller]
pub fn park() {
    match here() {
        Some((world, me)) => drop(world.wait(me, State::Sleeping, Location::caller())),
        None => plain::park(),
    }
}

/// Waits to be unparked, for so long at most.
#[track_caller]
pub fn park_timeout(time: Duration) {
    match here() {
        Some((world, me)) => drop(world.wait(me, State::Sleeping, Location::caller())),
        None => plain::park_timeout(time),
    }
}

/// What a thread is to be.
#[derive(Debug, Default)]
pub struct Builder {
    name: Option<String>,
}

impl Builder {
    /// A thread without a name.
    #[must_use]
    pub const fn new() -> Self {
        Self { name: None }
    }

    /// With this name.
    #[must_use]
    pub fn name(mut self, name: String) -> Self {
        self.name = Some(name);
        self
    }

    fn plain(self) -> plain::Builder {
        match self.name {
            Some(name) => plain::Builder::new().name(name),
            None => plain::Builder::new(),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// If the system has none.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let Some((world, me)) = here() else {
            return Ok(JoinHandle { thread: self.plain().spawn(work)?, task: None });
        };
        let at = Location::caller();
        let task = world.add(at);
        let inside = Arc::clone(&world);
        let spawned = self.plain().stack_size(stack_bytes()).spawn(move || {
            inside.enter(task);
            let done = catch_unwind(AssertUnwindSafe(work));
            inside.leave(task);
            done.unwrap_or_else(|panic| resume_unwind(panic))
        });
        match spawned {
            Ok(thread) => {
                world.point(me, at);
                Ok(JoinHandle { thread, task: Some((world, task)) })
            }
            Err(error) => {
                world.cancel(task);
                Err(error)
            }
        }
    }

    /// Starts it within a scope. In a world there is none: who asks has to do without.
    ///
    /// # Errors
    /// If the system has none.
    pub fn spawn_scoped<'scope, 'env, T: Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>> {
        if here().is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.plain().spawn_scoped(scope, work)
    }
}

/// A thread that was started.
pub struct JoinHandle<T> {
    thread: plain::JoinHandle<T>,
    task: Option<(Arc<World>, usize)>,
}

impl<T> JoinHandle<T> {
    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.thread.thread()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// With its panic.
    #[track_caller]
    pub fn join(self) -> Result<T> {
        if let (Some((world, task)), Some((_, me))) = (&self.task, here()) {
            world.join(me, *task, Location::caller());
        }
        self.thread.join()
    }
}

impl<T> std::fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.thread.fmt(f)
    }
}
