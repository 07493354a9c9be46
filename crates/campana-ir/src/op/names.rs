//! From the names of ONNX's operators to [`Op`].

use campana_tensor::ElementType;

use super::attributes::Attributes;
use super::{
    BatchNormalization, Binary, Convolution, Gemm, Op, OpError, Pool, Recurrent, Reduce,
    ReduceKind, Reshape, ResultTypes, Unary,
};
use crate::graph::Node;

/// How many outputs of an ONNX operator of this name are [moved](Op::moved_outputs),
/// whatever its attributes.
pub fn moved_outputs(op_type: &str) -> usize {
    let node = Node {
        op_type: op_type.to_owned(),
        ..Node::default()
    };
    let op = parse(&node, &Attributes::of(&node), TRAINING_ATTRIBUTE);
    op.map_or(0, |op| op.moved_outputs())
}

/// The opset since which training of a normalization is an attribute.
const TRAINING_ATTRIBUTE: i64 = 14;

/// The opset before which `is_test` tells inference from training.
const TEST_ATTRIBUTE: i64 = 7;

const DEFAULT_EPSILON: f32 = 1e-5;

pub(super) fn parse(node: &Node, attributes: &Attributes<'_>, opset: i64) -> Result<Op, OpError> {
    Ok(match node.op_type.as_str() {
        "Conv" => Op::Conv(Convolution::parse(attributes)?),
        "ConvTranspose" => Op::ConvTranspose(Convolution::parse(attributes)?),
        "Gemm" => Op::Gemm(Gemm {
            alpha: attributes.float("alpha", 1.0)?,
            beta: attributes.float("beta", 1.0)?,
            transpose_a: attributes.flag("transA", false)?,
            transpose_b: attributes.flag("transB", false)?,
        }),
        "MatMul" => Op::MatMul,
        "LSTM" => Op::Recurrent(Recurrent::Lstm),
        "GRU" => Op::Recurrent(Recurrent::Gru),
        "RNN" => Op::Recurrent(Recurrent::Rnn),
        "BatchNormalization" => Op::BatchNormalization(BatchNormalization {
            epsilon: attributes.float("epsilon", DEFAULT_EPSILON)?,
            training: is_training(node, attributes, opset)?,
        }),
        "MaxPool" => Op::MaxPool(Pool::parse(attributes)?),
        "AveragePool" => Op::AveragePool(Pool::parse(attributes)?),
        "GlobalAveragePool" => Op::GlobalAveragePool,
        "GlobalMaxPool" => Op::GlobalMaxPool,
        "Softmax"
        | "LogSoftmax"
        | "Hardmax"
        | "InstanceNormalization"
        | "LRN"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "RMSNormalization" => Op::Normalization,
        "GroupNormalization" | "LayerNormalization" if node.outputs.len() < 2 => Op::Normalization,
        "Transpose" => Op::Transpose {
            permutation: attributes.extents("perm", 0)?.unwrap_or_default(),
        },
        "Concat" => Op::Concat {
            axis: attributes.int("axis", 1)?,
        },
        "Split" => Op::Split {
            axis: attributes.int("axis", 0)?,
        },
        "Gather" => Op::Gather {
            axis: attributes.int("axis", 0)?,
        },
        "Slice" => Op::Slice,
        "Pad" => Op::Pad,
        "Cast" => Op::Cast(element_type(attributes.int("to", 0)?)?),
        "Shape" => Op::Shape {
            start: attributes.int("start", 0)?,
            end: match attributes.has("end") {
                true => Some(attributes.int("end", 0)?),
                false => None,
            },
        },
        "QuantizeLinear" => Op::QuantizeLinear {
            output: match attributes.int("output_dtype", 0)? {
                0 => None,
                number => Some(element_type(number)?),
            },
        },
        "DequantizeLinear" => Op::DequantizeLinear,
        "If" | "Loop" | "Scan" => Op::ControlFlow,
        name => match reshape(name, attributes)? {
            Some(reshape) => Op::Reshape(reshape),
            None if name.starts_with("Reduce") => Op::Reduce(Reduce {
                kind: match name {
                    "ReduceMean" => ReduceKind::Mean,
                    "ReduceMax" | "ReduceMin" => ReduceKind::Extremum,
                    _ => ReduceKind::Other,
                },
                axes: attributes.ints("axes")?,
                keep_axes: attributes.flag("keepdims", true)?,
            }),
            None => elementwise(name, node).map_or_else(|| other(name, attributes), Ok)?,
        },
    })
}

/// Before opset 14 more than one output asks for statistics of the batch.
fn is_training(node: &Node, attributes: &Attributes<'_>, opset: i64) -> Result<bool, OpError> {
    if opset >= TRAINING_ATTRIBUTE {
        return attributes.flag("training_mode", false);
    }
    if opset < TEST_ATTRIBUTE {
        return Ok(!attributes.flag("is_test", false)?);
    }
    let is_made = |name: &String| !name.is_empty();
    Ok(node.outputs.iter().skip(1).any(is_made))
}

