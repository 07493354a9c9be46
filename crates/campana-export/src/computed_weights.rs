//! Weights that a graph makes from its constants, folded.
//!
//! Weight standardization and weight normalization, as PyTorch exports them,
//! leave convolutions without a constant to quantize: their weights are the
//! quotient or product of constants. Exports without constant folding transpose,
//! reshape, cut or mask theirs. Such a subgraph is computed once, and its result
//! put in its place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use campana_ir::format::onnx;
use campana_ir::graph::{Graph, Value};
use campana_ir::network::Network;
use campana_ir::op::Op;
use campana_ir::weights::{moved_inputs, weight_inputs};
use campana_onnx::{
    Content, Edits, MessageId, Model, NewAttribute, NewNode, NewTensor, Node, schema,
};
use campana_quantize::{Error, ErrorKind};
use campana_runtime::{Plan, PlanOptions, Session};
use campana_tensor::{ElementType, Tensor, TensorData};

use crate::aliases::rename;

/// Most elements of a constant of integers that a folded subgraph reads: axes and
/// extents are no more, and what is more are codes.
const MAX_INTEGERS: usize = 64;

/// A weight that is computed has at most so many elements for each of the
/// constants that it is computed from: a table that a few numbers describe stays
/// described.
const MAX_GROWTH: usize = 2;

/// The model with constants for the weights that it makes from constants, but for those
/// that are kept by name; `None` where it makes none.
///
/// # Errors
///
/// Where the model cannot be written with them.
pub(crate) fn with_folded_weights(
    model: &Model,
    is_kept: impl Fn(&str) -> bool,
) -> Result<Option<Model>, Error> {
    if !model.training_info.is_empty() || !has_made_weights(model) {
        return Ok(None);
    }
    // What cannot be analysed is refused where it matters.
    let Ok(graph) = onnx::graph(model) else {
        return Ok(None);
    };
    let Ok(network) = Network::new(&graph) else {
        return Ok(None);
    };
    let folded = folded_weights(model, &network, is_kept);
    if folded.is_empty() {
        return Ok(None);
    }
    let changed = with_constants(model, &folded);
    changed.map(Some).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot fold computed weights").with_source(error)
    })
}

/// The model with folded weights in place of the nodes that make them.
fn with_constants(model: &Model, folded: &[Folded<'_>]) -> Result<Model, campana_onnx::Error> {
    let by_name: HashMap<&str, &Folded<'_>> =
        folded.iter().map(|folded| (folded.name, folded)).collect();
    let dead = Dead::of(model, &by_name.keys().copied().collect());
    let names = own_names(model, folded, &dead);
    let mut edits = Edits::new(model);
    for (depth, graph) in model.graphs().into_iter().enumerate() {
        for node in &graph.nodes {
            let outputs = node.outputs.iter().map(String::as_str);
            let constants: Vec<_> = outputs.filter_map(|output| by_name.get(output)).collect();
            if depth == 0 && !constants.is_empty() {
                let content = constants
                    .iter()
                    .fold(Content::default(), |content, folded| {
                        let name = names.get(folded.name).map_or(folded.name, String::as_str);
                        content.message(schema::graph::NODE, constant(name, &folded.tensor))
                    });
                edits.replace(node.message, content);
            } else if !dead.nodes.contains(&node.message) {
                rename(model, &mut edits, node, &names)?;
            }
        }
    }
    dead.remove(&mut edits);
    edits.into_model()
}

/// The names of constants for what only moves the elements of one that is no
/// longer there: reports and options know the weight by it. Outputs keep their names.
fn own_names<'f>(
    model: &Model,
    folded: &'f [Folded<'_>],
    dead: &Dead<'_>,
) -> HashMap<&'f str, String> {
    let graphs = model.graphs().into_iter();
    let outputs: HashSet<&str> = graphs
        .flat_map(|graph| &graph.outputs)
        .map(|output| output.name.as_str())
        .collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for folded in folded {
        for &source in &folded.sources {
            *uses.entry(source).or_insert(0) += 1;
        }
    }
    let named = folded.iter().filter_map(|folded| match *folded.sources {
        [source]
            if folded.is_moved
                && uses[source] == 1
                && dead.constants.contains(source)
                && !outputs.contains(folded.name) =>
        {
            Some((folded.name, source.to_owned()))
        }
        _ => None,
    });
    named.collect()
}

