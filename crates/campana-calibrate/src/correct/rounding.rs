//! How codes are corrected.

use campana_quantize::MethodChoice;

/// How codes are corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Codes stay; only normalizations and biases are corrected.
    Keep,
    /// Codes and levels are chosen again for the error of outputs.
    Compensate,
    /// The same, weighed against the bits of the codes; levels lie about a
    /// uniform grid with a zero.
    AtRate,
}

impl From<MethodChoice> for Rounding {
    /// A method that is asked for by name chooses the codes.
    fn from(method: MethodChoice) -> Self {
        match method {
            MethodChoice::Auto | MethodChoice::Vectors => Self::Compensate,
            MethodChoice::Fixed(_) => Self::Keep,
        }
    }
}
