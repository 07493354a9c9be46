//! Which tensor gets how many bits: widths under a bound on bytes, so that the
//! network's outputs change least.
//!
//! 1. [`sensitivities`](campana_calibrate::sensitivities): each weight tensor is quantized alone, and the
//!    divergence of the network's outputs from those of the float network is
//!    measured, at a few widths.
//! 2. [`Allocator`]: divergences of different tensors add up, near enough; so
//!    the widths of least total divergence under a bound on the bytes follow
//!    from the lower convex hull of each tensor's (bytes, divergence) pairs, and
//!    what is left of the bound is filled greedily. Bytes are real: tensors are
//!    quantized, and where the bound is one of the output's size, the output is
//!    written to know it.
//! 3. [`Plan`](campana_quantize::Plan): the outcome as a file that can be read, edited and applied.
//!
//! # References
//!
//! Shoham, Gersho, "Efficient bit allocation for an arbitrary set of
//! quantizers", IEEE Transactions on Acoustics, Speech, and Signal Processing
//! 36 (9), 1988, doi 10.1109/29.90373.

#![forbid(unsafe_code)]

mod budget;
mod estimate;
mod rate;

pub use budget::{Allocation, Allocator, Budget, OutputLen};
pub use estimate::{DropEstimate, DropEstimator};
pub use rate::quantize_at_rate;
