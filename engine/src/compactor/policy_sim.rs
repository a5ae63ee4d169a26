//! A store of numbers only, driven by the policy: what a workload costs in records copied.
//!
//! Records are of one size, the foreground is one log, a job reads its inputs in the order of the plan and seals
//! its outputs when they are full or when it ends. No bytes, no clocks; the same seed gives the same figures.

use super::{Goal, SegmentFacts, Streams, plan};
use crate::types::{Slot, mean_death};

/// Splitmix: the same seed, the same numbers.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Clone, Copy)]
struct Record {
    key: u32,
    sequence: u64,
    /// 0 = never.
    expiry: u64,
}

#[derive(Default)]
struct Segment {
    records: Vec<Record>,
    live: u64,
    dead_at: u64,
    stream: u8,
    is_sealed: bool,
    sequence_max: u64,
}

/// The store. Figures count records, from the last `forget_figures` on.
pub(crate) struct Sim {
    pub(crate) records_per_segment: usize,
    pub(crate) garbage_max_percent: u32,
    /// Output room of a job, in full segments.
    pub(crate) room_segments: u64,
    pub(crate) streams: Streams,
    segments: Vec<Option<Segment>>,
    free: Vec<usize>,
    /// Segment and position of each key's newest record.
    index: Vec<Option<(u32, u32)>>,
    open: usize,
    pub(crate) now_sequence: u64,
    pub(crate) now_ms: u64,
    pub(crate) written: u64,
    pub(crate) copied: u64,
    pub(crate) jobs: u64,
    pub(crate) inputs: u64,
    pub(crate) outputs: u64,
    /// Times that compaction did not come to an end.
    pub(crate) over: u64,
    /// How much of the expired bytes the policy is told of.
    pub(crate) hint_percent: u64,
}

pub(crate) const RECORD_BYTES: u64 = 8192 - 32;
const HEADER_BYTES: u64 = 4096 + 128;

impl Sim {
    pub(crate) fn new(keys: usize, records_per_segment: usize, garbage_max_percent: u32) -> Self {
        let mut sim = Self {
            records_per_segment,
            garbage_max_percent,
            room_segments: u64::MAX,
            streams: Streams::default(),
            segments: Vec::new(),
            free: Vec::new(),
            index: vec![None; keys],
            open: 0,
            now_sequence: 0,
            now_ms: 0,
            written: 0,
            copied: 0,
            jobs: 0,
            inputs: 0,
            outputs: 0,
            over: 0,
            hint_percent: 100,
        };
        sim.open = sim.begin(0);
        sim
    }

    fn begin(&mut self, stream: u8) -> usize {
        let segment = Segment { stream, ..Segment::default() };
        if let Some(at) = self.free.pop() {
            self.segments[at] = Some(segment);
            at
        } else {
            self.segments.push(Some(segment));
            self.segments.len() - 1
        }
    }

    fn append(&mut self, at: usize, record: Record) {
        let segment = self.segments[at].as_mut().expect("open");
        self.index[record.key as usize] = Some((at as u32, segment.records.len() as u32));
        segment.records.push(record);
        segment.sequence_max = segment.sequence_max.max(record.sequence);
        segment.live += 1;
    }

    fn is_full(&self, at: usize) -> bool {
        self.segments[at].as_ref().expect("there").records.len() >= self.records_per_segment
    }

    /// A user writes `key`; `lifetime_ms` 0 = for ever.
    pub(crate) fn write(&mut self, key: u32, lifetime_ms: u64) {
        self.now_sequence += 1;
        self.written += 1;
        if let Some((at, _)) = self.index[key as usize] {
            let segment = self.segments[at as usize].as_mut().expect("indexed");
            segment.live -= 1;
            segment.dead_at = mean_death(segment.dead_at, self.now_sequence);
        }
        let expiry = if lifetime_ms == 0 { 0 } else { self.now_ms + lifetime_ms };
        self.append(self.open, Record { key, sequence: self.now_sequence, expiry });
        if self.is_full(self.open) {
            self.segments[self.open].as_mut().expect("open").is_sealed = true;
            self.open = self.begin(0);
            for _ in 0..1000 {
                if !self.compact() {
                    return;
                }
            }
            self.over += 1;
            debug_assert!(false, "compaction goes on for ever");
        }
    }