/// Whether a layer reads as its weights what a node makes.
fn has_made_weights(model: &Model) -> bool {
    let nodes = &model.graph.nodes;
    let makers = nodes.iter().filter(|node| node.op_type != "Constant");
    let made: HashSet<&String> = makers.flat_map(|node| &node.outputs).collect();
    nodes.iter().any(|node| {
        let weights = weight_inputs(&node.op_type).iter();
        let mut weights = weights.filter_map(|&input| node.inputs.get(input));
        weights.any(|name| made.contains(name))
    })
}

/// A weight that nodes make from constants.
struct Folded<'g> {
    /// The value that a layer reads.
    name: &'g str,
    tensor: Tensor,
    /// The constants of floats that it is made from.
    sources: Vec<&'g str>,
    /// Their elements.
    source_len: usize,
    /// Whether it consists of elements of these alone.
    is_moved: bool,
}

/// The weights that a graph makes from constants, as far as they take no more
/// room for it.
fn folded_weights<'g>(
    model: &Model,
    network: &Network<'g>,
    is_kept: impl Fn(&str) -> bool,
) -> Vec<Folded<'g>> {
    let mut names = BTreeSet::new();
    for node in &network.graph().nodes {
        let is_folded_itself = node
            .outputs
            .iter()
            .all(|output| network.is_parameter(output));
        if is_folded_itself {
            continue;
        }
        let weights = weight_inputs(&node.op_type).iter();
        for name in weights.filter_map(|&input| node.inputs.get(input)) {
            find_made(network, name, &mut names);
        }
    }
    let folded = names.into_iter();
    let mut folded: Vec<Folded<'g>> = folded
        .filter_map(|name| folded_weight(network, name))
        .filter(|folded| !is_kept(folded.name))
        .filter(|folded| !folded.is_moved || !folded.sources.iter().all(|source| is_kept(source)))
        .collect();
    loop {
        let before = folded.len();
        let names: HashSet<&str> = folded.iter().map(|folded| folded.name).collect();
        let made_whole = |folded: &Folded<'_>| {
            let producer = network.producer(folded.name);
            let outputs = producer.map(|producer| network.node(producer).outputs.iter());
            outputs
                .into_iter()
                .flatten()
                .all(|output| output.is_empty() || names.contains(output.as_str()))
        };
        folded.retain(made_whole);
        leave_shared(model, &mut folded);
        if folded.len() == before {
            return folded;
        }
    }
}

/// Leaves out weights that only move elements of constants which others still
/// read, or several of them: these would be stored more than once.
fn leave_shared(model: &Model, folded: &mut Vec<Folded<'_>>) {
    let dead = Dead::of(model, &folded.iter().map(|folded| folded.name).collect());
    let mut copies: HashMap<&str, f64> = HashMap::new();
    for folded in folded.iter().filter(|folded| folded.is_moved) {
        for &source in &folded.sources {
            *copies.entry(source).or_insert(0.0) +=
                folded.tensor.len() as f64 / folded.source_len as f64;
        }
    }
    // Parts of a constant are a whole but for rounding.
    let is_moved_once = |source: &&str| dead.constants.contains(source) && copies[source] < 1.001;
    folded.retain(|folded| !folded.is_moved || folded.sources.iter().all(is_moved_once));
}

/// A weight with what the engine computes for it; `None` where it decodes
/// codes, a few numbers describe it, or it cannot be computed.
fn folded_weight<'g>(network: &Network<'g>, name: &'g str) -> Option<Folded<'g>> {
    let subgraph = Subgraph::of(network, name)?;
    let tensor = computed(network.graph(), name, &subgraph)?;
    let is_float = tensor.data().element_type() == ElementType::F32;
    let is_moved = subgraph.is_moved(network);
    (is_float && tensor.len() <= MAX_GROWTH * subgraph.floats).then_some(Folded {
        name,
        tensor,
        sources: subgraph.sources,
        source_len: subgraph.floats,
        is_moved,
    })
}

