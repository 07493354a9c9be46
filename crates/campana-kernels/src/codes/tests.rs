use super::*;
use crate::ThreadPool;
use crate::depthwise::{PackedFilters, Sliding, depthwise};
use crate::gemm::{Epilogue, Grid, PackedMatrix, RowRuns, gemm};

/// Whole numbers below `end` without a pattern.
fn numbers(seed: u32) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    move |end| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % end
    }
}

/// A matrix of codes and the values that its decoding says.
struct Sample {
    rows: usize,
    columns: usize,
    decoding: Decoding,
    codes: Vec<u8>,
    values: Vec<f32>,
}

/// What a sample's decoding has beside one table.
#[derive(Clone, Copy)]
struct Parts {
    tables: usize,
    whole_numbers: bool,
    blocks: usize,
    affine: bool,
}

const ONE_TABLE: Parts = Parts {
    tables: 1,
    whole_numbers: false,
    blocks: 1,
    affine: false,
};

fn sample(rows: usize, columns: usize, levels: usize, parts: Parts) -> Sample {
    let mut number = numbers((rows * 31 + columns * 7 + levels) as u32);
    let mut floats = |count: usize| -> Vec<f32> {
        let values = (0..count).map(|_| number(200) as f32 / 16.0 - 6.0);
        values.collect()
    };
    let values = floats(parts.tables * levels);
    let per_column = parts.blocks * columns;
    let (shift, scale) = (floats(per_column), floats(per_column));
    let codes: Vec<u8> = (0..rows * columns).map(|_| number(levels) as u8).collect();
    let decoding = Decoding {
        tables: if parts.whole_numbers {
            Tables::I8(values.iter().map(|&v| v as i8).collect())
        } else {
            Tables::F32(values)
        },
        levels,
        block_of_row: match parts.blocks {
            1 => Vec::new(),
            blocks => (0..rows).map(|row| (row % blocks) as u16).collect(),
        },
        table_of: match parts.tables {
            1 => Vec::new(),
            tables => (0..per_column).map(|_| number(tables) as u16).collect(),
        },
        shift: if parts.affine { shift } else { Vec::new() },
        scale: if parts.affine { scale } else { Vec::new() },
    };
    let values = (0..rows * columns).map(|at| {
        let (row, column) = (at / columns, at % columns);
        let block = decoding
            .block_of_row
            .get(row)
            .map_or(0, |&b| usize::from(b));
        let at_list = block * columns + column;
        let table = decoding
            .table_of
            .get(at_list)
            .map_or(0, |&t| usize::from(t));
        let level = decoding.tables.get(table * levels + usize::from(codes[at]));
        let shift = decoding.shift.get(at_list).copied().unwrap_or(0.0);
        (level + shift) * decoding.scale.get(at_list).copied().unwrap_or(1.0)
    });
    Sample {
        rows,
        columns,
        values: values.collect(),
        codes,
        decoding,
    }
}

/// Samples of every width of codes, with and without all that a decoding can have.
fn samples(rows: usize, columns: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    for levels in [1, 2, 3, 4, 7, 13, 16, 17, 64, 100, 256] {
        for parts in [
            ONE_TABLE,
            Parts {
                affine: true,
                ..ONE_TABLE
            },
            Parts {
                tables: 3,
                whole_numbers: true,
                blocks: 1,
                affine: true,
            },
            Parts {
                tables: 2,
                whole_numbers: false,
                blocks: rows.clamp(1, 3),
                affine: true,
            },
        ] {
            samples.push(sample(rows, columns, levels, parts));
        }
    }
    samples
}

impl Sample {
    fn pack(&self) -> CodedMatrix {
        let code = |row, column| self.codes[row * self.columns + column];
        CodedMatrix::pack(self.rows, self.columns, self.decoding.clone(), code)
    }
}

#[test]
fn codes_of_every_width_decode_exactly_at_every_level() {
    for (rows, columns) in [(1, 1), (2, 8), (3, 9), (5, 16), (4, 17), (7, 24), (2, 40)] {
        for sample in samples(rows, columns) {
            let matrix = sample.pack();
            let padded = columns.next_multiple_of(MIN_LANES);
            for isa in Isa::available() {
                let mut values = vec![f32::NAN; rows * padded];
                matrix.decode_rows(isa, &mut values);
                for row in 0..rows {
                    assert_eq!(
                        values[row * padded..][..columns],
                        sample.values[row * columns..][..columns],
                        "{} {rows}x{columns}, {} levels",
                        isa.name(),
                        sample.decoding.levels
                    );
                }
            }
        }
    }
}

