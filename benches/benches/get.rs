//! Reads of one key, by where its record stands.

use criterion::{Criterion, criterion_group, criterion_main};
use tierce_benches::{Random, key, shuffled, value};
use tierce_engine::{Durability, Options, ReadMode, io::MemoryDisk};

const KEYS: u64 = 100_000;

fn get(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("get");
    for (name, mode) in [("mapped", ReadMode::Map), ("positioned", ReadMode::Positioned)] {
        let engine = Options::new()
            .durability(Durability::Buffered)
            .read_mode(mode)
            .disk(MemoryDisk::new())
            .open("store")
            .expect("the store opens");
        for index in shuffled(KEYS, 1) {
            engine.put(key(index), value(index)).expect("the put succeeds");
        }
        let mut random = Random::new(1);
        group.bench_function(name, |bencher| {
            bencher.iter(|| engine.get(key(random.below(KEYS))).expect("the get succeeds"));
        });
        group.bench_function(format!("{name}/absent"), |bencher| {
            bencher.iter(|| engine.get(key(KEYS + random.below(KEYS))).expect("the get succeeds"));
        });
    }
    group.finish();
}

criterion_group!(benches, get);
criterion_main!(benches);
