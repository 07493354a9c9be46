//! Which tensors of a model are weights, and along which axis their output
//! channels lie.

use std::collections::{BTreeSet, HashMap, HashSet};

use campana_onnx::{Attribute, AttributeValue, Graph, Model, Node, TensorProto};
use campana_tensor::ElementType;

/// Axes that a permutation may have: a longer one is that of no tensor, and
/// would be copied with every use.
const MAX_RANK: usize = 64;

/// A constant float tensor of a model's main graph.
#[derive(Clone, Debug)]
pub struct ModelTensor<'m> {
    /// The name under which operators read it.
    pub name: &'m str,
    /// The operator that reads it first; `""` where none does.
    pub op_type: &'m str,
    /// Where it is kept.
    pub origin: Origin,
    /// Its header and where its elements are.
    pub proto: &'m TensorProto,
    /// What it is for.
    pub role: Role,
}

/// Where a graph keeps a constant; the number is the position among the
/// graph's initializers or nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An initializer.
    Initializer(usize),
    /// The attribute `value` of a `Constant` node.
    ConstantNode(usize),
}

/// What a constant tensor is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The weights of at least one Conv, ConvTranspose, Gemm or MatMul.
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

/// The constant float tensors (16-, 32- and 64-bit) of a model's main graph,
/// initializers first.
///
/// A weight may reach its operator through Identity, Cast, Transpose, Reshape,
/// Squeeze, Unsqueeze and Flatten.
pub fn constant_tensors(model: &Model) -> Vec<ModelTensor<'_>> {
    let graph = &model.graph;
    let mut tensors = Vec::new();
    let mut seen = HashSet::new();
    for (index, proto) in graph.initializers.iter().enumerate() {
        if is_float(proto) && seen.insert(proto.name.as_str()) {
            tensors.push((proto.name.as_str(), Origin::Initializer(index), proto));
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let ("Constant", [output]) = (node.op_type.as_str(), node.outputs.as_slice()) else {
            continue;
        };
        if let Some(Attribute {
            value: AttributeValue::Tensor(proto),
            ..
        }) = node.attribute("value")
            && is_float(proto)
            && seen.insert(output)
        {
            tensors.push((output.as_str(), Origin::ConstantNode(index), &**proto));
        }
    }
    let uses = uses_by_name(graph);
    let trained = trained_names(model);
    tensors
        .into_iter()
        .map(|(name, origin, proto)| {
            let uses = uses.get(name).map_or(&[][..], Vec::as_slice);
            ModelTensor {
                name,
                op_type: uses.first().map_or("", |used| used.node.op_type.as_str()),
                origin,
                proto,
                role: role(name, proto, uses, &trained),
            }
        })
        .collect()
}

fn is_float(proto: &TensorProto) -> bool {
    use ElementType::{Bf16, F16, F32, F64};
    matches!(proto.element_type, F32 | F16 | Bf16 | F64)
}

/// One reading of a constant by an operator.
struct Use<'m> {
    node: &'m Node,
    /// Which of the node's inputs it is.
    input: usize,
    /// For each axis that the operator sees, the constant's own axis; `None`
    /// where it was reshaped on its way.
    axes: Axes,
}

#[derive(Clone)]
enum Axes {
    Same,
    Permuted(Vec<usize>),
    Lost,
}

impl Axes {
    fn own_axis(&self, seen: usize) -> Option<usize> {
        match self {
            Self::Same => Some(seen),
            Self::Permuted(permutation) => permutation.get(seen).copied(),
            Self::Lost => None,
        }
    }
}

