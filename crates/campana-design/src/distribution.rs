//! Families of distributions and their members fitted to weights.

mod gaussian;
mod laplace;

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A family of continuous, symmetric densities closed under shift and scale.
///
/// Since a quantizer that is optimal for the standard member, shifted and
/// scaled, is optimal for every member, each family needs one table a bit
/// width; see [`lloyd_max`](crate::lloyd_max).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Normal density, scale = standard deviation.
    Gaussian,
    /// Two-sided exponential density, scale = mean absolute deviation.
    Laplace,
}

impl Family {
    /// Every family, in the order in which ties are decided.
    pub const ALL: [Self; 2] = [Self::Gaussian, Self::Laplace];

    /// Name in reports and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::Laplace => "laplace",
        }
    }

    /// Standard deviation of the member of scale 1.
    pub fn std_per_scale(self) -> f64 {
        match self {
            Self::Gaussian => gaussian::STD_PER_SCALE,
            Self::Laplace => laplace::STD_PER_SCALE,
        }
    }

    /// Density at `z` of the member of location 0 and scale 1.
    pub(crate) fn standard_pdf(self, z: f64) -> f64 {
        match self {
            Self::Gaussian => gaussian::pdf(z),
            Self::Laplace => laplace::pdf(z),
        }
    }

    /// Probability below `z` of the member of location 0 and scale 1.
    pub(crate) fn standard_cdf(self, z: f64) -> f64 {
        match self {
            Self::Gaussian => gaussian::cdf(z),
            Self::Laplace => laplace::cdf(z),
        }
    }

    /// Inverse of [`standard_cdf`](Self::standard_cdf).
    pub(crate) fn standard_quantile(self, p: f64) -> f64 {
        match self {
            Self::Gaussian => gaussian::quantile(p),
            Self::Laplace => laplace::quantile(p),
        }
    }

    /// `pdf(z + u) / pdf(z)` of the standard member for `z >= 0`, `z + u >= 0`,
    /// to full relative precision for small `u`.
    pub(crate) fn standard_pdf_ratio(self, z: f64, u: f64) -> f64 {
        match self {
            Self::Gaussian => gaussian::pdf_ratio(z, u),
            Self::Laplace => laplace::pdf_ratio(u),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Family {
    type Err = Error;

    /// Parses the name that [`as_str`](Self::as_str) gives.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFamily`] for any other text.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|family| family.as_str() == name)
            .ok_or_else(|| Error::UnknownFamily {
                found: name.to_owned(),
                expected: Self::ALL.map(Self::as_str).join(", "),
            })
    }
}

/// A member of a family: what a fit to weights gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// The family.
    pub family: Family,
    /// Centre of symmetry: the mean of the weights for a Gaussian fit, their
    /// median for a Laplace fit.
    pub location: f64,
    /// Scale, at least 0: the standard deviation of a Gaussian, the mean
    /// absolute deviation of a Laplace distribution. 0 stands for the
    /// distribution that has all its mass at `location`.
    pub scale: f64,
}

impl Distribution {
    /// Standard deviation.
    pub fn std(&self) -> f64 {
        self.scale * self.family.std_per_scale()
    }

    /// Density at `x`; at scale 0, infinite at the location and 0 elsewhere.
    pub fn pdf(&self, x: f64) -> f64 {
        if self.scale == 0.0 {
            return if x == self.location {
                f64::INFINITY
            } else {
                0.0
            };
        }
        self.family.standard_pdf((x - self.location) / self.scale) / self.scale
    }

    /// Probability of a value of at most `x`, within 2 units in the last place
    /// of 1; NaN for NaN.
    ///
    /// At scale 0 it is the limit of shrinking scales: 0 below the location,
    /// 1/2 at it, 1 above it.
    pub fn cdf(&self, x: f64) -> f64 {
        if self.scale == 0.0 {
            return if x < self.location {
                0.0
            } else if x > self.location {
                1.0
            } else {
                0.5
            };
        }
        self.family.standard_cdf((x - self.location) / self.scale)
    }

