//! A backup as a stream of files.

use std::{
    io::{self, Read},
    sync::Arc,
};

use super::{
    BackupTarget, Destination,
    content::{Base, Content, Source, Step, Taken},
};
use crate::io::Disk;

pub(super) struct IntoStream<'a> {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) base: Option<Base>,
    pub(super) target: &'a mut dyn BackupTarget,
}

impl Destination for IntoStream<'_> {
    fn take_sealed(&mut self, source: &Source<'_>, step: &mut Step<'_>) -> io::Result<Taken> {
        let base = self.base.as_ref();
        if base.and_then(|base| base.find(self.disk.as_ref(), source)).is_some() {
            return Ok(Taken::Reused);
        }
        self.take_file(source, step)
    }

    fn take_file(&mut self, source: &Source<'_>, step: &mut Step<'_>) -> io::Result<Taken> {
        let mut content = Content::open(self.disk.as_ref(), source)?;
        let mut told = Told { content: &mut content, step, cancelled: false };
        let taken = self.target.take(&source.name, source.bytes, &mut told);
        if told.cancelled {
            return Ok(Taken::Cancelled);
        }
        taken?;
        content.finish()
    }

    fn take_bytes(&mut self, name: &str, mut bytes: &[u8]) -> io::Result<()> {
        self.target.take(name, bytes.len() as u64, &mut bytes)
    }

    fn drop_file(&mut self, _: &str) {}
}

/// A content that says how far it is.
struct Told<'a, 'b> {
    content: &'a mut Content,
    step: &'a mut Step<'b>,
    cancelled: bool,
}

impl Read for Told<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        if self.step.advance(read as u64).is_break() {
            self.cancelled = true;
            return Err(io::Error::other("it was told to stop"));
        }
        Ok(read)
    }
}