    fn facts(&self) -> Vec<SegmentFacts> {
        let mut facts = Vec::new();
        for (at, segment) in self.segments.iter().enumerate() {
            let Some(segment) = segment else { continue };
            if !segment.is_sealed {
                continue;
            }
            let (mut expired, mut expiry_max) = (0, 0);
            let may_expire = segment.records.first().is_some_and(|r| r.expiry != 0);
            if !may_expire {
                expiry_max = u64::MAX;
            }
            for (position, record) in segment.records.iter().enumerate().filter(|_| may_expire) {
                let expiry = if record.expiry == 0 { u64::MAX } else { record.expiry };
                expiry_max = expiry_max.max(expiry);
                let is_current =
                    self.index[record.key as usize] == Some((at as u32, position as u32));
                expired += u64::from(is_current && expiry <= self.now_ms);
            }
            facts.push(SegmentFacts {
                slot: Slot(at as u32),
                bytes: HEADER_BYTES + segment.records.len() as u64 * (RECORD_BYTES + 32),
                live_bytes: segment.live * RECORD_BYTES,
                live_records: segment.live,
                expired_bytes: expired * RECORD_BYTES * self.hint_percent / 100,
                dead_at: segment.dead_at,
                sequence_max: segment.sequence_max,
                expiry_max,
                stream: segment.stream,
                is_pinned: false,
            });
        }
        facts
    }

    fn compact(&mut self) -> bool {
        let facts = self.facts();
        let segment_bytes = HEADER_BYTES + self.records_per_segment as u64 * (RECORD_BYTES + 32);
        let goal = Goal {
            now_sequence: self.now_sequence,
            now_ms: self.now_ms,
            garbage_max_percent: self.garbage_max_percent,
            output_bytes_max: self.room_segments.saturating_mul(segment_bytes),
            segment_bytes,
            force: false,
        };
        let plan = plan(&facts, &goal, &self.streams);
        if plan.inputs.is_empty() {
            return false;
        }
        self.jobs += 1;
        let cleaned: Vec<SegmentFacts> =
            facts.into_iter().filter(|f| plan.inputs.contains(&f.slot)).collect();
        self.streams.learn(self.now_sequence, self.now_ms, &cleaned);
        let mut outputs = [None; 256];
        for slot in &plan.inputs {
            self.inputs += 1;
            let at = slot.0 as usize;
            let segment = self.segments[at].take().expect("planned");
            for (position, record) in segment.records.iter().enumerate() {
                if self.index[record.key as usize] == Some((at as u32, position as u32)) {
                    self.copy(*record, &mut outputs);
                }
            }
        }
        self.free.extend(plan.inputs.iter().map(|slot| slot.0 as usize));
        for at in outputs.into_iter().flatten() {
            self.segments[at].as_mut().expect("open").is_sealed = true;
        }
        true
    }

    fn copy(&mut self, record: Record, outputs: &mut [Option<usize>; 256]) {
        if record.expiry != 0 && record.expiry <= self.now_ms {
            self.index[record.key as usize] = None;
            return;
        }
        let expires_in = (record.expiry != 0).then(|| record.expiry - self.now_ms);
        let stream = self.streams.place(self.now_sequence - record.sequence, expires_in);
        let at = match outputs[stream as usize] {
            Some(at) => at,
            None => {
                self.outputs += 1;
                self.begin(stream)
            }
        };
        outputs[stream as usize] = Some(at);
        self.copied += 1;
        self.append(at, record);
        if self.is_full(at) {
            self.segments[at].as_mut().expect("open").is_sealed = true;
            outputs[stream as usize] = None;
        }
    }

