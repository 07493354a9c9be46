//! `ks`, `gaussian` and `laplace`: Lloyd–Max levels of a fitted density.

use super::{Levels, lloyd_max_table};
use crate::distribution::Distribution;

pub(super) fn levels(fit: &Distribution, bits: u8) -> Levels {
    Levels::affine(&lloyd_max_table(fit.family, bits), fit.std(), fit.location)
}
