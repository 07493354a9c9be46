//! Methods that design the levels for one group of weights.
//!
//! All are data-free and deterministic. Most give a table that depends on the
//! method and the bit width alone, with a scale and a shift: groups of a tensor
//! can then share the table.

mod aciq;
mod additive_powers_of_two;
mod generalized_gaussian;
mod lloyd_max;
mod minmax;
mod normal_float;
mod piecewise_linear;
mod powers_of_two;
mod scale;
mod uniform_mse;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use crate::distribution::Family;
use crate::entropy_constrained::entropy_constrained;
use crate::error::Error;
use crate::kmeans::kmeans;
use crate::lloyd_max::MAX_BITS;
use crate::summary::Summary;

/// A table of levels that several groups share; cheap to clone.
pub type UnitTable = Arc<[f64]>;

/// How levels are designed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Lloyd–Max levels of the family, Gaussian or Laplace, that has the
    /// smaller Kolmogorov–Smirnov distance D.
    Ks,
    /// Lloyd–Max levels of the fitted Gaussian.
    Gaussian,
    /// Lloyd–Max levels of the fitted Laplace distribution.
    Laplace,
    /// Lloyd–Max levels of the fitted generalized Gaussian distribution.
    Ggd,
    /// The levels of least squared error for these weights.
    Kmeans,
    /// The levels and thresholds of least squared error at an entropy.
    Ecsq,
    /// Uniform levels from the smallest to the largest weight.
    Minmax,
    /// The uniform levels of least squared error.
    Mse,
    /// Uniform levels in ACIQ's analytic clipping range.
    Aciq,
    /// Uniform levels with two step sizes, fine about 0.
    Pwlq,
    /// Powers of two.
    Pot,
    /// Sums of powers of two.
    Apot,
    /// Quantiles of a normal distribution, scaled to the largest weight.
    Nf,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 13] = [
        Self::Ks,
        Self::Gaussian,
        Self::Laplace,
        Self::Ggd,
        Self::Kmeans,
        Self::Ecsq,
        Self::Minmax,
        Self::Mse,
        Self::Aciq,
        Self::Pwlq,
        Self::Pot,
        Self::Apot,
        Self::Nf,
    ];

    /// Name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ks => "ks",
            Self::Gaussian => "gaussian",
            Self::Laplace => "laplace",
            Self::Ggd => "ggd",
            Self::Kmeans => "kmeans",
            Self::Ecsq => "ecsq",
            Self::Minmax => "minmax",
            Self::Mse => "mse",
            Self::Aciq => "aciq",
            Self::Pwlq => "pwlq",
            Self::Pot => "pot",
            Self::Apot => "apot",
            Self::Nf => "nf",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Method {
    type Err = Error;

    /// Parses the name that [`as_str`](Self::as_str) gives.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMethod`] for any other text.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|method| method.as_str() == name)
            .ok_or_else(|| Error::UnknownMethod {
                found: name.to_owned(),
                expected: Self::ALL.map(Self::as_str).join(", "),
            })
    }
}

/// The levels of one group.
#[derive(Clone, Debug, PartialEq)]
pub enum Levels {
    /// `table * scale + shift`.
    Affine {
        /// Ascending entries, the same for all groups of a method, bit width
        /// and, where the method chooses one, family or form.
        table: UnitTable,
        /// At least 0; 0 makes all levels equal.
        scale: f64,
        /// Added to all levels.
        shift: f64,
    },
    /// Ascending levels of this group's own, `2^bits` or fewer.
    Free(Vec<f64>),
    /// The same, and up to 256, with thresholds that lie off the middle
    /// between two levels: weights belong to the code that is cheapest for an
    /// entropy coder, not always to the nearest level.
    Coded {
        /// Ascending levels.
        levels: Vec<f64>,
        /// Ascending thresholds, one fewer; a weight on one belongs below it.
        thresholds: Vec<f64>,
    },
}

impl Levels {
    /// A table, scaled and shifted. A scale that would take a level beyond the
    /// range of `f32` is reduced.
    fn affine(table: &UnitTable, scale: f64, shift: f64) -> Self {
        let reach = table
            .iter()
            .fold(0.0, |reach: f64, entry| reach.max(entry.abs()));
        let largest = (f64::from(f32::MAX) - shift.abs()) / reach;
        Self::Affine {
            table: table.clone(),
            scale: scale.clamp(0.0, largest),
            shift,
        }
    }

