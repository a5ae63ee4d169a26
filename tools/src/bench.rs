//! `bench`: so many puts, gets and deletes on this machine. No comparison with anything: `benches` has those.

use std::time::Instant;

use serde_json::{Value, json};
use tierce_engine::{Engine, Options};

use crate::{
    args::BenchArgs,
    exit::{Code, Fail, Outcome},
    interrupt,
    out::Out,
    place::Place,
    progress::Progress,
    store::open_as_given,
};

/// What is done with every key.
const STEPS: [&str; 3] = ["put", "get", "delete"];

/// Runs the steps and prints how fast each was.
pub(crate) fn bench(args: &BenchArgs, json: bool, out: &mut Out) -> Outcome {
    let place = Place::new(args.dir.as_deref(), "bench")?;
    let engine = open_as_given(&place.dir, Options::new().durability(args.durability.into()))?;
    if engine.stats().entries > 0 {
        engine.close()?;
        return Err(Fail::Usage(format!(
            "{} holds entries; bench wants an empty store",
            place.dir.display()
        )));
    }
    let steps: Outcome<Vec<_>> = STEPS.iter().map(|step| run(step, args, &engine)).collect();
    let written = engine.stats().written_bytes;
    let closed = engine.close();
    let steps = steps?;
    closed?;
    if json {
        let step = |(name, rate): (&str, &u64)| json!({"step": name, "per_second": rate});
        let steps: Vec<Value> = STEPS.into_iter().zip(&steps).map(step).collect();
        let (ops, value_bytes, mode) = (args.ops, args.value_bytes, args.durability.name());
        out.json(&json!({
            "ops": ops, "value_bytes": value_bytes, "durability": mode, "steps": steps, "written_bytes": written,
        }))?;
        return Ok(Code::Done);
    }
    for (name, rate) in STEPS.iter().zip(&steps) {
        out.line(format_args!("{name:<7} {rate:>12} a second"))?;
    }
    out.line(format_args!("written {written:>12} bytes"))?;
    out.line("one thread, keys in order, this machine: a sign of life, no comparison")?;
    Ok(Code::Done)
}

/// One step over all keys; operations a second.
fn run(step: &'static str, args: &BenchArgs, engine: &Engine) -> Outcome<u64> {
    const STRIDE: u64 = 256;
    let value = vec![0xa5; usize::try_from(args.value_bytes).unwrap_or(usize::MAX)];
    let mut progress = Progress::new(step, Some(args.ops), "operations");
    let start = Instant::now();
    for number in 0..args.ops {
        let key = format!("bench:{number:012}");
        match step {
            "put" => engine.put(&key, &value)?,
            "get" => {
                let found = engine.get(&key)?;
                if found.is_none_or(|found| found.len() != value.len()) {
                    return Err(Fail::Input(format!("{key} was stored and did not come back")));
                }
            }
            _ => drop(engine.delete(&key)?),
        }
        if number % STRIDE == 0 {
            interrupt::check()?;
            progress.at(number);
        }
    }
    let nanoseconds = start.elapsed().as_nanos().max(1);
    progress.finish();
    Ok(u64::try_from(u128::from(args.ops) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX))
}
