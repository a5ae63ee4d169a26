//! The typed face from the outside, one module a theme.

#[cfg(feature = "testing")]
mod policies;
#[cfg(feature = "testing")]
mod state;
#[cfg(all(feature = "testing", feature = "redis"))]
mod state_redis;
#[cfg(feature = "testing")]
mod state_stores;
