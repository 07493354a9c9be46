use proptest::prelude::*;

use super::reference::{reference_codes, reference_conv_sums};
use super::*;
use crate::depthwise::Sliding;
use crate::gemm::Grid;
use crate::pooling::Pooling;
use crate::reference::ConvShape;
use crate::{Isa, ThreadPool};

/// Bytes behind a row that kernels may read.
const SLACK: usize = 64;

struct Noise(u32);

impl Noise {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    fn codes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Whole numbers of at most this size; the extremes are common.
    fn weights(&mut self, len: usize, largest: i32) -> Vec<i8> {
        let span = 2 * largest + 1 + largest / 2;
        (0..len)
            .map(|_| ((self.next() as i32 % span) - largest).min(largest) as i8)
            .collect()
    }

    /// Parameters of sums over `depth` weights, without and with their bound.
    fn requantize(&mut self, channels: usize, depth: usize, largest: i32) -> [Requantize; 2] {
        let initial: Vec<i32> = (0..channels)
            .map(|_| self.next() as i32 % 2000 - 1000)
            .collect();
        let scale = 1.0 / (depth as f32).sqrt() / 40.0;
        let multiplier: Vec<f32> = (0..channels)
            .map(|_| scale * (0.5 + self.next() as f32 / (1 << 24) as f32))
            .collect();
        let offset: Vec<f32> = (0..channels).map(|_| self.next() as f32 % 200.0).collect();
        let requantize = Requantize::new(&initial, &multiplier, &offset);
        let largest = 1000 + largest_sum(std::iter::repeat_n(largest as i8, depth));
        let bounds = [[3.0, 251.0], [0.0, 255.0]][self.next() as usize % 2];
        let requantize = requantize.bounded(bounds[0], bounds[1]);
        [requantize.clone(), requantize.within(largest)]
    }
}

fn bytes_of(numbers: &[i8]) -> Vec<u8> {
    numbers
        .iter()
        .map(|number| number.cast_unsigned())
        .collect()
}

/// A matrix `[columns, runs, run length]`, packed.
fn packed(
    isa: Isa,
    [runs, run_len]: [usize; 2],
    columns: usize,
    encoding: Encoding,
    bytes: &[u8],
) -> PackedWeights {
    let len = runs * run_len;
    PackedWeights::pack(isa, runs, run_len, columns, encoding, |column, to| {
        to.copy_from_slice(&bytes[column * len..][..len]);
    })
}

fn everywhere() -> impl Iterator<Item = (Isa, ThreadPool)> {
    let levels = Isa::available().into_iter();
    levels.flat_map(|isa| [1, 2].map(|threads| (isa, ThreadPool::new(threads))))
}

/// A matrix product against the plain loops, with weights in this many bits.
fn check_product(rows: usize, depth: usize, columns: usize, bits: u8, largest: i32, worst: bool) {
    let mut noise = Noise((rows * 31 + depth * 7 + columns) as u32);
    let stride = depth + 3;
    let mut input = noise.codes(rows * stride + SLACK);
    let table: [i8; 16] = noise.weights(16, largest).try_into().unwrap();
    let codes: Vec<u8> = (0..depth * columns)
        .map(|_| noise.next() as u8 % (1 << bits.min(4)))
        .collect();
    let mut numbers = noise.weights(depth * columns, largest);
    if worst {
        input.fill(255);
        numbers.fill(largest as i8);
    }
    let weight = |row: usize, column: usize| -> i8 {
        match bits {
            8 => numbers[column * depth + row],
            _ => table[usize::from(codes[column * depth + row])],
        }
    };
    let (encoding, bytes) = match bits {
        8 => (Encoding::Int8, bytes_of(&numbers)),
        _ => (Encoding::Codes { bits, table }, codes.clone()),
    };
    let shape = ConvShape {
        batch: 1,
        channels: stride,
        input: [1, rows],
        filters: columns,
        window: [1, 1],
        strides: [1, 1],
        dilations: [1, 1],
        pads_begin: [0, 0],
        pads_end: [0, 0],
        groups: 1,
    };
    let filters: Vec<i8> = (0..columns * stride)
        .map(|i| {
            if i % stride < depth {
                weight(i % stride, i / stride)
            } else {
                0
            }
        })
        .collect();
    let sums = reference_conv_sums(&shape, &input[..rows * stride], &filters, 0);
    let requantizes = noise.requantize(columns, depth, largest);
    let residual = noise.codes(rows * columns);
    let residuals = [None, Some((residual.as_slice(), 0.25))];
    for (requantize, residual) in requantizes
        .iter()
        .flat_map(|r| residuals.map(|codes| (r, codes)))
    {
        let expected = reference_codes(&sums, requantize, residual);
        for (isa, pool) in everywhere() {
            let packed = packed(isa, [1, depth], columns, encoding, &bytes);
            let mut output = vec![0; expected.len()];
            multiply(
                isa,
                &pool,
                &input,
                Grid::rows(rows, stride),
                &packed,
                &packed.offsets(&[0]),
                requantize,
                residual,
                Output::Codes(&mut output),
                Grid::rows(rows, columns),
            );
            assert_eq!(
                output, expected,
                "{isa:?} {rows}x{depth}x{columns}, {bits} bits"
            );
            let mut floats = vec![0.0; expected.len()];
            multiply(
                isa,
                &pool,
                &input,
                Grid::rows(rows, stride),
                &packed,
                &packed.offsets(&[0]),
                requantize,
                residual,
                Output::Floats(&mut floats),
                Grid::rows(rows, columns),
            );
            let rounded: Vec<u8> = floats.iter().map(|v| v.round_ties_even() as u8).collect();
            assert_eq!(rounded, expected, "{isa:?} floats");
        }
    }
}

