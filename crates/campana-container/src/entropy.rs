//! Entropy coding: adaptive models of symbols below 16, and interleaved
//! streams of asymmetric numeral systems.

mod codes;
mod model;
mod rans;
mod values;

pub(crate) use codes::{CodeLayout, CodeModels, decode_codes, encode_codes};
pub(crate) use rans::{Decoder, Encoder};
pub(crate) use values::{KINDS, MAX_WIDTH, ValueModels, decode_values, encode_values};
