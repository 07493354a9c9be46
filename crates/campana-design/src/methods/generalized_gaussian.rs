use super::Levels;
use crate::generalized_gaussian::{self, GeneralizedGaussian};

/// Levels of this fit's own: a table depends on its shape.
pub(super) fn levels(fit: &GeneralizedGaussian, bits: u8) -> Levels {
    if fit.scale == 0.0 {
        return Levels::Free(vec![fit.location]);
    }
    let largest = f64::from(f32::MAX);
    let levels = generalized_gaussian::levels(fit.shape, bits);
    let of = |level: f64| (level * fit.scale + fit.location).clamp(-largest, largest);
    Levels::Free(levels.into_iter().map(of).collect())
}