#[test]
fn products_equal_the_reference_at_every_level() {
    for rows in [1, 2, 3, 5, 7, 9, 33] {
        for (depth, columns) in [
            (1, 1),
            (24, 64),
            (12, 100),
            (8, 150),
            (4, 8),
            (20, 17),
            (64, 16),
            (36, 40),
            (75, 9),
            (256, 33),
        ] {
            check_product(rows, depth, columns, 8, 64, false);
            check_product(rows, depth, columns, 4, 64, false);
            check_product(rows, depth, columns, 2, 32, false);
        }
    }
}

/// The products of a group of columns lie among those of other groups, which
/// stay as they are.
#[test]
fn columns_beside_a_groups_own_are_not_written() {
    let (rows, depth) = (13, 20);
    let mut noise = Noise(9);
    let input = noise.codes(rows * depth + SLACK);
    for (columns, stride) in [(8, 16), (8, 32), (4, 8), (16, 64), (5, 16), (24, 32)] {
        let numbers = noise.weights(depth * columns, 64);
        let [requantize, _] = noise.requantize(columns, depth, 64);
        let sums: Vec<i32> = (0..rows * columns)
            .map(|i| {
                let (row, column) = (i / columns, i % columns);
                let pairs = input[row * depth..][..depth]
                    .iter()
                    .zip(&numbers[column * depth..]);
                pairs.map(|(&c, &w)| i32::from(c) * i32::from(w)).sum()
            })
            .collect();
        let own = reference_codes(&sums, &requantize, None);
        for start in [0, stride - columns] {
            let mut expected = vec![77; rows * stride];
            for (row, codes) in own.chunks_exact(columns).enumerate() {
                expected[row * stride + start..][..columns].copy_from_slice(codes);
            }
            for (isa, pool) in everywhere() {
                let bytes = bytes_of(&numbers);
                let packed = packed(isa, [1, depth], columns, Encoding::Int8, &bytes);
                let mut output = vec![77; rows * stride];
                let grid = Grid {
                    start,
                    ..Grid::rows(rows, stride)
                };
                multiply(
                    isa,
                    &pool,
                    &input,
                    Grid::rows(rows, depth),
                    &packed,
                    &packed.offsets(&[0]),
                    &requantize,
                    None,
                    Output::Codes(&mut output),
                    grid,
                );
                assert_eq!(output, expected, "{isa:?} {columns} of {stride} at {start}");
            }
        }
    }
}

#[test]
fn no_weights_overflow_the_pairs() {
    for largest in [32, 33, 63, 64, 65, 100, 127] {
        for worst in [true, false] {
            check_product(5, 52, 24, 8, largest, worst);
            check_product(5, 52, 24, 4, largest, false);
            check_product(1, 52, 24, 2, largest, false);
        }
    }
}

#[test]
fn large_products_on_threads_equal_the_reference() {
    check_product(300, 144, 32, 4, 64, false);
    check_product(3, 1024, 130, 2, 32, false);
    check_product(40, 513, 70, 4, 64, false);
}

#[test]
fn codes_stay_packed() {
    let table = std::array::from_fn(|i| (i as i8) * 2 - 16);
    for bits in [2, 4] {
        let codes: Vec<u8> = (0..512 * 64).map(|i| (i * 7 % (1 << bits)) as u8).collect();
        let encoding = Encoding::Codes { bits, table };
        for isa in Isa::available() {
            let packed = packed(isa, [1, 512], 64, encoding, &codes);
            let bytes = 512 * 64 * usize::from(bits) / 8;
            assert_eq!((packed.bits(), packed.bytes().len()), (bits, bytes));
        }
    }
}

