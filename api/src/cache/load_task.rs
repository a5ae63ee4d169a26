//! The loads of `load.rs` for tasks: the loader is a future, and who waits holds up no thread.
//!
//! Whoever is dropped leaves no key locked: a leader abandons its load by dropping its ticket, and the first of those
//! who wait then loads with its own loader. Once the ticket is with a thread of the pool, what was loaded is stored
//! whoever is dropped.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use super::{
    Cache, LoadPolicy, Loaded, Old,
    flight::{Boarding, Ticket},
    load::{Begun, value_of},
};
use crate::{
    codec::Codec,
    error::{BoxError, Result},
    key::OwnedKey,
    work::Work,
};

impl<K, V, C> Cache<K, V, C>
where
    K: OwnedKey,
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// As `load_at`: `load` makes the future that loads, and is not called if another load is waited for.
    pub(crate) async fn load_task<F>(
        &self,
        key: &[u8],
        force: bool,
        policy: &LoadPolicy,
        load: impl FnOnce(Option<&Old<V>>) -> F,
    ) -> Result<V>
    where
        F: Future<Output = Result<Loaded<V>, BoxError>>,
    {
        loop {
            match self.shared.flights.board(key) {
                Boarding::Leader(ticket) => {
                    return self.lead_task(ticket, key, force, policy, load).await;
                }
                Boarding::Passenger(flight) => {
                    if let Some(landing) = flight.landed().await? {
                        return value_of(landing);
                    }
                }
            }
        }
    }

    /// As `lead`. A panic of the loader goes on in the task that polls it.
    pub(crate) async fn lead_task<F>(
        &self,
        ticket: Ticket,
        key: &[u8],
        force: bool,
        policy: &LoadPolicy,
        load: impl FnOnce(Option<&Old<V>>) -> F,
    ) -> Result<V>
    where
        F: Future<Output = Result<Loaded<V>, BoxError>>,
    {
        let _waiting = ticket.take_off();
        let (ticket, old) = match self.begin(ticket, key, force, policy)? {
            Begun::Landed(value) => return Ok(value),
            Begun::Load(ticket, old) => (ticket, old),
        };
        let begun = self.now();
        let loaded = {
            let mut load = pin!(load(old.as_deref()));
            poll_fn(|cx| {
                let _running = ticket.run();
                match catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(cx))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(loaded)) => Poll::Ready(Ok(loaded)),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            })
            .await
        };
        let cost = self.now().0.saturating_sub(begun.0);
        if !matches!(loaded, Ok(Ok(_))) && policy.error_ttl_ms().is_none() {
            return self.finish(ticket, key, loaded, old.map(|old| *old), cost, policy);
        }
        let (this, key, policy) = (self.clone(), key.to_vec(), policy.clone());
        Work::surely(self.store().common().storing(), move || {
            this.finish(ticket, &key, loaded, old.map(|old| *old), cost, &policy)
        })
        .await
    }
}
