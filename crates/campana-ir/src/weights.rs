//! Which tensors of a model are weights, and along which axis their output
//! channels lie.

mod uses;

use std::collections::BTreeSet;

use campana_onnx::{AttributeValue, Graph, Model, TensorProto};
use campana_tensor::ElementType;

use crate::op::axis_from_start;

pub use uses::{Origin, moved_inputs};
use uses::{Use, Uses};

/// A constant float tensor of a model's graph or of a graph inside a node.
#[derive(Clone, Debug)]
pub struct ModelTensor<'m> {
    /// The name under which operators read it.
    pub name: &'m str,
    /// The operator that reads it first; `""` where none does.
    pub op_type: &'m str,
    /// The graph that defines it: the model's, or one inside of a node (the
    /// branches of `If`, the bodies of `Loop` and `Scan`).
    pub graph: &'m Graph,
    /// Where it is kept.
    pub origin: Origin,
    /// Its header and where its elements are.
    pub proto: &'m TensorProto,
    /// What it is for.
    pub role: Role,
}

impl ModelTensor<'_> {
    /// Whether a graph inside of a node defines it, not the model's own graph.
    pub fn is_nested(&self, model: &Model) -> bool {
        self.graph.message != model.graph.message
    }

    /// Whether a recurrent layer reads it first.
    pub fn is_recurrent(&self) -> bool {
        matches!(self.op_type, "LSTM" | "GRU" | "RNN")
    }
}

/// What a constant tensor is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The weights of at least one layer: a convolution, a matrix product, a
    /// recurrent layer, or a large table whose rows are looked up.
    Weight {
        /// The axis of the output channels; `None` where the operators that
        /// share the tensor disagree or it is reshaped on its way.
        channel_axis: Option<usize>,
        /// Whether each output channel of a convolution reads one input
        /// channel.
        depthwise: bool,
    },
    /// Anything else: the words say what, to be read after "it is".
    Other(String),
}

impl Role {
    /// Whether these are the weights of a depthwise convolution.
    pub fn is_depthwise(&self) -> bool {
        matches!(
            self,
            Self::Weight {
                depthwise: true,
                ..
            }
        )
    }
}

/// The constant float tensors (16-, 32- and 64-bit) of a model: initializers
/// and constants of its graph, then those of the graphs inside of its nodes.
///
/// A weight may reach its operator through Identity, Cast, Transpose, Reshape,
/// Squeeze, Unsqueeze, Flatten, Slice, Split and Concat (of weights alone), and
/// from any graph around the operator's. One that reaches an output of its graph
/// in this way is none: it would be another there.
pub fn constant_tensors(model: &Model) -> Vec<ModelTensor<'_>> {
    let trained = trained_names(model);
    let found = Uses::of(model);
    let tensors = found.tensors.into_iter().zip(found.uses).enumerate();
    tensors
        .map(|(at, (tensor, uses))| {
            let must_stay = match () {
                () if trained.contains(tensor.name) => {
                    Some("bound to an output of the training graph")
                }
                () if found.given.contains(&at) => Some("also an output of the graph"),
                () => None,
            };
            ModelTensor {
                op_type: uses.first().map_or("", |used| used.node.op_type.as_str()),
                role: role(model, tensor.proto, &uses, must_stay),
                name: tensor.name,
                graph: tensor.graph,
                origin: tensor.origin,
                proto: tensor.proto,
            }
        })
        .collect()
}

/// Initializers that training assigns: they must stay initializers.
fn trained_names(model: &Model) -> BTreeSet<&str> {
    let bindings = model.training_info.iter().flat_map(|info| {
        info.initialization_binding
            .iter()
            .chain(&info.update_binding)
    });
    bindings.map(|(name, _)| name.as_str()).collect()
}

/// What a tensor is for; `must_stay` says why it keeps its values where it would
/// be a weight.
fn role(
    model: &Model,
    proto: &TensorProto,
    uses: &[Use<'_>],
    must_stay: Option<&'static str>,
) -> Role {
    let shape = &proto.dims;
    let as_weight: Vec<_> = uses
        .iter()
        .filter_map(|used| weight_axis(model, used, shape))
        .collect();
    let Some(&(first_axis, _)) = as_weight.first() else {
        return Role::Other(
            uses.first()
                .map_or_else(|| "read by no operator".to_owned(), purpose),
        );
    };
    if let Some(reason) = must_stay {
        return Role::Other(reason.to_owned());
    }
    if proto.element_type == ElementType::F64 {
        return Role::Other("a float64 tensor (convert the model to float32)".to_owned());
    }
    Role::Weight {
        channel_axis: first_axis.filter(|_| as_weight.iter().all(|(axis, _)| *axis == first_axis)),
        depthwise: as_weight.iter().any(|(_, depthwise)| *depthwise),
    }
}

/// The inputs of an operator that are weights where they are constants, of those
/// operators that multiply an activation with them.
pub fn weight_inputs(op_type: &str) -> &'static [usize] {
    match op_type {
        "Conv" | "FusedConv" | "DeformConv" | "ConvTranspose" => &[1],
        "Gemm" | "FusedGemm" | "MatMul" | "FusedMatMul" => &[0, 1],
        "LSTM" | "GRU" | "RNN" => &[1, 2],
        _ => &[],
    }
}

