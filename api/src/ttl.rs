//! How long an entry lives.

use std::time::Duration;

use tierce_engine::Timestamp;

/// How long an entry lives.
///
/// A zero lifetime means: not at all. Configuration files and environment variables use 0 for "never expires"; reading
/// them gives [`Ttl::Never`], see [`Ttl::from_config_seconds`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// As long as the space says; for ever if it says nothing.
    #[default]
    Default,
    /// For ever.
    Never,
    /// So long from now; [`Duration::ZERO`] deletes.
    For(Duration),
    /// Until this moment of store time; one that is over deletes.
    Until(Timestamp),
}

impl Ttl {
    /// So many milliseconds.
    ///
    /// ```
    /// use tierce::Ttl;
    /// assert_eq!(Ttl::millis(1_000), Ttl::seconds(1));
    /// ```
    #[must_use]
    pub const fn millis(ms: u64) -> Self {
        Self::For(Duration::from_millis(ms))
    }

    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self::For(Duration::from_secs(seconds))
    }

    /// So many minutes.
    #[must_use]
    pub const fn minutes(minutes: u64) -> Self {
        Self::For(Duration::from_secs(minutes.saturating_mul(60)))
    }

    /// So many hours.
    #[must_use]
    pub const fn hours(hours: u64) -> Self {
        Self::For(Duration::from_secs(hours.saturating_mul(3600)))
    }

    /// What a configuration's number of seconds means: 0 is never.
    ///
    /// ```
    /// use tierce::Ttl;
    /// assert_eq!(Ttl::from_config_seconds(0), Ttl::Never);
    /// assert_eq!(Ttl::from_config_seconds(300), Ttl::minutes(5));
    /// ```
    #[must_use]
    pub const fn from_config_seconds(seconds: u64) -> Self {
        if seconds == 0 { Self::Never } else { Self::seconds(seconds) }
    }

    /// When an entry stored now ends.
    pub(crate) fn end(self, default: Option<Duration>, now: Timestamp) -> End {
        match self {
            Self::Default => default.map_or(End::Never, |ttl| after(ttl, now)),
            Self::Never => End::Never,
            Self::For(ttl) => after(ttl, now),
            Self::Until(at) if at <= now => End::Now,
            Self::Until(at) => End::At(at),
        }
    }
}

impl From<Duration> for Ttl {
    fn from(ttl: Duration) -> Self {
        Self::For(ttl)
    }
}

/// When an entry ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is not stored at all.
    Now,
    /// Then.
    At(Timestamp),
    /// Never.
    Never,
}

/// Less than a millisecond counts as one: only zero is zero. More than there are years ends in the last one.
pub(crate) fn after(ttl: Duration, now: Timestamp) -> End {
    if ttl.is_zero() {
        return End::Now;
    }
    let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
    End::At(now.saturating_add_ms(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let now = Timestamp(1_000);
        let default = Some(Duration::from_millis(5));
        assert_eq!(Ttl::Default.end(default, now), End::At(Timestamp(1_005)));
        assert_eq!(Ttl::Default.end(None, now), End::Never);
        assert_eq!(Ttl::Never.end(default, now), End::Never);
        assert_eq!(Ttl::For(Duration::ZERO).end(default, now), End::Now);
        assert_eq!(Ttl::For(Duration::from_nanos(1)).end(None, now), End::At(Timestamp(1_001)));
        assert_eq!(Ttl::For(Duration::MAX).end(None, now), End::At(Timestamp(u64::MAX)));
        assert_eq!(Ttl::Until(now).end(None, now), End::Now);
        assert_eq!(Ttl::Until(Timestamp(1_001)).end(None, now), End::At(Timestamp(1_001)));
    }
}
