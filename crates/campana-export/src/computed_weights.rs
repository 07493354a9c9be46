//! Weights that a graph computes from its constants, folded.
//!
//! Weight standardization and weight normalization, as PyTorch exports them,
//! leave convolutions without a constant to quantize: their weights are the
//! quotient or product of constants. Such a subgraph is computed once, and its
//! result put in its place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use campana_ir::format::onnx;
use campana_ir::graph::{Graph, Value};
use campana_ir::network::Network;
use campana_ir::op::Op;
use campana_ir::weights::{moved_inputs, weight_inputs};
use campana_onnx::{Content, Edits, Model, NewAttribute, NewNode, NewTensor, schema};
use campana_quantize::{Error, ErrorKind};
use campana_runtime::{Plan, PlanOptions, Session};
use campana_tensor::{ElementType, Tensor, TensorData};

/// Most elements of a constant of integers that a folded subgraph reads: axes and
/// extents are no more, and what is more are codes.
const MAX_INTEGERS: usize = 64;

/// A folded weight has at most so many elements for each of the constants that it
/// is computed from: a table that a few numbers describe stays described.
const MAX_GROWTH: usize = 2;

/// The model with constants for the weights that it computes from constants;
/// `None` where it computes none.
///
/// # Errors
///
/// Where the model cannot be written with them.
pub(crate) fn with_folded_weights(model: &Model) -> Result<Option<Model>, Error> {
    if !model.training_info.is_empty() || !has_computed_weights(model) {
        return Ok(None);
    }
    // What cannot be analysed is refused where it matters.
    let Ok(graph) = onnx::graph(model) else {
        return Ok(None);
    };
    let Some(folded) = folded_weights(&graph).filter(|folded| !folded.is_empty()) else {
        return Ok(None);
    };
    let mut edits = Edits::new(model);
    let mut readers = Readers::of(model);
    for node in &model.graph.nodes {
        let [output] = &*node.outputs else {
            continue;
        };
        if let Some(tensor) = folded.get(output) {
            edits.replace(node.message, constant(output, tensor));
            readers.drop_reads(&node.inputs);
        }
    }
    readers.remove_dead(model, &folded, &mut edits);
    let changed = edits.into_model();
    changed.map(Some).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot fold computed weights").with_source(error)
    })
}

/// Whether a layer reads as its weights what a node makes.
fn has_computed_weights(model: &Model) -> bool {
    let nodes = &model.graph.nodes;
    let makers = nodes.iter().filter(|node| node.op_type != "Constant");
    let made: HashSet<&String> = makers.flat_map(|node| &node.outputs).collect();
    nodes.iter().any(|node| {
        let weights = weight_inputs(&node.op_type).iter();
        let mut weights = weights.filter_map(|&input| node.inputs.get(input));
        weights.any(|name| made.contains(name))
    })
}

/// The weights that a graph computes from constants, by the values from which on
/// they are only moved; `None` where they cannot be computed.
fn folded_weights(graph: &Graph) -> Option<BTreeMap<String, Tensor>> {
    let network = Network::new(graph).ok()?;
    let mut names = BTreeSet::new();
    for node in &graph.nodes {
        let is_folded_itself = node
            .outputs
            .iter()
            .all(|output| network.is_parameter(output));
        if is_folded_itself {
            continue;
        }
        let weights = weight_inputs(&node.op_type).iter();
        for name in weights.filter_map(|&input| node.inputs.get(input)) {
            find_computed(&network, name, &mut names);
        }
    }
    let subgraphs: Vec<(&str, Subgraph<'_>)> = names
        .into_iter()
        .filter_map(|name| Some((name, Subgraph::of(&network, name)?)))
        .collect();
    let values = computed(graph, &subgraphs)?;
    let pairs = subgraphs.iter().zip(values);
    let folded = pairs.filter(|((_, subgraph), tensor)| {
        let is_float = tensor.data().element_type() == ElementType::F32;
        is_float && tensor.len() <= MAX_GROWTH * subgraph.floats
    });
    Some(
        folded
            .map(|(&(name, _), tensor)| (name.to_owned(), tensor))
            .collect(),
    )
}

/// Adds the values from which on a weight that is computed from constants is only
/// moved.
fn find_computed<'g>(network: &Network<'g>, name: &'g str, found: &mut BTreeSet<&'g str>) {
    let mut open = vec![name];
    let mut seen = HashSet::new();
    while let Some(name) = open.pop() {
        let Some(producer) = network.producer(name).filter(|_| seen.insert(name)) else {
            continue;
        };
        let node = network.node(producer);
        if !network.is_parameter(name) {
            continue;
        }
        match moved_inputs(&node.op_type, &node.inputs) {
            Some(inputs) => open.extend(inputs.iter().map(String::as_str)),
            None if node.outputs.len() == 1 => {
                found.insert(name);
            }
            None => {}
        }
    }
}

