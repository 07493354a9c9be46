//! The error that a quantizer will make, from the fitted distribution alone.

use crate::distribution::Distribution;
use crate::lloyd_max::table;
use crate::moments::Moments;

/// Mean squared error of the Lloyd–Max quantizer of `bits` bits for weights
/// drawn from `fit`; 0 at scale 0.
///
/// # Panics
///
/// If `bits` is not in 1 to 8.
pub fn predicted_mse(fit: &Distribution, bits: u8) -> f64 {
    table(fit.family, bits).mse * fit.std().powi(2)
}

/// Signal-to-quantization-noise ratio in dB of the Lloyd–Max quantizer of
/// `bits` bits for weights drawn from `fit`: the mean square of `moments` over
/// [`predicted_mse`].
///
/// A fit of scale 0 predicts no error and so infinity.
///
/// # Panics
///
/// If `bits` is not in 1 to 8.
pub fn predicted_sqnr_db(fit: &Distribution, moments: &Moments, bits: u8) -> f64 {
    let mse = predicted_mse(fit, bits);
    if mse == 0.0 {
        f64::INFINITY
    } else {
        10.0 * (moments.mean_square / mse).log10()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, Shape};
    use crate::{Empirical, Summary, lloyd_max};

    /// What sampling 200,000 weights may change, in dB.
    const MAX_SAMPLING_ERROR_DB: f64 = 0.15;

    #[test]
    fn prediction_holds_for_weights_drawn_from_the_family() {
        for shape in [Shape::Gaussian, Shape::Laplace] {
            let weights = samples::draw(shape, 200_000, 21);
            let summary = Summary::of(&weights);
            let fit = summary.fits().best();
            for bits in 1..=6 {
                let table = lloyd_max::table(fit.family, bits);
                let levels: Vec<f64> = table
                    .levels
                    .iter()
                    .map(|y| y * fit.std() + fit.location)
                    .collect();
                let error = Empirical::of(&weights).sse(&levels) / weights.len() as f64;
                let measured = 10.0 * (summary.moments().mean_square / error).log10();
                let predicted = predicted_sqnr_db(fit, summary.moments(), bits);
                assert!(
                    (measured - predicted).abs() < MAX_SAMPLING_ERROR_DB,
                    "{shape:?} {bits}: {measured} for {predicted}"
                );
            }
        }
    }

    #[test]
    fn equal_weights_are_predicted_without_error() {
        let summary = Summary::of(&[0.5, 0.5]);
        let predicted = predicted_sqnr_db(summary.fits().best(), summary.moments(), 2);
        assert_eq!(predicted, f64::INFINITY);
    }
}
