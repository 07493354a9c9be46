use super::*;
use crate::reference::reference_matmul;

/// Each product of `depth` terms of size 1 may be off by this much per term.
const MAX_ERROR_PER_TERM: f32 = 2e-7;

fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn assert_close(actual: &[f32], expected: &[f32], depth: usize, what: &str) {
    let tolerance = MAX_ERROR_PER_TERM * (depth as f32 + 4.0);
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance, "{what}: {a} for {e} at {i}");
    }
}

#[test]
fn products_of_every_size_equal_the_reference_at_every_level() {
    let pools = [ThreadPool::serial(), ThreadPool::new(3)];
    for isa in Isa::available() {
        for rows in [0, 1, 2, 3, 5, 6, 7, 13, 25, 160] {
            for depth in [0, 1, 3, 4, 9, 50] {
                for columns in [0, 1, 7, 8, 9, 16, 17, 24, 31, 40, 48, 100] {
                    // An odd start makes every access unaligned.
                    let a = noise(1 + rows * depth, 1);
                    let b = noise(depth * columns, 2);
                    let expected = reference_matmul(&a[1..], &b, rows, depth, columns);
                    let packed = PackedMatrix::pack(depth, columns, |r, c| b[r * columns + c]);
                    for pool in &pools {
                        let mut output = vec![f32::NAN; 1 + rows * columns];
                        gemm(
                            isa,
                            pool,
                            &a[1..],
                            Grid::rows(rows, depth),
                            RowRuns::contiguous(depth),
                            &packed,
                            Epilogue::NONE,
                            &mut output[1..],
                            Grid::rows(rows, columns),
                        );
                        let what = format!("{} {rows}x{depth}x{columns}", isa.name());
                        assert_close(&output[1..], &expected, depth, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn bias_residual_and_bounds_are_applied_in_this_order() {
    for isa in Isa::available() {
        for columns in [3, 8, 16, 21, 56, 90] {
            let bias: Vec<f32> = (0..columns).map(|c| c as f32).collect();
            let packed = PackedMatrix::pack(1, columns, |_, c| c as f32).with_bias(&bias);
            let residual = vec![-5.0; 2 * columns];
            let epilogue = Epilogue {
                residual: Some(&residual),
                at_least: 0.0,
                at_most: 6.0,
            };
            let mut output = vec![0.0; 2 * columns];
            gemm(
                isa,
                &ThreadPool::serial(),
                &[1.0, f32::NAN],
                Grid::rows(2, 1),
                RowRuns::contiguous(1),
                &packed,
                epilogue,
                &mut output,
                Grid::rows(2, columns),
            );
            for c in 0..columns {
                assert_eq!(output[c], (2.0 * c as f32 - 5.0).clamp(0.0, 6.0));
                assert!(output[columns + c].is_nan(), "NaN stays NaN");
            }
        }
    }
}

#[test]
fn rows_are_gathered_from_runs_and_scattered_to_the_output_grid() {
    // A 2x2 window with stride 2 over a 4x6 image of 3 channels.
    let image = noise(4 * 6 * 3, 5);
    let (depth, columns) = (12, 5);
    let b = noise(depth * columns, 6);
    let mut a = Vec::new();
    for y in [0, 2] {
        for x in [0, 2, 4] {
            for row in [y, y + 1] {
                a.extend_from_slice(&image[(row * 6 + x) * 3..][..6]);
            }
        }
    }
    let expected = reference_matmul(&a, &b, 6, depth, columns);
    let packed = PackedMatrix::pack(depth, columns, |r, c| b[r * columns + c]);
    let output_grid = Grid {
        start: 2,
        height: 2,
        width: 3,
        row_stride: 50,
        pixel_stride: 7,
    };
    for isa in Isa::available() {
        let mut output = vec![f32::NAN; 100];
        gemm(
            isa,
            &ThreadPool::new(2),
            &image,
            Grid {
                start: 0,
                height: 2,
                width: 3,
                row_stride: 2 * 6 * 3,
                pixel_stride: 2 * 3,
            },
            RowRuns::new(&[0, 18], 6),
            &packed,
            Epilogue::NONE,
            &mut output,
            output_grid,
        );
        for (i, expected) in expected.chunks(columns).enumerate() {
            let at = 2 + i / 3 * 50 + i % 3 * 7;
            assert_close(&output[at..at + columns], expected, depth, isa.name());
        }
        assert_eq!(output.iter().filter(|v| !v.is_nan()).count(), 30);
    }
}

#[test]
#[should_panic(expected = "input too short")]
fn an_input_that_ends_early_is_refused() {
    let packed = PackedMatrix::pack(4, 1, |_, _| 0.0);
    gemm(
        Isa::detect(),
        &ThreadPool::serial(),
        &[0.0; 7],
        Grid::rows(2, 4),
        RowRuns::contiguous(4),
        &packed,
        Epilogue::NONE,
        &mut [0.0; 2],
        Grid::rows(2, 1),
    );
}

#[test]
#[should_panic(expected = "output rows overlap")]
fn overlapping_output_rows_are_refused() {
    let packed = PackedMatrix::pack(1, 4, |_, _| 0.0);
    gemm(
        Isa::detect(),
        &ThreadPool::serial(),
        &[0.0; 8],
        Grid::rows(2, 1),
        RowRuns::contiguous(1),
        &packed,
        Epilogue::NONE,
        &mut [0.0; 8],
        Grid::rows(2, 3),
    );
}

#[test]
fn grids_whose_extent_overflows_are_refused() {
    let huge = [
        Grid {
            row_stride: usize::MAX / 2,
            ..Grid::image(4, 1, 1)
        },
        Grid {
            start: usize::MAX,
            ..Grid::image(1, 1, 1)
        },
        Grid {
            row_stride: 0,
            ..Grid {
                height: usize::MAX,
                ..Grid::image(1, 2, 1)
            }
        },
    ];
    for grid in huge {
        assert!(!grid.fits(1, 100));
    }
    assert_eq!(RowRuns::new(&[usize::MAX], 2).reach(), None);
    assert_eq!(RowRuns::new(&[0; 4], usize::MAX / 2).count(), None);
}

#[test]
fn sums_do_not_depend_on_the_number_of_threads() {
    let depth = 150;
    for isa in Isa::available() {
        for rows in [1, 7, 25, 49, 97] {
            for columns in [8, 24, 100] {
                let a = noise(rows * depth, 1);
                let b = noise(depth * columns, 2);
                let packed = PackedMatrix::pack(depth, columns, |r, c| b[r * columns + c]);
                let product = |threads: usize| {
                    let mut output = vec![f32::NAN; rows * columns];
                    gemm(
                        isa,
                        &ThreadPool::new(threads),
                        &a,
                        Grid::rows(rows, depth),
                        RowRuns::contiguous(depth),
                        &packed,
                        Epilogue::NONE,
                        &mut output,
                        Grid::rows(rows, columns),
                    );
                    output
                };
                let one = product(1);
                for threads in [2, 3, 7, 13] {
                    let name = isa.name();
                    assert!(
                        product(threads) == one,
                        "{name} {rows}x{columns}, {threads} threads"
                    );
                }
            }
        }
    }
}
