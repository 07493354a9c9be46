//! Operators as an enum: names and attributes of nodes, parsed and checked
//! once.
//!
//! Whoever asks what a node computes matches on [`Op`]; the names of ONNX's
//! operators are spelled here and nowhere else. An operator whose attributes
//! no stage needs is [`Op::Other`] with its result type, so that element types
//! are known behind it too.
//!
//! # References
//!
//! ONNX operator schemas, <https://onnx.ai/onnx/operators/>, operator sets 7 to 24.

mod attributes;
mod names;
mod resize;
mod slice;
mod window;

#[cfg(test)]
mod tests;

use campana_tensor::ElementType;

pub use attributes::OpError;
pub use names::moved_outputs;
pub use resize::ResizedAxis;
pub use slice::Slices;
pub use window::{AutoPad, Convolution, Pool, TransposedPlaces, Window, WindowPlaces};

use crate::graph::Node;
use attributes::Attributes;

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Convolution of input 0 with weights (input 1) and an optional bias (input 2).
    Conv(Convolution),
    /// Transposed convolution; inputs as for [`Op::Conv`].
    ConvTranspose(Convolution),
    /// `alpha * op(A) * op(B) + beta * C`.
    Gemm(Gemm),
    /// Matrix product, batched over leading axes.
    MatMul,
    /// LSTM, GRU or RNN: weights are inputs 1 and 2.
    Recurrent(Recurrent),
    /// Batch normalization by stored or, in training, by measured statistics.
    BatchNormalization(BatchNormalization),
    /// A function of each element alone.
    Unary(Unary),
    /// A function of two broadcast operands.
    Binary(Binary),
    /// A normalization of other kinds, or a softmax: mixes elements, keeps type
    /// and shape.
    Normalization,
    /// Greatest value of each window.
    MaxPool(Pool),
    /// Mean of each window.
    AveragePool(Pool),
    /// Mean over all spatial axes.
    GlobalAveragePool,
    /// Greatest value over all spatial axes.
    GlobalMaxPool,
    /// A reduction that keeps the element type.
    Reduce(Reduce),
    /// Elements in another shape, their order kept.
    Reshape(Reshape),
    /// Elements in another order.
    Transpose {
        /// The input's axis at each place; empty for the reverse order.
        permutation: Vec<usize>,
    },
    /// Inputs one after another along an axis.
    Concat {
        /// The axis; counted from the end where negative.
        axis: i64,
    },
    /// A part of the input.
    Slice,
    /// The input with a border.
    Pad,
    /// Parts of the input along an axis, one an output.
    Split {
        /// The axis; counted from the end where negative.
        axis: i64,
    },
    /// Elements of the input, chosen by integer indices (input 1).
    Gather {
        /// The axis; counted from the end where negative.
        axis: i64,
    },
    /// Elements converted to another type.
    Cast(ElementType),
    /// The input's shape as int64.
    Shape {
        /// The first axis; counted from the end where negative.
        start: i64,
        /// The axis after the last one; counted from the end where negative.
        end: Option<i64>,
    },
    /// Rounds to codes of 8 or 16 bits.
    QuantizeLinear {
        /// The type of the codes, where an attribute says so.
        output: Option<ElementType>,
    },
    /// Decodes codes to floats.
    DequantizeLinear,
    /// `If`, `Loop` or `Scan`: runs subgraphs.
    ControlFlow,
    /// Any other operator.
    Other(ResultTypes),
}

/// Attributes of `Gemm`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "named after ONNX's attributes")]
pub struct Gemm {
    pub alpha: f32,
    pub beta: f32,
    pub transpose_a: bool,
    pub transpose_b: bool,
}

/// A recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after ONNX's operators")]
pub enum Recurrent {
    Lstm,
    Gru,
    Rnn,
}

/// Attributes of `BatchNormalization`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormalization {
    /// Added to the variance before its root is taken.
    pub epsilon: f32,
    /// Whether statistics of the input are used instead of those stored.
    pub training: bool,
}

/// An axis that is counted from the end where negative, from the start; `None`
/// where a tensor of this rank has none.
pub fn axis_from_start(axis: i64, rank: usize) -> Option<usize> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start).ok().filter(|&axis| axis < rank)
}

