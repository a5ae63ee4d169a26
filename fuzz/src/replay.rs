//! Running a target without libFuzzer: over files given, or over random changes of sound inputs.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const USAGE: &str = "usage: TARGET FILE...               run these inputs
       TARGET --seconds N [--seed S] change sound inputs at random for so long
       TARGET --corpus FOLDER        write the sound inputs there, for libFuzzer to begin with";

/// How a run was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    Files(Vec<PathBuf>),
    Mutate { seconds: u64, seed: u64 },
    Corpus(PathBuf),
}

/// The whole program of one target: reads the arguments, runs, and says how to repeat a failure.
pub fn main(name: &str, target: fn(&[u8]), samples: &[Vec<u8>]) -> ExitCode {
    match order(std::env::args().skip(1)) {
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Some(Order::Files(files)) => replay(name, target, &files),
        Some(Order::Corpus(folder)) => write_corpus(name, samples, &folder),
        Some(Order::Mutate { seconds, seed }) => {
            eprintln!("{name}: seed {seed}, {seconds} s");
            mutate(name, target, samples, seed, Duration::from_secs(seconds))
        }
    }
}

fn order(arguments: impl Iterator<Item = String>) -> Option<Order> {
    let (mut files, mut seconds, mut seed, mut corpus) = (Vec::new(), None, None, None);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => seconds = Some(arguments.next()?.parse().ok()?),
            "--seed" => seed = Some(arguments.next()?.parse().ok()?),
            "--corpus" => corpus = Some(PathBuf::from(arguments.next()?)),
            _ if argument.starts_with("--") => return None,
            _ => files.push(PathBuf::from(argument)),
        }
    }
    match (seconds, corpus) {
        (Some(seconds), None) if files.is_empty() => {
            Some(Order::Mutate { seconds, seed: seed.unwrap_or_else(fresh_seed) })
        }
        (None, Some(folder)) if files.is_empty() && seed.is_none() => Some(Order::Corpus(folder)),
        (None, None) if !files.is_empty() && seed.is_none() => Some(Order::Files(files)),
        _ => None,
    }
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 ^ u64::from(std::process::id()) << 32
}

fn replay(name: &str, target: fn(&[u8]), files: &[PathBuf]) -> ExitCode {
    for file in files {
        match fs::read(file) {
            Ok(bytes) => target(&bytes),
            Err(error) => {
                eprintln!("{name}: could not read {}: {error}", file.display());
                return ExitCode::FAILURE;
            }
        }
    }
    eprintln!("{name}: {} inputs, no failure", files.len());
    ExitCode::SUCCESS
}

