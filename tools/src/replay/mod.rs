//! A trace of real requests through a real store: what it hits, and what it writes for that.
//!
//! A request is a read; a miss stores the entry, which may be evicted again. The store is an ordinary one in a
//! directory, with the limits asked for, so the figures are those of the engine and not of a model of it.

mod capacity;
mod report;
mod source;
mod trace;

use std::{fs, io, path::Path, time::Instant};

use tierce_engine::{Engine, Error, Options};

pub(crate) use capacity::{Capacity, parse_capacity};

use crate::{
    args::ReplayArgs,
    exit::{Code, Fail, Outcome},
    interrupt,
    lifetime::Ttl,
    limits::{Defaults, Policy},
    out::Out,
    place::Place,
    progress::Progress,
    store::open_as_given,
    talk::say,
};
use capacity::{Room, Seen};
use report::Report;
use trace::{Op, Request, Trace};

/// Requests between two looks at the clock.
const STRIDE: u64 = 1_024;

/// Replays the trace and prints the figures.
pub(crate) fn run(args: &ReplayArgs, json: bool, out: &mut Out) -> Outcome {
    if let Some(dir) = &args.dir {
        refuse_used(dir)?;
    }
    let room = Room::of(args)?;
    let mut trace = Trace::open(&args.trace, args.format, args.value_bytes)?;
    let place = Place::new(args.dir.as_deref(), "replay")?;
    let engine = open_as_given(&place.dir, options(args, room))?;
    let mut replay = Replay::new(engine, args);
    let start = Instant::now();
    replay.all(&mut trace, args.limit.unwrap_or(u64::MAX))?;
    let took = start.elapsed();
    let Replay { engine, counts, .. } = replay;
    engine.sync()?;
    let stats = engine.stats();
    engine.close()?;
    if args.dir.is_some() {
        say(format_args!("tierce: the store is kept in {}", place.dir.display()));
    }
    let report = Report { args, trace: trace.name(), room, counts: &counts, stats: &stats, took };
    report.print(json, out)?;
    Ok(Code::Done)
}

/// What is in the directory already would count as stored by the trace.
fn refuse_used(dir: &Path) -> Outcome<()> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(Fail::Usage(format!(
            "{} is not empty, and a replay begins with nothing; give a new directory",
            dir.display()
        ))),
        Ok(false) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fail::io(format!("list {}", dir.display()), error)),
    }
}

fn options(args: &ReplayArgs, room: Room) -> Options {
    let mut options = Options::new().durability(args.durability.into()).evict(args.evict.into());
    if let Some(entries) = room.max_entries {
        options = options.max_entries(entries);
    }
    if let Some(bytes) = room.max_live_bytes {
        options = options.max_live_bytes(bytes);
    }
    if let Some(bytes) = args.max_bytes {
        options = options.max_bytes(bytes);
    }
    options
}

/// What happened to the requests.
#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    keys: u64,
    hits: u64,
    misses: u64,
    hit_bytes: u64,
    missed_bytes: u64,
    /// Puts after a miss.
    inserts: u64,
    /// Puts that the trace asked for.
    puts: u64,
    /// Deletes that removed something.
    deletes: u64,
    /// Puts that found no room.
    refused: u64,
    /// Bytes of the records of all puts.
    put_bytes: u64,
}

/// A replay under way.
struct Replay {
    engine: Engine,
    defaults: Defaults,
    counts: Counts,
    seen: Seen,
    /// Values are cut from this: bytes that do not compress.
    noise: Vec<u8>,
}

impl Replay {
    fn new(engine: Engine, args: &ReplayArgs) -> Self {
        let evictable = args.evict != Policy::None;
        let defaults = Defaults { ttl_ms: args.ttl, evictable };
        let (counts, seen, noise) = (Counts::default(), Seen::default(), Vec::new());
        Self { engine, defaults, counts, seen, noise }
    }

    /// Replays the trace to its end, or `limit` requests of it.
    fn all(&mut self, trace: &mut Trace, limit: u64) -> Outcome<()> {
        let mut request = Request::default();
        let total = Some(limit).filter(|limit| *limit < u64::MAX);
        let mut progress = Progress::new("replay", total, "requests");
        while self.counts.requests < limit && trace.next(&mut request)? {
            self.counts.requests += 1;
            self.seen.insert(&request.key);
            self.one(&request)?;
            if self.counts.requests.is_multiple_of(STRIDE) {
                interrupt::check()?;
                progress.at(self.counts.requests);
            }
        }
        progress.at(self.counts.requests);
        progress.finish();
        self.counts.keys = self.seen.count();
        Ok(())
    }

    fn one(&mut self, request: &Request) -> Outcome<()> {
        match request.op {
            Op::Get if self.engine.get(&request.key)?.is_some() => {
                self.counts.hits += 1;
                self.counts.hit_bytes += request.bytes;
            }
            Op::Get => {
                self.counts.misses += 1;
                self.counts.missed_bytes += request.bytes;
                self.counts.inserts += u64::from(self.put(request)?);
            }
            Op::Put => self.counts.puts += u64::from(self.put(request)?),
            Op::Del => self.counts.deletes += u64::from(self.engine.delete(&request.key)?),
        }
        Ok(())
    }

    /// Whether it was stored. One that finds no room is not: a cache goes on without it.
    fn put(&mut self, request: &Request) -> Outcome<bool> {
        let options = self.defaults.put_options(self.engine.now(), request.ttl);
        let expires = match request.ttl {
            Ttl::Default => self.defaults.ttl_ms.is_some(),
            Ttl::Never => false,
            Ttl::Ms(_) => true,
        };
        grow(&mut self.noise, request.value_bytes);
        // `grow` made it at least that long, in memory.
        let value = &self.noise[..request.value_bytes as usize];
        match self.engine.put_with(&request.key, value, &options) {
            Ok(_) => {
                self.counts.put_bytes += request.record_bytes(expires);
                Ok(true)
            }
            Err(Error::Full { .. } | Error::TooLarge { .. }) => {
                self.counts.refused += 1;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Makes the noise at least `bytes` long.
fn grow(noise: &mut Vec<u8>, bytes: u64) {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ noise.len() as u64;
    while (noise.len() as u64) < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
}
