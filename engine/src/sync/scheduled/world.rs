//! Scheduler state: the running task, the wait queues, and the choice of the next task.

use std::{
    cell::RefCell,
    fmt::Write as _,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, Thread},
};

/// Decisions after which a world counts as one that never ends.
const STEPS_MAX: u64 = 200_000;
/// Steps that one task may take in a row before others have a turn, whatever the order says.
const ROW_MAX: u64 = 3_000;
/// One decision in so many may let a wait with a time limit time out.
const TIMEOUT_IN: u64 = 24;
/// Stack of a task. Real threads, so only what is used counts.
const STACK_BYTES: usize = 1 << 20;

/// A decision that differs from the plain one, which is: go on with the same task, or else with the first.
pub type Choice = (u64, u32);

/// How a world decides who runs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// At each point another task with one chance in so many.
    Random {
        /// What the choices follow from.
        seed: u64,
        /// One chance in so many.
        one_in: u64,
        /// Whether accesses of atomics are points as well.
        atomics: bool,
    },
    /// The task with the highest priority; priorities change at so many random points.
    Priorities {
        /// What the choices follow from.
        seed: u64,
        /// Changes of priority.
        changes: usize,
        /// Whether accesses of atomics are points as well.
        atomics: bool,
    },
    /// Exactly these choices, and the plain one everywhere else.
    Given {
        /// The choices, by step.
        choices: Vec<Choice>,
        /// Whether accesses of atomics are points as well.
        atomics: bool,
    },
}

impl Order {
    const fn atomics(&self) -> bool {
        match self {
            Self::Random { atomics, .. }
            | Self::Priorities { atomics, .. }
            | Self::Given { atomics, .. } => *atomics,
        }
    }
}

/// How a world ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended<T> {
    /// What the first task returned, or why there is nothing: a panic, a deadlock, no end.
    pub outcome: Result<T, String>,
    /// Decisions that were made.
    pub steps: u64,
    /// Those that differ from the plain one: as [`Order::Given`] they repeat the run.
    pub choices: Vec<Choice>,
    /// A number that differs between runs that took different ways.
    pub trace: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Ready,
    /// Waits for a lock.
    Blocked(usize),
    /// Waits for a condition variable, perhaps with a time limit.
    Waiting(usize, bool),
    /// Waits for the end of a task.
    Joining(usize),
    Sleeping,
    /// Waits until all others do, see [`settle`].
    Settling,
    Done,
}

struct Task {
    state: State,
    at: &'static Location<'static>,
    thread: Option<Thread>,
    timed_out: bool,
    /// Whether a time limit of it has passed since a task began to settle.
    had_time: bool,
    priority: u64,
}

struct Inner {
    tasks: Vec<Task>,
    order: Order,
    random: u64,
    /// Steps at which priorities change, and the lowest priority given so far.
    changes: Vec<u64>,
    lowest: u64,
    steps: u64,
    row: u64,
    choices: Vec<Choice>,
    trace: u64,
    failure: Option<String>,
}

pub(super) struct World {
    inner: Mutex<Inner>,
    running: AtomicUsize,
    atomics: bool,
    /// Told once when the world fails: its tasks stay where they are for good.
    failed: Mutex<Option<mpsc::Sender<()>>>,
}

thread_local! {
    static HERE: RefCell<Option<(Arc<World>, usize)>> = const { RefCell::new(None) };
}

/// The world of this thread and its number there.
pub(super) fn here() -> Option<(Arc<World>, usize)> {
    HERE.try_with(|here| here.try_borrow().ok()?.clone()).ok().flatten()
}

/// The number of this task, if a scheduler runs it.
#[must_use]
pub fn current_task() -> Option<usize> {
    here().map(|(_, me)| me)
}

/// A point at which another task may go on.
#[track_caller]
pub fn point() {
    if let Some((world, me)) = here() {
        world.point(me, Location::caller());
    }
}

