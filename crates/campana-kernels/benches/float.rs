//! Float kernels at the sizes of real networks.

use campana_kernels::depthwise::{PackedFilters, Sliding, depthwise};
use campana_kernels::gemm::{Epilogue, Grid, PackedMatrix, RowRuns, gemm};
use campana_kernels::{Isa, ThreadPool};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Convolutions: name, input height and width (padding included), channels, window, stride, filters.
const CONVS: &[(&str, usize, usize, usize, usize, usize)] = &[
    ("resnet20-16", 34, 16, 3, 1, 16),
    ("resnet20-32", 18, 32, 3, 1, 32),
    ("resnet20-64", 10, 64, 3, 1, 64),
    ("pointwise-112-32-96", 112, 32, 1, 1, 96),
    ("pointwise-56-96-24", 56, 96, 1, 1, 24),
    ("pointwise-14-480-112", 14, 480, 1, 1, 112),
    ("pointwise-7-1152-192", 7, 1152, 1, 1, 192),
    ("pointwise-7-320-1280", 7, 320, 1, 1, 1280),
    ("dense-1280-1000", 1, 1280, 1, 1, 1000),
];

fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gemm");
    for &(name, size, channels, window, stride, filters) in CONVS {
        let input = vec![0.5f32; size * size * channels];
        let out = (size - window) / stride + 1;
        let run_len = window * channels;
        let weights = PackedMatrix::pack(window * run_len, filters, |r, c| (r + c) as f32 * 1e-3);
        let offsets: Vec<usize> = (0..window).map(|ky| ky * size * channels).collect();
        let mut output = vec![0.0; out * out * filters];
        let products = out * out * filters * window * run_len;
        group.throughput(Throughput::Elements(products as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                gemm(
                    Isa::detect(),
                    &ThreadPool::serial(),
                    &input,
                    Grid {
                        start: 0,
                        height: out,
                        width: out,
                        row_stride: stride * size * channels,
                        pixel_stride: stride * channels,
                    },
                    RowRuns::new(&offsets, run_len),
                    &weights,
                    Epilogue::NONE,
                    &mut output,
                    Grid::image(out, out, filters),
                );
            });
        });
    }
    group.finish();
}

/// Depthwise layers: name, input height and width, channels, window, stride.
const DEPTHWISE: &[(&str, usize, usize, usize, usize)] = &[
    ("112-32-3x3", 112, 32, 3, 1),
    ("112-96-3x3-s2", 112, 96, 3, 2),
    ("56-144-5x5-s2", 56, 144, 5, 2),
    ("14-672-5x5", 14, 672, 5, 1),
    ("7-1152-3x3", 7, 1152, 3, 1),
];

fn depthwise_convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("depthwise");
    for &(name, size, channels, window, stride) in DEPTHWISE {
        let out = size.div_ceil(stride);
        let filters = PackedFilters::pack(
            [window; 2],
            channels,
            |ky, kx, c| (ky + kx + c) as f32 * 1e-3,
            |_| 0.0,
        );
        let sliding = Sliding {
            input: [size; 2],
            output: [out; 2],
            strides: [stride; 2],
            dilations: [1; 2],
            pads_begin: [(window - stride) / 2; 2],
        };
        let input = vec![0.5f32; size * size * channels];
        let mut output = vec![0.0; out * out * channels];
        group.throughput(Throughput::Elements(
            (output.len() * window * window) as u64,
        ));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                depthwise(
                    Isa::detect(),
                    &ThreadPool::serial(),
                    &input,
                    &filters,
                    sliding,
                    0.0,
                    6.0,
                    &mut output,
                );
            });
        });
    }
    group.finish();
}

criterion_group!(benches, convolutions, depthwise_convolutions);
criterion_main!(benches);
