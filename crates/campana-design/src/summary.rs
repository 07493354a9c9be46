//! Everything that designs need to know of a group of weights, computed once.

use std::sync::OnceLock;

use crate::distribution::Distribution;
use crate::empirical::Empirical;
use crate::generalized_gaussian::GeneralizedGaussian;
use crate::goodness_of_fit::{Fits, best_fit, distance};
use crate::moments::Moments;

/// A group of weights with its statistics, each computed when first asked for,
/// so that several designs of one group cost little more than one.
#[derive(Debug)]
pub struct Summary<'w> {
    weights: &'w [f32],
    moments: Moments,
    fits: OnceLock<Fits>,
    best_fit: OnceLock<Distribution>,
    generalized_gaussian: OnceLock<GeneralizedGaussian>,
    empirical: OnceLock<Empirical>,
}

impl<'w> Summary<'w> {
    /// Summarizes `weights`, which should be finite: see
    /// [`Moments::non_finite`], which the caller is to refuse.
    pub fn of(weights: &'w [f32]) -> Self {
        Self {
            weights,
            moments: Moments::of(weights),
            fits: OnceLock::new(),
            best_fit: OnceLock::new(),
            generalized_gaussian: OnceLock::new(),
            empirical: OnceLock::new(),
        }
    }

    /// The weights.
    pub fn weights(&self) -> &'w [f32] {
        self.weights
    }

    /// Their moments.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// The fits of all families.
    pub fn fits(&self) -> &Fits {
        self.fits
            .get_or_init(|| Fits::of(self.weights, &self.moments))
    }

    /// The fit of smaller D, as [`Fits::best`]; the scale of a Laplace fit may
    /// differ in the last digits. Takes a fraction of the time of
    /// [`fits`](Self::fits): where bounds tell which D is smaller, neither is
    /// computed.
    pub fn best_fit(&self) -> &Distribution {
        self.best_fit.get_or_init(|| match self.fits.get() {
            Some(fits) => *fits.best(),
            None => best_fit(self.weights, &self.moments),
        })
    }

    /// The fit of the generalized Gaussian family.
    pub fn generalized_gaussian(&self) -> &GeneralizedGaussian {
        self.generalized_gaussian
            .get_or_init(|| GeneralizedGaussian::of(self.fits()))
    }

    /// D of the generalized Gaussian fit, exact as those of [`Fits`]; computed
    /// at every call.
    pub fn d_generalized_gaussian(&self) -> f64 {
        let fit = self.generalized_gaussian();
        distance(&|x| fit.cdf(x), self.weights, &self.moments)
    }

    /// The weights in order, with sums.
    pub fn empirical(&self) -> &Empirical {
        self.empirical.get_or_init(|| Empirical::of(self.weights))
    }
}