/// The least elements of a table that counts as weights: below, its decoder
/// would take as much as it saves.
const MIN_TABLE_LEN: i64 = 4096;

/// The least elements of a row of such a table.
const MIN_TABLE_ROW_LEN: i64 = 8;

/// Where this use is one as weights: the constant's axis of output channels,
/// and whether the convolution is depthwise.
fn weight_axis(model: &Model, used: &Use<'_>, shape: &[i64]) -> Option<(Option<usize>, bool)> {
    let node = used.node;
    let known = matches!(node.domain.as_str(), "" | "ai.onnx" | "com.microsoft");
    if !known || shape.len() < 2 {
        return None;
    }
    let rank = shape.len();
    let grouped = node.int("group").unwrap_or(1) > 1;
    let flag = |name| node.int(name).unwrap_or(0) != 0;
    let (axis, depthwise) = match (node.op_type.as_str(), used.input) {
        ("Conv" | "FusedConv", 1) => (0, grouped && shape[1] == 1),
        ("DeformConv", 1) => (0, false),
        // [in, out / groups, ..]: with one output channel a group, these lie
        // along the first axis.
        ("ConvTranspose", 1) if grouped && shape[1] == 1 => (0, true),
        ("ConvTranspose", 1) => (1, false),
        ("Gemm" | "FusedGemm", 0) => (usize::from(flag("transA")), false),
        ("Gemm" | "FusedGemm", 1) => (usize::from(!flag("transB")), false),
        ("MatMul", 0) => (rank - 2, false),
        ("MatMul", 1) => (rank - 1, false),
        ("FusedMatMul", 0) => (rank - 2 + usize::from(flag("transA")), false),
        ("FusedMatMul", 1) => (rank - 1 - usize::from(flag("transB")), false),
        // [directions, gates * hidden, in]
        ("LSTM" | "GRU" | "RNN", 1 | 2) => (1, false),
        ("Einsum", input) => return Some((einsum_axis(model, used, input)?, false)),
        ("Gather", 0) => {
            let axis = node.int("axis").unwrap_or(0);
            let axis = axis_from_start(axis, rank)?;
            let rows = *shape.get(axis)?;
            let count = shape
                .iter()
                .fold(1i64, |count, &dim| count.saturating_mul(dim));
            let is_table = count >= MIN_TABLE_LEN && count / rows.max(1) >= MIN_TABLE_ROW_LEN;
            if !is_table {
                return None;
            }
            (axis, false)
        }
        _ => return None,
    };
    Some((used.axes.own_axis(axis), depthwise))
}

/// The axis of output channels of an operand that an Einsum sums over: an
/// axis that the result has and no other operand; `None` for an operand that
/// is only multiplied element by element.
fn einsum_axis(model: &Model, used: &Use<'_>, input: usize) -> Option<Option<usize>> {
    let AttributeValue::String(span) = used.node.attribute("equation")?.value else {
        return None;
    };
    let equation = String::from_utf8(model.source().read(span).ok()?).ok()?;
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = match equation.split_once("->") {
        Some((operands, result)) => (operands, Some(result)),
        None => (equation.as_str(), None),
    };
    let operands: Vec<&str> = operands.split(',').collect();
    let own = *operands.get(input)?;
    let elsewhere = |letter: char| {
        let others = operands.iter().enumerate().filter(|&(at, _)| at != input);
        others
            .into_iter()
            .any(|(_, operand)| operand.contains(letter))
    };
    // Without a result, letters that occur once are kept.
    let is_kept = |letter: char| match result {
        Some(result) => result.contains(letter),
        None => operands.concat().matches(letter).count() == 1,
    };
    let is_summed = own
        .chars()
        .any(|c| c.is_alphabetic() && elsewhere(c) && !is_kept(c));
    if !is_summed || own.contains('.') {
        return is_summed.then_some(None);
    }
    let free = own.chars().position(|c| is_kept(c) && !elsewhere(c));
    Some(free.and_then(|axis| used.axes.own_axis(axis)))
}

/// What a tensor that is no weight is for.
fn purpose(used: &Use<'_>) -> String {
    match (used.node.op_type.as_str(), used.input) {
        ("Conv" | "ConvTranspose" | "Gemm", 2) | ("LSTM" | "GRU" | "RNN", 3) => "a bias".to_owned(),
        ("BatchNormalization", 1..) => "a BatchNormalization parameter".to_owned(),
        (op_type, _) => format!("an input of {op_type}"),
    }
}

#[cfg(test)]
mod tests;
