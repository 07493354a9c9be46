//! Sums over slices, compiled for the best instruction set there is. The order
//! of the additions is fixed, so that results do not depend on the processor.

use campana_codebook::vectorized;

/// Partial sums that are kept apart.
const LANES: usize = 16;

/// Sum of the products of two slices, in an order that does not depend on the
/// processor.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0f32; LANES];
            let (a_blocks, a_rest) = a.as_chunks::<LANES>();
            let (b_blocks, b_rest) = b.as_chunks::<LANES>();
            for (a, b) in a_blocks.iter().zip(b_blocks) {
                for lane in 0..LANES {
                    sums[lane] += a[lane] * b[lane];
                }
            }
            let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
            sums.iter().sum::<f32>() + rest
        },
    )
}

/// Sum of values in double precision.
pub fn sum(values: &[f32]) -> f64 {
    sum_and_squares(values)[0]
}

/// Sums of values and of their squares in double precision, in an order that
/// does not depend on the processor.
pub fn sum_and_squares(values: &[f32]) -> [f64; 2] {
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [[0f64; LANES]; 2];
            let (blocks, rest) = values.as_chunks::<LANES>();
            for block in blocks {
                for lane in 0..LANES {
                    let value = f64::from(block[lane]);
                    sums[0][lane] += value;
                    sums[1][lane] += value * value;
                }
            }
            for &value in rest {
                let value = f64::from(value);
                sums[0][0] += value;
                sums[1][0] += value * value;
            }
            sums.map(|lanes| lanes.iter().sum())
        },
    )
}

/// Adds values to sums, and their squares to others, in double precision, element by
/// element of equally long slices.
pub fn add_with_squares(values: &[f32], sums: &mut [f64], squares: &mut [f64]) {
    vectorized(
        #[inline(always)]
        || {
            let sums = sums.iter_mut().zip(squares.iter_mut());
            for (&value, (sum, square)) in values.iter().zip(sums) {
                let value = f64::from(value);
                *sum += value;
                *square += value * value;
            }
        },
    );
}

/// Makes values relative to an origin, in units of which one is `1 / scale`.
pub fn scale_and_center(values: &mut [f32], scale: f32, origin: f32) {
    vectorized(
        #[inline(always)]
        || {
            for value in values.iter_mut() {
                *value = *value * scale - origin;
            }
        },
    );
}

/// `target += source`.
pub(crate) fn add(target: &mut [f32], source: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for (target, source) in target.iter_mut().zip(source) {
                *target += source;
            }
        },
    );
}

/// `target += source * factor`.
pub(crate) fn add_scaled(target: &mut [f32], source: &[f32], factor: f32) {
    vectorized(
        #[inline(always)]
        || {
            for (target, source) in target.iter_mut().zip(source) {
                *target += source * factor;
            }
        },
    );
}

/// `target -= source * factor`, in double precision.
pub(crate) fn subtract_scaled(target: &mut [f64], source: &[f64], factor: f64) {
    vectorized(
        #[inline(always)]
        || {
            for (target, source) in target.iter_mut().zip(source) {
                *target -= source * factor;
            }
        },
    );
}