/// What a value is computed from.
struct Subgraph<'g> {
    /// By their positions, in order.
    nodes: BTreeSet<usize>,
    constants: HashSet<&'g str>,
    /// Elements of the constants of floats.
    floats: usize,
}

impl<'g> Subgraph<'g> {
    /// That of a value; `None` where it decodes codes: these are quantized already.
    fn of(network: &Network<'g>, name: &'g str) -> Option<Self> {
        let mut subgraph = Self {
            nodes: BTreeSet::new(),
            constants: HashSet::new(),
            floats: 0,
        };
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            if name.is_empty() {
                continue;
            }
            match network.producer(name) {
                Some(producer) => {
                    if *network.op(producer) == Op::DequantizeLinear {
                        return None;
                    }
                    if subgraph.nodes.insert(producer) {
                        open.extend(network.node(producer).inputs.iter().map(String::as_str));
                    }
                }
                None => {
                    let constant = network.graph().constants.get(name)?;
                    let is_float = constant.data().element_type() == ElementType::F32;
                    if !is_float && constant.len() > MAX_INTEGERS {
                        return None;
                    }
                    if subgraph.constants.insert(name) && is_float {
                        subgraph.floats += constant.len();
                    }
                }
            }
        }
        Some(subgraph)
    }
}

/// The values that subgraphs compute; `None` where the engine does not.
fn computed(graph: &Graph, subgraphs: &[(&str, Subgraph<'_>)]) -> Option<Vec<Tensor>> {
    let nodes: BTreeSet<usize> = subgraphs
        .iter()
        .flat_map(|(_, subgraph)| subgraph.nodes.iter().copied())
        .collect();
    let constants = subgraphs
        .iter()
        .flat_map(|(_, subgraph)| &subgraph.constants);
    let part = Graph {
        name: graph.name.clone(),
        nodes: nodes
            .iter()
            .map(|&node| graph.nodes[node].clone())
            .collect(),
        inputs: Vec::new(),
        outputs: subgraphs
            .iter()
            .map(|&(name, _)| Value {
                name: name.to_owned(),
                element_type: None,
                shape: None,
            })
            .collect(),
        constants: constants
            .filter_map(|&name| Some((name.to_owned(), graph.constants.get(name)?.clone())))
            .collect(),
        quantized: BTreeMap::new(),
        opsets: graph.opsets.clone(),
    };
    let plan = Plan::new(part, PlanOptions::default()).ok()?;
    Session::new(plan, 1).run(&[]).ok()
}

/// A node that gives a constant.
fn constant(name: &str, tensor: &Tensor) -> Content<'static> {
    let TensorData::F32(values) = tensor.data() else {
        unreachable!("only floats are folded");
    };
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let value = NewTensor::raw("", tensor.shape(), ElementType::F32, bytes);
    let none: [&str; 0] = [];
    let node =
        NewNode::new("Constant", none, [name]).attribute("value", NewAttribute::Tensor(value));
    Content::default().message(schema::graph::NODE, node)
}

/// How many nodes and outputs of a model's graphs read each value.
struct Readers<'m>(HashMap<&'m str, usize>);

impl<'m> Readers<'m> {
    fn of(model: &'m Model) -> Self {
        let mut counts = HashMap::new();
        for graph in model.graphs() {
            let inputs = graph.nodes.iter().flat_map(|node| &node.inputs);
            let outputs = graph.outputs.iter().map(|output| &output.name);
            for name in inputs.chain(outputs) {
                *counts.entry(name.as_str()).or_insert(0) += 1;
            }
        }
        Self(counts)
    }

    fn drop_reads(&mut self, names: &'m [String]) {
        for name in names {
            if let Some(count) = self.0.get_mut(name.as_str()) {
                *count -= 1;
            }
        }
    }

