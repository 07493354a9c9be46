//! Which family is closer, from counts in coarse buckets alone.
//!
//! Between two edges of a bucket neither distribution function leaves what it
//! is at the edges, so counts bound D from both sides by the share of the
//! fullest bucket. Of a Laplace fit the counts bound median and deviation too,
//! and its distribution function `F` moves by no more than
//!
//! ```text
//! |F(m, b) - F(m', b')| <= |m - m'| / 2b + |ln(b / b')| / 2e
//! ```
//!
//! since its density is at most `1 / 2b` and `|z| exp(-|z|) / 2` at most
//! `1 / 2e`.

use std::f64::consts::E;

use super::cells::Counted;
use super::statistic::CDF_SLACK;
use crate::distribution::{Distribution, Family};
use crate::moments::Moments;

/// What D is at least and at most.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: f64,
    most: f64,
}

/// The family of smaller D; `None` where the counts leave that open.
pub(super) fn closer_family(
    counted: &Counted<'_>,
    gaussian: &Distribution,
    moments: &Moments,
) -> Option<Family> {
    let (laplace, doubt) = laplace_of_counts(counted, moments)?;
    let gaussian = bounds(counted, gaussian, 0.0);
    let laplace = bounds(counted, &laplace, doubt);
    if laplace.least > gaussian.most {
        Some(Family::Gaussian)
    } else if laplace.most < gaussian.least {
        Some(Family::Laplace)
    } else {
        None
    }
}

/// Bounds of the D of a distribution function that is within `doubt` of that of
/// `fit`.
fn bounds(counted: &Counted<'_>, fit: &Distribution, doubt: f64) -> Bounds {
    let mut bounds = Bounds {
        least: 0.0,
        most: 0.0,
    };
    let (mut low_cdf, mut low_share) = (0.0, 0.0);
    for edge in 1..=counted.buckets() {
        let (cdf, share) = if edge == counted.buckets() {
            (1.0, 1.0)
        } else {
            (fit.cdf(counted.edge(edge)), counted.share_below(edge))
        };
        bounds.least = f64::max(bounds.least, (cdf - share).abs());
        bounds.most = bounds.most.max(cdf - low_share).max(share - low_cdf);
        (low_cdf, low_share) = (cdf, share);
    }
    let doubt = doubt + CDF_SLACK;
    Bounds {
        least: bounds.least - doubt,
        most: bounds.most + doubt,
    }
}

/// A Laplace distribution near the fitted one, and by how much the two
/// distribution functions differ at most. `None` where the counts say next to
/// nothing of it.
fn laplace_of_counts(counted: &Counted<'_>, moments: &Moments) -> Option<(Distribution, f64)> {
    let buckets = counted.buckets();
    let edge = |index: usize| match index {
        0 => f64::from(moments.min),
        index if index == buckets => f64::from(moments.max),
        index => counted.edge(index),
    };
    let [first, last] = counted.middle_buckets();
    let (lowest, highest) = (edge(first), edge(last + 1));
    let location = f64::midpoint(lowest, highest);
    // Of the sum of deviations from the median: each weight is somewhere in its
    // bucket, those of the middle buckets on either side of the median.
    let (mut least, mut most) = (0.0, 0.0);
    let mut surplus_below = 0.0;
    for index in 0..buckets {
        let count = counted.count(index) as f64;
        if index < first {
            least -= count * edge(index + 1);
            most -= count * edge(index);
            surplus_below += count;
        } else if index > last {
            least += count * edge(index);
            most += count * edge(index + 1);
            surplus_below -= count;
        } else {
            most += count * (highest - lowest);
        }
    }
    let [low, high] = [surplus_below * lowest, surplus_below * highest];
    let total = moments.count as f64;
    let [least, most] = [least + low.min(high), most + low.max(high)].map(|sum| sum / total);
    if !(least > 0.0 && most.is_finite()) {
        return None;
    }
    let fit = Distribution {
        family: Family::Laplace,
        location,
        scale: (least * most).sqrt(),
    };
    let of_location = 0.5 * (highest - lowest) / (2.0 * least);
    let of_scale = (most / least).sqrt().ln() / (2.0 * E);
    Some((fit, of_location + of_scale))
}

#[cfg(test)]
mod tests {
    use super::super::{COARSE_BUCKETS, Fits, count};
    use super::*;
    use crate::samples::{self, SHAPES};

    /// What rounding may take from a bound of a sum.
    const SUM_SLACK: f64 = 1e-12;

    #[test]
    fn bounds_hold_the_exact_distances() {
        for shape in SHAPES {
            for n in [9_000, 60_000, 300_001] {
                let weights = samples::draw(shape, n, 3);
                let moments = Moments::of(&weights);
                let fits = Fits::of(&weights, &moments);
                let counted = count(&weights, &moments, COARSE_BUCKETS);
                let found = bounds(&counted, &fits.gaussian, 0.0);
                assert!(
                    (found.least..=found.most).contains(&fits.d_gaussian),
                    "{shape:?} {n}: {found:?} for {}",
                    fits.d_gaussian
                );
                let Some((near, doubt)) = laplace_of_counts(&counted, &moments) else {
                    panic!("{shape:?} {n}: nothing of the Laplace fit");
                };
                let found = bounds(&counted, &near, doubt);
                assert!(
                    (found.least..=found.most).contains(&fits.d_laplace),
                    "{shape:?} {n}: {found:?} for {}",
                    fits.d_laplace
                );
                let differ = |x: f32| {
                    let x = f64::from(x);
                    (near.cdf(x) - fits.laplace.cdf(x)).abs()
                };
                assert!(weights.iter().all(|&x| differ(x) <= doubt + SUM_SLACK));
            }
        }
    }

    #[test]
    fn counts_tell_clear_cases_apart_and_leave_close_ones_open() {
        let closer = |weights: &[f32]| {
            let moments = Moments::of(weights);
            let fits = Fits::of(weights, &moments);
            let counted = count(weights, &moments, COARSE_BUCKETS);
            closer_family(&counted, &fits.gaussian, &moments)
        };
        let gaussian = samples::draw(samples::Shape::Gaussian, 100_000, 4);
        let laplace = samples::draw(samples::Shape::Laplace, 100_000, 4);
        assert_eq!(closer(&gaussian), Some(Family::Gaussian));
        assert_eq!(closer(&laplace), Some(Family::Laplace));
        // Everything in one bucket.
        let mut stretched = gaussian;
        stretched[7] = 3e38;
        assert_eq!(closer(&stretched), None);
    }
}
