//! How much a store may hold and what becomes of it then, as the commands that write take it.

use clap::{Args, ValueEnum};
use tierce_engine::{Evict, Options, PutOptions, Timestamp};

use crate::{
    lifetime::{Ttl, parse_default_ttl_ms},
    size::{parse_limit, parse_size},
};

#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct LimitArgs {
    /// Most bytes of all files of the store: 64MiB, 500MB, 1048576. Default: no limit.
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub(crate) max_bytes: Option<u64>,
    /// Most entries. Default: no limit.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_entries: Option<u64>,
    /// Which entry goes first at a limit. With a limit and a policy other than none, what is stored may be evicted.
    #[arg(long, value_name = "POLICY", value_enum, default_value_t)]
    pub(crate) evict: Policy,
    /// How long an entry lives that is stored without a lifetime: 30s, 5m, 2h, 1d, or seconds; 0 = for ever.
    #[arg(long, value_name = "LIFETIME", value_parser = parse_default_ttl_ms)]
    pub(crate) default_ttl: Option<u64>,
    /// Bytes of the file system that stay free. Default: 0.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) min_free_bytes: Option<u64>,
}

/// [`Evict`], as spelled on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// The one that was not used for the longest time.
    #[default]
    Lru,
    /// What is asked for once goes soon, what is asked for again stays.
    S3Fifo,
    /// The one that was stored first.
    Fifo,
    /// None: a write that finds no room is refused.
    None,
}

impl Policy {
    /// The word for it on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::S3Fifo => "s3-fifo",
            Self::Fifo => "fifo",
            Self::None => "none",
        }
    }
}

impl From<Policy> for Evict {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Lru => Self::Lru,
            Policy::S3Fifo => Self::S3Fifo,
            Policy::Fifo => Self::Fifo,
            Policy::None => Self::None,
        }
    }
}

impl LimitArgs {
    /// The same settings with these limits.
    pub(crate) fn apply(&self, mut options: Options) -> Options {
        if let Some(bytes) = self.max_bytes {
            options = options.max_bytes(bytes);
        }
        if let Some(entries) = self.max_entries {
            options = options.max_entries(entries);
        }
        if let Some(bytes) = self.min_free_bytes {
            options = options.min_free_bytes(bytes);
        }
        options.evict(self.evict.into())
    }

    /// What goes with an entry when the command does not say otherwise.
    pub(crate) fn defaults(&self) -> Defaults {
        let is_limited = self.max_bytes.is_some() || self.max_entries.is_some();
        Defaults {
            ttl_ms: self.default_ttl.filter(|ms| *ms > 0),
            evictable: is_limited && self.evict != Policy::None,
        }
    }
}

/// What goes with an entry when nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defaults {
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) evictable: bool,
}

impl Defaults {
    /// The options of a put with this lifetime from `now` on.
    pub(crate) fn put_options(self, now: Timestamp, ttl: Ttl) -> PutOptions {
        let options = PutOptions::new().evictable(self.evictable);
        let ms = match ttl {
            Ttl::Default => self.ttl_ms,
            Ttl::Never => None,
            Ttl::Ms(ms) => Some(ms),
        };
        match ms {
            Some(ms) => options.expires_at(now.saturating_add_ms(ms)),
            None => options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only a limit together with a policy makes what is stored evictable; a lifetime of 0 is none.
    #[test]
    fn defaults() {
        let none = LimitArgs::default();
        let (some, policy_none) = (Some(9), Policy::None);
        for (args, evictable) in [
            (none, false),
            (LimitArgs { max_bytes: some, ..none }, true),
            (LimitArgs { max_entries: some, ..none }, true),
            (LimitArgs { min_free_bytes: some, ..none }, false),
            (LimitArgs { evict: Policy::Fifo, ..none }, false),
            (LimitArgs { max_bytes: some, evict: policy_none, ..none }, false),
        ] {
            assert_eq!(args.defaults(), Defaults { ttl_ms: None, evictable }, "{args:?}");
        }
        let ttl_ms = |default_ttl| LimitArgs { default_ttl, ..none }.defaults().ttl_ms;
        assert_eq!((ttl_ms(Some(0)), ttl_ms(Some(5))), (None, Some(5)));
    }

    /// Goal: every limit reaches the option of its name.
    #[test]
    fn options() {
        let args = LimitArgs {
            max_bytes: Some(1),
            max_entries: Some(2),
            min_free_bytes: Some(3),
            evict: Policy::S3Fifo,
            default_ttl: Some(4),
        };
        let options = args.apply(Options::new());
        let limits = (options.max_bytes, options.max_entries, options.min_free_bytes);
        assert_eq!(limits, (Some(1), Some(2), 3));
        assert_eq!((options.evict, options.max_live_bytes), (Evict::S3Fifo, None));
        let options = LimitArgs::default().apply(Options::new());
        assert_eq!((options.max_bytes, options.max_entries), (None, None));
        assert_eq!((options.evict, options.min_free_bytes), (Evict::Lru, 0));
    }

    /// Goal: the word that is printed is the word that is taken.
    #[test]
    fn names() {
        for policy in Policy::value_variants() {
            assert_eq!(Policy::from_str(policy.name(), false), Ok(*policy));
        }
    }
}