#[test]
fn codes_take_the_bits_that_their_levels_need() {
    for (levels, bits) in [(2, 1), (4, 2), (8, 3), (16, 4), (17, 5), (128, 7), (256, 8)] {
        let matrix = sample(64, 32, levels, ONE_TABLE).pack();
        assert_eq!(matrix.lines.len() * 8, 64 * 32 * bits, "{levels} levels");
    }
}

/// Products of a few whole terms are exact but for the scale after them.
const MAX_RELATIVE_ERROR: f32 = 1e-5;

fn assert_close(actual: &[f32], expected: &[f32], what: &str) {
    let largest = expected
        .iter()
        .fold(1f32, |max, value| max.max(value.abs()));
    for (a, e) in actual.iter().zip(expected) {
        let error = (a - e).abs();
        assert!(error <= MAX_RELATIVE_ERROR * largest, "{a} for {e}: {what}");
    }
}

#[test]
fn products_with_codes_equal_those_with_what_they_stand_for() {
    // Too many weights for one buffer, then few rows and columns.
    for (input_rows, depth, columns) in [(3, 1200, 72), (1, 9, 5), (13, 50, 40)] {
        for sample in samples(depth, columns) {
            let mut number = numbers(9);
            let input: Vec<f32> = (0..input_rows * depth)
                .map(|_| number(5) as f32 - 2.0)
                .collect();
            let bias: Vec<f32> = (0..columns).map(|c| c as f32).collect();
            let factors: Vec<f32> = (0..columns).map(|c| 1.5 - c as f32 / 16.0).collect();
            let value = |r, c| sample.values[r * columns + c] * factors[c];
            let code = |r, c| sample.codes[r * columns + c];
            let floats = PackedMatrix::pack(depth, columns, value).with_bias(&bias);
            let codes = PackedMatrix::pack_codes(depth, columns, sample.decoding.clone(), code)
                .with_bias(&bias)
                .with_column_scale(&factors);
            for isa in Isa::available() {
                let product = |weights: &PackedMatrix, pool: &ThreadPool| {
                    let mut output = vec![f32::NAN; input_rows * columns];
                    gemm(
                        isa,
                        pool,
                        &input,
                        Grid::rows(input_rows, depth),
                        RowRuns::contiguous(depth),
                        weights,
                        Epilogue::NONE,
                        &mut output,
                        Grid::rows(input_rows, columns),
                    );
                    output
                };
                let expected = product(&floats, &ThreadPool::serial());
                for threads in [1, 3] {
                    let found = product(&codes, &ThreadPool::new(threads));
                    let what = format!("{} levels, {threads} threads", sample.decoding.levels);
                    assert_close(&found, &expected, &what);
                }
            }
        }
    }
}

#[test]
fn depthwise_filters_of_codes_equal_what_they_stand_for() {
    let channels = 19;
    let sliding = Sliding {
        input: [6, 7],
        output: [6, 7],
        strides: [1, 1],
        dilations: [1, 1],
        pads_begin: [1, 1],
    };
    for sample in samples(9, channels) {
        let at = |ky: usize, kx: usize, c: usize| (ky * 3 + kx) * channels + c;
        let factors: Vec<f32> = (0..channels).map(|c| c as f32 / 8.0 - 1.0).collect();
        let value = |ky, kx, c| sample.values[at(ky, kx, c)] * factors[c];
        let bias = |c| c as f32;
        let floats = PackedFilters::pack([3, 3], channels, value, bias);
        let code = |ky, kx, c| sample.codes[at(ky, kx, c)];
        let decoding = sample.decoding.clone();
        let codes = PackedFilters::pack_codes([3, 3], channels, decoding, &factors, code, bias);
        let mut number = numbers(4);
        let image: Vec<f32> = (0..6 * 7 * channels).map(|_| number(7) as f32).collect();
        for isa in Isa::available() {
            let convolve = |filters: &PackedFilters| {
                let mut output = vec![f32::NAN; image.len()];
                let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
                let pool = ThreadPool::serial();
                depthwise(isa, &pool, &image, filters, sliding, low, high, &mut output);
                output
            };
            assert_close(&convolve(&codes), &convolve(&floats), isa.name());
        }
    }
}

#[test]
#[should_panic(expected = "a code with a level")]
fn codes_without_a_level_are_refused() {
    let decoding = sample(1, 1, 5, ONE_TABLE).decoding;
    PackedMatrix::pack_codes(1, 1, decoding, |_, _| 5);
}

#[test]
#[should_panic(expected = "one value for each column")]
fn lists_of_another_length_are_refused() {
    let decoding = Decoding {
        scale: vec![1.0; 2],
        ..sample(1, 3, 5, ONE_TABLE).decoding
    };
    PackedMatrix::pack_codes(1, 3, decoding, |_, _| 0);
}
