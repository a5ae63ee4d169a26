//! What goes with one insert.

use tierce_engine::{Durability, PutOptions, Timestamp, View};

use super::{Cache, record};
use crate::{codec::Codec, error::Result, key::OwnedKey, space::item, ttl::Ttl};

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
    pub(super) keep_tags: bool,
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

    /// Keep the tags of the entry that is replaced, if there is one, and add those that are given. Without it a write
    /// replaces everything that belonged to the older entry, in [`Cache::update`](super::Cache::update) too.
    pub const fn keep_tags(mut self) -> Self {
        self.keep_tags = true;
        self
    }

    /// How safe this write is when it is acknowledged.
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

impl<K: OwnedKey, V, C: Codec<V>> Cache<K, V, C> {
    /// Puts a value in the place of another one that something is kept of.
    pub(super) fn insert_keeping(
        &self,
        key: &[u8],
        value: &[u8],
        put: &Put,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool> {
        // Order: names of tags are judged before the update, which cannot fail by them then.
        self.put_options(put, expires_at, now)?;
        self.typed.put_over(key, &mut |old| {
            let fresh = old.filter(|view| self.is_fresh(view));
            Some((value.to_vec(), self.keeping(put, expires_at, now, fresh.as_ref()).ok()?))
        })
    }

    /// What a record is put with that takes the place of `old`.
    pub(super) fn keeping(
        &self,
        put: &Put,
        expires_at: Option<Timestamp>,
        now: Timestamp,
        old: Option<&View<'_>>,
    ) -> Result<PutOptions> {
        let Some(old) = old.filter(|_| put.keep_ttl || put.keep_tags) else {
            return self.put_options(put, expires_at, now);
        };
        let mut options = match put.keep_ttl {
            true => record::with_expiry_of(self.put_options(put, None, now)?, old),
            false => self.put_options(put, expires_at, now)?,
        };
        if put.keep_tags {
            let own = put.tags.iter().map(|tag| self.scope_of(tag));
            let own = own.chain([Ok(self.typed.space().prefix.clone())]);
            options = record::with_scopes_of(options, old, &own.collect::<Result<Vec<_>>>()?);
        }
        Ok(options)
    }

    /// What every record of this cache is put with.
    pub(super) fn put_options(
        &self,
        put: &Put,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<PutOptions> {
        let mut options =
            self.typed.put_options(expires_at).item(item::STORED_AT, now.0.to_le_bytes());
        for tag in &put.tags {
            options = options.scope(self.scope_of(tag)?);
        }
        if let Some(weight) = put.weight {
            options = options.item(item::WEIGHT, weight.to_le_bytes());
        }
        if put.pinned {
            options = options.evictable(false);
        }
        Ok(put.durability.into_iter().fold(options, PutOptions::durability))
    }
}
