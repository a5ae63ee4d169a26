//! Numbers that are given out once.

use std::sync::Arc;

use tierce_engine::Durability;

use super::{
    SEQUENCES,
    shared::{Shared, shared},
};
use crate::{
    codec::MsgPack,
    error::{Error, Result},
    space::SpaceOptions,
    store::Store,
    sync::{Mutex, PoisonError},
    typed::{Outcome, Typed},
};

/// Numbers that are reserved by one write.
const RESERVED: u32 = 64;

/// Numbers that have been reserved and not given out yet: all above `last`, up to `end`.
#[derive(Debug, Default)]
struct Range(Mutex<(u64, u64)>);
impl Shared for Range {}

/// Numbers from 1 on, each given out once, rising, whatever crashes come between.
///
/// They are reserved in ranges, each of which is on the device before the first of its numbers is given out. What is
/// left of a range when the last handle goes, or the process dies, is never given out: there are gaps.
///
/// ```
/// let store = tierce::Store::in_memory()?;
/// let orders = store.sequence("orders")?;
/// assert_eq!((orders.next_id()?, orders.next_id()?), (1, 2));
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sequence {
    typed: Typed<String, u64, MsgPack>,
    name: String,
    at_once: u32,
    range: Arc<Range>,
}

impl Sequence {
    /// Reserves so many numbers with one write. Default 64. 1 leaves no gaps but after a failed write, and costs a
    /// flush of the device for each number. 0 counts as 1.
    #[must_use]
    pub fn reserving(mut self, at_once: u32) -> Self {
        self.at_once = at_once.max(1);
        self
    }

    /// The next number.
    ///
    /// # Errors
    /// [`Error::Overflow`] behind `u64::MAX`; the engine's, if a range could not be reserved.
    pub fn next_id(&self) -> Result<u64> {
        let mut range = self.range.0.lock().unwrap_or_else(PoisonError::into_inner);
        if range.0 == range.1 {
            *range = self.reserve()?;
        }
        range.0 += 1;
        Ok(range.0)
    }

    /// Order: what is reserved is on the device before a number of it is given out.
    fn reserve(&self) -> Result<(u64, u64)> {
        let mut reserved = (0, 0);
        let key = self.typed.key_bytes(&self.name);
        self.typed.update_at(&key, &mut |old| {
            let last = old.map_or(0, |(last, _)| last);
            let end = last.checked_add(u64::from(self.at_once));
            let what = || format!("sequence `{}`", self.name);
            let end = end.ok_or_else(|| Error::Overflow { what: what() })?;
            reserved = (last, end);
            let options = self.typed.put_options(None).durability(Durability::Sync);
            Ok(Outcome::Put(end, options))
        })?;
        Ok(reserved)
    }
}

impl Store {
    /// The sequence of this name. All of them stand in the space `tierce/sequences`.
    ///
    /// # Errors
    /// The engine's.
    pub fn sequence(&self, name: &str) -> Result<Sequence> {
        let options = SpaceOptions::new().derived_type("sequence").internal();
        let typed = Typed::<String, u64, MsgPack>::open(self, SEQUENCES, "sequences", &options)?;
        let range = shared(self, &typed.key_bytes(name), || Ok(Range::default()))?;
        Ok(Sequence { typed, name: name.to_owned(), at_once: RESERVED, range })
    }
}