/// All uses of each name, also under the names it gets from operators that
/// only move its elements.
fn uses_by_name(graph: &Graph) -> HashMap<&str, Vec<Use<'_>>> {
    // name -> the constant it stands for, and how its axes lie
    let mut alias: HashMap<&str, (&str, Axes)> = HashMap::new();
    let mut uses: HashMap<&str, Vec<Use<'_>>> = HashMap::new();
    for node in &graph.nodes {
        for (input, name) in node.inputs.iter().enumerate() {
            let (origin, axes) = match alias.get(name.as_str()) {
                Some((origin, axes)) => (*origin, axes.clone()),
                None => (name.as_str(), Axes::Same),
            };
            match (moved_axes(node, &axes), node.outputs.first()) {
                (Some(axes), Some(output)) if input == 0 => {
                    alias.insert(output, (origin, axes));
                }
                _ => uses
                    .entry(origin)
                    .or_default()
                    .push(Use { node, input, axes }),
            }
        }
    }
    uses
}

/// How axes lie behind an operator that only moves elements; `None` for any
/// other operator.
fn moved_axes(node: &Node, axes: &Axes) -> Option<Axes> {
    match (node.op_type.as_str(), axes) {
        ("Identity" | "Cast", axes) => Some(axes.clone()),
        ("Transpose", Axes::Same) => match node.attribute("perm").map(|a| &a.value) {
            Some(AttributeValue::Ints(permutation)) if permutation.len() <= MAX_RANK => {
                let axes = permutation.iter().map(|&axis| axis as usize);
                Some(Axes::Permuted(axes.collect()))
            }
            _ => Some(Axes::Lost),
        },
        ("Transpose" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten", _) => Some(Axes::Lost),
        _ => None,
    }
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

fn role(name: &str, proto: &TensorProto, uses: &[Use<'_>], trained: &BTreeSet<&str>) -> Role {
    let shape = &proto.dims;
    let as_weight: Vec<_> = uses
        .iter()
        .filter_map(|used| weight_axis(used, shape))
        .collect();
    let Some(&(first_axis, _)) = as_weight.first() else {
        return Role::Other(
            uses.first()
                .map_or_else(|| "read by no operator".to_owned(), purpose),
        );
    };
    if trained.contains(name) {
        return Role::Other("bound to an output of the training graph".to_owned());
    }
    if proto.element_type == ElementType::F64 {
        return Role::Other("a float64 tensor (convert the model to float32)".to_owned());
    }
    Role::Weight {
        channel_axis: first_axis.filter(|_| as_weight.iter().all(|(axis, _)| *axis == first_axis)),
        depthwise: as_weight.iter().any(|(_, depthwise)| *depthwise),
    }
}

/// Where this use is one as weights: the constant's axis of output channels,
/// and whether the convolution is depthwise.
fn weight_axis(used: &Use<'_>, shape: &[i64]) -> Option<(Option<usize>, bool)> {
    let node = used.node;
    if !matches!(node.domain.as_str(), "" | "ai.onnx") || shape.len() < 2 {
        return None;
    }
    let rank = shape.len();
    let grouped = node.int("group").unwrap_or(1) > 1;
    let flag = |name| node.int(name).unwrap_or(0) != 0;
    let (axis, depthwise) = match (node.op_type.as_str(), used.input) {
        ("Conv", 1) => (0, grouped && shape[1] == 1),
        // [in, out / groups, ..]: with one output channel a group, these lie
        // along the first axis.
        ("ConvTranspose", 1) if grouped && shape[1] == 1 => (0, true),
        ("ConvTranspose", 1) => (1, false),
        ("Gemm", 0) => (usize::from(flag("transA")), false),
        ("Gemm", 1) => (usize::from(!flag("transB")), false),
        ("MatMul", 0) => (rank - 2, false),
        ("MatMul", 1) => (rank - 1, false),
        _ => return None,
    };
    Some((used.axes.own_axis(axis), depthwise))
}

/// What a tensor that is no weight is for.
fn purpose(used: &Use<'_>) -> String {
    match (used.node.op_type.as_str(), used.input) {
        ("Conv" | "ConvTranspose" | "Gemm", 2) => "a bias".to_owned(),
        ("BatchNormalization", 1..) => "a BatchNormalization parameter".to_owned(),
        (op_type, _) => format!("an input of {op_type}"),
    }
}