impl BatchNormalization {
    /// Factor and offset of each channel, `y = factor x + offset`, by its scale,
    /// bias, mean and variance; `None` where these are not equally many.
    pub fn affine(&self, parameters: [&[f32]; 4]) -> Option<Vec<[f64; 2]>> {
        let [scale, bias, mean, variance] = parameters;
        let epsilon = f64::from(self.epsilon);
        let affine = (0..scale.len()).map(|c| {
            let factor = f64::from(scale[c]) / (f64::from(variance[c]) + epsilon).sqrt();
            [factor, f64::from(bias[c]) - f64::from(mean[c]) * factor]
        });
        let are_equal = parameters.iter().all(|values| values.len() == scale.len());
        are_equal.then(|| affine.collect())
    }
}

/// Element-wise functions that stages tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `max(x, 0)`.
    Relu,
    /// Clamps to constant or computed bounds.
    Clip,
    /// The value itself (`Identity`; `Dropout` outside of training).
    Identity,
    /// Any other function of one element, of the same type.
    Other,
}

/// Element-wise functions of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after ONNX's operators")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// Any other with a result of the operands' type.
    Other,
}

/// What a reduction makes of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Their mean.
    Mean,
    /// The greatest or least of them.
    Extremum,
    /// A sum, norm or product.
    Other,
}

/// Attributes of the reductions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// What is made of the elements.
    pub kind: ReduceKind,
    /// Axes from the attribute; `None` where an input gives them or all are reduced.
    pub axes: Option<Vec<i64>>,
    /// Whether reduced axes stay with extent 1.
    pub keep_axes: bool,
}

/// How a reshaping operator finds its output's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reshape {
    /// `Reshape`: input 1 is the shape; 0 copies an extent unless `allow_zero`.
    To {
        /// Whether 0 is an extent of its own.
        allow_zero: bool,
    },
    /// `Flatten` to a matrix at an axis.
    Flatten {
        /// The axis; counted from the end where negative.
        axis: i64,
    },
    /// `Squeeze`: axes from the attribute, or input 1.
    Squeeze(Option<Vec<i64>>),
    /// `Unsqueeze`: axes from the attribute, or input 1.
    Unsqueeze(Option<Vec<i64>>),
}

/// Element types of an operator's outputs, as far as its name and attributes
/// tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultTypes {
    /// That of an input.
    Input(usize),
    /// Always this one.
    Fixed(ElementType),
    /// The first output as an input, later ones of a fixed type.
    First(usize, ElementType),
    /// uint8, float32, uint8 (`DynamicQuantizeLinear`).
    DynamicQuantization,
    /// Nothing is known.
    Unknown,
}

impl Op {
    /// What a node computes, in the version of ONNX's operators that the model
    /// uses.
    ///
    /// # Errors
    ///
    /// Where an attribute has another type than the operator defines, or a
    /// value out of its domain: a group of 0, a stride below 1, an unknown
    /// `auto_pad`. The error names the attribute.
    pub fn parse(node: &Node, opset: i64) -> Result<Self, OpError> {
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Ok(Self::Other(ResultTypes::Unknown));
        }
        names::parse(node, &Attributes::of(node), opset)
    }

    /// Whether the operator multiplies an activation with weights that it sums
    /// over: the operators whose weights are quantized.
    pub fn is_product(&self) -> bool {
        matches!(
            self,
            Self::Conv(_)
                | Self::ConvTranspose(_)
                | Self::Gemm(_)
                | Self::MatMul
                | Self::Recurrent(_)
        )
    }

    /// Whether each element of the result depends on one element of each input
    /// alone, parameters of channels among these.
    pub fn is_elementwise(&self) -> bool {
        match self {
            Self::Unary(_) | Self::Binary(_) => true,
            Self::BatchNormalization(normalization) => !normalization.training,
            _ => false,
        }
    }

    /// Whether the first output, or each part of a split, holds elements of input 0
    /// alone, unchanged (and zeros, for padding), all of them or some: of quantized
    /// activations it makes quantized activations with the same parameters.
    pub fn moves_elements(&self) -> bool {
        matches!(
            self,
            Self::MaxPool(_)
                | Self::Slice
                | Self::Split { .. }
                | Self::Pad
                | Self::Transpose { .. }
                | Self::Reshape(_)
                | Self::Unary(Unary::Identity)
        ) || self.is_extremum()
    }

    /// Whether it is the greatest or least value along some axes.
    pub fn is_extremum(&self) -> bool {
        matches!(
            self,
            Self::GlobalMaxPool
                | Self::Reduce(Reduce {
                    kind: ReduceKind::Extremum,
                    ..
                })
        )
    }

    /// How many outputs, at most, are [moved elements](Self::moves_elements): the
    /// places of greatest values are not.
    pub fn moved_outputs(&self) -> usize {
        match self {
            Self::Split { .. } => usize::MAX,
            op => usize::from(op.moves_elements()),
        }
    }
}
