//! Small things that programs build from a store, and build wrongly: each is atomic and goes on after a restart.
//!
//! Time is store time, which does not go back. Recipes are opened with methods of [`Store`] by a name of
//! their own; each keeps its entries in a space `tierce/<recipe>/<name>`. Where a key is asked for, every
//! [`Key`] will do: `"binary_sensor.leak"`, `("attic", 7)`, `&()`.

mod barrier;
mod cooldown;
mod file_cache;
mod keyed_lock;
mod lease;
mod memo;
mod once;
mod semaphore;
mod throttle;

use std::time::Duration;

pub use barrier::Barrier;
pub use cooldown::{Cooldown, Permit, Wait};
pub use file_cache::FileCache;
pub use lease::{Held, Lease};
pub use memo::Memo;
pub use semaphore::{Semaphore, SemaphorePermit};
pub use throttle::{Rate, Throttle};

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::Timestamp;

use crate::{
    codec::MsgPack,
    error::Result,
    key::{Key, KeyReader, KeyWriter, OwnedKey},
    space::SpaceOptions,
    store::Store,
    typed::{Outcome, Typed},
};

/// Stands for keys of whatever kind; nobody reads them back.
enum AnyKey {}

impl Key for AnyKey {
    fn kind() -> String {
        "any".to_owned()
    }

    fn write(&self, _out: &mut KeyWriter<'_>) {
        match *self {}
    }
}

impl OwnedKey for AnyKey {
    fn read(_from: &mut KeyReader<'_>) -> Option<Self> {
        None
    }
}

/// The entries of one recipe.
type Entries<V> = Typed<AnyKey, V, MsgPack>;

fn open<V: Serialize + DeserializeOwned>(
    store: &Store,
    kind: &str,
    name: Option<&str>,
) -> Result<Entries<V>> {
    let space = match name {
        Some(name) => format!("tierce/{kind}/{name}"),
        None => format!("tierce/{kind}"),
    };
    let options = SpaceOptions::new().derived_type(kind).internal();
    Typed::open(store, &space, kind, &options)
}

/// Removes what is on record of `key`; says whether there was something.
fn forget<V, Q>(entries: &Entries<V>, key: &Q) -> Result<bool>
where
    V: Serialize + DeserializeOwned,
    Q: Key + ?Sized,
{
    let mut was = false;
    entries.update_at(&entries.key_bytes(key), &mut |old| {
        was = old.is_some();
        Ok(Outcome::Remove)
    })?;
    Ok(was)
}

/// A time span in whole milliseconds; only zero is zero.
fn millis(span: Duration) -> u64 {
    match span.is_zero() {
        true => 0,
        false => u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1),
    }
}

/// From `from` to `to`; zero if that is over.
const fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(to.0.saturating_sub(from.0))
}

/// Names what is done only once in this process: an attempt of this run is never taken for another one's.
fn nonce() -> u64 {
    use crate::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
