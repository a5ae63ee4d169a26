//! Devices and the loop around them: who is due, what is published, what is saved, and the save at the end.
//!
//! Knows no threads: somebody calls [`Runtime::step`].

mod device;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tierce_engine::{
    Timestamp,
    io::{Clock, OsClock},
};

use self::device::Device;
use super::{NullStore, OnDelta, Policy, State, StateStore};
use crate::error::{BoxError, Error, Result};

/// What a handler returns: a reading to publish, if there is one.
pub type Reading = Result<Option<Value>, BoxError>;

/// What is called once an interval with the device's state. It may fail, and it may panic.
pub type Handler = Box<dyn FnMut(&State) -> Reading + Send>;

type Init = Box<dyn FnOnce(&State) -> Result<(), BoxError> + Send>;
type Publisher = Box<dyn FnMut(&str, &Value) -> Result<(), BoxError> + Send>;

/// Something that failed while the rest went on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The device; empty if it is the store of all.
    pub device: String,
    /// What failed.
    pub what: What,
    /// Its own word.
    pub error: BoxError,
}

/// What can fail while the rest goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The device's initialization; its handler is not called.
    Init,
    /// The handler.
    Handler,
    /// Publishing the reading.
    Publish,
    /// Saving the state, which stays dirty and is tried again after the next turn whatever its policy says, or flushing
    /// the store.
    Save,
    /// A stored state was found damaged; where it was moved to is in the error.
    Damage,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Init => "initialization",
            What::Handler => "handler",
            What::Publish => "publishing",
            What::Save => "saving",
            What::Damage => "stored state",
        };
        write!(f, "{what} of device `{}`: {}", self.device, self.error)
    }
}

impl std::error::Error for Failure {}

/// What one [`Runtime::step`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// How many handlers were called.
    pub ran: usize,
    /// How many readings were published.
    pub published: usize,
    /// How many states were written.
    pub saved: usize,
    /// What failed.
    pub failures: Vec<Failure>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.ran += other.ran;
        self.published += other.published;
        self.saved += other.saved;
        self.failures.extend(other.failures);
    }
}

/// How a handler is registered.
///
/// ```
/// use std::time::Duration;
/// use tierce::state::{OnChange, OnDelta, Telemetry};
/// let telemetry = Telemetry::new("sensor", Duration::from_secs(60))
///     .policy(OnChange)
///     .publish_on(OnDelta::new(0.5)?);
/// # Ok::<(), tierce::Error>(())
/// ```
#[must_use = "it is registered by `Runtime::add`"]
pub struct Telemetry {
    name: String,
    interval: Duration,
    policy: Option<Policy>,
    filter: Option<OnDelta>,
    is_enabled: bool,
    init: Option<Init>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("name", &self.name)
            .field("interval", &self.interval)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Telemetry {
    /// The handler of the device `name` is to be called now and every `interval`, at least 1 ms.
    pub fn new(name: impl Into<String>, interval: Duration) -> Self {
        Self {
            name: name.into(),
            interval,
            policy: None,
            filter: None,
            is_enabled: true,
            init: None,
        }
    }

    /// When to save besides at the end. Default: [`OnShutdown`](super::OnShutdown).
    pub fn policy(mut self, policy: impl Into<Policy>) -> Self {
        self.policy = Some(policy.into());
        self
    }

    /// Publish only readings that differ so from the one published last. Default: every one.
    pub fn publish_on(mut self, filter: OnDelta) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Whether it is registered at all. Default: yes.
    pub const fn enabled(mut self, is_enabled: bool) -> Self {
        self.is_enabled = is_enabled;
        self
    }

    /// Is called once, before the handler is. If it fails, the handler never is; the state is saved at the end anyway.
    pub fn init(
        mut self,
        init: impl FnOnce(&State) -> Result<(), BoxError> + Send + 'static,
    ) -> Self {
        self.init = Some(Box::new(init));
        self
    }
}

/// Runs the handlers of devices and looks after their states: loads each before its handler is called, saves as its
/// policy says, and saves all at the end.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use serde_json::json;
/// use tierce::state::{MemoryStore, OnPublish, Runtime, StateStore};
///
/// let store = Arc::new(MemoryStore::new());
/// let mut runtime = Runtime::new(store.clone());
/// runtime.telemetry("sensor", Duration::from_secs(60), OnPublish, |state| {
///     let count = state.get_or("count", 0)? + 1;
///     state.set("count", count)?;
///     Ok(Some(json!({"count": count})))
/// })?;
/// let outcome = runtime.step();
/// assert_eq!((outcome.ran, outcome.saved), (1, 1));
/// assert_eq!(store.load("sensor")?.unwrap()["count"], 1);
/// runtime.shutdown().unwrap();
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct Runtime {
    store: Option<Arc<dyn StateStore>>,
    clock: Arc<dyn Clock>,
    publisher: Option<Publisher>,
    devices: Vec<Device>,
    is_stopped: bool,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.devices.iter().map(|device| device.state.name()).collect();
        f.debug_struct("Runtime").field("devices", &names).finish_non_exhaustive()
    }
}

