//! Fixed workloads for an instruction counter: `count WHAT N` loads a store in memory, then does WHAT N times.
//!
//! ```console
//! cargo build --release -p tierce-benches --bin count
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/count get 200000
//! ```
//!
//! The count of `load` is to be subtracted from the others. The background thread is off: its steps run between the
//! writes, in the same thread, so that the counts do not depend on the machine.

use std::{env, process::ExitCode};

use tierce_benches::{VALUE_BYTES, key};
use tierce_engine::{Durability, Engine, Error, Options, PutOptions, io::MemoryDisk};

const KEYS: u64 = 50_000;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let count = words.get(1).and_then(|n| n.parse().ok()).unwrap_or(200_000);
    match run(words.first().map_or("load", String::as_str), count) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("usage: count load|get|absent|put|buffered|delete|touch [N]");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: &str, count: u64) -> Result<bool, Error> {
    let options = Options::new().disk(MemoryDisk::new()).background(false).segment_bytes(4 << 20);
    let engine = options.open("store")?;
    for n in 0..KEYS {
        put(&engine, n, Durability::Os)?;
    }
    for n in 0..count {
        // Visits the keys in an order that repeats and is not that of storing.
        let n = n.wrapping_mul(0x9e37_79b9) % KEYS;
        match what {
            "load" => break,
            "get" => drop(engine.get(key(n))?),
            "absent" => drop(engine.get(key(n + KEYS))?),
            "put" => put(&engine, n, Durability::Os)?,
            "buffered" => put(&engine, n, Durability::Buffered)?,
            "delete" => drop(engine.delete(key(n))?),
            "touch" => drop(engine.touch(key(n), Some(engine.now().saturating_add_ms(1 << 30)))?),
            _ => return Ok(false),
        }
    }
    std::mem::forget(engine);
    Ok(true)
}

fn put(engine: &Engine, n: u64, durability: Durability) -> Result<(), Error> {
    engine.put_with(key(n), [n as u8; VALUE_BYTES], &PutOptions::new().durability(durability))?;
    if n.is_multiple_of(64) {
        while engine.step()? {}
    }
    Ok(())
}
