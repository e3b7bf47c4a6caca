//! Time of one seed of the simulation on one core: 30 events, 2 workers, all checkers.
//!
//! The goal is 10,000 seeds per minute, or 6 ms per seed. `chaos sim --duration 60s --json` reports
//! `seeds_per_min` over many seeds. This benchmark measures the spread of a single run.

use std::hint::black_box;

use chaos::seed::Seed;
use chaos::sim::Size;
use chaos::sim::soak::Soak;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Seeds per iteration, so that each iteration has seeds with few and with many faults.
const SEEDS: u64 = 50;

fn seeds(c: &mut Criterion) {
    let size = Size { events: 30, workers: 2 };
    let mut group = c.benchmark_group("simulation");
    group.throughput(Throughput::Elements(SEEDS));
    group.sample_size(10);
    group.bench_function("seeds", |bencher| {
        bencher.iter(|| {
            let mut soak = Soak::new(size, None);
            for index in 0..SEEDS {
                soak.run(Seed::new(1).plus(index), false);
            }
            assert_eq!(black_box(soak.failed), 0, "a seed failed");
        });
    });
    group.finish();
}

criterion_group!(benches, seeds);
criterion_main!(benches);