/// Adds the value that a layer reads as its weight where nodes make it from
/// constants; where that decodes codes, what these move.
fn find_made<'g>(network: &Network<'g>, name: &'g str, found: &mut BTreeSet<&'g str>) {
    let mut open = vec![name];
    let mut seen = HashSet::new();
    while let Some(name) = open.pop() {
        let Some(producer) = network.producer(name).filter(|_| seen.insert(name)) else {
            continue;
        };
        if !network.is_parameter(name) {
            continue;
        }
        let node = network.node(producer);
        if Subgraph::of(network, name).is_some() && node.op_type != "Identity" {
            found.insert(name);
        } else if let Some(inputs) = moved_inputs(&node.op_type, &node.inputs) {
            open.extend(inputs.iter().map(String::as_str));
        }
    }
}

/// What a value is computed from.
struct Subgraph<'g> {
    /// By their positions, in order.
    nodes: BTreeSet<usize>,
    constants: HashSet<&'g str>,
    /// The constants of floats.
    sources: Vec<&'g str>,
    /// Their elements.
    floats: usize,
}

impl<'g> Subgraph<'g> {
    /// That of a value; `None` where it decodes codes: these are quantized already.
    fn of(network: &Network<'g>, name: &'g str) -> Option<Self> {
        let mut subgraph = Self {
            nodes: BTreeSet::new(),
            constants: HashSet::new(),
            sources: Vec::new(),
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
                None => subgraph.add_constant(name, network.graph().constants.get(name)?)?,
            }
        }
        Some(subgraph)
    }

    /// `None` where it may be codes.
    fn add_constant(&mut self, name: &'g str, constant: &Tensor) -> Option<()> {
        let element_type = constant.data().element_type();
        let is_mask = element_type == ElementType::Bool;
        if !element_type.is_float() && !is_mask && constant.len() > MAX_INTEGERS {
            return None;
        }
        if self.constants.insert(name) && element_type.is_float() {
            self.sources.push(name);
            self.floats += constant.len();
        }
        Some(())
    }

    /// Whether its nodes compute nothing with floats.
    fn is_moved(&self, network: &Network<'_>) -> bool {
        let makes_floats = |node: &&campana_ir::graph::Node| {
            let element_type = |output: &String| network.value(output)?.element_type;
            let mut outputs = node.outputs.iter();
            outputs.any(|output| element_type(output).is_none_or(ElementType::is_float))
        };
        let nodes = self.nodes.iter().map(|&node| &network.graph().nodes[node]);
        let mut nodes = nodes.filter(makes_floats);
        nodes.all(|node| moved_inputs(&node.op_type, &node.inputs).is_some())
    }
}

/// The value that a subgraph computes; `None` where the engine does not.
fn computed(graph: &Graph, name: &str, subgraph: &Subgraph<'_>) -> Option<Tensor> {
    let nodes = subgraph.nodes.iter();
    let constants = subgraph.constants.iter();
    let part = Graph {
        name: graph.name.clone(),
        nodes: nodes.map(|&node| graph.nodes[node].clone()).collect(),
        inputs: Vec::new(),
        outputs: vec![Value {
            name: name.to_owned(),
            element_type: None,
            shape: None,
        }],
        constants: constants
            .filter_map(|&name| Some((name.to_owned(), graph.constants.get(name)?.clone())))
            .collect(),
        quantized: BTreeMap::new(),
        opsets: graph.opsets.clone(),
    };
    let plan = Plan::new(part, PlanOptions::default()).ok()?;
    Session::new(plan, 1).run(&[]).ok()?.pop()
}

/// A node that gives a constant.
fn constant(name: &str, tensor: &Tensor) -> NewNode<'static> {
    let TensorData::F32(values) = tensor.data() else {
        unreachable!("only floats are folded");
    };
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let value = NewTensor::raw("", tensor.shape(), ElementType::F32, bytes);
    let none: [&str; 0] = [];
    NewNode::new("Constant", none, [name]).attribute("value", NewAttribute::Tensor(value))
}

/// Nodes and constants of a model that nothing reads once some values are
/// constants.
struct Dead<'m> {
    nodes: HashSet<MessageId>,
    constants: HashSet<&'m str>,
    /// The constants that are stored, and where they are declared as inputs.
    stored: Vec<MessageId>,
}

