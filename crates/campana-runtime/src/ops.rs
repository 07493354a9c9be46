//! Every operator by its reference fallback: whole tensors in, whole tensors out,
//! channels first, as ONNX defines it.
//!
//! Constants are folded with these, shapes are found with them, and whatever
//! has no fast step runs through them.

pub(crate) mod along;
mod attention;
mod bits;
mod call;
mod convolution;
mod deform;
mod einsum;
mod elementwise;
mod erf;
mod indexing;
mod linear;
mod loss;
mod normalize;
mod order;
mod pooling;
mod quantized;
mod recurrent;
mod reduce;
mod resize;
mod scatter;
mod shape;
mod signal;
mod spatial;
mod windowed;

use campana_tensor::{ElementType, Tensor, TensorData};

pub(crate) use along::stacked;
pub(crate) use call::{Call, Fault, count_of, floats, ints as whole_numbers, len_bytes, tensor};
pub(crate) use convolution::{ConvGeometry, Windows, conv_geometry};
pub(crate) use elementwise::{unary_of as elementwise_unary, unary_scalar};
pub(crate) use indexing::{
    broadcast_shape, pad_amounts, permutation, slice_axes, split_lengths, strides_of,
};
pub(crate) use normalize::batch_affine as normalize_affine;
pub(crate) use normalize::refuse_training;
pub(crate) use pooling::window_geometry;
pub(crate) use quantized::range_of as code_range;
pub(crate) use shape::{reshaped, shape_values};
pub(crate) use windowed::check_attributes as check_windows;

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
        .or_else(|| windowed::operator(op_type))
        .or_else(|| recurrent::operator(op_type))
        .or_else(|| scatter::operator(op_type))
        .or_else(|| order::operator(op_type))
        .or_else(|| bits::operator(op_type))
        .or_else(|| attention::operator(op_type))
        .or_else(|| spatial::operator(op_type))
        .or_else(|| signal::operator(op_type))
        .or_else(|| einsum::operator(op_type))
        .or_else(|| loss::operator(op_type))
}

/// Runs an operator by its reference fallback. Where it knows float32 alone, floats of
/// other widths are converted on the way in and out.
pub(crate) fn run(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let run = operator(&call.node.domain, &call.node.op_type)
        .ok_or_else(|| Fault::unsupported("this operator"))?;
    let is_other_float = |tensor: &&Tensor| {
        let kind = tensor.data().element_type();
        matches!(
            kind,
            ElementType::F16 | ElementType::Bf16 | ElementType::F64
        )
    };
    let result = run(call);
    let other = call.inputs.iter().flatten().copied().find(is_other_float);
    let (Err(Fault::Unsupported(_)), Some(other)) = (&result, other) else {
        return result;
    };
    let kind = other.data().element_type();
    let converted = |tensor: &Tensor, to| -> Result<Tensor, Fault> {
        self::tensor(tensor.shape().to_vec(), shape::cast(tensor.data(), to)?)
    };
    let inputs: Vec<Option<Tensor>> = call
        .inputs
        .iter()
        .map(|input| match input {
            Some(tensor) if is_other_float(tensor) => converted(tensor, ElementType::F32).map(Some),
            other => Ok(other.cloned()),
        })
        .collect::<Result<_, _>>()?;
    let call = Call {
        inputs: inputs.iter().map(Option::as_ref).collect(),
        ..*call
    };
    run(&call)?
        .into_iter()
        .map(|tensor| match tensor.data() {
            TensorData::F32(_) => converted(&tensor, kind),
            _ => Ok(tensor),
        })
        .collect()
}

/// Operators that run graphs of their own.
pub(crate) fn is_control_flow(domain: &str, op_type: &str) -> bool {
    domain.is_empty() && matches!(op_type, "If" | "Loop" | "Scan")
}

/// Whether the shapes of an operator's outputs depend on the values of data.
pub(crate) fn has_data_dependent_shape(op_type: &str) -> bool {
    matches!(
        op_type,
        "If" | "Loop" | "Scan" | "NonZero" | "NonMaxSuppression" | "Unique" | "Compress"
    )
}

/// The inputs whose values, not only shapes, decide the output's shape.
pub(crate) fn shape_operands(op_type: &str) -> &'static [usize] {
    match op_type {
        "ConstantOfShape" => &[0],
        "Range" => &[0, 1, 2],
        "Reshape" | "Expand" | "Tile" | "Squeeze" | "Unsqueeze" | "Split" | "TopK" | "OneHot"
        | "CenterCropPad" | "AffineGrid" => &[1],
        "Col2Im" | "DFT" => &[1, 2],
        "STFT" => &[1, 3],
        "MaxUnpool" => &[2],
        "HannWindow" | "HammingWindow" | "BlackmanWindow" => &[0],
        "MelWeightMatrix" => &[0, 1, 2, 3, 4],
        "Pad" => &[1, 3],
        "Slice" => &[1, 2, 3, 4],
        "Resize" | "Upsample" => &[1, 2, 3],
        name if name.starts_with("Reduce") => &[1],
        _ => &[],
    }
}