proptest! {
    #[test]
    fn convolutions_equal_the_reference(
        seed in any::<u32>(), channels in 1usize..20, filters in 1usize..20, window in 1usize..4,
        stride in 1usize..3, height in 4usize..8, width in 4usize..8, largest in 1i32..128,
    ) {
        let mut noise = Noise(seed);
        let shape = ConvShape {
            batch: 1, channels, input: [height, width], filters, window: [window; 2],
            strides: [stride; 2], dilations: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], groups: 1,
        };
        let input = noise.codes(height * width * channels + SLACK);
        let weights = noise.weights(filters * channels * window * window, largest);
        let image = &input[..height * width * channels];
        let sums = reference_conv_sums(&shape, image, &weights, 0);
        let [_, requantize] = noise.requantize(filters, channels * window * window, largest);
        let expected = reference_codes(&sums, &requantize, None);
        let runs: Vec<usize> = (0..window).map(|ky| ky * width * channels).collect();
        // Channels last, as in the image.
        let taps = window * window;
        let turned: Vec<i8> = (0..weights.len()).map(|at| {
            let (filter, row) = (at / (taps * channels), at % (taps * channels));
            weights[(filter * channels + row % channels) * taps + row / channels]
        }).collect();
        let [out_height, out_width] = shape.output();
        let grid = Grid {
            start: 0, height: out_height, width: out_width,
            row_stride: stride * width * channels, pixel_stride: stride * channels,
        };
        for (isa, pool) in everywhere() {
            let bytes = bytes_of(&turned);
            let runs_of = [window, window * channels];
            let packed = packed(isa, runs_of, filters, Encoding::Int8, &bytes);
            let mut output = vec![0; expected.len()];
            multiply(isa, &pool, &input, grid, &packed, &packed.offsets(&runs), &requantize, None,
                Output::Codes(&mut output), Grid::image(out_height, out_width, filters));
            prop_assert_eq!(&output, &expected);
        }
    }
}

/// A depthwise convolution against the plain loops, with a square window of a
/// width, a stride and a dilation.
fn check_depthwise(
    input: [usize; 2],
    [window, stride, dilation]: [usize; 3],
    channels: usize,
    largest: i32,
    pads: [usize; 2],
) {
    let mut noise = Noise((window * channels) as u32);
    let shape = ConvShape {
        batch: 1,
        channels,
        input,
        filters: channels,
        window: [window; 2],
        strides: [stride; 2],
        dilations: [dilation; 2],
        pads_begin: pads,
        pads_end: [pads[0], pads[1] + 1],
        groups: channels,
    };
    let image = noise.codes(input[0] * input[1] * channels);
    let weights = noise.weights(window * window * channels, largest);
    let sums = reference_conv_sums(&shape, &image, &weights, 77);
    let [plain, biased] = noise.requantize(channels, window * window * 4, largest);
    let weight = |tap: usize, channel: usize| weights[channel * window * window + tap];
    let sliding = Sliding {
        input: shape.input,
        output: shape.output(),
        strides: shape.strides,
        dilations: shape.dilations,
        pads_begin: pads,
    };
    for (requantize, (isa, pool)) in [&plain, &biased]
        .into_iter()
        .flat_map(|r| everywhere().map(move |place| (r, place)))
    {
        let expected = reference_codes(&sums, requantize, None);
        let filters = PackedTaps::pack(isa, [window; 2], sliding, channels, weight, requantize);
        let mut output = vec![0; expected.len()];
        depthwise(isa, &pool, &image, 77, &filters, &mut output);
        assert_eq!(output, expected, "{isa:?} {shape:?}");
    }
}

#[test]
fn depthwise_equals_the_reference_at_every_level() {
    for geometry in [
        [3, 1, 1],
        [3, 2, 1],
        [5, 1, 1],
        [5, 2, 1],
        [3, 1, 2],
        [2, 1, 1],
        [7, 1, 1],
    ] {
        for channels in [1, 3, 8, 16, 24, 32, 40, 80, 96, 100] {
            for (largest, pads) in [(40, [0, 0]), (64, [1, 2]), (127, [2, 1])] {
                check_depthwise([15, 17], geometry, channels, largest, pads);
            }
        }
    }
}

#[test]
fn depthwise_of_wide_images_equals_the_reference() {
    // Rows that are cut into several tiles of columns at every isa.
    for geometry in [[3, 1, 1], [3, 2, 1], [5, 1, 1], [5, 2, 1], [3, 1, 2]] {
        check_depthwise([6, 75], geometry, 320, 64, [1, 1]);
        check_depthwise([6, 75], geometry, 100, 127, [2, 20]);
    }
}