impl<'m> Dead<'m> {
    fn of(model: &'m Model, folded: &HashSet<&str>) -> Self {
        let graph = &model.graph;
        let mut readers = Readers::of(model);
        let mut dead = Self {
            nodes: HashSet::new(),
            constants: HashSet::new(),
            stored: Vec::new(),
        };
        let was_read: HashSet<&str> = readers.0.keys().copied().collect();
        let is_folded = |output: &String| folded.contains(output.as_str());
        let (replaced, mut left): (Vec<_>, Vec<_>) = graph
            .nodes
            .iter()
            .partition(|node| node.outputs.iter().any(is_folded));
        replaced
            .iter()
            .for_each(|node| readers.drop_reads(&node.inputs));
        loop {
            let is_dead = |node: &&Node| {
                let mut outputs = node.outputs.iter().filter(|output| !output.is_empty());
                outputs
                    .clone()
                    .any(|output| was_read.contains(output.as_str()))
                    && !outputs.any(|output| readers.is_read(output))
            };
            let (gone, rest): (Vec<&Node>, Vec<&Node>) = left.into_iter().partition(is_dead);
            if gone.is_empty() {
                break;
            }
            for node in gone {
                readers.drop_reads(&node.inputs);
                dead.nodes.insert(node.message);
                dead.constants
                    .extend(node.outputs.iter().map(String::as_str));
            }
            left = rest;
        }
        dead.add_stored(model, |name| {
            was_read.contains(name) && !readers.is_read(name)
        });
        dead
    }

    fn add_stored(&mut self, model: &'m Model, is_dead: impl Fn(&str) -> bool) {
        let graph = &model.graph;
        for tensor in graph.initializers.iter().filter(|t| is_dead(&t.name)) {
            let declared = graph.inputs.iter().find(|input| input.name == tensor.name);
            match declared {
                // Who calls the model may give it.
                Some(_) if model.ir_version.unwrap_or(0) >= 4 => continue,
                Some(input) => self.stored.push(input.message),
                None => {}
            }
            self.stored.push(tensor.message);
            self.constants.insert(&tensor.name);
        }
    }

    fn remove(&self, edits: &mut Edits<'_>) {
        for &message in self.nodes.iter().chain(&self.stored) {
            edits.remove(message);
        }
    }
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
        let folded = with_folded_weights(&model, |_| false)
            .unwrap()
            .expect("folded");
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
    fn what_others_read_stays() {
        let model = weight_norm()
            .node(
                NewNode::new("Transpose", ["w"], ["t"])
                    .attribute("perm", NewAttribute::Ints(vec![0, 1, 3, 2])),
            )
            .node(NewNode::new("Conv", ["x", "t"], ["y"]))
            .output("y", &[])
            .output("norm", &[])
            .into_model();
        let folded = with_folded_weights(&model, |_| false)
            .unwrap()
            .expect("folded");
        assert_eq!(operators(&folded), ["ReduceL2", "Constant", "Conv"]);
        let names = folded.graph.initializers.iter().map(|t| t.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["v"]);
    }

    /// Two products with weights that are moved by nodes.
    fn moved(make: impl FnOnce(SmallGraph) -> SmallGraph) -> Model {
        let graph = SmallGraph::new()
            .opset(13)
            .input("x", &[1, 4])
            .weights("v", &[4, 4]);
        make(graph)
            .node(NewNode::new("MatMul", ["x", "a"], ["h"]))
            .node(NewNode::new("MatMul", ["h", "b"], ["y"]))
            .output("y", &[])
            .into_model()
    }

    fn integers(graph: SmallGraph, name: &str, values: &[i64]) -> SmallGraph {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        graph.tensor(name, &[values.len()], ElementType::I64, bytes)
    }

