//! `aciq`: uniform levels in the clipping range that minimizes an analytic
//! model of the error for the fitted density.
//!
//! Banner et al. leave the choice of the density to the user; here it is the
//! family of smaller D, as for `ks`, with its maximum-likelihood parameters.
//!
//! # References
//!
//! R. Banner, Y. Nahshan, D. Soudry, "Post training 4-bit quantization of
//! convolutional networks for rapid-deployment", NeurIPS 2019,
//! arXiv:1810.05723.

use super::{Levels, mid_rise_table};
use crate::distribution::Distribution;
use crate::uniform::aciq_clip;

pub(super) fn levels(fit: &Distribution, bits: u8) -> Levels {
    let step = 2.0 * aciq_clip(fit.family, bits) * fit.std() / f64::from(1u32 << bits);
    Levels::affine(&mid_rise_table(bits), step, fit.location)
}