    /// The value with probability `p` below it; infinite at 0 and 1, NaN
    /// outside of them.
    pub fn quantile(&self, p: f64) -> f64 {
        if self.scale == 0.0 {
            return if (0.0..=1.0).contains(&p) {
                self.location
            } else {
                f64::NAN
            };
        }
        self.location + self.scale * self.family.standard_quantile(p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error of `cdf(quantile(p))` relative to the smaller tail.
    const MAX_ROUND_TRIP_ERROR: f64 = 1e-13;

    #[test]
    fn quantile_inverts_cdf_in_the_middle_and_far_into_the_tails() {
        for family in Family::ALL {
            let fit = Distribution {
                family,
                location: 0.0,
                scale: 1.0,
            };
            for p in [
                1e-300, 1e-100, 1e-12, 1e-3, 0.02425, 0.1, 0.3, 0.499, 0.5, 0.75, 0.999,
            ] {
                let back = fit.cdf(fit.quantile(p));
                let error = (back - p).abs() / p.min(1.0 - p);
                // A step of one unit in the last place of z changes a tail by z^2 units.
                let allowed = MAX_ROUND_TRIP_ERROR * (1.0 + fit.quantile(p).powi(2));
                assert!(error <= allowed, "{family} {p}: {back}");
            }
            assert_eq!(fit.quantile(0.0), f64::NEG_INFINITY);
            assert_eq!(fit.quantile(1.0), f64::INFINITY);
            assert!(fit.quantile(1.5).is_nan() && fit.quantile(f64::NAN).is_nan());
        }
    }

    #[test]
    fn cdf_equals_published_values() {
        let gaussian = Distribution {
            family: Family::Gaussian,
            location: 0.0,
            scale: 1.0,
        };
        // Abramowitz and Stegun, table 26.1.
        for (z, p) in [(1.0, 0.841_344_746_068_543), (2.0, 0.977_249_868_051_821)] {
            assert!((gaussian.cdf(z) - p).abs() < 1e-15);
            assert!((gaussian.cdf(-z) - (1.0 - p)).abs() < 1e-15);
        }
        let laplace = Distribution {
            family: Family::Laplace,
            location: 1.0,
            scale: 2.0,
        };
        assert_eq!(laplace.cdf(1.0), 0.5);
        assert!((laplace.cdf(3.0) - (1.0 - 0.5 * (-1f64).exp())).abs() < 1e-16);
    }

    #[test]
    fn densities_integrate_to_the_cdf() {
        for family in Family::ALL {
            let fit = Distribution {
                family,
                location: 0.3,
                scale: 0.7,
            };
            // Simpson's rule on a panel without the Laplace kink.
            let (a, b) = (0.5, 0.9);
            let simpson = (b - a) / 6.0 * (fit.pdf(a) + 4.0 * fit.pdf(0.7) + fit.pdf(b));
            assert!((simpson - (fit.cdf(b) - fit.cdf(a))).abs() < 1e-4);
        }
    }

    #[test]
    fn scale_zero_is_the_limit_of_shrinking_scales() {
        let point = Distribution {
            family: Family::Laplace,
            location: 2.0,
            scale: 0.0,
        };
        assert_eq!([1.9, 2.0, 2.1].map(|x| point.cdf(x)), [0.0, 0.5, 1.0]);
        assert_eq!(point.quantile(0.2), 2.0);
        assert_eq!(point.pdf(2.0), f64::INFINITY);
    }

    #[test]
    fn names_survive_the_round_trip() {
        for family in Family::ALL {
            assert_eq!(family.to_string().parse(), Ok(family));
        }
        let error = "cauchy".parse::<Family>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown family \"cauchy\"; expected one of gaussian, laplace"
        );
    }
}
