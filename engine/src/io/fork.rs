//! Tells a process from its forked child without asking the kernel each time.

use std::hint::black_box;

use super::os::page_wiped_on_fork;

/// One page that the kernel wipes in a forked child (`MADV_WIPEONFORK`); where that is not known, the process id.
#[derive(Debug)]
pub(crate) struct ForkGuard {
    page: Option<memmap2::MmapMut>,
    pid: u32,
}

impl ForkGuard {
    pub(crate) fn new() -> Self {
        Self { page: page_wiped_on_fork(), pid: std::process::id() }
    }

    /// Whether this process is a child of the one that made the guard.
    #[inline]
    pub(crate) fn is_in_child(&self) -> bool {
        match &self.page {
            // `black_box`: the byte changes behind the compiler's back, at the fork.
            Some(page) => black_box(page).first() != Some(&1),
            None => std::process::id() != self.pid,
        }
    }
}