/// Writes each sound input to a file of its own.
fn write_corpus(name: &str, samples: &[Vec<u8>], folder: &Path) -> ExitCode {
    let written = fs::create_dir_all(folder).and_then(|()| {
        let mut named = samples.iter().enumerate();
        named.try_for_each(|(at, sample)| fs::write(folder.join(format!("sound-{at:03}")), sample))
    });
    match written {
        Ok(()) => {
            eprintln!("{name}: {} inputs written to {}", samples.len(), folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: could not write to {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn mutate(
    name: &str,
    target: fn(&[u8]),
    samples: &[Vec<u8>],
    seed: u64,
    time: Duration,
) -> ExitCode {
    let (start, mut random, mut count) = (Instant::now(), Random(seed), 0u64);
    // The samples themselves come first, unchanged: a target that refuses them would prove nothing.
    let mut inputs = samples.to_vec();
    while count < inputs.len() as u64 || start.elapsed() < time {
        let input = match inputs.get_mut(count as usize) {
            Some(sample) => std::mem::take(sample),
            None => mutant(samples, &mut random),
        };
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            report(name, seed, count, &input);
            return ExitCode::FAILURE;
        }
        count += 1;
    }
    eprintln!("{name}: {count} inputs, no failure");
    ExitCode::SUCCESS
}

fn report(name: &str, seed: u64, count: u64, input: &[u8]) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
    let file = dir.join(format!("seed-{seed}-{count}"));
    let kept = fs::create_dir_all(&dir).and_then(|()| fs::write(&file, input));
    eprintln!("{name}: input {count} of seed {seed} failed, {} bytes", input.len());
    match kept {
        Ok(()) => eprintln!("replay: cargo run -p tierce-fuzz --bin {name} -- {}", file.display()),
        Err(error) => eprintln!("could not keep it: {error}; replay with --seed {seed}"),
    }
}

/// The generator splitmix64: one number of state, and every seed is a good one.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % (limit as u64).max(1)).unwrap_or_default()
    }
}

/// Values at which lengths and counts go wrong.
const EDGES: &[u64] = &[
    0,
    1,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    u64::MAX / 8,
    u64::MAX,
];

/// One of the samples with one to eight changes.
fn mutant(samples: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = samples.get(random.below(samples.len())).cloned().unwrap_or_default();
    for _ in 0..=random.below(8) {
        change(&mut bytes, samples, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, samples: &[Vec<u8>], random: &mut Random) {
    // Most of what is interesting stands at the front.
    let reach = if random.below(2) == 0 { bytes.len().min(256) } else { bytes.len() };
    let at = random.below(reach);
    let left = bytes.len() - at;
    match random.below(8) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.number() as u8;
            }
        }
        3 | 4 => {
            let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.below(4)].min(left);
            bytes[at..at + width].copy_from_slice(&edge[..width]);
        }
        5 => bytes.truncate(at),
        6 => {
            let length = random.below(64);
            bytes.splice(at..at, (0..length).map(|_| 0));
        }
        _ => {
            let other = &samples[random.below(samples.len())];
            let from = random.below(other.len());
            let length = random.below(64).min(other.len() - from).min(left);
            bytes[at..at + length].copy_from_slice(&other[from..from + length]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Order> {
        order(line.split_whitespace().map(str::to_owned))
    }

    /// Goal: every line of the usage is understood, and nothing else.
    #[test]
    fn arguments_are_understood() {
        assert_eq!(words("a b"), Some(Order::Files(vec!["a".into(), "b".into()])));
        assert_eq!(words("--seconds 3 --seed 5"), Some(Order::Mutate { seconds: 3, seed: 5 }));
        assert_eq!(words("--corpus c"), Some(Order::Corpus("c".into())));
        for wrong in [
            "",
            "--corpus",
            "a --corpus c",
            "--corpus c --seconds 1",
            "--seconds",
            "--seconds x",
            "--seed 5",
            "a --seconds 3",
            "--help",
        ] {
            assert_eq!(words(wrong), None, "{wrong:?}");
        }
    }

    /// Goal: one seed gives one sequence of inputs, and they differ from the samples.
    #[test]
    fn a_seed_repeats_itself() {
        let samples = crate::samples::decode_manifest();
        let run = |seed| {
            let mut random = Random(seed);
            (0..100).map(|_| mutant(&samples, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert!(run(7).iter().filter(|input| !samples.contains(input)).count() > 50);
    }

    /// Goal: the alarm works: a target that cannot stand a byte is caught.
    #[test]
    fn a_target_that_fails_is_noticed() {
        fn target(bytes: &[u8]) {
            assert!(bytes.len() < 10, "planted");
        }
        let code = mutate("planted", target, &[vec![0; 10]], 1, Duration::ZERO);
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!(mutate("planted", target, &[vec![0; 9]], 1, Duration::ZERO), ExitCode::SUCCESS);
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("artifacts/planted");
        fs::remove_dir_all(dir).expect("the failing input was kept");
    }

    /// Goal: no target refuses its own samples or a thousand changes of them.
    #[test]
    fn targets_stand_a_short_run() {
        type Run = (fn(&[u8]), Vec<Vec<u8>>);
        let runs: [Run; 9] = [
            (crate::decode_record, crate::samples::decode_record()),
            (crate::decode_segment_header, crate::samples::decode_segment_header()),
            (crate::decode_footer, crate::samples::decode_footer()),
            (crate::decode_manifest, crate::samples::decode_manifest()),
            (crate::decode_checkpoint, crate::samples::decode_checkpoint()),
            (crate::file_name, crate::samples::file_name()),
            (crate::texts::backup_sheet, crate::texts::sheets()),
            (crate::texts::typed_key, crate::texts::keys()),
            (crate::texts::redis_frame, crate::texts::frames()),
        ];
        for (target, samples) in runs {
            let mut random = Random(1);
            samples.iter().for_each(|sample| target(sample));
            (0..1000).for_each(|_| target(&mutant(&samples, &mut random)));
        }
    }
}
