//! The codebook form of ONNX: quantized tensors as codes and levels with the
//! operators that decode them, which [`take`](super::take) finds again.

mod message;
mod operators;

pub use message::{decoded_len_bytes, new_node, new_tensor, shared_len_bytes};
pub use operators::{Attribute, Decoder, Operator, Scales, StoredTensor, are_halves};
