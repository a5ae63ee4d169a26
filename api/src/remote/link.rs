//! Connections to one server: opened when needed, kept for the next call, given up when in doubt.

use std::{fmt, time::Duration};

use redis::{Client, Connection, RedisError, RedisResult};

use super::clock::ServerClock;
use crate::{
    error::{BoxError, Error, Result},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Connections that are kept while nobody uses them.
const IDLE_MAX: usize = 8;
/// A connection that was not used for so long is tried before a call is entrusted to it.
const TRUSTED_MS: u64 = 1_000;

/// How long to wait for a server.
///
/// ```
/// use std::time::Duration;
/// use tierce::{RedisOptions, Store};
/// let options = RedisOptions::new().connect_timeout(Duration::from_millis(500));
/// let store = Store::redis_with("redis://127.0.0.1/", "app", &options)?;
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RedisOptions {
    connect: Duration,
    response: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), response: Duration::from_secs(5) }
    }
}

impl RedisOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long opening a connection may take, for each address of the server's name. Looking up the name takes as long
    /// as the system lets it. At least a millisecond. Default: 2 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect = timeout.max(Duration::from_millis(1));
        self
    }

    /// How long the server may let a call wait, each for taking bytes in and for sending some. At least a millisecond.
    /// Default: 5 seconds.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response = timeout.max(Duration::from_millis(1));
        self
    }
}

/// Whether a call may be made again when nobody knows whether it was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// It changes nothing that matters.
    Read,
    /// Again could be once too often.
    Write,
}

/// A connection that nobody uses.
struct Idle {
    connection: Connection,
    /// Since when, on the monotonic clock.
    since_ms: u64,
}

/// The way to one server.
pub(super) struct Link {
    client: Client,
    options: RedisOptions,
    idle: Mutex<Vec<Idle>>,
    closed: AtomicBool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address alone: the rest of the client has the password.
        write!(f, "{}", self.client.get_connection_info().addr())
    }
}

/// The connection broke, or nothing came in time, after a write was on its way.
#[derive(Debug, thiserror::Error)]
#[error("no answer came, so it may have happened: {0}")]
struct Unknown(#[source] RedisError);

pub(super) fn backend(operation: &'static str, source: impl Into<BoxError>) -> Error {
    Error::Backend { backend: "redis", operation, source: source.into() }
}

impl Link {
    pub(super) fn new(url: &str, options: &RedisOptions) -> Result<Self> {
        let client = Client::open(url).map_err(|error| Error::Options {
            what: "the URL of the server".to_owned(),
            // The error's own words could show a password.
            complaints: vec![format!("it is none that can be used: {}", error.category())],
        })?;
        let (idle, closed) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        Ok(Self { client, options: options.clone(), idle, closed })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses every further call and drops the connections.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.idle().clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(self.options.connect)?;
        connection.set_read_timeout(Some(self.options.response))?;
        connection.set_write_timeout(Some(self.options.response))?;
        Ok(connection)
    }

    /// A connection that worked a moment ago, or a new one.
    fn take(&self, clock: &ServerClock) -> RedisResult<Connection> {
        loop {
            let Some(mut idle) = self.idle().pop() else { return self.connect() };
            if clock.monotonic_ms().saturating_sub(idle.since_ms) < TRUSTED_MS {
                return Ok(idle.connection);
            }
            match redis::cmd("PING").query::<redis::Value>(&mut idle.connection) {
                Ok(_) => return Ok(idle.connection),
                // What broke one has broken all that are as old.
                Err(_) => self.idle().clear(),
            }
        }
    }

    fn give_back(&self, connection: Connection, clock: &ServerClock) {
        let mut idle = self.idle();
        // Order: looked at with the list held, so that a connection that is given back late does not outlive `close`.
        if !self.is_closed() && idle.len() < IDLE_MAX {
            idle.push(Idle { connection, since_ms: clock.monotonic_ms() });
        }
    }

    /// Makes one call. A read over a connection that turns out to be broken is made once more over a new one; a write
    /// never is, and its error says that it may have happened.
    pub(super) fn call<T>(
        &self,
        (kind, operation): (Call, &'static str),
        clock: &ServerClock,
        make: &dyn Fn(&mut Connection) -> RedisResult<T>,
    ) -> Result<T> {
        let mut is_again = false;
        loop {
            if self.is_closed() {
                return Err(Error::Closed("the store"));
            }
            let mut connection =
                self.take(clock).map_err(|error| backend("connect to the server", error))?;
            let error = match make(&mut connection) {
                Ok(answer) => {
                    self.give_back(connection, clock);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // The server refused: nothing happened. The connection is dropped all the same, because the next one may
            // lead to a server that does not refuse.
            if error.code().is_some() {
                return Err(backend(operation, error));
            }
            drop(connection);
            self.idle().clear();
            match kind {
                Call::Write => return Err(backend(operation, Unknown(error))),
                Call::Read if is_again || error.is_timeout() => {
                    return Err(backend(operation, error));
                }
                Call::Read => is_again = true,
            }
        }
    }
}