fn element_type(number: i64) -> Result<ElementType, OpError> {
    i32::try_from(number)
        .ok()
        .filter(|&number| number > 0)
        .map(ElementType::from_onnx)
        .ok_or_else(|| OpError(format!("{number} is no element type")))
}

fn reshape(name: &str, attributes: &Attributes<'_>) -> Result<Option<Reshape>, OpError> {
    Ok(Some(match name {
        "Reshape" => Reshape::To {
            allow_zero: attributes.flag("allowzero", false)?,
        },
        "Flatten" => Reshape::Flatten {
            axis: attributes.int("axis", 1)?,
        },
        "Squeeze" => Reshape::Squeeze(attributes.ints("axes")?),
        "Unsqueeze" => Reshape::Unsqueeze(attributes.ints("axes")?),
        _ => return Ok(None),
    }))
}

fn elementwise(name: &str, node: &Node) -> Option<Op> {
    Some(match name {
        "Relu" => Op::Unary(Unary::Relu),
        "Clip" => Op::Unary(Unary::Clip),
        "Identity" => Op::Unary(Unary::Identity),
        // A third input may ask for training.
        "Dropout" if node.inputs.len() < 3 => Op::Unary(Unary::Identity),
        "Abs" | "Acos" | "Acosh" | "Asin" | "Asinh" | "Atan" | "Atanh" | "BitwiseNot" | "Ceil"
        | "Celu" | "Cos" | "Cosh" | "Elu" | "Erf" | "Exp" | "Floor" | "Gelu" | "HardSigmoid"
        | "HardSwish" | "LeakyRelu" | "Log" | "Mish" | "Neg" | "Reciprocal" | "Round" | "Selu"
        | "Shrink" | "Sigmoid" | "Sign" | "Sin" | "Sinh" | "Softplus" | "Softsign" | "Sqrt"
        | "Swish" | "Tan" | "Tanh" | "ThresholdedRelu" => Op::Unary(Unary::Other),
        "Add" => Op::Binary(Binary::Add),
        "Sub" => Op::Binary(Binary::Sub),
        "Mul" => Op::Binary(Binary::Mul),
        "Div" => Op::Binary(Binary::Div),
        "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "Mod" | "PRelu" | "Pow" => {
            Op::Binary(Binary::Other)
        }
        _ => return None,
    })
}

/// Operators of which stages need the result types alone.
fn other(name: &str, attributes: &Attributes<'_>) -> Result<Op, OpError> {
    use ElementType::{Bool, F32, I32, I64};
    let declared = |attribute: &str, default: ResultTypes| match attributes.int(attribute, 0)? {
        0 => Ok(default),
        number => Ok(ResultTypes::Fixed(element_type(number)?)),
    };
    Ok(Op::Other(match name {
        "And" | "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less"
        | "LessOrEqual" | "Not" | "Or" | "Xor" => ResultTypes::Fixed(Bool),
        "ArgMax" | "ArgMin" | "NonMaxSuppression" | "NonZero" | "Size" => ResultTypes::Fixed(I64),
        "ConvInteger" | "MatMulInteger" => ResultTypes::Fixed(I32),
        "TopK" | "Unique" => ResultTypes::First(0, I64),
        "Dropout" => ResultTypes::First(0, Bool),
        "DynamicQuantizeLinear" => ResultTypes::DynamicQuantization,
        "QLinearConv" => ResultTypes::Input(7),
        "QLinearMatMul" => ResultTypes::Input(7),
        "Where" | "CastLike" | "BitCast" => ResultTypes::Input(1),
        "OneHot" => ResultTypes::Input(2),
        "ConstantOfShape" => ResultTypes::Fixed(
            attributes
                .tensor("value")?
                .map_or(F32, |value| value.data().element_type()),
        ),
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" => {
            declared("dtype", ResultTypes::Input(0))?
        }
        "RandomNormal" | "RandomUniform" => declared("dtype", ResultTypes::Fixed(F32))?,
        "Multinomial" => declared("dtype", ResultTypes::Fixed(I32))?,
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => {
            declared("output_datatype", ResultTypes::Fixed(F32))?
        }
        "TfIdfVectorizer" => ResultTypes::Fixed(F32),
        "ImageDecoder" => ResultTypes::Fixed(ElementType::U8),
        "StringNormalizer" | "StringConcat" => ResultTypes::Fixed(ElementType::String),
        "RegexFullMatch" => ResultTypes::Fixed(Bool),
        name if name.starts_with("Sequence")
            || name.starts_with("Optional")
            || matches!(
                name,
                "ConcatFromSequence" | "SplitToSequence" | "StringSplit"
            ) =>
        {
            ResultTypes::Unknown
        }
        _ => ResultTypes::Input(0),
    }))
}