impl Runtime {
    /// One whose devices have their states in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self::with(Some(store))
    }

    /// One whose devices have states in memory only, which nobody saves. Naming a policy is an error there.
    #[must_use]
    pub fn without_store() -> Self {
        Self::with(None)
    }

    fn with(store: Option<Arc<dyn StateStore>>) -> Self {
        Self {
            store,
            clock: Arc::new(OsClock),
            publisher: None,
            devices: Vec::new(),
            is_stopped: false,
        }
    }

    /// Sets the clock, before devices are registered. Only its monotonic time is used.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets who gets the readings. Without one, a reading counts as published. A reading that fails does not, and is
    /// not tried again.
    #[must_use]
    pub fn publisher(
        mut self,
        publisher: impl FnMut(&str, &Value) -> Result<(), BoxError> + Send + 'static,
    ) -> Self {
        self.publisher = Some(Box::new(publisher));
        self
    }

    /// Registers a handler that is called every `interval`, with a policy that says when its state is saved.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn telemetry(
        &mut self,
        name: impl Into<String>,
        interval: Duration,
        policy: impl Into<Policy>,
        handler: impl FnMut(&State) -> Reading + Send + 'static,
    ) -> Result<()> {
        self.add(Telemetry::new(name, interval).policy(policy), handler)
    }

    /// Registers a handler. Its state is loaded here.
    ///
    /// # Errors
    /// [`Error::Options`] if the name is taken, the interval is zero, or there is a policy and no store; none of this
    /// if it is not enabled. Those of [`StateStore::load`].
    pub fn add(
        &mut self,
        telemetry: Telemetry,
        handler: impl FnMut(&State) -> Reading + Send + 'static,
    ) -> Result<()> {
        if !telemetry.is_enabled {
            return Ok(());
        }
        let mut complaints = Vec::new();
        if self.store.is_none() && telemetry.policy.is_some() {
            complaints.push("it has a save policy, and there is no store".to_owned());
        }
        if telemetry.interval.is_zero() {
            complaints.push("the interval is zero".to_owned());
        }
        let state = self.open(&telemetry.name, complaints)?;
        self.devices.push(Device::looped(state, telemetry, Box::new(handler), self.now()));
        Ok(())
    }

    /// Registers a device that has its own loop somewhere else, and gives its state. That loop saves when it likes;
    /// at the end it is saved anyway.
    ///
    /// # Errors
    /// [`Error::Options`] if the name is taken. Those of [`StateStore::load`].
    pub fn device(&mut self, name: impl Into<String>) -> Result<State> {
        let state = self.open(&name.into(), Vec::new())?;
        self.devices.push(Device::own_loop(state.clone(), self.now()));
        Ok(state)
    }

    /// Runs the loop of a device to its end, in this thread, and saves its state then, however it ended.
    ///
    /// # Errors
    /// As [`Self::device`]; what `run` and the save failed with is in the step.
    pub fn run_device(
        &mut self,
        name: impl Into<String>,
        run: impl FnOnce(&State) -> Result<(), BoxError>,
    ) -> Result<Outcome> {
        let state = self.device(name)?;
        let mut outcome = Outcome { ran: 1, ..Outcome::default() };
        if let Err(error) = guarded(|| run(&state)) {
            outcome.failures.push(failure(&state, What::Handler, error));
        }
        match guarded(|| Ok(state.save()?)) {
            Ok(is_saved) => outcome.saved += usize::from(is_saved),
            Err(error) => outcome.failures.push(failure(&state, What::Save, error)),
        }
        outcome.failures.extend(self.damage());
        Ok(outcome)
    }

    fn open(&self, name: &str, mut complaints: Vec<String>) -> Result<State> {
        if self.devices.iter().any(|device| device.state.name() == name) {
            complaints.push("the name is taken".to_owned());
        }
        if self.is_stopped {
            return Err(Error::Closed("the runtime"));
        }
        if !complaints.is_empty() {
            return Err(Error::Options { what: format!("device `{name}`"), complaints });
        }
        let store = self.store.clone().unwrap_or_else(|| Arc::new(NullStore));
        State::open(store, name)
    }

    /// The state of a device, with what is not saved yet.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<&State> {
        self.devices.iter().map(|device| &device.state).find(|state| state.name() == name)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.monotonic_ms())
    }

    /// What was found damaged since this was asked last.
    fn damage(&self) -> impl Iterator<Item = Failure> {
        let found = self.store.as_ref().map(|store| store.take_damage()).unwrap_or_default();
        found.into_iter().map(|damage| Failure {
            device: damage.name.clone().unwrap_or_default(),
            what: What::Damage,
            error: damage.to_string().into(),
        })
    }

    /// Calls every handler that is due, in the order they were registered, and lets policies save that waited for this
    /// moment. A handler that is late is called once, and then an interval later. Does nothing after a shutdown.
    pub fn step(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        if self.is_stopped {
            return outcome;
        }
        for at in 0..self.devices.len() {
            let now = self.now();
            let device = &mut self.devices[at];
            if device.due().is_some_and(|due| due <= now) {
                outcome.add(device.turn(&*self.clock, &mut self.publisher));
            } else if device.wake_at().is_some_and(|wake| wake <= now) {
                outcome.add(device.ask(now, false, false));
            }
        }
        outcome.failures.extend(self.damage());
        outcome
    }

    /// Calls every handler `cycles` times, due or not. For tests; does nothing after a shutdown.
    pub fn run_cycles(&mut self, cycles: usize) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..if self.is_stopped { 0 } else { cycles } {
            for device in &mut self.devices {
                outcome.add(device.turn(&*self.clock, &mut self.publisher));
            }
        }
        outcome.failures.extend(self.damage());
        outcome
    }

    /// How long until [`Self::step`] has something to do; `None` if it never will.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        if self.is_stopped {
            return None;
        }
        let dues = self.devices.iter().flat_map(|device| [device.due(), device.wake_at()]);
        let next = dues.flatten().min()?;
        Some(Duration::from_millis(next.0.saturating_sub(self.now().0)))
    }

    /// Stops: no handler is called any more, and every dirty state is saved, whatever policies say and whatever failed
    /// before. One that fails does not stop the others; it stays dirty, and another call tries again.
    ///
    /// # Errors
    /// All that failed, damage that was found and not told yet included.
    pub fn shutdown(&mut self) -> Result<(), Vec<Failure>> {
        self.is_stopped = true;
        let mut failures = Vec::new();
        for device in &self.devices {
            if let Err(error) = guarded(|| Ok(device.state.save()?)) {
                failures.push(failure(&device.state, What::Save, error));
            }
        }
        if let Some(store) = &self.store
            && let Err(error) = guarded(|| Ok(store.flush()?))
        {
            failures.push(Failure { device: String::new(), what: What::Save, error });
        }
        failures.extend(self.damage());
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }
}

/// The last resort, for a program that ends without [`Runtime::shutdown`]; nobody hears what fails.
impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.shutdown();
    }
}

fn failure(state: &State, what: What, error: BoxError) -> Failure {
    Failure { device: state.name().to_owned(), what, error }
}

/// Calls code of others; a panic of it is an error.
fn guarded<T>(run: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let told = panic.downcast_ref::<&str>().copied();
        let told = told.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(format!("it panicked: {}", told.unwrap_or("no message")).into())
    })
}