    pub(crate) fn forget_figures(&mut self) {
        (self.written, self.copied, self.jobs, self.inputs, self.outputs) = (0, 0, 0, 0, 0);
    }

    pub(crate) fn write_amplification(&self) -> f64 {
        (self.written + self.copied) as f64 / self.written as f64
    }

    /// Sealed segments now, and how many of them are full.
    pub(crate) fn segments(&self) -> (usize, usize) {
        let sealed = self.segments.iter().flatten().filter(|s| s.is_sealed);
        let full = sealed.clone().filter(|s| s.records.len() >= self.records_per_segment).count();
        (sealed.count(), full)
    }
}

/// A workload: which key comes next, and how long it lives.
pub(crate) enum Workload {
    Uniform,
    Zipf(Vec<f64>),
    /// 90 % of the writes to 10 % of the keys; the hot keys move by their own number in so many writes (0 = never).
    HotCold {
        drift: u64,
    },
}

impl Workload {
    pub(crate) fn zipf(keys: usize, s: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative = Vec::with_capacity(keys);
        for rank in 1..=keys {
            sum += (rank as f64).powf(-s);
            cumulative.push(sum);
        }
        Self::Zipf(cumulative)
    }

    pub(crate) fn key(&self, rng: &mut Rng, keys: u64, at: u64) -> u32 {
        match self {
            Self::Uniform => rng.below(keys) as u32,
            Self::Zipf(cumulative) => {
                let goal = rng.unit() * cumulative[cumulative.len() - 1];
                cumulative.partition_point(|sum| *sum < goal).min(cumulative.len() - 1) as u32
            }
            Self::HotCold { drift } => {
                let hot = keys / 10;
                let start = if *drift == 0 {
                    0
                } else {
                    (u128::from(at) * u128::from(hot) / u128::from(*drift)) as u64 % keys
                };
                let inside =
                    if rng.below(10) < 9 { rng.below(hot) } else { hot + rng.below(keys - hot) };
                ((start + inside) % keys) as u32
            }
        }
    }
}

/// Loads every key once in order, warms up, then measures.
pub(crate) fn run(sim: &mut Sim, workload: &Workload, seed: u64, warm: u64, measured: u64) {
    let keys = sim.index.len() as u64;
    let mut rng = Rng(seed);
    for key in 0..keys {
        sim.write(key as u32, 0);
    }
    for at in 0..warm + measured {
        if at == warm {
            sim.forget_figures();
        }
        let key = workload.key(&mut rng, keys, at);
        sim.write(key, 0);
    }
}

/// Inserts only: each key is written once, lives for one of `mix` (weight, ms), and expires.
pub(crate) fn run_expiry(
    sim: &mut Sim,
    mix: &[(f64, u64)],
    per_second: f64,
    seed: u64,
    warm: u64,
    measured: u64,
) {
    let mut rng = Rng(seed);
    let sum: f64 = mix.iter().map(|m| m.0).sum();
    let keys = sim.index.len() as u64;
    for at in 0..warm + measured {
        if at == warm {
            sim.forget_figures();
        }
        sim.now_ms = 1_000_000 + (at as f64 * 1000.0 / per_second) as u64;
        let mut pick = rng.unit() * sum;
        let mut lifetime = mix[mix.len() - 1].1;
        for (weight, ms) in mix {
            if pick < *weight {
                lifetime = *ms;
                break;
            }
            pick -= weight;
        }
        // A key comes again only after its record is long gone.
        let key = (at % keys) as u32;
        if let Some((s, _)) = sim.index[key as usize] {
            sim.segments[s as usize].as_mut().expect("there").live -= 1;
            sim.index[key as usize] = None;
        }
        sim.write(key, lifetime);
    }
}
