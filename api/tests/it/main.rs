//! The typed face from the outside, one module a theme.

mod cache;
mod cache_invalidate;
mod cache_load;
mod cache_model;
mod cache_regressions;
mod cache_stale;
mod map;
mod spaces;
