//! Every operator in its plain form: whole tensors in, whole tensors out,
//! channels first, as ONNX defines it.
//!
//! Constants are folded with these, shapes are found with them, and whatever
//! has no fast step runs through them.

mod call;
mod convolution;
mod elementwise;
mod indexing;
mod linear;
mod normalize;
mod pooling;
mod quantized;
mod reduce;
mod resize;
mod shape;

use campana_tensor::Tensor;

pub(crate) use call::{Call, Fault, count_of, floats, tensor};
pub(crate) use convolution::{ConvGeometry, conv_geometry};
pub(crate) use elementwise::{unary_of as elementwise_unary, unary_scalar};
pub(crate) use indexing::{broadcast_shape, pad_amounts, permutation, slice_axes, strides_of};
pub(crate) use normalize::batch_affine as normalize_affine;
pub(crate) use pooling::window_geometry;
pub(crate) use quantized::range_of as code_range;
pub(crate) use shape::{reshaped, shape_values};

/// An operator: its inputs and attributes to its outputs.
pub(crate) type Operator = fn(&Call<'_>) -> Result<Vec<Tensor>, Fault>;

/// The domain of operators that only a plan makes.
pub(crate) const OWN_DOMAIN: &str = "campana";

/// The operator of this name in ONNX's own domain or in [`OWN_DOMAIN`].
pub(crate) fn operator(domain: &str, op_type: &str) -> Option<Operator> {
    if domain == OWN_DOMAIN {
        return elementwise::own_operator(op_type);
    }
    if !matches!(domain, "" | "ai.onnx") {
        return None;
    }
    elementwise::operator(op_type)
        .or_else(|| indexing::operator(op_type))
        .or_else(|| shape::operator(op_type))
        .or_else(|| reduce::operator(op_type))
        .or_else(|| linear::operator(op_type))
        .or_else(|| convolution::operator(op_type))
        .or_else(|| pooling::operator(op_type))
        .or_else(|| normalize::operator(op_type))
        .or_else(|| resize::operator(op_type))
        .or_else(|| quantized::operator(op_type))
}

/// The inputs whose values, not only shapes, decide the output's shape.
pub(crate) fn shape_operands(op_type: &str) -> &'static [usize] {
    match op_type {
        "ConstantOfShape" => &[0],
        "Range" => &[0, 1, 2],
        "Reshape" | "Expand" | "Tile" | "Squeeze" | "Unsqueeze" | "Split" => &[1],
        "Pad" => &[1, 3],
        "Slice" => &[1, 2, 3, 4],
        "Resize" | "Upsample" => &[1, 2, 3],
        name if name.starts_with("Reduce") => &[1],
        _ => &[],
    }
}
