//! Numbers and scales of a uniform grid for the least error of a layer's outputs.

use campana_codebook::QuantizedTensor;
use campana_rounding::{GptqSolver, LayerHessian};

use super::layer::{Rows, losses, row_terms, solve_codes};

/// Chooses the numbers of a grid again, then `fits` times the scale of each row
/// (one unknown of the normal equations) and the numbers for it, as long as
/// outputs lose less; `None` where rows have no scale of their own.
pub(crate) fn solve_grid(
    rows: &Rows,
    tensor: &QuantizedTensor,
    solvers: &[GptqSolver],
    moments: &[(&LayerHessian, &[f32])],
    fits: usize,
) -> Option<QuantizedTensor> {
    let mut best = solve_codes(rows, tensor, solvers)?;
    let [mut least] = losses(rows, [&best], moments);
    for _ in 0..fits {
        let Some(scaled) = with_fitted_scales(rows, &best, moments) else {
            break;
        };
        let again = solve_codes(rows, &scaled, solvers)?;
        let [now] = losses(rows, [&again], moments);
        if now.partial_cmp(&least) != Some(std::cmp::Ordering::Less) {
            break;
        }
        (best, least) = (again, now);
    }
    Some(best)
}

/// The tensor with the scale of each row for the least loss by its numbers; of
/// one group the scale is that of all rows.
fn with_fitted_scales(
    rows: &Rows,
    tensor: &QuantizedTensor,
    moments: &[(&LayerHessian, &[f32])],
) -> Option<QuantizedTensor> {
    let (scales, storage) = tensor.scale.as_ref()?;
    // For each group the squares of what its rows give, and their products with
    // what they are to give.
    let mut sums = vec![[0.0f64; 2]; scales.len()];
    let decoded = tensor.dequantize();
    for (block, moment) in moments.iter().enumerate() {
        let range = rows.rows_of(block, moments.len());
        let terms = row_terms(rows, &decoded, *moment, range.clone(), 1);
        for (row, [square, product]) in range.zip(terms) {
            let [group] = rows.groups[row][..] else {
                return None;
            };
            sums[group][0] += square;
            sums[group][1] += product;
        }
    }
    let fitted = scales.iter().zip(sums).map(|(&scale, [square, product])| {
        let factor = (product / square) as f32;
        match factor.is_finite() && factor > 0.0 {
            true => scale * factor,
            false => scale,
        }
    });
    Some(QuantizedTensor {
        scale: Some((fitted.collect(), *storage)),
        ..tensor.clone()
    })
}

#[cfg(test)]
mod tests {
    use campana_design::integer_levels::{is_uniform_grid, uniform_grid};
    use campana_rounding::LeftRows;
    use campana_tensor::{Granularity, Partition};

    use super::*;

    #[test]
    fn numbers_and_scales_lose_less_together() {
        let [count, n] = [8usize, 12];
        let weights: Vec<f32> = (0..count * n)
            .map(|i| (i * 37 % 101) as f32 / 50.5 - 1.0)
            .collect();
        let correlations = (0..n * n).map(|at| 0.8f64.powi((at / n).abs_diff(at % n) as i32));
        let solver = [GptqSolver::new(LayerHessian::new(
            n,
            correlations.collect(),
        ))];
        let moment = solver[0].hessian();
        for granularity in [Granularity::PerChannel, Granularity::PerTensor] {
            let partition = Partition::new(&[count, n], Some(0), granularity);
            let nearest = uniform_grid(&weights, &[count, n], &partition, 3);
            let rows = Rows::new(&weights, &nearest, 0).unwrap();
            let mut target = moment
                .packed()
                .multiply(LeftRows::contiguous(rows.weights(), n));
            for (target, weight) in target.iter_mut().zip(rows.weights()) {
                *target -= moment.damping() as f32 * weight;
            }
            let moments = [(moment, target.as_slice())];
            let [numbers, both] = [0, 2].map(|fits| {
                let solved = solve_grid(&rows, &nearest, &solver, &moments, fits).unwrap();
                assert_eq!(solved.check(), Ok(()));
                assert!(is_uniform_grid(&solved));
                solved
            });
            let lost = losses(&rows, [&nearest, &numbers, &both], &moments);
            assert!(lost[1] > lost[2], "{lost:?}");
            // One scale for all rows is too coarse for errors to make up for others.
            let has_own_scales = granularity == Granularity::PerChannel;
            assert!(!has_own_scales || lost[0] > lost[1], "{lost:?}");
        }
    }
}
