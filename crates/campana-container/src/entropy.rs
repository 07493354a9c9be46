//! Entropy coding: adaptive models of symbols below 16 (renewed now and then
//! for codes, with each symbol for values), and interleaved streams of asymmetric
//! numeral systems.

mod codes;
mod model;
mod rans;
mod table;
mod values;

pub(crate) use codes::{CodeLayout, CodeModels, decode_codes, encode_codes};
pub(crate) use rans::{Decoder, Encoder, LANES};
pub(crate) use values::{KINDS, MAX_WIDTH, ValueModels, decode_values, encode_values};
