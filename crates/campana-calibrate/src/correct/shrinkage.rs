//! How far the covariances of a layer's inputs count (covariance shrinkage).
//!
//! Images that are few, or synthetic, show true variances sooner than true
//! covariances of different channels. A batch normalization behind the layer
//! knows better: the variance of each of its channels is that of a row's
//! output over all of the training set, `w C w^T`. Predictions of it by the
//! covariances `C` of these images, of which those between channels are
//! multiplied by a share, are the nearer to proportional to the known
//! variances, the better the share.
//!
//! On synthetic images that is most of the covariances in the first layers of
//! a network and a fifth of them in the last ones, which see features of
//! objects that such images do not show.

use campana_rounding::{LeftRows, dot};
use rayon::prelude::*;

use crate::correct::layer::Rows;
use crate::correct::moments::Moments;

/// Rows that are asked; more would tell the same.
const ROWS: usize = 256;

/// Shares are tried in steps of the inverse of this.
const STEPS: usize = 20;

/// The share of the covariances between channels, 0 to 1, that agrees with
/// the known `variances` of the rows' outputs: its mean under a flat prior,
/// where logarithms of the ratios of predicted and known variances have a
/// Laplace density about a median of their own. `None` where no row tells.
///
/// `block` weights of a row meet the same channel.
pub(crate) fn covariance_share(
    rows: &Rows,
    moments: &[Moments],
    variances: &[f32],
    block: usize,
) -> Option<f64> {
    let (n, count) = (rows.row_len(), rows.count());
    let step = count.div_ceil(ROWS).max(1);
    let predictions: Vec<Vec<[f64; 2]>> = moments
        .par_iter()
        .enumerate()
        .map(|(group, moments_of)| {
            let range = count * group / moments.len()..count * (group + 1) / moments.len();
            let asked: Vec<usize> = range.filter(|row| row % step == 0).collect();
            let weights: Vec<f32> = asked
                .iter()
                .flat_map(|&row| rows.row(row).iter().copied())
                .collect();
            let moment = &moments_of.own;
            let packed = moment.packed();
            let products = packed.multiply(LeftRows::contiguous(&weights, n));
            let unit = moments_of.unit * moments_of.unit;
            let predictions = asked.iter().zip(weights.chunks(n).zip(products.chunks(n)));
            predictions
                .filter_map(|(&row, (weights, products))| {
                    let within: f64 = (0..n)
                        .map(|input| {
                            let start = input / block * block;
                            let end = (start + block).min(n);
                            let sum = dot(&moment.row(input)[start..end], &weights[start..end]);
                            f64::from(weights[input]) * f64::from(sum)
                        })
                        .sum();
                    let known = f64::from(variances[row]) / unit;
                    let between = f64::from(dot(products, weights)) - within;
                    (known > 0.0 && within > 0.0).then(|| [within / known, between / known])
                })
                .collect()
        })
        .collect();
    let predictions = predictions.concat();
    share_of(&predictions)
}

/// The same for what each row's channels by themselves and what their
/// covariances add to its variance, both over the known one.
fn share_of(predictions: &[[f64; 2]]) -> Option<f64> {
    let shares = (0..=STEPS).map(|step| step as f64 / STEPS as f64);
    let spreads: Vec<(f64, f64)> = shares
        .map(|share| (share, spread(predictions, share)))
        .collect();
    let least = spreads
        .iter()
        .fold(f64::INFINITY, |least, &(_, spread)| least.min(spread));
    if predictions.is_empty() || !(least > 0.0 && least.is_finite()) {
        return None;
    }
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (share, spread) in spreads {
        let likelihood = (least / spread).powf(predictions.len() as f64);
        sum += likelihood;
        weighted += likelihood * share;
    }
    Some(weighted / sum)
}

/// Sum of the deviations of the logarithms from their median.
fn spread(predictions: &[[f64; 2]], share: f64) -> f64 {
    let mut logarithms: Vec<f64> = predictions
        .iter()
        .map(|[within, between]| (within + share * between).max(f64::MIN_POSITIVE).ln())
        .collect();
    logarithms.sort_by(f64::total_cmp);
    let median = logarithms.get(logarithms.len() / 2).copied().unwrap_or(0.0);
    logarithms.iter().map(|value| (value - median).abs()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of what each row's variance is beyond the model: a twentieth.
    const NOISE: f64 = 0.05;

    /// Of a share by 200 rows with such noise.
    const MAX_SHARE_ERROR: f64 = 0.05;

    /// Rows whose known variance is 3 times that with this share.
    fn predictions(share: f64, rows: usize) -> Vec<[f64; 2]> {
        (0..rows)
            .map(|row| {
                let between = ((row * 7919) % 101) as f64 / 101.0 - 0.3;
                let noise = NOISE * (((row * 31) % 17) as f64 / 8.0 - 1.0);
                let known = 3.0 * (1.0 + share * between) * (1.0 + noise);
                [1.0 / known, between / known]
            })
            .collect()
    }

    #[test]
    fn many_rows_tell_the_share() {
        for share in [0.0, 0.4, 1.0] {
            let found = share_of(&predictions(share, 200)).unwrap();
            assert!(
                (found - share).abs() < MAX_SHARE_ERROR,
                "{found}, not {share}"
            );
        }
    }

    #[test]
    fn rows_that_have_no_covariances_leave_the_share_open() {
        let alone: Vec<[f64; 2]> = (1..9).map(|row| [f64::from(row), 0.0]).collect();
        assert!((share_of(&alone).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(share_of(&[]), None);
        assert_eq!(share_of(&[[1.0, 0.5]]), None, "one row has no spread");
    }
}