/// Waits until every other task waits, and has been given the time it waited for at least once: whatever was due in the
/// background is done, in any order. One task of a world at a time.
#[track_caller]
pub fn settle() {
    if let Some((world, me)) = here() {
        world.lock().tasks.iter_mut().for_each(|task| task.had_time = false);
        world.wait(me, State::Settling, Location::caller());
    }
}

/// Decisions that were made so far in this world: the order in which things happened.
#[must_use]
pub fn steps() -> u64 {
    here().map_or(0, |(world, _)| world.lock().steps)
}

fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Inner {
    fn below(&mut self, bound: u64) -> u64 {
        mix(&mut self.random) % bound.max(1)
    }

    /// Decides among `options`, which are not empty; `plain` is the choice that needs no record.
    /// With `stays` the plain one is the task that runs.
    fn decide(&mut self, options: &[usize], plain: usize, stays: bool) -> usize {
        self.steps += 1;
        let chosen = match &self.order {
            Order::Given { choices, .. } => {
                let step = self.steps;
                let given = choices.binary_search_by_key(&step, |choice| choice.0).ok();
                let given = given.map(|at| self.order.given(at));
                given.filter(|given| options.contains(given)).unwrap_or(plain)
            }
            Order::Random { one_in, .. } => {
                let one_in = *one_in;
                if stays && self.row < ROW_MAX && self.below(one_in) != 0 {
                    plain
                } else {
                    options[self.below(options.len() as u64) as usize]
                }
            }
            Order::Priorities { .. } => {
                let is_change = self.changes.contains(&self.steps) || self.row >= ROW_MAX;
                if is_change && stays {
                    self.lowest -= 1;
                    self.tasks[plain].priority = self.lowest;
                }
                let by_priority = |task: &&usize| self.tasks[**task].priority;
                options.iter().max_by_key(by_priority).copied().unwrap_or(plain)
            }
        };
        if chosen != plain {
            self.choices.push((self.steps, u32::try_from(chosen).unwrap_or(u32::MAX)));
        }
        self.row = if chosen == plain { self.row + 1 } else { 0 };
        self.trace = self.trace.rotate_left(5).wrapping_mul(0x100_0000_01b3) ^ chosen as u64;
        chosen
    }

    /// Who goes on, now that `me` is at a point or waits; `None` if no task can.
    fn next(&mut self, me: usize) -> Option<usize> {
        let of = |tasks: &[Task], is: fn(&State) -> bool| -> Vec<usize> {
            tasks.iter().enumerate().filter(|(_, task)| is(&task.state)).map(|(at, _)| at).collect()
        };
        let mut options = of(&self.tasks, |state| matches!(state, State::Ready));
        let mut timed =
            of(&self.tasks, |state| matches!(state, State::Waiting(_, true) | State::Sleeping));
        if options.is_empty()
            && let Some(settling) = of(&self.tasks, |state| matches!(state, State::Settling)).pop()
        {
            timed.retain(|task| !self.tasks[*task].had_time);
            if timed.is_empty() {
                self.tasks[settling].state = State::Ready;
                return Some(settling);
            }
        }
        let is_given = matches!(self.order, Order::Given { .. });
        // Who only waits for time gets it at random: no priority keeps others from it.
        let idle = options.is_empty() && !is_given && !timed.is_empty();
        if idle {
            let lucky = timed[self.below(timed.len() as u64) as usize];
            self.tasks[lucky].state = State::Ready;
            self.tasks[lucky].timed_out = true;
            self.tasks[lucky].had_time = true;
            self.steps += 1;
            if lucky != timed[0] {
                self.choices.push((self.steps, u32::try_from(lucky).unwrap_or(u32::MAX)));
            }
            return Some(lucky);
        }
        if options.is_empty() || is_given || (!timed.is_empty() && self.below(TIMEOUT_IN) == 0) {
            options.extend(timed);
        }
        let is_ready = matches!(self.tasks[me].state, State::Ready);
        let plain = if is_ready { me } else { *options.first()? };
        let chosen = self.decide(&options, plain, is_ready);
        let task = &mut self.tasks[chosen];
        if !matches!(task.state, State::Ready) {
            task.timed_out = true;
            task.had_time = true;
            task.state = State::Ready;
        }
        Some(chosen)
    }

    fn wake(&mut self, is: impl Fn(&State) -> bool) {
        for task in self.tasks.iter_mut().filter(|task| is(&task.state)) {
            task.state = State::Ready;
        }
    }

    /// What every task does, for people.
    fn describe(&self) -> String {
        let mut text = String::new();
        for (number, task) in self.tasks.iter().enumerate() {
            let what = match task.state {
                State::Ready => "can go on",
                State::Blocked(_) => "waits for a lock",
                State::Waiting(_, true) => "waits for a signal or a time",
                State::Waiting(_, false) => "waits for a signal",
                State::Joining(_) => "waits for a thread to end",
                State::Sleeping => "sleeps",
                State::Settling => "waits for all others to wait",
                State::Done => continue,
            };
            let _ = write!(text, "; task {number} {what} at {}", task.at);
        }
        text
    }
}

