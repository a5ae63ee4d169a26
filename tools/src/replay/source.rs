//! The bytes of a trace: from a file or standard input, unpacked if need be, as a stream.
//!
//! What is packed is told by its first bytes. Memory stays bounded whatever the stream claims: the decoders take
//! windows up to [`WINDOW_BYTES_MAX`] and refuse larger ones.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufRead, BufReader, Chain, Cursor, Read},
    path::Path,
    rc::Rc,
};

use lzma_rust2::XzReader;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use crate::exit::{Fail, Outcome};

/// Most memory for what a packed stream refers back to; xz and zstd pack with at most this unless told otherwise.
const WINDOW_BYTES_MAX: u32 = 128 << 20;
const XZ_MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

type Raw = Chain<Cursor<Vec<u8>>, BufReader<Box<dyn Read>>>;

/// An open trace, and how to speak of it.
pub(super) struct Source {
    /// The file's name, or `standard input`.
    pub(super) name: String,
    reader: BufReader<Unpacked>,
    /// Bytes taken from the file itself.
    taken: Rc<Cell<u64>>,
}

impl Source {
    pub(super) fn open(path: &Path) -> Outcome<Self> {
        let is_standard = path.as_os_str() == "-";
        let name =
            if is_standard { "standard input".to_owned() } else { path.display().to_string() };
        let unread = |source| Fail::io(format!("read {name}"), source);
        let bytes: Box<dyn Read> = if is_standard {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).map_err(unread)?)
        };
        let mut bytes = BufReader::with_capacity(64 << 10, bytes);
        let mut head = Vec::new();
        bytes.by_ref().take(XZ_MAGIC.len() as u64).read_to_end(&mut head).map_err(unread)?;
        let taken = Rc::new(Cell::new(0));
        let unpacked = Unpacked::new(head, bytes, Rc::clone(&taken));
        Ok(Self { name, reader: BufReader::with_capacity(64 << 10, unpacked), taken })
    }

    /// The next line with its end, at most `limit` bytes of it; empty at the end of the trace.
    pub(super) fn line(&mut self, limit: u64, line: &mut Vec<u8>) -> Outcome<()> {
        line.clear();
        let read = self.reader.by_ref().take(limit).read_until(b'\n', line);
        read.map(|_| ()).map_err(|error| self.fail(error))
    }

    /// Fills `bytes`, or as much of it as is left; returns how many there were.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> Outcome<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.reader.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(filled)
    }

    /// A refusal of the system is one to read; everything else comes from a decoder.
    fn fail(&self, error: io::Error) -> Fail {
        let packing = self.reader.get_ref().packing();
        match packing {
            Some(packing) if error.raw_os_error().is_none() => Fail::Input(format!(
                "{}: what {packing} packed cannot be unpacked at byte {}; it may be damaged or cut short: {error}",
                self.name,
                self.taken.get()
            )),
            _ => Fail::io(format!("read {}", self.name), error),
        }
    }
}

/// Counts the bytes that are taken from it.
struct Counted {
    raw: Raw,
    taken: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.raw.read(bytes)?;
        self.taken.set(self.taken.get() + count as u64);
        Ok(count)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.raw.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.taken.set(self.taken.get() + count as u64);
        self.raw.consume(count);
    }
}

/// The trace as it was before it was packed.
enum Unpacked {
    Plain(Counted),
    Xz(Box<XzReader<Counted>>),
    Zstd(Box<Frames<Counted>>),
}

impl Unpacked {
    fn new(head: Vec<u8>, rest: BufReader<Box<dyn Read>>, taken: Rc<Cell<u64>>) -> Self {
        let is_xz = head.starts_with(&XZ_MAGIC);
        let is_zstd = head.starts_with(&ZSTD_MAGIC);
        let counted = Counted { raw: Cursor::new(head).chain(rest), taken };
        if is_xz {
            let limit = WINDOW_BYTES_MAX / 1_024 + 1_024;
            Self::Xz(Box::new(XzReader::new_mem_limit(counted, true, limit)))
        } else if is_zstd {
            Self::Zstd(Box::new(Frames::new(counted)))
        } else {
            Self::Plain(counted)
        }
    }

    const fn packing(&self) -> Option<&'static str> {
        match self {
            Self::Plain(_) => None,
            Self::Xz(_) => Some("xz"),
            Self::Zstd(_) => Some("zstd"),
        }
    }
}

impl Read for Unpacked {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(bytes),
            Self::Xz(xz) => xz.read(bytes),
            Self::Zstd(zstd) => zstd.read(bytes),
        }
    }
}

/// The frames of a zstd file, one after the other; the decoder itself knows one.
struct Frames<R> {
    packed: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(packed: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(u64::from(WINDOW_BYTES_MAX));
        Self { packed, decoder, in_frame: false }
    }

    /// Begins the next frame that holds anything; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.packed.by_ref().take(u64::from(length));
                    if io::copy(&mut skipped, &mut io::sink())? < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    fn verify(&self) -> io::Result<()> {
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum does not match"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if !self.begin()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(bytes);
            }
            if self.decoder.is_finished() {
                self.verify()?;
                self.in_frame = false;
                continue;
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.packed, one).map_err(io::Error::other)?;
        }
    }
}
