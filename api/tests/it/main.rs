//! The typed face from the outside, one module a theme.

mod config;
mod ops;
mod ops_data;