impl Order {
    fn given(&self, at: usize) -> usize {
        match self {
            Self::Given { choices, .. } => choices[at].1 as usize,
            _ => usize::MAX,
        }
    }
}

impl World {
    fn new(order: Order, failed: mpsc::Sender<()>) -> Self {
        let seed = match &order {
            Order::Random { seed, .. } | Order::Priorities { seed, .. } => *seed,
            Order::Given { .. } => 0,
        };
        let mut inner = Inner {
            tasks: Vec::new(),
            random: seed,
            changes: Vec::new(),
            lowest: 1 << 20,
            steps: 0,
            row: 0,
            choices: Vec::new(),
            trace: 0,
            failure: None,
            order,
        };
        if let Order::Priorities { changes, .. } = inner.order {
            // Runs differ in length: half of the changes come early.
            inner.changes = (0..changes)
                .map(|at| inner.below(if at % 2 == 0 { 300 } else { 3_000 }) + 1)
                .collect();
        }
        let atomics = inner.order.atomics();
        Self {
            inner: Mutex::new(inner),
            running: AtomicUsize::new(0),
            atomics,
            failed: Mutex::new(Some(failed)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn has_atomics(&self) -> bool {
        self.atomics
    }

    /// A new task, which is ready; its number.
    pub(super) fn add(&self, at: &'static Location<'static>) -> usize {
        let mut inner = self.lock();
        let priority = (1 << 20) + inner.below(1 << 20);
        inner.tasks.push(Task {
            state: State::Ready,
            at,
            thread: None,
            timed_out: false,
            had_time: false,
            priority,
        });
        inner.tasks.len() - 1
    }

    /// Takes back a task that never began.
    pub(super) fn cancel(&self, task: usize) {
        self.lock().tasks[task].state = State::Done;
    }

    /// This thread is the task `me` from now on and waits for its turn.
    pub(super) fn enter(self: &Arc<Self>, me: usize) {
        HERE.set(Some((Arc::clone(self), me)));
        self.lock().tasks[me].thread = Some(thread::current());
        self.await_turn(me);
    }

    /// This task is over.
    pub(super) fn leave(&self, me: usize) {
        HERE.set(None);
        let mut inner = self.lock();
        inner.tasks[me].state = State::Done;
        inner.wake(|state| matches!(state, State::Joining(task) if *task == me));
        self.hand_over(inner, me);
    }

    fn await_turn(&self, me: usize) {
        while self.running.load(Ordering::Acquire) != me {
            thread::park();
        }
    }

    /// Passes the turn to the next task; says whether it went to another task.
    fn hand_over(&self, mut inner: MutexGuard<'_, Inner>, me: usize) -> bool {
        if inner.steps > STEPS_MAX {
            let text = format!("no end after {STEPS_MAX} steps{}", inner.describe());
            self.fail(inner, text);
            return true;
        }
        let Some(next) = inner.next(me) else {
            if inner.tasks.iter().all(|task| matches!(task.state, State::Done)) {
                drop(inner);
                self.tell_failed();
                return true;
            }
            let text = format!("deadlock{}", inner.describe());
            self.fail(inner, text);
            return true;
        };
        if next == me {
            return false;
        }
        self.running.store(next, Ordering::Release);
        if let Some(thread) = &inner.tasks[next].thread {
            thread.unpark();
        }
        true
    }

    /// Ends the world: no task goes on.
    fn fail(&self, mut inner: MutexGuard<'_, Inner>, text: String) {
        inner.failure.get_or_insert(text);
        self.running.store(usize::MAX, Ordering::Release);
        drop(inner);
        self.tell_failed();
    }

    fn tell_failed(&self) {
        let sender = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            let _ = sender.send(());
        }
    }

    pub(super) fn point(&self, me: usize, at: &'static Location<'static>) {
        let mut inner = self.lock();
        inner.tasks[me].at = at;
        if self.hand_over(inner, me) {
            self.await_turn(me);
        }
    }

    /// Waits as `state` says; returns whether it was for too long.
    pub(super) fn wait(&self, me: usize, state: State, at: &'static Location<'static>) -> bool {
        let mut inner = self.lock();
        inner.tasks[me].at = at;
        inner.tasks[me].timed_out = false;
        inner.tasks[me].state = state;
        if self.hand_over(inner, me) {
            self.await_turn(me);
        }
        std::mem::take(&mut self.lock().tasks[me].timed_out)
    }

    /// Waits for the end of `task`.
    pub(super) fn join(&self, me: usize, task: usize, at: &'static Location<'static>) {
        if !matches!(self.lock().tasks[task].state, State::Done) {
            self.wait(me, State::Joining(task), at);
        }
    }

    /// Lets those go on who wait for the lock at `on`.
    pub(super) fn released(&self, on: usize) {
        self.lock().wake(|state| matches!(state, State::Blocked(lock) if *lock == on));
    }

    /// Lets one or all go on who wait for the condition variable at `on`.
    pub(super) fn notify(&self, on: usize, all: bool) {
        let mut inner = self.lock();
        if all {
            inner.wake(|state| matches!(state, State::Waiting(signal, _) if *signal == on));
            return;
        }
        let waits = |task: &&usize| matches!(inner.tasks[**task].state, State::Waiting(signal, _) if signal == on);
        let all: Vec<usize> = (0..inner.tasks.len()).collect();
        let waiting: Vec<usize> = all.iter().filter(waits).copied().collect();
        if let Some(first) = waiting.first() {
            let chosen = inner.decide(&waiting, *first, false);
            inner.tasks[chosen].state = State::Ready;
        }
    }
}

/// Runs `root` as the first task of a new world, and every task that it starts. Ends when all tasks have ended, or
/// when none can go on: those stay where they are for good.
pub fn run<T: Send + 'static>(order: Order, root: impl FnOnce() -> T + Send + 'static) -> Ended<T> {
    let (failed, ended) = mpsc::channel();
    let world = Arc::new(World::new(order, failed));
    let me = world.add(Location::caller());
    let outcome = Arc::new(Mutex::new(None));
    let (inside, place) = (Arc::clone(&world), Arc::clone(&outcome));
    let work = move || {
        inside.enter(me);
        let done = catch_unwind(AssertUnwindSafe(root)).map_err(|panic| message_of(&*panic));
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        inside.leave(me);
    };
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    let thread = thread.expect("a thread for the first task");
    let _ = ended.recv();
    let inner = world.lock();
    let (steps, choices, trace) = (inner.steps, inner.choices.clone(), inner.trace);
    let failure = inner.failure.clone();
    drop(inner);
    let outcome = match failure {
        Some(text) => Err(text),
        None => {
            let _ = thread.join();
            let done = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            done.unwrap_or_else(|| Err("the first task did not end".to_owned()))
        }
    };
    Ended { outcome, steps, choices, trace }
}

/// The words of a panic.
fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_else(|| "without words".to_owned()))
}

/// Stack of a thread inside a world.
pub(super) const fn stack_bytes() -> usize {
    STACK_BYTES
}
