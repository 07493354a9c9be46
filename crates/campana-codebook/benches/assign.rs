//! Assignment and packing beside a plain copy, in weights per second.

use std::hint::black_box;

use campana_codebook::{Codebook, Packing};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const COUNT: usize = 1 << 20;

fn assign_and_pack(criterion: &mut Criterion) {
    let weights: Vec<f32> = (0..COUNT)
        .map(|i| ((i as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32) - 0.5)
        .collect();
    let mut group = criterion.benchmark_group("codebook");
    group.throughput(Throughput::Elements(COUNT as u64));
    let mut copy = vec![0f32; COUNT];
    group.bench_function("copy", |b| {
        b.iter(|| copy.copy_from_slice(black_box(&weights)));
    });
    for bits in [2u32, 3, 4, 5, 8] {
        let count = 1 << bits;
        let levels = (0..count)
            .map(|k| (k as f32 + 0.5) / count as f32 - 0.5)
            .collect();
        let codebook = Codebook::new(levels).expect("ascending levels");
        let packing = Packing::densest(count);
        let mut codes = vec![0; COUNT];
        let mut packed = vec![0; packing.len_bytes(COUNT)];
        group.bench_function(BenchmarkId::new("assign", bits), |b| {
            b.iter(|| codebook.assign(black_box(&weights), &mut codes));
        });
        group.bench_function(BenchmarkId::new("squared_error", bits), |b| {
            b.iter(|| codebook.squared_error(black_box(&weights), &codes));
        });
        group.bench_function(BenchmarkId::new("pack", bits), |b| {
            b.iter(|| packing.pack(black_box(&codes), &mut packed));
        });
    }
    group.finish();
}

criterion_group!(benches, assign_and_pack);
criterion_main!(benches);
