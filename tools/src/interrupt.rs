//! Ctrl-C and SIGTERM: a flag that every long loop reads, so that the store is closed properly before the process ends.
//!
//! A second signal, or two seconds in which no loop read the flag, ends the process at once: the store survives that by
//! design. In the second case a command may have something done first, such as making durable what is only staged.

use std::{
    io,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use signal_hook::{
    consts::signal::{SIGINT, SIGTERM},
    flag,
};

use crate::exit::{Code, Fail, Outcome};

/// Whether somebody asked this process to end.
static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// Whether a loop has seen that.
static HEARD: AtomicBool = AtomicBool::new(false);
/// How long a loop may take to hear it.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(2);
/// Sleeps are cut into pieces of this.
const NAP: Duration = Duration::from_millis(50);

/// From now on signals raise the flag.
///
/// # Errors
/// The system's, if it does not take the handlers; signals then end the process as they always did.
pub(crate) fn install() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // Order: the second signal has to find the flag that the first one raised.
        let code = i32::from(Code::Interrupted as u8);
        flag::register_conditional_shutdown(signal, code, Arc::clone(&ASKED))?;
        flag::register(signal, Arc::clone(&ASKED))?;
    }
    watch()
}

type Deed = Box<dyn FnOnce() + Send>;

/// What is done before a process is ended that does not react.
static LAST_DEED: Mutex<Option<Deed>> = Mutex::new(None);

/// Has `deed` done, for at most two seconds, before this process is ended because no loop read the flag.
pub(crate) fn before_hard_end(deed: impl FnOnce() + Send + 'static) {
    *LAST_DEED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(deed));
}

/// Takes back what [`before_hard_end`] asked for.
pub(crate) fn forget_hard_end() {
    LAST_DEED.lock().unwrap_or_else(PoisonError::into_inner).take();
}

#[cfg(unix)]
fn run_last_deed() {
    let Some(deed) = LAST_DEED.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    let (done, over) = std::sync::mpsc::channel();
    let spawned = std::thread::Builder::new().name("last deed".to_owned()).spawn(move || {
        deed();
        // Past the time limit no one waits for this.
        let _ = done.send(());
    });
    if spawned.is_ok() {
        let _ = over.recv_timeout(PATIENCE);
    }
}

/// Ends a process that does not react: one that waits for input, say.
#[cfg(unix)]
fn watch() -> io::Result<()> {
    use std::{io::Read as _, os::unix::net::UnixStream, thread};
    let (mut ours, theirs) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    let wait = move || {
        if ours.read(&mut [0]).is_ok_and(|bytes| bytes > 0) {
            thread::sleep(PATIENCE);
            if !HEARD.load(Ordering::Relaxed) {
                run_last_deed();
                signal_hook::low_level::exit(i32::from(Code::Interrupted as u8));
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

#[cfg(not(unix))]
fn watch() -> io::Result<()> {
    Ok(())
}

/// Whether somebody asked for the end. Whoever asks this is taken to obey.
pub(crate) fn is_asked() -> bool {
    let asked = ASKED.load(Ordering::Relaxed);
    if asked {
        HEARD.store(true, Ordering::Relaxed);
    }
    asked
}

/// For loops: goes on, or ends the command.
///
/// # Errors
/// [`Fail::Interrupted`].
pub(crate) fn check() -> Outcome<()> {
    if is_asked() { Err(Fail::Interrupted) } else { Ok(()) }
}

/// Sleeps, but not through a signal.
///
/// # Errors
/// As [`check`].
pub(crate) fn sleep(time: Duration) -> Outcome<()> {
    let start = Instant::now();
    loop {
        check()?;
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(NAP));
    }
}
