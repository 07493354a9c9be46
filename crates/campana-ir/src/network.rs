//! A graph with what every stage asks about it: typed operators, element types
//! and shapes, producers and use counts, and its layers.
//!
//! A [`Network`] is made once from a graph and borrows it. Its answers are the
//! only definition of what is depthwise, what is a layer's bias or
//! normalization, what an engine computes in a layer's epilogue
//! ([`layers`](Network::layer)) and which activations are quantized
//! ([`quantized_activations`]).

mod activations;
mod layer;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use campana_tensor::{ElementType, Tensor, TensorData};

pub use activations::{
    ResidualSums, concatenated_activations, quantized_activations, quantized_for_speed,
};
pub use layer::{Bias, Layer};

use crate::graph::{Graph, Node};
use crate::infer::{ValueInfo, Values, infer};
use crate::op::{Op, OpError};

/// A graph, analysed.
#[derive(Debug)]
pub struct Network<'g> {
    graph: &'g Graph,
    ops: Vec<Op>,
    values: Values,
    producers: HashMap<&'g str, usize>,
    uses: HashMap<&'g str, Vec<Use>>,
    outputs: HashSet<&'g str>,
    parameters: HashSet<&'g str>,
    /// Nodes whose weights stay floats.
    float_layers: HashSet<usize>,
}

/// One reading of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The node that reads, by its position in the graph.
    pub node: usize,
    /// Which of its inputs; `None` where a subgraph of the node reads the value.
    pub input: Option<usize>,
}

/// Why a graph cannot be analysed: a node that is no valid use of its operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node}: {source}")]
pub struct InvalidNode {
    /// The operator and the node's name or first output.
    pub node: String,
    #[source]
    source: OpError,
}

impl<'g> Network<'g> {
    /// Analyses a graph.
    ///
    /// # Errors
    ///
    /// Where a node's attributes are no valid use of its operator.
    pub fn new(graph: &'g Graph) -> Result<Self, InvalidNode> {
        let opset = graph.opset();
        let parse = |node: &Node| Op::parse(node, opset).map_err(|error| invalid(node, error));
        let ops: Vec<Op> = graph.nodes.iter().map(parse).collect::<Result<_, _>>()?;
        let values = infer(graph, &ops).map_err(|source| InvalidNode {
            node: "a subgraph".to_owned(),
            source,
        })?;
        let mut producers = HashMap::new();
        let mut uses: HashMap<&str, Vec<Use>> = HashMap::new();
        for (node, found) in graph.nodes.iter().enumerate() {
            for (input, name) in found.inputs.iter().enumerate() {
                let input = Some(input);
                uses.entry(name).or_default().push(Use { node, input });
            }
            for name in found.graphs().flat_map(|(_, graph)| graph.captures()) {
                uses.entry(name)
                    .or_default()
                    .push(Use { node, input: None });
            }
            producers.extend(found.outputs.iter().map(|name| (name.as_str(), node)));
        }
        uses.remove("");
        producers.remove("");
        let outputs = graph.outputs.iter().map(|value| value.name.as_str());
        let mut network = Self {
            graph,
            ops,
            values,
            producers,
            uses,
            outputs: outputs.collect(),
            parameters: HashSet::new(),
            float_layers: HashSet::new(),
        };
        network.parameters = network.find_parameters();
        Ok(network)
    }

    /// Values that depend on constants alone.
    fn find_parameters(&self) -> HashSet<&'g str> {
        let graph = self.graph;
        let constants = graph.constants.keys().chain(graph.quantized.keys());
        let mut known: HashSet<&'g str> = constants.map(String::as_str).collect();
        for (node, op) in graph.nodes.iter().zip(&self.ops) {
            let is_known = |name: &String| name.is_empty() || known.contains(name.as_str());
            let draws = node.op_type.starts_with("Random") || node.op_type == "Bernoulli";
            if *op != Op::ControlFlow && !draws && node.inputs.iter().all(is_known) {
                known.extend(node.outputs.iter().map(String::as_str));
            }
        }
        known
    }

    /// The graph.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// A node of the graph.
    pub fn node(&self, node: usize) -> &'g Node {
        &self.graph.nodes[node]
    }

    /// What a node computes.
    pub fn op(&self, node: usize) -> &Op {
        &self.ops[node]
    }

    /// What is known of a value before a run.
    pub fn value(&self, name: &str) -> Option<&ValueInfo> {
        self.values.get(name)
    }

    /// The node that makes a value.
    pub fn producer(&self, name: &str) -> Option<usize> {
        self.producers.get(name).copied()
    }

    /// Who reads a value, in the graph's order.
    pub fn uses(&self, name: &str) -> &[Use] {
        self.uses.get(name).map_or(&[], Vec::as_slice)
    }

    /// Nodes on which the graph's outputs depend.
    pub fn live_nodes(&self) -> HashSet<usize> {
        let mut waiting: Vec<&str> = self.outputs.iter().copied().collect();
        let mut live = HashSet::new();
        while let Some(name) = waiting.pop() {
            if let Some(node) = self.producer(name)
                && live.insert(node)
            {
                waiting.extend(self.node(node).reads());
            }
        }
        live
    }

    /// The only reader of a value that is no output of the graph.
    pub fn sole_use(&self, name: &str) -> Option<(usize, usize)> {
        match self.uses(name) {
            [
                Use {
                    node,
                    input: Some(input),
                },
            ] if !self.is_output(name) => Some((*node, *input)),
            _ => None,
        }
    }

    /// Whether the graph gives the value to its caller.
    pub fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// Whether a value depends on constants alone.
    pub fn is_parameter(&self, name: &str) -> bool {
        self.parameters.contains(name)
    }

    /// Whether a value is float32 and depends on the graph's inputs.
    pub fn is_activation(&self, name: &str) -> bool {
        let info = self.values.get(name);
        info.is_some_and(|info| info.element_type == Some(ElementType::F32))
            && !self.is_parameter(name)
    }

    /// The elements of a float32 constant of the graph.
    pub fn constant(&self, name: &str) -> Option<(&'g [usize], &'g [f32])> {
        let tensor: &Tensor = self.graph.constants.get(name)?;
        match tensor.data() {
            TensorData::F32(values) => Some((tensor.shape(), values)),
            _ => None,
        }
    }

    /// Extents of a constant or quantized tensor of the graph.
    pub fn constant_shape(&self, name: &str) -> Option<&'g [usize]> {
        match self.graph.constants.get(name) {
            Some(tensor) => Some(tensor.shape()),
            None => Some(&self.graph.quantized.get(name)?.shape),
        }
    }
}

fn invalid(node: &Node, source: OpError) -> InvalidNode {
    InvalidNode {
        node: format!("{} {:?}", node.op_type, node.label()),
        source,
    }
}
