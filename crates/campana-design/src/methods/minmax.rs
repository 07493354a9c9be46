//! `minmax`: uniform levels from the smallest to the largest weight.

use super::{Levels, mid_rise_table};
use crate::moments::Moments;

pub(super) fn levels(moments: &Moments, bits: u8) -> Levels {
    let (min, max) = (f64::from(moments.min), f64::from(moments.max));
    let steps = ((1u32 << bits) - 1) as f64;
    Levels::affine(
        &mid_rise_table(bits),
        (max - min) / steps,
        0.5 * (max + min),
    )
}