    fn is_read(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|&count| count > 0)
    }

    /// Takes out the nodes and constants that only folded nodes read.
    fn remove_dead(
        &mut self,
        model: &'m Model,
        folded: &BTreeMap<String, Tensor>,
        edits: &mut Edits<'_>,
    ) {
        let graph = &model.graph;
        let was_read: HashSet<&str> = self.0.keys().copied().collect();
        let mut removed = HashSet::new();
        loop {
            let is_dead = |node: &&campana_onnx::Node| {
                let mut outputs = node.outputs.iter().filter(|output| !output.is_empty());
                !removed.contains(&node.message)
                    && !node
                        .outputs
                        .iter()
                        .any(|output| folded.contains_key(output))
                    && outputs
                        .clone()
                        .any(|output| was_read.contains(output.as_str()))
                    && !outputs.any(|output| self.is_read(output))
            };
            let dead: Vec<_> = graph.nodes.iter().filter(is_dead).collect();
            if dead.is_empty() {
                break;
            }
            for node in dead {
                edits.remove(node.message);
                removed.insert(node.message);
                self.drop_reads(&node.inputs);
            }
        }
        let dead = graph.initializers.iter().filter(|tensor| {
            was_read.contains(tensor.name.as_str()) && !self.is_read(&tensor.name)
        });
        for tensor in dead {
            let declared = graph.inputs.iter().find(|input| input.name == tensor.name);
            match declared {
                // Who calls the model may give it.
                Some(_) if model.ir_version.unwrap_or(0) >= 4 => continue,
                Some(input) => edits.remove(input.message),
                None => {}
            }
            edits.remove(tensor.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::small_models::SmallGraph;

    /// `w = v * g / |v|`.
    fn weight_norm() -> SmallGraph {
        SmallGraph::new()
            .opset(13)
            .input("x", &[1, 4, 8, 8])
            .weights("v", &[6, 4, 3, 3])
            .floats("g", &[6, 1, 1, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
            .node(
                NewNode::new("ReduceL2", ["v"], ["norm"])
                    .attribute("axes", NewAttribute::Ints(vec![1, 2, 3])),
            )
            .node(NewNode::new("Div", ["v", "norm"], ["unit"]))
            .node(NewNode::new("Mul", ["unit", "g"], ["w"]))
    }

    fn operators(model: &Model) -> Vec<&str> {
        let nodes = model.graph.nodes.iter();
        nodes.map(|node| node.op_type.as_str()).collect()
    }

    #[test]
    fn normalized_weights_are_constants_of_the_norm_of_their_gain() {
        let model = weight_norm()
            .node(NewNode::new("Conv", ["x", "w"], ["y"]))
            .output("y", &[])
            .into_model();
        let folded = with_folded_weights(&model).unwrap().expect("folded");
        assert_eq!(operators(&folded), ["Constant", "Conv"]);
        assert!(folded.graph.initializers.is_empty());
        let Some(campana_onnx::AttributeValue::Tensor(tensor)) = folded.graph.nodes[0]
            .attribute("value")
            .map(|found| &found.value)
        else {
            panic!("no constant");
        };
        let values = folded.read_f32(tensor).unwrap();
        for (gain, row) in values.chunks_exact(36).enumerate() {
            let norm: f32 = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            assert!((norm - (gain + 1) as f32).abs() < 1e-4, "{norm}");
        }
    }

    #[test]
    fn what_others_read_stays_and_what_only_moves_stays_behind() {
        let model = weight_norm()
            .node(
                NewNode::new("Transpose", ["w"], ["t"])
                    .attribute("perm", NewAttribute::Ints(vec![0, 1, 3, 2])),
            )
            .node(NewNode::new("Conv", ["x", "t"], ["y"]))
            .output("y", &[])
            .output("norm", &[])
            .into_model();
        let folded = with_folded_weights(&model).unwrap().expect("folded");
        assert_eq!(
            operators(&folded),
            ["ReduceL2", "Constant", "Transpose", "Conv"]
        );
        let names = folded.graph.initializers.iter().map(|t| t.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["v"]);
    }

    #[test]
    fn codes_inputs_and_described_tables_stay() {
        let scaled = |graph: SmallGraph| {
            graph
                .node(NewNode::new("Mul", ["v", "g"], ["w"]))
                .node(NewNode::new("Conv", ["x", "w"], ["y"]))
                .input("x", &[1, 4, 8, 8])
                .output("y", &[])
                .into_model()
        };
        let codes = SmallGraph::new()
            .tensor("c", &[6, 4, 3, 3], ElementType::I8, vec![1; 216])
            .node(
                NewNode::new("Cast", ["c"], ["v"])
                    .attribute("to", i64::from(ElementType::F32.to_onnx())),
            )
            .floats("g", &[1], &[0.1]);
        assert!(with_folded_weights(&scaled(codes)).unwrap().is_none());
        let input = SmallGraph::new()
            .weights("v", &[6, 4, 3, 3])
            .input("g", &[1]);
        assert!(with_folded_weights(&scaled(input)).unwrap().is_none());
        let described = SmallGraph::new()
            .floats("v", &[6, 1, 1, 1], &[1.0; 6])
            .floats("g", &[1, 4, 3, 3], &[1.0; 36]);
        assert!(with_folded_weights(&scaled(described)).unwrap().is_none());
    }
}
