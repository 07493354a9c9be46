//! Entries of a vector codebook that suit the vectors assigned to them best.

use campana_codebook::VectorCodebook;
use rayon::prelude::*;

use crate::product::{LeftRows, PackedTiles};
use crate::vector_rows::decode;

/// Steps of the conjugate gradients: the system is far from solved after them,
/// but further ones gain little.
const STEPS: usize = 8;

/// Rows of weights that see the same inputs, as their vectors are assigned.
#[derive(Clone, Copy, Debug)]
pub struct AssignedRows<'a> {
    /// The entry of each vector, row by row.
    pub numbers: &'a [u8],
    /// `(q - w) H` of the entries as they are.
    pub gradient: &'a [f32],
    /// The factor on the entries of each row.
    pub scales: &'a [f32],
    /// The Hessian of their inputs.
    pub hessian: &'a PackedTiles,
    /// Its diagonal.
    pub variances: &'a [f32],
}

/// The codebook of less output error for these assignments: some steps of
/// preconditioned conjugate gradients on the normal equations of all entries'
/// components, which for 256 entries are too many to be set up.
pub fn refit_vectors(codebook: &VectorCodebook, rows: &[AssignedRows<'_>]) -> VectorCodebook {
    let len = VectorCodebook::LEN * codebook.dimension();
    let mut entries = codebook.vectors();
    let mut residual = vec![0f64; len];
    for rows in rows {
        scatter(codebook.dimension(), rows, rows.gradient, &mut residual);
    }
    residual.iter_mut().for_each(|value| *value = -*value);
    let inverse: Vec<f64> = diagonal(codebook.dimension(), rows)
        .into_iter()
        .map(|value| if value > 0.0 { value.recip() } else { 0.0 })
        .collect();
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let scaled = |residual: &[f64]| -> Vec<f64> {
        residual.iter().zip(&inverse).map(|(r, m)| r * m).collect()
    };
    let mut direction = scaled(&residual);
    let mut slope = product(&residual, &direction);
    for _ in 0..STEPS {
        let along = times_normal_matrix(codebook.dimension(), rows, &direction);
        let step = slope / product(&direction, &along);
        if !(step > 0.0 && step.is_finite()) {
            break;
        }
        for (entry, direction) in entries.iter_mut().zip(&direction) {
            *entry += (step * direction) as f32;
        }
        for (residual, along) in residual.iter_mut().zip(&along) {
            *residual -= step * along;
        }
        let next = scaled(&residual);
        let next_slope = product(&residual, &next);
        let share = next_slope / slope;
        slope = next_slope;
        for (direction, next) in direction.iter_mut().zip(next) {
            *direction = next + share * *direction;
        }
    }
    VectorCodebook::new(&entries, codebook.dimension())
}

/// Adds to each entry's components what lies at its vectors, times the scales.
fn scatter(dimension: usize, rows: &AssignedRows<'_>, values: &[f32], sums: &mut [f64]) {
    let in_row = rows.numbers.len() / rows.scales.len().max(1);
    let vectors = rows.numbers.iter().zip(values.chunks_exact(dimension));
    for (at, (&number, values)) in vectors.enumerate() {
        let scale = f64::from(rows.scales[at / in_row]);
        let sums = &mut sums[usize::from(number) * dimension..][..dimension];
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += scale * f64::from(value);
        }
    }
}

/// The diagonal of the normal matrix without covariances of different vectors
/// of the same entry.
fn diagonal(dimension: usize, rows: &[AssignedRows<'_>]) -> Vec<f64> {
    let mut diagonal = vec![0f64; VectorCodebook::LEN * dimension];
    for rows in rows {
        let in_row = rows.numbers.len() / rows.scales.len().max(1);
        for (at, &number) in rows.numbers.iter().enumerate() {
            let energy = f64::from(rows.scales[at / in_row]).powi(2);
            let variances = &rows.variances[at % in_row * dimension..][..dimension];
            let sums = &mut diagonal[usize::from(number) * dimension..][..dimension];
            for (sum, &variance) in sums.iter_mut().zip(variances) {
                *sum += energy * f64::from(variance);
            }
        }
    }
    diagonal
}

fn times_normal_matrix(dimension: usize, rows: &[AssignedRows<'_>], entries: &[f64]) -> Vec<f64> {
    let entries: Vec<f32> = entries.iter().map(|&value| value as f32).collect();
    let direction = VectorCodebook::new(&entries, dimension);
    let parts: Vec<Vec<f64>> = rows
        .par_iter()
        .map(|rows| {
            let decoded = decode(&direction, rows.scales, rows.numbers);
            let row_len = decoded.len() / rows.scales.len().max(1);
            let products = rows
                .hessian
                .multiply(LeftRows::contiguous(&decoded, row_len));
            let mut sums = vec![0f64; entries.len()];
            scatter(dimension, rows, &products, &mut sums);
            sums
        })
        .collect();
    let mut all = vec![0f64; entries.len()];
    for part in parts {
        all.iter_mut()
            .zip(part)
            .for_each(|(all, part)| *all += part);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LayerHessian, VectorRows};

    /// Two rows of three vectors of two weights, of three entries.
    fn rows() -> (Vec<f32>, [f32; 2], VectorCodebook, Vec<u8>, LayerHessian) {
        let weights = [0.9, 0.1, -0.8, 0.3, 0.2, 0.7, 1.8, 0.1, -1.9, 0.2, 0.2, 1.6];
        let codebook = VectorCodebook::new(&[1.0, 0.0, -1.0, 0.5, 0.0, 1.0], 2);
        let samples: Vec<f64> = (0..6 * 9).map(|i| f64::from(i * 37 % 19) - 9.0).collect();
        let mut moments = vec![0.0; 36];
        for sample in samples.chunks_exact(6) {
            for i in 0..6 {
                for j in 0..6 {
                    moments[i * 6 + j] += sample[i] * sample[j] / 9.0;
                }
            }
        }
        let hessian = LayerHessian::new(6, moments);
        (
            weights.to_vec(),
            [1.0, 2.0],
            codebook,
            vec![0, 1, 2, 0, 1, 2],
            hessian,
        )
    }

    #[test]
    fn refitted_entries_have_no_slope_left() {
        let (weights, scales, codebook, numbers, hessian) = rows();
        let (packed, variances) = (
            hessian.packed(),
            [0, 1, 2, 3, 4, 5].map(|i| hessian.variance(i)),
        );
        let error = |codebook: &VectorCodebook| {
            let rows = VectorRows::new(&weights, &scales, codebook, numbers.clone(), &packed);
            (rows.row_errors().iter().sum::<f64>(), rows.gradient)
        };
        let (before, gradient) = error(&codebook);
        let assigned = |gradient| AssignedRows {
            numbers: &numbers,
            gradient,
            scales: &scales,
            hessian: &packed,
            variances: &variances,
        };
        let fitted = refit_vectors(&codebook, &[assigned(&gradient)]);
        let (after, gradient) = error(&fitted);
        assert!(after < 0.5 * before, "{after} of {before}");
        // Six unknowns: as many steps solve the system.
        let mut slope = vec![0.0; 512];
        scatter(2, &assigned(&gradient), &gradient, &mut slope);
        let steepest = slope.iter().fold(0f64, |max, value| max.max(value.abs()));
        assert!(steepest < 1e-2, "{steepest}");
        assert_eq!(
            fitted.value(200, 0),
            codebook.value(200, 0),
            "entries without vectors stay"
        );
    }
}
