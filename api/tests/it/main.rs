//! The typed face from the outside, one module a theme.
mod coordinator;
mod mutations;
