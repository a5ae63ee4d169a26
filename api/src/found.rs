//! Collecting while entries are shown.

use std::ops::ControlFlow;

use crate::error::{Error, Result};

/// Collects until something fails.
pub(crate) struct Found<T> {
    all: Vec<T>,
    failed: Option<Error>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { all: Vec::new(), failed: None }
    }
}

impl<T> Found<T> {
    pub(crate) fn add(&mut self, item: Result<T>) -> ControlFlow<()> {
        match item {
            Ok(item) => self.all.push(item),
            Err(error) => self.failed = Some(error),
        }
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    pub(crate) fn finish(self) -> Result<Vec<T>> {
        self.failed.map_or(Ok(self.all), Err)
    }
}
