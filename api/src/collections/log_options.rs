//! How long a log keeps what it was told.

use std::time::Duration;

/// How long a log keeps what it was told. What is not said is no reason to forget. Limits are not stored: they hold for
/// what is done through the handle that was opened with them.
///
/// ```
/// use std::time::Duration;
/// use tierce::collections::LogOptions;
/// let month = LogOptions::new().max_age(Duration::from_secs(30 * 86_400)).max_count(100_000);
/// ```
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    pub(super) max_age_ms: Option<u64>,
    pub(super) max_count: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) value_type: Option<String>,
}

impl LogOptions {
    /// Nothing said: everything is kept.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what is older, by store time. Such lines are not shown any more from that moment on.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age_ms = Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Keeps so many lines, the newest.
    #[must_use]
    pub const fn max_count(mut self, count: u64) -> Self {
        self.max_count = Some(count);
        self
    }

    /// Keeps so many bytes of encoded values, without what a record costs beside its value (about 60 bytes). The newest
    /// line is always kept, however large it is.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Names the type of the lines in a way that survives moving or renaming it in the program. Default: the name Rust
    /// gives it. This one is stored, and compared when the log is opened again.
    #[must_use]
    pub fn value_type(mut self, name: impl Into<String>) -> Self {
        self.value_type = Some(name.into());
        self
    }
}
