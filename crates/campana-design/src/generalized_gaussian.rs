//! The generalized Gaussian family: densities between and beyond the Laplace
//! and the Gaussian one.
//!
//! ```text
//! p(x) = shape / (2 scale Gamma(1 / shape)) exp(-|(x - location) / scale|^shape)
//! ```
//!
//! Shape 1 is Laplace, 2 Gaussian; weights of networks have 0.9 to 1.6. Unlike
//! those two it is not one family of shift and scale, so a table has to be
//! solved for each fit: see [`levels`].
//!
//! The fit matches moments: mean, standard deviation, and the ratio of mean
//! absolute deviation to standard deviation, which rises with the shape (Mallat
//! 1989). It needs nothing that the other two fits have not computed, where
//! greatest likelihood takes a power of every weight in every step.
//!
//! # References
//!
//! S. Mallat, "A theory for multiresolution signal decomposition: the wavelet
//! representation", IEEE Trans. PAMI 11, 1989, doi:10.1109/34.192463.
//! K. Sharifi and A. Leon-Garcia, "Estimation of shape parameter for
//! generalized Gaussian distributions in subband decompositions of video", IEEE
//! Trans. CSVT 5, 1995, doi:10.1109/76.350779.

mod incomplete_gamma;
mod solve;

use libm::lgamma;

use crate::goodness_of_fit::Fits;
use incomplete_gamma::upper_regularized;
pub(crate) use solve::levels;

/// Bounds of the shape of a fit: at 0.25 half of the mass is within 1/40 of a
/// standard deviation; beyond 16 the density hardly differs from a uniform one.
const SHAPES: [f64; 2] = [0.25, 16.0];

/// Halvings of the logarithm of that interval: enough for all bits of a shape.
const HALVINGS: usize = 60;

/// A generalized Gaussian distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct GeneralizedGaussian {
    /// Centre of symmetry.
    pub location: f64,
    /// Scale, at least 0; 0 stands for all mass at the location.
    pub scale: f64,
    /// Shape, 0.25 to 16: 1 is Laplace, 2 Gaussian.
    pub shape: f64,
}

impl GeneralizedGaussian {
    /// The fit to weights of which the other families' fits are known: mean,
    /// standard deviation and mean absolute deviation are theirs, where the
    /// bounds of the shape let them.
    pub fn of(fits: &Fits) -> Self {
        let std = fits.gaussian.scale;
        let ratio = fits.laplace.scale / std;
        let [mut low, mut high] = SHAPES.map(f64::ln);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if deviation_per_std(middle.exp()) < ratio {
                low = middle;
            } else {
                high = middle;
            }
        }
        let shape = (0.5 * (low + high)).exp();
        Self {
            location: fits.gaussian.location,
            scale: std / std_per_scale(shape),
            shape,
        }
    }

    /// Standard deviation.
    pub fn std(&self) -> f64 {
        self.scale * std_per_scale(self.shape)
    }

    /// Probability of a value of at most `x`; at scale 0 the limit of shrinking
    /// scales, as of [`Distribution::cdf`](crate::Distribution::cdf).
    pub fn cdf(&self, x: f64) -> f64 {
        let distance = x - self.location;
        if self.scale == 0.0 || distance == 0.0 {
            return match distance {
                d if d < 0.0 => 0.0,
                d if d > 0.0 => 1.0,
                _ => 0.5,
            };
        }
        let power = (distance.abs() / self.scale).powf(self.shape);
        let tail = 0.5 * upper_regularized(1.0 / self.shape, power);
        if distance < 0.0 { tail } else { 1.0 - tail }
    }
}

/// Standard deviation of the member of scale 1.
fn std_per_scale(shape: f64) -> f64 {
    (0.5 * (lgamma(3.0 / shape) - lgamma(1.0 / shape))).exp()
}

/// Mean absolute deviation over standard deviation; rises with the shape from 0
/// to `sqrt(3) / 2`.
fn deviation_per_std(shape: f64) -> f64 {
    let [one, two, three] = [1.0, 2.0, 3.0].map(|k: f64| lgamma(k / shape));
    (two - 0.5 * (one + three)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, Shape};
    use crate::{Distribution, Family, Summary};

    /// Of a distribution function against that of the same member of another
    /// family: a few units in the last place of 1.
    const MAX_CDF_ERROR: f64 = 1e-14;

    /// What 200,000 samples leave open of a shape.
    const MAX_SHAPE_ERROR: f64 = 0.03;

    #[test]
    fn shapes_one_and_two_are_laplace_and_gaussian() {
        for (family, shape, scale) in [
            (Family::Laplace, 1.0, 0.7),
            (Family::Gaussian, 2.0, 0.7 * 2f64.sqrt()),
        ] {
            let expected = Distribution {
                family,
                location: 0.3,
                scale: 0.7,
            };
            let found = GeneralizedGaussian {
                location: 0.3,
                scale,
                shape,
            };
            assert!((found.std() - expected.std()).abs() < MAX_CDF_ERROR);
            for step in -60..=60 {
                let x = 0.3 + f64::from(step) * 0.1;
                let error = (found.cdf(x) - expected.cdf(x)).abs();
                assert!(error < MAX_CDF_ERROR, "{family} at {x}: {error}");
            }
        }
    }

    #[test]
    fn the_fit_finds_the_shape_of_samples() {
        for (shape, expected) in [(Shape::Laplace, 1.0), (Shape::Gaussian, 2.0)] {
            let weights = samples::draw(shape, 200_000, 5);
            let fit = *Summary::of(&weights).generalized_gaussian();
            let error = (fit.shape / expected - 1.0f64).abs();
            assert!(error < MAX_SHAPE_ERROR, "{shape:?}: {}", fit.shape);
        }
    }

    #[test]
    fn equal_weights_have_all_mass_at_one_place() {
        let fit = *Summary::of(&[0.5; 9]).generalized_gaussian();
        assert_eq!((fit.location, fit.scale), (0.5, 0.0));
        assert_eq!([0.4, 0.5, 0.6].map(|x| fit.cdf(x)), [0.0, 0.5, 1.0]);
    }
}
