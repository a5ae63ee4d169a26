//! Work that is dropped, waits, panics, or comes too late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::Work;
use crate::{
    asynchronous::block_on,
    error::{Error, Result},
    pool::Pool,
};

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A piece of work that is polled by hand, and the number of times it was done.
struct Polled {
    work: Option<Work<usize>>,
    woken: Arc<Woken>,
    done: Arc<AtomicUsize>,
}

impl Polled {
    fn new(pool: &Pool, surely: bool) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        let job = move || Ok(count.fetch_add(1, Ordering::SeqCst));
        let work = if surely { Work::surely(pool, job) } else { Work::new(pool, job) };
        Self { work: Some(work), woken: Arc::default(), done }
    }

    fn poll(&mut self) -> Poll<Result<usize>> {
        let waker = Waker::from(Arc::clone(&self.woken));
        std::pin::Pin::new(self.work.as_mut().unwrap()).poll(&mut Context::from_waker(&waker))
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst) == 1
    }

    fn woken(&self) -> usize {
        self.woken.0.load(Ordering::SeqCst)
    }
}

/// A pool without threads, before which `room` jobs may wait.
fn manual(room: usize) -> Pool {
    Pool::with_limits(0, room, Duration::ZERO)
}

/// Goal: nothing happens before the first poll; dropped before a thread began, it does not happen, unless it must.
#[test]
fn dropping_cancels_what_has_not_begun() {
    let pool = manual(10);
    let never = Polled::new(&pool, false);
    let mut cancelled = Polled::new(&pool, false);
    let mut sure = Polled::new(&pool, true);
    let mut kept = Polled::new(&pool, false);
    for polled in [&mut cancelled, &mut sure, &mut kept] {
        assert!(polled.poll().is_pending());
    }
    cancelled.work = None;
    sure.work = None;
    assert_eq!(pool.run_pending(), 3);
    assert!(!never.is_done() && !cancelled.is_done() && sure.is_done());
    assert_eq!(kept.woken(), 1);
    assert!(matches!(kept.poll(), Poll::Ready(Ok(0))));
}

/// Goal: when the queue is full, futures wait in order of arrival and hold up no thread, and a place that somebody
/// gives back is not lost.
#[test]
fn a_full_queue_is_waited_for() {
    let pool = manual(1);
    let mut works: Vec<_> = (0..4).map(|_| Polled::new(&pool, false)).collect();
    for work in &mut works {
        assert!(work.poll().is_pending());
    }
    assert_eq!(pool.run_pending(), 1, "the others are not in the queue");
    assert_eq!([1, 2, 3].map(|at| works[at].woken()), [1, 0, 0]);
    assert!(!pool.try_spawn(Box::new(|| {})), "the place is promised");
    works[1].work = None;
    assert_eq!([2, 3].map(|at| works[at].woken()), [1, 0], "it goes to the next");
    assert!(works[3].poll().is_pending());
    assert_eq!(pool.run_pending(), 0, "it is not the turn of the last");
    assert!(works[2].poll().is_pending());
    assert_eq!(pool.run_pending(), 1);
    assert!(works[3].poll().is_pending());
    assert_eq!(pool.run_pending(), 1);
    assert!([0, 2, 3].into_iter().all(|at| works[at].is_done()) && !works[1].is_done());
    assert!(works[3].poll().is_ready());
    assert!(pool.try_spawn(Box::new(|| {})), "nobody waits any more");
}

/// Goal: with threads, a thousand pieces of work pass through a queue of one.
#[test]
fn a_burst_passes_through_a_small_queue() {
    let pool = Pool::with_limits(2, 1, Duration::from_secs(600));
    let total = Arc::new(AtomicUsize::new(0));
    let mut works: Vec<_> = (0..1000)
        .map(|_| {
            let total = Arc::clone(&total);
            Work::new(&pool, move || Ok(total.fetch_add(1, Ordering::SeqCst)))
        })
        .collect();
    let mut polled = Context::from_waker(Waker::noop());
    for work in &mut works {
        let _ = std::pin::Pin::new(work).poll(&mut polled);
    }
    for (at, work) in works.into_iter().enumerate() {
        if at % 7 != 0 {
            block_on(work).unwrap();
        }
    }
    assert!(total.load(Ordering::SeqCst) >= 857);
}

/// Goal: a closed pool answers, whether the work was in the queue, before it, or comes later.
#[test]
fn a_closed_pool_answers() {
    let pool = manual(1);
    let mut works: Vec<_> = (0..3).map(|_| Polled::new(&pool, false)).collect();
    assert!(works[0].poll().is_pending() && works[1].poll().is_pending());
    pool.close();
    assert_eq!((works[0].woken(), works[1].woken()), (1, 1));
    for work in &mut works {
        assert!(matches!(work.poll(), Poll::Ready(Err(Error::Closed(_)))));
        assert!(!work.is_done());
    }
}

/// Goal: a panic goes on in who polls, and the thread lives on.
#[test]
fn a_panic_goes_to_who_waits() {
    let pool = Pool::with_limits(1, 10, Duration::from_secs(600));
    let work: Work<()> = Work::new(&pool, || std::panic::resume_unwind(Box::new("planned")));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(work)));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"planned"));
    let (done, is_done) = mpsc::channel();
    let work = Work::new(&pool, move || {
        done.send(()).unwrap();
        Ok(())
    });
    block_on(work).unwrap();
    is_done.recv().unwrap();
}
