//! What one seed of the simulation costs: 30 events, 2 workers, every checker; on one core.
//!
//! The aim is 10,000 seeds a minute, which is 6 ms a seed. `chaos sim --duration 60s --json` tells
//! `seeds_per_min` over many seeds; here one run is measured with its spread.

use std::hint::black_box;

use chaos::seed::Seed;
use chaos::sim::Size;
use chaos::sim::soak::Soak;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Seeds of one iteration: enough that calm and stormy ones are mixed.
const SEEDS: u64 = 50;

fn seeds(c: &mut Criterion) {
    let size = Size {
        events: 30,
        workers: 2,
    };
    let mut group = c.benchmark_group("simulation");
    group.throughput(Throughput::Elements(SEEDS));
    group.sample_size(10);
    group.bench_function("seeds", |bencher| {
        bencher.iter(|| {
            let mut soak = Soak::new(size, None);
            for index in 0..SEEDS {
                soak.one(Seed::new(1).plus(index), false);
            }
            assert_eq!(black_box(soak.failed), 0, "a failing seed is no benchmark");
        });
    });
    group.finish();
}

criterion_group!(benches, seeds);
criterion_main!(benches);
