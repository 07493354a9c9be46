//! How activations are rounded, and how that is chosen.

use std::fmt;
use std::str::FromStr;

/// How a value of the network is rounded: `code = round(value / scale) + zero_point`, 0 to 255.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivationScale {
    /// Name of the value.
    pub name: String,
    /// Distance of the values of neighbouring codes.
    pub scale: f32,
    /// The code of zero; 0 where no value is negative.
    pub zero_point: u8,
}

/// How the range of an activation is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RangeMethod {
    /// Of `Mse`, `MinMax` and `Percentile` the one with the least error of the
    /// network's outputs, measured on a few samples for sets of activations.
    #[default]
    Auto,
    /// From the least to the greatest value seen.
    MinMax,
    /// Without the outermost 0.01 % of the values.
    Percentile,
    /// The range with the least squared error of the codes' values.
    Mse,
    /// The range whose codes keep most of the distribution, by Kullback-Leibler divergence.
    Entropy,
}

impl RangeMethod {
    /// All methods.
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::MinMax,
        Self::Percentile,
        Self::Mse,
        Self::Entropy,
    ];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::MinMax => "minmax",
            Self::Percentile => "percentile",
            Self::Mse => "mse",
            Self::Entropy => "entropy",
        }
    }
}

impl fmt::Display for RangeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RangeMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|method| method.as_str() == text)
            .ok_or_else(|| format!("not a method: use one of {names}"))
    }
}
