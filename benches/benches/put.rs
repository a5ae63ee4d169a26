//! Writes of one key, by durability, on a disk in memory: what the engine itself costs.

use criterion::{Criterion, criterion_group, criterion_main};
use tierce_benches::{Random, key, value};
use tierce_engine::{Durability, Options, io::MemoryDisk};

const KEYS: u64 = 100_000;

fn put(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put");
    for (name, durability) in [
        ("buffered", Durability::Buffered),
        ("os", Durability::Os),
        ("sync", Durability::Sync),
        ("periodic", Durability::Periodic),
    ] {
        let engine = Options::new()
            .durability(durability)
            .disk(MemoryDisk::new())
            .open("store")
            .expect("the store opens");
        let mut random = Random::new(1);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let index = random.below(KEYS);
                engine.put(key(index), value(index)).expect("the put succeeds");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, put);
criterion_main!(benches);
