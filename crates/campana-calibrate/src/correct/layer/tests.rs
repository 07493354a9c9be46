use super::*;
use campana_design::kmeans_levels;
use campana_quantize::store::store;

const FITS: usize = 2;

#[test]
fn rows_move_towards_what_their_sum_lacks() {
    const MAX_ERROR: f32 = 0.01;
    let weights = [0.5f32, -1.0, 0.25, 2.0];
    let shape = [2, 2];
    let whole = Partition::new(&shape, None, Granularity::PerTensor);
    let designs = [Levels::Free(kmeans_levels(&weights, 4))];
    let tensor = store(&weights, &shape, &whole, &designs, Precision::Fine).tensor;
    // Inputs of variances 2 and 1 that are the same in both networks.
    let solver = GptqSolver::new(LayerHessian::new(2, vec![2.0, 0.0, 0.0, 1.0]));
    let aimed = |addend_error: [f32; 4]| {
        let mut rows = Rows::new(&weights, &tensor, 0).unwrap();
        let unit = rows.unit;
        let target: Vec<f32> = weights
            .iter()
            .zip([2.0, 1.0, 2.0, 1.0])
            .zip(addend_error)
            .map(|((weight, variance), addend_error)| (weight * variance + addend_error) / unit)
            .collect();
        rows.aim(0, 1, &solver, &target);
        let aimed = rows.weights.iter().map(|weight| weight * unit);
        aimed.collect::<Vec<f32>>()
    };
    let near = |found: Vec<f32>, expected: [f32; 4]| {
        let pairs = found.iter().zip(expected);
        assert!(
            pairs.clone().all(|(a, b)| (a - b).abs() < MAX_ERROR),
            "{found:?}, not {expected:?}"
        );
    };
    near(aimed([0.0; 4]), weights);
    // Output 1 lacks what is 0.4 of its second input.
    near(
        aimed([0.0, 0.0, 0.0, 0.4]),
        [0.5, -1.0, 0.25, 2.0 + AIM * 0.4],
    );
}

/// Weights of 8 rows that look random, and a tensor that stores them.
fn stored(factor: f32) -> (Vec<f32>, QuantizedTensor) {
    let shape = [8, 12];
    let weights: Vec<f32> = (0..96)
        .map(|i| ((i * 37 % 101) as f32 / 50.5 - 1.0) * factor)
        .collect();
    let whole = Partition::new(&shape, None, Granularity::PerTensor);
    let designs = [Levels::Free(kmeans_levels(&weights, 4))];
    let tensor = store(&weights, &shape, &whole, &designs, Precision::Fine).tensor;
    (weights, tensor)
}

fn correlated() -> LayerHessian {
    let values = (0..144usize).map(|at| 0.8f64.powi((at / 12).abs_diff(at % 12) as i32));
    LayerHessian::new(12, values.collect())
}

#[test]
fn weights_of_every_scale_get_the_same_codes() {
    let solver = [GptqSolver::new(correlated())];
    let codes = |exponent: i32| {
        let (weights, tensor) = stored(2f32.powi(exponent));
        let rows = Rows::new(&weights, &tensor, 0).unwrap();
        solve(&rows, &tensor, &solver, Precision::Coarse, FITS).packed
    };
    let ordinary = codes(0);
    assert_eq!(codes(-83), ordinary);
    assert_eq!(codes(63), ordinary);
}

#[test]
fn a_row_of_zeros_stays_whatever_its_sum_lacks() {
    let (mut weights, tensor) = stored(1.0);
    weights[12..24].fill(0.0);
    let mut rows = Rows::new(&weights, &tensor, 0).unwrap();
    let target = vec![1e3; 96];
    rows.aim(0, 1, &GptqSolver::new(correlated()), &target);
    assert_eq!(rows.row(1), [0.0; 12]);
    let length = |row: &[f32]| row.iter().map(|w| w * w).sum::<f32>().sqrt();
    let before = Rows::new(&weights, &tensor, 0).unwrap();
    assert!(length(rows.row(0)) < 2.01 * length(before.row(0)));
}

#[test]
fn the_loss_of_chosen_codes_is_less_than_that_of_nearest_ones() {
    let (weights, tensor) = stored(1.0);
    let rows = Rows::new(&weights, &tensor, 0).unwrap();
    let solver = [GptqSolver::new(correlated())];
    let solved = solve(&rows, &tensor, &solver, Precision::Coarse, FITS);
    let moment = solver[0].hessian();
    // What the float weights give with the same inputs, without damping.
    let mut target = moment
        .packed()
        .multiply(LeftRows::contiguous(rows.weights(), 12));
    for (target, weight) in target.iter_mut().zip(rows.weights()) {
        *target -= moment.damping() as f32 * weight;
    }
    let [before, after] = losses(&rows, [&tensor, &solved], &[(moment, &target)]);
    assert!(after < before, "{after}, not below {before}");
}
