//! A file through a window that moves over it: any length is read with a fixed amount of memory.

use std::io;

use super::{File, read_up_to_at};

/// A view of a file of which a part is in memory. Nothing at or behind its end is shown.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a dyn File,
    capacity: usize,
    buffer: Vec<u8>,
    /// How many bytes in the buffer are of the file.
    filled: usize,
    /// Offset in the file of the first byte in the buffer.
    start: u64,
    end: u64,
}

impl<'a> Window<'a> {
    /// A window of so many bytes over the first `end` bytes of `file`. Nothing is read or allocated yet.
    pub(crate) const fn new(file: &'a dyn File, capacity: usize, end: u64) -> Self {
        Self { file, capacity, buffer: Vec::new(), filled: 0, start: 0, end }
    }

    /// Where the bytes end, as far as is known: a file that is shorter than was said ends earlier.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// Whether `wanted` bytes from `at` on, or all up to the end, are in memory.
    pub(crate) fn holds(&self, at: u64, wanted: usize) -> bool {
        let until = at.saturating_add(wanted as u64).min(self.end);
        at >= self.start && until <= self.start + self.filled as u64
    }

    /// Bytes from `at` on: at least `wanted` of them, fewer only at the end. Never more than are in the window, and
    /// that is never more than the file holds.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn bytes(&mut self, at: u64, wanted: usize) -> io::Result<&[u8]> {
        if !self.holds(at, wanted) {
            self.move_to(at, wanted)?;
        }
        let from = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(self.buffer.get(from..self.filled).unwrap_or_default())
    }

    fn move_to(&mut self, at: u64, wanted: usize) -> io::Result<()> {
        let kept_from = at.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        match kept_from {
            Some(from) if from < self.filled => {
                self.buffer.copy_within(from..self.filled, 0);
                self.filled -= from;
            }
            _ => self.filled = 0,
        }
        self.start = at;
        let kept = self.filled;
        let room = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = self.capacity.max(wanted).min(room).max(kept);
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let read = read_up_to_at(self.file, &mut self.buffer[kept..length], at + kept as u64)?;
        self.filled = kept + read;
        if self.filled < length {
            self.end = at + self.filled as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::io::{Access, Disk as _, MemoryDisk};

    /// Goal: whatever is asked for in whatever order is what stands in the file, and no more than a window is held.
    #[test]
    fn shows_the_file() {
        let bytes: Vec<u8> = (0..1_000_u32).flat_map(u32::to_le_bytes).collect();
        let disk = MemoryDisk::with_files([("dir/file".into(), bytes.clone())]);
        let file = disk.open(Path::new("dir/file"), Access::Read).expect("it is there");
        let mut window = Window::new(file.as_ref(), 100, 5_000);
        for (at, wanted) in
            [(0, 10), (50, 60), (60, 1), (3_990, 10), (3, 200), (3_999, 1), (4_000, 1)]
        {
            let seen = window.bytes(at, wanted).expect("it can be read");
            let from = usize::try_from(at).expect("small");
            assert!(bytes[from..].starts_with(seen), "at {at}");
            assert!(seen.len() >= wanted.min(bytes.len() - from) && seen.len() <= 200);
        }
        assert_eq!(window.end(), 4_000, "the file is shorter than was said");
    }
}