#[test]
fn conversions_round_to_the_nearest_code_and_back() {
    let params = QuantParams {
        scale: 0.1,
        zero_point: 20,
    };
    for (isa, pool) in everywhere() {
        for len in [0, 1, 7, 8, 9, 33, 70_000] {
            let floats: Vec<f32> = (0..len).map(|i| (i % 400) as f32 * 0.07 - 3.0).collect();
            let expected: Vec<u8> = floats.iter().map(|&v| params.code(v)).collect();
            let mut codes = vec![0; len];
            quantize(isa, &pool, &floats, params, &mut codes);
            assert_eq!(codes, expected);
            let mut back = vec![0.0; len];
            dequantize(isa, &pool, &codes, params, &mut back);
            let close = |(a, &code): (&f32, &u8)| (a - params.value(code)).abs() < 1e-5;
            assert!(back.iter().zip(&codes).all(close));
        }
        for channels in [2, 3] {
            let floats = (0..channels * 700).map(|i| (i % 300) as f32 * 0.1 - 2.0);
            let floats: Vec<f32> = floats.collect();
            let mut codes = vec![0; floats.len()];
            quantize_channels_last(isa, &pool, &floats, channels, params, &mut codes);
            for (i, float) in floats.iter().enumerate() {
                let value = params.value(codes[i % 700 * channels + i / 700]);
                let clamped = float.clamp(params.value(0), params.value(255));
                let error = (value - clamped).abs();
                assert!(error <= params.scale * 0.5 + 1e-5, "{value} for {float}");
            }
        }
    }
}

#[test]
fn sums_and_pools_equal_their_definitions_at_every_level() {
    let mut noise = Noise(3);
    let [a_scale, b_scale, to] = [(0.1, 3), (0.07, 100), (0.2, 60)]
        .map(|(scale, zero_point)| QuantParams { scale, zero_point });
    let (a, b) = (noise.codes(1003), noise.codes(1003));
    let plainest = {
        let mut sum = vec![0; a.len()];
        add(
            Isa::available()[0],
            &ThreadPool::serial(),
            (&a, a_scale),
            (&b, b_scale),
            to,
            [60, 255],
            &mut sum,
        );
        sum
    };
    for (i, &code) in plainest.iter().enumerate() {
        let value = (a_scale.value(a[i]) + b_scale.value(b[i])).max(0.0);
        assert!((to.value(code) - value.min(to.value(255))).abs() <= 0.5001 * to.scale);
    }
    let channels = 35;
    let image = noise.codes(7 * 9 * channels);
    let sliding = Sliding {
        input: [7, 9],
        output: [4, 5],
        strides: [2, 2],
        dilations: [1, 1],
        pads_begin: [1, 1],
    };
    let under = |y: usize, x: usize, c: usize| -> Vec<u8> {
        let inside =
            |k: usize, out: usize, len: usize| (2 * out + k).checked_sub(1).filter(|&at| at < len);
        let places = (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx)));
        places
            .filter_map(|(ky, kx)| Some((inside(ky, y, 7)?, inside(kx, x, 9)?)))
            .map(|(row, column)| image[(row * 9 + column) * channels + c])
            .collect()
    };
    for (isa, pool) in everywhere() {
        let mut sum = vec![0; a.len()];
        add(
            isa,
            &pool,
            (&a, a_scale),
            (&b, b_scale),
            to,
            [60, 255],
            &mut sum,
        );
        assert_eq!(sum, plainest);
        let mut max = vec![0; 4 * 5 * channels];
        max_pool(isa, &pool, &image, channels, [3, 3], sliding, &mut max);
        let mut mean = vec![0.0; max.len()];
        average_pool(
            isa,
            Pooling::Average,
            &image,
            a_scale,
            channels,
            [3, 3],
            sliding,
            None,
            Output::Floats(&mut mean),
        );
        for (i, (&max, &mean)) in max.iter().zip(&mean).enumerate() {
            let codes = under(i / channels / 5, i / channels % 5, i % channels);
            assert_eq!(Some(&max), codes.iter().max());
            let expected: f32 =
                codes.iter().map(|&c| a_scale.value(c)).sum::<f32>() / codes.len() as f32;
            assert!((mean - expected).abs() < 1e-4, "{mean} for {expected}");
        }
    }
}

#[test]
fn borders_surround_the_image() {
    let image: Vec<u8> = (1..=12).collect();
    for threads in [1, 2] {
        let mut output = vec![0; 4 * 5 * 2];
        let pool = ThreadPool::new(threads);
        pad(&pool, &image, [2, 3, 2], [1, 0], [1, 2], 9, &mut output);
        let expected = [
            [9; 10],
            [1, 2, 3, 4, 5, 6, 9, 9, 9, 9],
            [7, 8, 9, 10, 11, 12, 9, 9, 9, 9],
            [9; 10],
        ];
        assert_eq!(output, expected.concat());
    }
}
