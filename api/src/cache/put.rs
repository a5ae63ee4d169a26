//! What goes with one insert.

use tierce_engine::Durability;

use crate::ttl::Ttl;

/// What goes with one insert into a cache. The default is a plain insert: the lifetime of the space, no tags.
///
/// ```
/// use tierce::{Put, Ttl};
/// let put = Put::new().ttl(Ttl::minutes(5)).tag("user:7").tags(["plan", "shared"]).pinned();
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Put {
    pub(super) ttl: Ttl,
    pub(super) tags: Vec<String>,
    pub(super) weight: Option<u64>,
    pub(super) pinned: bool,
    pub(super) if_absent: bool,
    pub(super) keep_ttl: bool,
    pub(super) durability: Option<Durability>,
}

impl Put {
    /// A plain insert.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the entry lives. A zero time span removes it.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Adds a tag, 1 to 240 bytes: [`Cache::invalidate_tag`](super::Cache::invalidate_tag) removes all entries with it.
    /// Each takes its bytes and seven more in the record.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds several tags.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// What the entry weighs, in any unit: [`CacheStats::weight`](super::CacheStats::weight) is the sum, and
    /// [`Cache::set_max_weight`](super::Cache::set_max_weight) limits it. Ten bytes in the record. Default: 1, which
    /// takes none.
    pub const fn weight(mut self, weight: u64) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Never evict the entry. It still expires.
    pub const fn pinned(mut self) -> Self {
        self.pinned = true;
        self
    }

    /// Store it only if there is no fresh entry.
    pub const fn if_absent(mut self) -> Self {
        self.if_absent = true;
        self
    }

    /// Keep the expiry of the entry that is replaced, if there is one.
    pub const fn keep_ttl(mut self) -> Self {
        self.keep_ttl = true;
        self
    }

    /// How safe this write is when it is acknowledged.
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}
