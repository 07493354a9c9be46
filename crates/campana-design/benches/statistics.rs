//! Moments, fits and designs against the number of weights.

use std::hint::black_box;

use campana_design::{Fits, Method, Moments, Summary, design};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Numbers of weights: a depthwise channel, a small layer, a large one and
/// more than caches hold.
const SIZES: [usize; 4] = [9, 2_304, 589_824, 10_000_000];

/// Weights by Box and Muller's method on xorshift64 numbers, with a scale that
/// changes along the tensor as it does over the channels of a network.
fn weights(count: usize) -> Vec<f32> {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..count)
        .map(|i| {
            let radius = (-2.0 * uniform().ln()).sqrt();
            let scale = 0.02 * (1.0 + (i % 7) as f64);
            (scale * radius * (std::f64::consts::TAU * uniform()).cos()) as f32
        })
        .collect()
}

fn statistics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("statistics");
    for size in SIZES {
        let weights = weights(size);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("moments", size), |bencher| {
            bencher.iter(|| Moments::of(black_box(&weights)));
        });
        let moments = Moments::of(&weights);
        group.bench_function(BenchmarkId::new("fits", size), |bencher| {
            bencher.iter(|| Fits::of(black_box(&weights), &moments));
        });
    }
}

fn methods(criterion: &mut Criterion) {
    let weights = weights(589_824);
    let summary = Summary::of(&weights);
    // What all designs share is not theirs.
    let _ = (summary.fits(), summary.empirical());
    let mut group = criterion.benchmark_group("design-4-bits");
    for method in Method::ALL {
        group.bench_function(method.as_str(), |bencher| {
            bencher.iter(|| design(method, black_box(&summary), 4));
        });
    }
}

criterion_group!(benches, statistics, methods);
criterion_main!(benches);
