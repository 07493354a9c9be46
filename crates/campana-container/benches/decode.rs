//! Reading a container beside a plain copy, in weights per second.

use std::hint::black_box;

use campana_codebook::Packing;
use campana_container::{Limits, Piece, pack, unpack};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const COUNT: usize = 1 << 20;
const ROW_LEN: usize = 576;

/// Codes of weights with a two-sided geometric distribution of this mean
/// magnitude.
fn codes(mean: f32, levels: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let centre = levels as f32 / 2.0;
    (0..COUNT)
        .map(|_| {
            let magnitude = -(1.0 - uniform()).ln() * mean;
            let signed = if uniform() < 0.5 {
                magnitude
            } else {
                -magnitude
            };
            (centre + signed).round().clamp(0.0, levels as f32 - 1.0) as u8
        })
        .collect()
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("container");
    group.throughput(Throughput::Elements(COUNT as u64));
    let source = vec![1u8; COUNT];
    let mut copy = vec![0; COUNT];
    group.bench_function("copy", |b| {
        b.iter(|| copy.copy_from_slice(black_box(&source)));
    });
    for (mean, levels) in [(0.5, 16), (1.0, 16), (2.0, 16), (4.0, 64)] {
        let codes = codes(mean, levels);
        let packing = Packing::densest(levels);
        let mut packed = vec![0; packing.len_bytes(COUNT)];
        packing.pack(&codes, &mut packed);
        let container = pack(&[Piece::Codes {
            packed: &packed,
            packing,
            row_len: ROW_LEN,
        }]);
        let bits = 8.0 * container.len() as f64 / COUNT as f64;
        let name = format!("{bits:.2}_bits_of_{levels}_levels");
        group.bench_function(BenchmarkId::new("unpack", name), |b| {
            b.iter(|| unpack(black_box(&container), &Limits::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
