//! Networks whose activations are 8-bit codes: `value = scale (code - zero
//! point)`, codes 0 to 255, channels last.
//!
//! Weights are small whole numbers with a scale for each output channel; they
//! may be stored as 2- or 4-bit codes into a table of such numbers. Products
//! are summed in 32-bit integers, so all levels give the same bits, and
//! [`Requantize`] turns the sums into codes or floats.
//!
//! Processors without a four-way dot product multiply bytes into 16-bit pairs
//! that saturate. For them [`PackedWeights`] arranges what is summed in 16
//! bits such that no input can overflow it; the kernels rely on that and need
//! no slower variant. Weights are therefore laid out for an ISA, which runs them.

mod arrange;
mod columns;
mod dense;
mod depthwise;
mod elementwise;
pub(crate) mod groups;
mod interleave;
mod pack;
mod pooling;
#[cfg(not(target_feature = "simd128"))]
pub(crate) mod portable;
#[cfg(any(
    target_arch = "aarch64",
    all(target_feature = "simd128", not(target_feature = "relaxed-simd"))
))]
pub(crate) mod quads;
pub mod reference;
mod requantize;
mod shape;
pub(crate) mod steps;
mod tile;
pub(crate) mod vector;

pub use columns::{Encoding, largest_sum};
pub use dense::{Output, multiply};
pub use depthwise::{PackedTaps, depthwise};
pub use elementwise::{add, dequantize, pad, quantize, quantize_channels_last, requantize};
pub use pack::{GroupOffsets, PackedWeights};
pub use pooling::{average_pool, max_pool};
pub use requantize::{ChannelParams, QuantParams, Requantize};

#[cfg(test)]
mod tests;
