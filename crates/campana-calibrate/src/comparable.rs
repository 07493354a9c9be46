//! Outputs by which two networks can be compared.
//!
//! What a network selects (the boxes of a non-maximum suppression, the class of an
//! `ArgMax`, what lies above a threshold) jumps when two candidates of nearly equal
//! scores swap places, however exact both are. Where outputs depend on such a selection
//! the values that it selects from and by are compared instead.

use std::collections::HashSet;
use std::fmt;

use campana_ir::graph::{Graph, Node, Value};
use campana_ir::network::Network;
use campana_ir::op::Op;
use campana_tensor::ElementType;
use serde::Serialize;

/// What of two networks is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// Their outputs.
    #[default]
    Outputs,
    /// The values that these are selected from and by.
    Candidates,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outputs => "the outputs",
            Self::Candidates => "what the outputs are selected from",
        })
    }
}

/// The graph with outputs that change little where its activations do, and without the
/// nodes that these do not need; `None` where its own are so. A graph with layers behind
/// a selection, of which the outputs alone tell something, keeps its own.
pub(crate) fn with_comparable_outputs(graph: &Graph) -> Option<Graph> {
    let network = Network::new(graph).ok()?;
    let selected = selected(&network);
    let outputs = || graph.outputs.iter().map(|output| output.name.as_str());
    let has_layer = network
        .layers()
        .any(|layer| selected.contains(layer.output));
    if has_layer || !outputs().any(|name| selected.contains(name)) {
        return None;
    }
    let mut found = Found {
        network: &network,
        selected: &selected,
        seen: HashSet::new(),
        names: Vec::new(),
    };
    outputs().for_each(|name| found.add(name));
    let names = found.names;
    (!names.is_empty()).then(|| Graph {
        nodes: needed(graph, &names),
        outputs: names.into_iter().map(Value::named).collect(),
        ..graph.clone()
    })
}

/// Values that depend on a selection: integers or truths that depend on activations,
/// and whatever depends on these.
fn selected<'g>(network: &Network<'g>) -> HashSet<&'g str> {
    let mut selected: HashSet<&str> = HashSet::new();
    let nodes = &network.graph().nodes;
    for (at, node) in nodes.iter().enumerate() {
        // Shapes change with no activation's values.
        if matches!(network.op(at), Op::Shape { .. }) || node.op_type == "Size" {
            continue;
        }
        let reads_selected = node.reads().any(|name| selected.contains(name));
        let reads_activations = node.reads().any(|name| network.is_activation(name));
        for output in node.outputs.iter().filter(|output| !output.is_empty()) {
            let is_discrete = network
                .value(output)
                .and_then(|value| value.element_type)
                .is_some_and(is_discrete);
            if reads_selected || reads_activations && is_discrete {
                selected.insert(output);
            }
        }
    }
    selected
}

fn is_discrete(element_type: ElementType) -> bool {
    matches!(
        element_type,
        ElementType::I64 | ElementType::I32 | ElementType::Bool
    )
}

/// The values that are compared.
struct Found<'g, 'n> {
    network: &'n Network<'g>,
    selected: &'n HashSet<&'g str>,
    seen: HashSet<&'g str>,
    names: Vec<&'g str>,
}

impl<'g> Found<'g, '_> {
    /// Adds a value, or what is selected from and by where it depends on a selection.
    fn add(&mut self, name: &'g str) {
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            if !self.seen.insert(name) {
                continue;
            }
            if !self.selected.contains(name) {
                let is_made = self.network.producer(name).is_some();
                if is_made && self.network.is_activation(name) {
                    self.names.push(name);
                }
                continue;
            }
            let maker = self.network.producer(name);
            let reads = maker.map(|maker| self.network.node(maker).reads().collect::<Vec<_>>());
            open.extend(reads.into_iter().flatten().rev());
        }
    }
}

/// The nodes that make these values, in their order.
fn needed(graph: &Graph, names: &[&str]) -> Vec<Node> {
    let mut needed: HashSet<&str> = names.iter().copied().collect();
    let mut kept: Vec<Node> = Vec::new();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|name| needed.contains(&**name)) {
            needed.extend(node.reads());
            kept.push(node.clone());
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use campana_ir::graph::{Attribute, Dim};
    use campana_tensor::{Tensor, TensorData};

    use super::*;

    fn constants() -> Vec<(String, Tensor)> {
        let square = vec![0.5; 16];
        let one = Tensor::new(Vec::new(), TensorData::F32(vec![0.5])).unwrap();
        let count = Tensor::new(vec![1], TensorData::I64(vec![2])).unwrap();
        let weights = Tensor::new(vec![4, 4], TensorData::F32(square)).unwrap();
        [("half", one), ("two", count), ("w", weights)]
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .into()
    }

    fn graph(nodes: Vec<Node>, outputs: &[&str]) -> Graph {
        let shape = vec![Dim::Symbol("N".into()), Dim::Fixed(4)];
        Graph {
            nodes,
            inputs: vec![Value {
                element_type: Some(ElementType::F32),
                shape: Some(shape),
                ..Value::named("x")
            }],
            outputs: outputs.iter().copied().map(Value::named).collect(),
            constants: constants().into_iter().collect(),
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        }
    }

    #[track_caller]
    fn compared(nodes: Vec<Node>, outputs: &[&str]) -> Vec<String> {
        let graph = with_comparable_outputs(&graph(nodes, outputs)).expect("others");
        let outputs = graph.outputs.into_iter().map(|output| output.name);
        outputs.collect()
    }

    fn dense(from: &str, to: &str) -> Node {
        Node::new("MatMul", &[from, "w"], &[to])
    }

    #[test]
    fn a_class_is_compared_by_its_scores() {
        let mut largest = Node::new("ArgMax", &["scores"], &["class"]);
        let axis = Attribute::Int(1);
        largest.attributes.insert("axis".into(), axis);
        let nodes = vec![dense("x", "scores"), largest];
        assert_eq!(compared(nodes, &["class"]), ["scores"]);
    }

    #[test]
    fn what_is_gathered_is_compared_whole() {
        let nodes = vec![
            dense("x", "boxes"),
            dense("x", "scores"),
            Node::new("TopK", &["scores", "two"], &["best", "places"]),
            Node::new("GatherElements", &["boxes", "places"], &["chosen"]),
        ];
        let found = compared(nodes, &["chosen", "best"]);
        assert_eq!(found, ["boxes", "scores", "best"]);
    }

    #[test]
    fn a_graph_whose_outputs_change_little_keeps_them() {
        let nodes = vec![
            dense("x", "y"),
            Node::new("Shape", &["y"], &["shape"]),
            Node::new("Reshape", &["y", "shape"], &["z"]),
        ];
        assert_eq!(with_comparable_outputs(&graph(nodes, &["z"])), None);
    }

    #[test]
    fn layers_behind_a_selection_are_seen_by_the_outputs_alone() {
        let nodes = vec![
            dense("x", "a"),
            Node::new("Greater", &["a", "half"], &["is_large"]),
            Node::new("Where", &["is_large", "a", "half"], &["b"]),
            dense("b", "y"),
        ];
        assert_eq!(with_comparable_outputs(&graph(nodes, &["y"])), None);
    }
}