    /// The levels, ascending; equal ones only at scale 0 or where a scale below
    /// the smallest positive `f64` rounds them together.
    pub fn values(&self) -> Vec<f64> {
        match self {
            Self::Affine {
                table,
                scale,
                shift,
            } => table.iter().map(|entry| entry * scale + shift).collect(),
            Self::Free(levels) | Self::Coded { levels, .. } => levels.clone(),
        }
    }
}

/// What a method designed for a group of weights.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Design {
    /// The levels.
    pub levels: Levels,
}

/// Designs levels for `bits`-bit codes of the group that `group` summarizes.
///
/// The levels are at most `2^bits`, finite, also as `f32`, and ascend. For
/// [`Method::Ecsq`] it is the entropy of the codes that is at most `bits`, and
/// levels are up to 256. Equal
/// weights are reproduced exactly; no weights get a level 0. The levels for
/// weights that are not all finite are unspecified.
///
/// # Panics
///
/// If `bits` is not in 1 to 8.
pub fn design(method: Method, group: &Summary<'_>, bits: u8) -> Design {
    assert!(
        (1..=MAX_BITS).contains(&bits),
        "bits must be 1 to {MAX_BITS}, not {bits}"
    );
    let levels = match method {
        Method::Ks => lloyd_max::levels(group.best_fit(), bits),
        Method::Gaussian => lloyd_max::levels(&group.fits().gaussian, bits),
        Method::Laplace => lloyd_max::levels(&group.fits().laplace, bits),
        Method::Ggd => generalized_gaussian::levels(group.generalized_gaussian(), bits),
        Method::Kmeans => kmeans_levels(group, bits),
        Method::Ecsq => {
            let found = entropy_constrained(group.empirical(), f64::from(bits));
            Levels::Coded {
                levels: found.levels,
                thresholds: found.thresholds,
            }
        }
        Method::Minmax => minmax::levels(group.moments(), bits),
        Method::Mse => uniform_mse::levels(group, bits),
        Method::Aciq => aciq::levels(group.best_fit(), bits),
        Method::Pwlq => piecewise_linear::levels(group, bits),
        Method::Pot => powers_of_two::levels(group, bits),
        Method::Apot => additive_powers_of_two::levels(group, bits),
        Method::Nf => normal_float::levels(group.moments(), bits),
    };
    Design { levels }
}

fn kmeans_levels(group: &Summary<'_>, bits: u8) -> Levels {
    let mut levels = kmeans(group.empirical(), 1 << bits).levels;
    if levels.is_empty() {
        levels.push(0.0);
    }
    Levels::Free(levels)
}

/// Tables made at first use and shared from then on, one a bit width.
struct TableCache([OnceLock<UnitTable>; MAX_BITS as usize]);

impl TableCache {
    const fn new() -> Self {
        Self([const { OnceLock::new() }; MAX_BITS as usize])
    }

    fn get(&self, bits: u8, make: impl FnOnce() -> Vec<f64>) -> UnitTable {
        self.0[usize::from(bits) - 1]
            .get_or_init(|| make().into())
            .clone()
    }
}

/// `2^bits` entries one apart, symmetric about 0: ..., -1/2, 1/2, ...
fn mid_rise_table(bits: u8) -> UnitTable {
    static TABLES: TableCache = TableCache::new();
    TABLES.get(bits, || {
        let levels = 1usize << bits;
        (0..levels)
            .map(|i| i as f64 - 0.5 * (levels - 1) as f64)
            .collect()
    })
}

/// The two levels -1 and 1, for methods whose definition begins at 2 bits.
fn sign_table() -> UnitTable {
    static TABLE: OnceLock<UnitTable> = OnceLock::new();
    TABLE.get_or_init(|| UnitTable::from([-1.0, 1.0])).clone()
}

/// The unit-variance Lloyd–Max levels of a family as a shared table.
fn lloyd_max_table(family: Family, bits: u8) -> UnitTable {
    static TABLES: [TableCache; Family::ALL.len()] =
        [const { TableCache::new() }; Family::ALL.len()];
    TABLES[family as usize].get(bits, || {
        crate::lloyd_max::table(family, bits).levels.clone()
    })
}

#[cfg(test)]
mod tests;