    #[test]
    fn moved_weights_are_constants_under_the_name_of_what_is_moved() {
        let transposed = moved(|graph| {
            graph
                .weights("u", &[4, 4])
                .node(NewNode::new("Transpose", ["v"], ["a"]))
                .node(NewNode::new("Transpose", ["u"], ["b"]))
        });
        let folded = with_folded_weights(&transposed, |_| false)
            .unwrap()
            .expect("folded");
        assert_eq!(
            operators(&folded),
            ["Constant", "Constant", "MatMul", "MatMul"]
        );
        let inputs = folded.graph.nodes.iter().map(|node| node.inputs.join(" "));
        assert_eq!(inputs.collect::<Vec<_>>(), ["", "", "x v", "h u"]);
        assert!(folded.graph.initializers.is_empty());
        let kept = with_folded_weights(&transposed, |name| name == "v").unwrap();
        assert_eq!(
            operators(&kept.expect("folded")),
            ["Transpose", "Constant", "MatMul", "MatMul"]
        );
    }

    #[test]
    fn an_output_that_is_a_moved_weight_keeps_its_name() {
        let model = SmallGraph::new()
            .opset(13)
            .input("x", &[1, 4])
            .weights("v", &[4, 4])
            .node(NewNode::new("Transpose", ["v"], ["a"]))
            .node(NewNode::new("MatMul", ["x", "a"], ["y"]))
            .output("y", &[])
            .output("a", &[])
            .into_model();
        let folded = with_folded_weights(&model, |_| false)
            .unwrap()
            .expect("folded");
        assert_eq!(folded.graph.nodes[0].outputs, ["a"]);
        assert_eq!(folded.graph.nodes[1].inputs, ["x", "a"]);
    }

    #[test]
    fn parts_of_a_constant_are_folded_and_copies_are_not() {
        let halves = moved(|graph| {
            let graph = graph.weights("u", &[4, 8]);
            let split = NewNode::new("Split", ["u"], ["a", "b"]);
            graph.node(split.attribute("axis", 1))
        });
        let folded = with_folded_weights(&halves, |_| false)
            .unwrap()
            .expect("folded");
        assert_eq!(
            operators(&folded),
            ["Constant", "Constant", "MatMul", "MatMul"]
        );
        let twice = moved(|graph| {
            let graph = integers(graph, "shape", &[4, 4]);
            graph
                .node(NewNode::new("Transpose", ["v"], ["a"]))
                .node(NewNode::new("Reshape", ["v", "shape"], ["b"]))
        });
        assert!(with_folded_weights(&twice, |_| false).unwrap().is_none());
        let read_by_others = moved(|graph| {
            graph
                .node(NewNode::new("Transpose", ["v"], ["a"]))
                .node(NewNode::new("Identity", ["v"], ["b"]))
        });
        assert!(
            with_folded_weights(&read_by_others, |_| false)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn masked_weights_and_those_of_other_types_are_floats_of_32_bits() {
        let doubles = (0..16u8).flat_map(|i| f64::from(i).to_le_bytes()).collect();
        let model = moved(|graph| {
            graph
                .tensor("mask", &[4, 4], ElementType::Bool, vec![1; 16])
                .floats("zero", &[], &[0.0])
                .node(NewNode::new("Where", ["mask", "v", "zero"], ["a"]))
                .tensor("d", &[4, 4], ElementType::F64, doubles)
                .node(
                    NewNode::new("Cast", ["d"], ["b"])
                        .attribute("to", i64::from(ElementType::F32.to_onnx())),
                )
        });
        let folded = with_folded_weights(&model, |_| false)
            .unwrap()
            .expect("folded");
        assert_eq!(
            operators(&folded),
            ["Constant", "Constant", "MatMul", "MatMul"]
        );
        assert!(folded.graph.initializers.is_empty());
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
        assert!(
            with_folded_weights(&scaled(codes), |_| false)
                .unwrap()
                .is_none()
        );
        let input = SmallGraph::new()
            .weights("v", &[6, 4, 3, 3])
            .input("g", &[1]);
        assert!(
            with_folded_weights(&scaled(input), |_| false)
                .unwrap()
                .is_none()
        );
        let described = SmallGraph::new()
            .floats("v", &[6, 1, 1, 1], &[1.0; 6])
            .floats("g", &[1, 4, 3, 3], &[1.0; 36]);
        assert!(
            with_folded_weights(&scaled(described), |_| false)
                .unwrap()
                .is_none()
        );
    }
}
