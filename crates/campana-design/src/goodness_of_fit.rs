//! Maximum-likelihood fits and how far they are from the weights.
//!
//! The measure is the Kolmogorov–Smirnov statistic D, the greatest distance
//! between a fitted cumulative distribution function and that of the weights.
//! It is exact, for any number of weights and ties. There are no p-values: they
//! hold for parameters that were not fitted to the same weights, and with the
//! 10^4 to 10^8 weights of a tensor every p-value is zero, since no tensor is
//! exactly Gaussian or Laplace. D compares the families; it accepts none.
//!
//! # References
//!
//! A. Kolmogorov, "Sulla determinazione empirica di una legge di
//! distribuzione", Giorn. Ist. Ital. Attuari 4, 1933. H. W. Lilliefors, "On the
//! Kolmogorov–Smirnov test for normality with mean and variance unknown",
//! J. Amer. Statist. Assoc. 62, 1967, doi:10.1080/01621459.1967.10482916.

mod bounds;
mod cells;
mod statistic;

use crate::distribution::{Distribution, Family};
use crate::grid::Grid;
use crate::moments::Moments;

/// Up to this many weights are sorted; more are counted into buckets.
const MAX_SORTED: usize = 1 << 13;

/// Weights per bucket at least: fewer would cost more in bounds than they save
/// in weights to look into.
const WEIGHTS_PER_BUCKET: usize = 16;

/// Buckets at most: 1 MiB of byte counters, which caches hold, and 12 MiB of
/// wider ones. So many pay because a bucket's share of the weights must be well
/// below D, which is about `n^-1/2` where a family fits perfectly: with 2^16
/// buckets such weights take five times as long.
const MAX_BUCKETS: usize = 1 << 20;

/// Buckets that tell most tensors' closer family without D: the nearest cache
/// holds their counters beside the weights.
const COARSE_BUCKETS: usize = 1 << 12;

/// Both families fitted to weights, with their distances D.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fits {
    /// Gaussian of greatest likelihood: mean and population standard deviation.
    pub gaussian: Distribution,
    /// Laplace distribution of greatest likelihood: median (the mean of the
    /// two middle weights where their number is even) and mean absolute
    /// deviation from it.
    pub laplace: Distribution,
    /// D of the Gaussian fit.
    pub d_gaussian: f64,
    /// D of the Laplace fit.
    pub d_laplace: f64,
}

impl Fits {
    /// Fits both families to `weights`, whose moments are `moments`, and
    /// measures both distances.
    ///
    /// D is within 1e-12 of what sorting all weights and comparing each would
    /// give (`scipy.stats.kstest`), and does not depend on the number of
    /// threads. Nothing but small groups is sorted: weights are counted into
    /// buckets, which bound D from both sides, and only buckets that may hold
    /// the maximum are looked into. Memory beside the weights is at most a
    /// tenth of theirs where they are many.
    ///
    /// Equal weights have fits of scale 0 and, as the limit of shrinking
    /// scales, D = 1/2 for both; no weights have that at location 0. The result
    /// for infinities or NaN is unspecified.
    pub fn of(weights: &[f32], moments: &Moments) -> Self {
        if moments.is_constant() || weights.is_empty() {
            return Self::of_constant(f64::from(moments.min));
        }
        let gaussian = gaussian(moments);
        if weights.len() <= MAX_SORTED {
            let mut sorted = weights.to_vec();
            sorted.sort_unstable_by(f32::total_cmp);
            let median = statistic::median_of_sorted(&sorted);
            let laplace = laplace(median, statistic::mean_absolute_deviation(weights, median));
            let d = |fit: &Distribution| statistic::of_sorted(&|x| fit.cdf(x), &sorted);
            return Self {
                gaussian,
                laplace,
                d_gaussian: d(&gaussian),
                d_laplace: d(&laplace),
            };
        }
        let counted = count(weights, moments, MAX_BUCKETS);
        let (median, deviation) = counted.median_and_deviation();
        let laplace = laplace(median, deviation);
        let [d_gaussian, d_laplace] =
            counted.statistics([&|x| gaussian.cdf(x), &|x| laplace.cdf(x)]);
        Self {
            gaussian,
            laplace,
            d_gaussian,
            d_laplace,
        }
    }

    fn of_constant(location: f64) -> Self {
        let fit = |family| Distribution {
            family,
            location,
            scale: 0.0,
        };
        Self {
            gaussian: fit(Family::Gaussian),
            laplace: fit(Family::Laplace),
            d_gaussian: 0.5,
            d_laplace: 0.5,
        }
    }

    /// The fit of smaller D; the Gaussian one where they are equal.
    pub fn best(&self) -> &Distribution {
        if self.d_laplace < self.d_gaussian {
            &self.laplace
        } else {
            &self.gaussian
        }
    }
}

/// D of any continuous distribution function, exact as those of [`Fits`]; 1/2
/// where all weights are equal.
pub(crate) fn distance(cdf: &dyn Fn(f64) -> f64, weights: &[f32], moments: &Moments) -> f64 {
    if moments.is_constant() || weights.is_empty() {
        return 0.5;
    }
    if weights.len() <= MAX_SORTED {
        let mut sorted = weights.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        return statistic::of_sorted(cdf, &sorted);
    }
    let [d] = count(weights, moments, MAX_BUCKETS).statistics([cdf]);
    d
}

/// The fit that [`Fits::best`] gives, but for rounding of a Laplace fit's scale,
/// at a fraction of the time: D is computed only where bounds from coarse counts
/// do not tell which is smaller.
pub(crate) fn best_fit(weights: &[f32], moments: &Moments) -> Distribution {
    let exact = || *Fits::of(weights, moments).best();
    if moments.is_constant() || weights.len() <= MAX_SORTED {
        return exact();
    }
    let counted = count(weights, moments, COARSE_BUCKETS);
    let gaussian = gaussian(moments);
    match bounds::closer_family(&counted, &gaussian, moments) {
        Some(Family::Gaussian) => gaussian,
        Some(Family::Laplace) => {
            let (median, deviation) = counted.median_and_deviation();
            laplace(median, deviation)
        }
        None => exact(),
    }
}

fn count<'w>(weights: &'w [f32], moments: &Moments, most: usize) -> cells::Counted<'w> {
    let buckets = (weights.len() / WEIGHTS_PER_BUCKET)
        .next_power_of_two()
        .min(most);
    cells::Counted::new(weights, Grid::new(moments, buckets))
}

fn gaussian(moments: &Moments) -> Distribution {
    Distribution {
        family: Family::Gaussian,
        location: moments.mean,
        scale: moments.std(),
    }
}

fn laplace(median: f64, deviation: f64) -> Distribution {
    Distribution {
        family: Family::Laplace,
        location: median,
        scale: deviation,
    }
}

#[cfg(test)]
mod tests;
