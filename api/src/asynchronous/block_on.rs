//! The smallest executor: one future, this thread.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use crate::sync::{
    atomic::{AtomicBool, Ordering},
    thread::{self, Thread},
};

/// Wakes the thread that runs the future.
struct Unpark {
    thread: Thread,
    /// Parking may end without a reason, and something else in the thread may have taken the token.
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Runs `future` on this thread to its end, and sleeps while there is nothing to do: for tools, tests and examples that
/// have no runtime. Not to be called in a task.
///
/// ```
/// assert_eq!(tierce::asynchronous::block_on(async { 6 * 7 }), 42);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let thread = Unpark { thread: thread::current(), is_woken: AtomicBool::new(false) };
    let thread = Arc::new(thread);
    let waker = Waker::from(Arc::clone(&thread));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        while !thread.is_woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}
