//! How far a long command is: rate and time left, on standard error, for whoever looks there.
//!
//! Nothing is told of what is done within half a second, and nothing at all where nobody looks
//! ([`Telling`]).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    settings::{Telling, telling},
    size::human_bytes,
    talk::{complain, document, overwrite},
};

/// The first word comes after so long.
const FIRST_AFTER: Duration = Duration::from_millis(500);
/// And then this often.
const EVERY: Duration = Duration::from_millis(200);

/// Tells how far something is. Dropped before its end, it leaves the line of the terminal as it found it.
///
/// ```ignore
/// let mut progress = Progress::new("load", Some(file_bytes), "bytes");
/// progress.at(done);
/// progress.finish();
/// ```
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    total: Option<u64>,
    unit: &'static str,
    telling: Telling,
    started: Instant,
    next: Duration,
    done: u64,
    is_shown: bool,
}

impl Progress {
    /// Begins with nothing done. `total` counts in the same `unit` as [`Self::at`]; "bytes" are shown as sizes.
    pub(crate) fn new(what: &'static str, total: Option<u64>, unit: &'static str) -> Self {
        let (telling, started) = (telling(), Instant::now());
        Self { what, total, unit, telling, started, next: FIRST_AFTER, done: 0, is_shown: false }
    }

    /// So much there is in all, as far as is known by now.
    pub(crate) fn of(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// So much is done by now. Costs a look at the clock.
    pub(crate) fn at(&mut self, done: u64) {
        self.done = done;
        if self.telling == Telling::Silent {
            return;
        }
        let elapsed = self.started.elapsed();
        if elapsed >= self.next {
            self.next = elapsed + EVERY;
            self.tell(elapsed, false);
        }
    }

    /// Everything is done. Lines and JSON get a last word, however short it took; a terminal is cleared.
    pub(crate) fn finish(mut self) {
        let elapsed = self.started.elapsed();
        if matches!(self.telling, Telling::Lines | Telling::Json) {
            self.tell(elapsed, true);
        }
    }

    fn tell(&mut self, elapsed: Duration, is_over: bool) {
        let pace = Pace::of(self.done, self.total, elapsed);
        match self.telling {
            Telling::Silent => {}
            Telling::Terminal => overwrite(self.words(pace)),
            Telling::Lines => complain(self.words(pace)),
            Telling::Json => document(&self.document(pace, is_over)),
        }
        self.is_shown = true;
    }

    fn words(&self, pace: Pace) -> String {
        let count = |count: u64| match self.unit {
            "bytes" => human_bytes(count),
            unit => format!("{count} {unit}"),
        };
        let share = self.total.filter(|total| *total > 0).map_or_else(String::new, |total| {
            let percent = u128::from(self.done.min(total)) * 100 / u128::from(total);
            format!(" of {} ({percent}%)", count(total))
        });
        let left = pace.seconds_left.map_or_else(String::new, |s| format!(", {s} s left"));
        format!("{}: {}{share}, {}/s{left}", self.what, count(self.done), count(pace.rate))
    }

    fn document(&self, pace: Pace, is_over: bool) -> Value {
        json!({
            "type": "progress", "what": self.what, "done": self.done, "total": self.total, "unit": self.unit,
            "per_second": pace.rate, "seconds_left": pace.seconds_left, "finished": is_over,
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown && self.telling == Telling::Terminal {
            overwrite("");
        }
    }
}

/// How fast it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// Of the unit, a second.
    rate: u64,
    /// `None` while nobody can know.
    seconds_left: Option<u64>,
}

impl Pace {
    fn of(done: u64, total: Option<u64>, elapsed: Duration) -> Self {
        let ms = elapsed.as_millis().max(1);
        let clamp = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        let rate = clamp(u128::from(done) * 1_000 / ms);
        let left = total.filter(|_| done > 0).map(|total| {
            let left = u128::from(total.saturating_sub(done));
            clamp(left.saturating_mul(ms).div_ceil(u128::from(done) * 1_000))
        });
        Self { rate, seconds_left: left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: rate and time left follow from what is done, and extremes neither overflow nor divide by zero.
    #[test]
    fn paces() {
        let second = Duration::from_secs(1);
        for (done, total, elapsed, rate, left) in [
            (0, Some(10), second, 0, None),
            (5, Some(10), second, 5, Some(1)),
            (10, Some(10), second, 10, Some(0)),
            (1, Some(10), 2 * second, 0, Some(18)),
            (12, Some(10), second, 12, Some(0)),
            (7, None, second, 7, None),
            (7, None, Duration::ZERO, 7_000, None),
            (1, Some(u64::MAX), Duration::from_secs(u64::MAX), 0, Some(u64::MAX)),
        ] {
            let pace = Pace::of(done, total, elapsed);
            assert_eq!(pace, Pace { rate, seconds_left: left }, "{done} {total:?} {elapsed:?}");
        }
    }

    /// Goal: the line says what, how much of how much, how fast and how long still.
    #[test]
    fn words() {
        let mut progress = Progress::new("load", Some(4 << 20), "bytes");
        progress.done = 1 << 20;
        let pace = Pace::of(progress.done, progress.total, Duration::from_secs(1));
        assert_eq!(progress.words(pace), "load: 1.0 MiB of 4.0 MiB (25%), 1.0 MiB/s, 3 s left");
        let mut progress = Progress::new("dump", None, "entries");
        progress.done = 7;
        let pace = Pace { rate: 7, seconds_left: None };
        assert_eq!(progress.words(pace), "dump: 7 entries, 7 entries/s");
        assert_eq!(progress.document(pace, true)["type"], "progress");
    }
}
