//! Several changes, all or none.

use crate::{
    error::{Error, Result},
    options::{Durability, Options, PutOptions},
};

/// Changes that are carried out together by `Engine::commit`: after any crash all of them are there, or none.
///
/// Conditions of its puts are checked against the store as it was before the batch; if one fails, nothing is
/// written. Readers that ask for single keys meanwhile may see some changes before others; a snapshot sees all or
/// none.
///
/// ```
/// use tierce_engine::{Batch, Options, io::MemoryDisk};
/// let engine = Options::new().disk(MemoryDisk::new()).open("store")?;
/// let mut batch = Batch::new();
/// batch.put("from", "90").put("to", "110").delete("pending");
/// engine.commit(batch)?;
/// # Ok::<(), tierce_engine::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) changes: Vec<BatchChange>,
    pub(super) durability: Option<Durability>,
}

#[derive(Clone, Debug)]
pub(super) enum BatchChange {
    Put(Vec<u8>, Vec<u8>, PutOptions),
    Delete(Vec<u8>),
    CutScope(Vec<u8>),
}

impl Batch {
    /// An empty batch; committing it writes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a plain put.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.put_with(key, value, PutOptions::new())
    }

    /// Adds a put with options. Their durability is not looked at: the batch has one.
    pub fn put_with(
        &mut self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        options: PutOptions,
    ) -> &mut Self {
        self.changes.push(BatchChange::Put(key.into(), value.into(), options));
        self
    }

    /// Adds a delete; of an absent key it does what [`Engine::delete`](crate::Engine::delete) does.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.changes.push(BatchChange::Delete(key.into()));
        self
    }

    /// Adds a scope cut: it ends what the scope held before the batch, and what stands before it in the batch.
    pub fn cut_scope(&mut self, scope: impl Into<Vec<u8>>) -> &mut Self {
        self.changes.push(BatchChange::CutScope(scope.into()));
        self
    }

    /// Overrides the store's durability for this batch.
    pub const fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = Some(durability);
        self
    }

    /// Count of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Checks every limit before anything is written.
    pub(super) fn validate(&self, limits: &Limits) -> Result<()> {
        let mut total = 0;
        for change in &self.changes {
            match change {
                BatchChange::Put(key, value, options) => {
                    limits.check(key, value)?;
                    options.validate()?;
                    total += (key.len() + value.len() + options.bytes() + 256) as u64;
                }
                BatchChange::Delete(key) => {
                    limits.check(key, &[])?;
                    total += (key.len() + 64) as u64;
                }
                BatchChange::CutScope(scope) => {
                    check_scope(scope)?;
                    total += (scope.len() + 64) as u64;
                }
            }
        }
        let limit = Options::BATCH_BYTES_MAX;
        if total > limit {
            return Err(Error::TooLarge { what: "batch", bytes: total, limit });
        }
        Ok(())
    }
}

/// What every write is checked against, before a byte of it goes anywhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) key_bytes_max: u64,
    pub(super) value_bytes_max: u64,
}

impl Limits {
    pub(super) fn check(&self, key: &[u8], value: &[u8]) -> Result<()> {
        for (what, bytes, limit) in [
            ("key", key.len() as u64, self.key_bytes_max),
            ("value", value.len() as u64, self.value_bytes_max),
        ] {
            if bytes > limit {
                return Err(Error::TooLarge { what, bytes, limit });
            }
        }
        Ok(())
    }
}

/// A scope's name is 1 to 255 bytes.
pub(super) fn check_scope(scope: &[u8]) -> Result<()> {
    if scope.is_empty() {
        return Err(Error::InvalidOptions { complaints: vec!["a scope name is empty".to_owned()] });
    }
    if scope.len() > 255 {
        return Err(Error::TooLarge { what: "scope name", bytes: scope.len() as u64, limit: 255 });
    }
    Ok(())
}
