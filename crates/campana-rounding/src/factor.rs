//! The triangular factor of second moments.

use rayon::prelude::*;

use crate::moment::SecondMoment;
use crate::vector::subtract_scaled;

/// Rows that are eliminated before the rows below are brought up to date.
const PANEL: usize = 32;

/// The upper triangular `R` with `R^T R = H` for the inputs in the given
/// order, shape `[inputs, inputs]`, row-major, zero below the diagonal.
///
/// Cholesky's factorization by rows, in double precision. `H` is positive
/// definite by its damping; a pivot that rounding made too small is raised.
pub(crate) fn upper_factor(moment: &SecondMoment, order: &[usize]) -> Vec<f32> {
    let n = order.len();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let row = moment.row(order[i]);
            order[i..].iter().map(|&j| f64::from(row[j])).collect()
        })
        .collect();
    let smallest = rows.iter().map(|row| row[0]).fold(f64::INFINITY, f64::min) * 1e-6;
    for start in (0..n).step_by(PANEL) {
        let end = (start + PANEL).min(n);
        for i in start..end {
            let (done, rest) = rows.split_at_mut(i);
            let row = &mut rest[0];
            for (j, above) in done.iter().enumerate().skip(start) {
                let factor = above[i - j];
                subtract_scaled(row, &above[i - j..], factor);
            }
            let pivot = row[0].max(smallest).sqrt();
            row[0] = pivot;
            row[1..].iter_mut().for_each(|value| *value /= pivot);
        }
        let (done, rest) = rows.split_at_mut(end);
        let panel = &done[start..];
        rest.par_iter_mut().enumerate().for_each(|(i, row)| {
            for (j, above) in panel.iter().enumerate() {
                let offset = (end + i) - (start + j);
                subtract_scaled(row, &above[offset..], above[offset]);
            }
        });
    }
    let mut factor = vec![0.0; n * n];
    for (i, row) in rows.iter().enumerate() {
        for (value, target) in row.iter().zip(&mut factor[i * n + i..]) {
            *target = *value as f32;
        }
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative to the largest moment: single precision over 80 products.
    const MAX_FACTOR_ERROR: f32 = 1e-5;

    #[test]
    fn the_factor_times_itself_is_the_moment_in_the_given_order() {
        let n = 80;
        let inputs: Vec<f64> = (0..n * n)
            .map(|i| ((i * 7919) % 997) as f64 / 997.0 - 0.5)
            .collect();
        let mut values = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                values[i * n + j] = (0..n).map(|k| inputs[k * n + i] * inputs[k * n + j]).sum();
            }
        }
        let moment = SecondMoment::new(n, values);
        let order: Vec<usize> = (0..n).map(|i| (i * 37) % n).collect();
        let factor = upper_factor(&moment, &order);
        let largest = (0..n).map(|i| moment.variance(i)).fold(0.0, f32::max);
        for i in 0..n {
            for j in 0..n {
                let product: f32 = (0..n).map(|k| factor[k * n + i] * factor[k * n + j]).sum();
                let expected = moment.row(order[i])[order[j]];
                assert!(
                    (product - expected).abs() <= MAX_FACTOR_ERROR * largest,
                    "{i} {j}"
                );
            }
        }
    }
}
