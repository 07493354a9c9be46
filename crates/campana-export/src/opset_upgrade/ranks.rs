//! Ranks of a graph's values, as far as the graph declares or shows them.

use std::collections::HashMap;

use campana_onnx::{AttributeValue, Graph, Node, ValueType};

/// The ranks that are known, by name.
#[derive(Debug, Default)]
pub(super) struct Ranks<'m>(HashMap<&'m str, usize>);

impl<'m> Ranks<'m> {
    /// Ranks of a graph's values, in one pass over its nodes.
    pub(super) fn of(graph: &'m Graph) -> Self {
        let mut ranks = HashMap::new();
        for tensor in &graph.initializers {
            ranks.insert(tensor.name.as_str(), tensor.dims.len());
        }
        for value in graph
            .inputs
            .iter()
            .chain(&graph.outputs)
            .chain(&graph.value_info)
        {
            if let Some(ValueType::Tensor(tensor)) = &value.value_type
                && let Some(shape) = &tensor.shape
            {
                ranks.insert(value.name.as_str(), shape.len());
            }
        }
        let mut known = Self(ranks);
        for node in &graph.nodes {
            if let Some(output) = node.outputs.first()
                && !known.0.contains_key(output.as_str())
                && let Some(rank) = known.result(graph, node)
            {
                known.0.insert(output, rank);
            }
        }
        known
    }

    /// The rank of a value.
    pub(super) fn of_value(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    fn result(&self, graph: &Graph, node: &Node) -> Option<usize> {
        let of = |index: usize| self.of_value(node.inputs.get(index)?);
        let listed = |name: &str| match &node.attribute(name)?.value {
            AttributeValue::Ints(values) => Some(values.len()),
            _ => None,
        };
        match node.op_type.as_str() {
            "Flatten" | "Gemm" => Some(2),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => Some(of(0)?.max(of(1)?)),
            "MatMul" => Some(of(0)?.max(of(1)?)).filter(|_| of(0) > Some(1) && of(1) > Some(1)),
            "Conv" | "ConvTranspose" => of(0).or_else(|| of(1)),
            "Concat" => (0..node.inputs.len()).find_map(of),
            "Constant" => match &node.attribute("value")?.value {
                AttributeValue::Tensor(tensor) => Some(tensor.dims.len()),
                _ => None,
            },
            "Gather" => (of(0)? + of(1)?).checked_sub(1),
            "Reshape" => {
                let shape = node.inputs.get(1)?;
                let mut tensors = graph.initializers.iter();
                let stored = tensors.find(|tensor| tensor.name == *shape)?;
                usize::try_from(*stored.dims.first()?).ok()
            }
            "Squeeze" => of(0)?.checked_sub(listed("axes")?),
            "Unsqueeze" => Some(of(0)? + listed("axes")?),
            "AveragePool"
            | "BatchNormalization"
            | "Cast"
            | "Clip"
            | "Dropout"
            | "Elu"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "HardSigmoid"
            | "Identity"
            | "InstanceNormalization"
            | "LRN"
            | "LeakyRelu"
            | "LogSoftmax"
            | "MaxPool"
            | "PRelu"
            | "Pad"
            | "Relu"
            | "Sigmoid"
            | "Slice"
            | "Softmax"
            | "Split"
            | "Tanh"
            | "Transpose" => of(0),
            _ => None,
        }
    }
}
