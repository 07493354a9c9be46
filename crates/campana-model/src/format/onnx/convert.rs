//! Graphs, nodes, attributes and values.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use campana_onnx as onnx;
use campana_onnx::{AttributeValue, Model, ValueType};
use campana_tensor::{MemoryBudget, Tensor, TensorData};

use super::{constant, order};
use crate::format::{Error, ErrorKind, Result};
use crate::graph::{Attribute, Dim, Graph, Node, Value};

/// Bytes of memory that a string takes beside its characters: its place in a
/// list or map that may be half empty.
pub(super) const STRING_LEN: usize = 64;

/// The same for an attribute.
const ATTRIBUTE_LEN: usize = 2 * size_of::<Attribute>() + STRING_LEN;

/// What converting any part of a model needs to know.
pub(super) struct Converter<'m> {
    pub(super) model: &'m Model,
    pub(super) opsets: BTreeMap<String, i64>,
    pub(super) functions: HashMap<(&'m str, &'m str, &'m str), &'m onnx::Function>,
    /// What the graph may still take.
    pub(super) budget: MemoryBudget,
    /// Nodes and calls so far.
    node_count: usize,
    /// Calls so far, which number them.
    pub(super) call_count: usize,
}

/// What the names of a function's body stand for in one call; empty outside
/// of functions.
#[derive(Default)]
pub(super) struct Scope {
    /// Names of values, where they differ.
    pub(super) names: HashMap<String, String>,
    /// Values of the function's attributes in this call.
    pub(super) attributes: BTreeMap<String, Attribute>,
    /// Functions that are being replaced, outermost first.
    pub(super) depth: usize,
}

impl Scope {
    pub(super) fn name(&self, name: &str) -> String {
        self.names
            .get(name)
            .map_or(name, |renamed| renamed)
            .to_owned()
    }
}

/// Constants and nodes of one graph under construction.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) nodes: Vec<Node>,
    pub(super) constants: BTreeMap<String, Tensor>,
}

/// ONNX's own domain has two names.
pub(super) fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

pub(super) fn describe(node: &onnx::Node) -> String {
    order::node_name(&node.name, &node.op_type, &node.outputs)
}

impl<'m> Converter<'m> {
    pub(super) fn new(model: &'m Model) -> Result<Self> {
        let mut opsets = BTreeMap::new();
        for import in &model.opset_imports {
            opsets.insert(canonical_domain(&import.domain).to_owned(), import.version);
        }
        // Before IR version 3 there were no operator sets.
        if opsets.is_empty() {
            opsets.insert(String::new(), 1);
        }
        let mut functions = HashMap::new();
        for function in &model.functions {
            let domain = canonical_domain(&function.domain);
            let key = (domain, &*function.name, &*function.overload);
            if functions.insert(key, function).is_some() {
                let message = format!("function {:?} is defined twice", function.name);
                return Err(Error::malformed(message));
            }
        }
        Ok(Self {
            model,
            opsets,
            functions,
            budget: model.memory_budget(),
            node_count: 0,
            call_count: 0,
        })
    }

    /// The main graph: every name that its nodes read must be made in it.
    pub(super) fn graph(&mut self, graph: &onnx::Graph) -> Result<Graph> {
        let (graph, captured) = self.any_graph(graph, &Scope::default())?;
        match captured.into_iter().next() {
            None => Ok(graph),
            Some((name, reader)) => Err(Error::malformed(format!(
                "{reader} reads {name:?}, which is made by no node and is neither an input nor a \
                 constant of the graph"
            ))),
        }
    }

    /// A graph, and the names that it takes from the graph around it, each
    /// with a reader.
    fn any_graph(
        &mut self,
        graph: &onnx::Graph,
        scope: &Scope,
    ) -> Result<(Graph, BTreeMap<String, String>)> {
        if let Some(tensor) = graph.sparse_initializers.first() {
            let message = format!("sparse initializer {:?} is not supported", tensor.name());
            return Err(Error::unsupported(message));
        }
        let mut parts = Parts::default();
        let opsets_len = self.opsets.keys().map(|domain| STRING_LEN + domain.len());
        self.charge(opsets_len.sum())?;
        for tensor in &graph.initializers {
            let name = self.named(scope, &tensor.name)?;
            let read = self.tensor(tensor)?;
            insert_constant(&mut parts.constants, name, read)?;
        }
        for node in &graph.nodes {
            self.node(node, scope, &mut parts)?;
        }
        let values = |values: &[onnx::ValueInfo]| -> Vec<Value> {
            values.iter().map(|info| value(info, scope)).collect()
        };
        // Before IR version 4 initializers were inputs too, and even now such
        // an input is a constant unless the caller says otherwise.
        let mut inputs = values(&graph.inputs);
        inputs.retain(|input| !parts.constants.contains_key(&input.name));
        let graph = Graph {
            name: graph.name.clone(),
            nodes: parts.nodes,
            inputs,
            outputs: values(&graph.outputs),
            constants: parts.constants,
            quantized: BTreeMap::new(),
            opsets: self.opsets.clone(),
        };
        order::sorted(graph)
    }

    /// Adds a node, its constant or the nodes of the function it calls.
    pub(super) fn node(
        &mut self,
        node: &onnx::Node,
        scope: &Scope,
        parts: &mut Parts,
    ) -> Result<()> {
        // Calls count as nodes: functions without any of their own could call
        // each other without end.
        self.node_count += 1;
        let most = self.model.limits().max_nodes;
        if self.node_count > most {
            let message = format!("the model has more than {most} nodes and calls of functions");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let domain = canonical_domain(&node.domain);
        let called = (domain, &*node.op_type, &*node.overload);
        if let Some(&function) = self.functions.get(&called) {
            return self.call(node, function, scope, parts);
        }
        let attributes = self.attributes(node, scope)?;
        if domain.is_empty() && node.op_type == "Constant" {
            let [output] = &*node.outputs else {
                let message = format!("{} should have one output", describe(node));
                return Err(Error::malformed(message));
            };
            let tensor = constant::tensor(attributes)
                .map_err(|found| Error::unsupported(format!("{}: {found}", describe(node))))?;
            let name = self.named(scope, output)?;
            return insert_constant(&mut parts.constants, name, tensor);
        }
        let own = node.name.len() + node.op_type.len() + domain.len();
        self.charge(MemoryBudget::GROWTH * size_of::<Node>() + own)?;
        let mut names = |names: &[String]| -> Result<Vec<String>> {
            names.iter().map(|name| self.named(scope, name)).collect()
        };
        let (inputs, outputs) = (names(&node.inputs)?, names(&node.outputs)?);
        parts.nodes.push(Node {
            name: node.name.clone(),
            op_type: node.op_type.clone(),
            domain: domain.to_owned(),
            inputs,
            outputs,
            attributes,
        });
        Ok(())
    }

    /// Takes memory for a part of the graph.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<()> {
        self.budget
            .take(bytes)
            .map_err(|exceeded| Error::new(ErrorKind::Limit, format!("the model: {exceeded}")))
    }

    /// What a name stands for, paid for.
    pub(super) fn named(&mut self, scope: &Scope, name: &str) -> Result<String> {
        let name = scope.names.get(name).map_or(name, |renamed| renamed);
        self.charge(STRING_LEN + name.len())?;
        Ok(name.to_owned())
    }

    /// The elements of a tensor, paid for.
    fn tensor(&mut self, tensor: &onnx::TensorProto) -> Result<Tensor> {
        let count = tensor.count()?;
        let len = tensor.element_type.len_bytes(count);
        self.charge(len.unwrap_or_else(|| count.saturating_mul(STRING_LEN)))?;
        Ok(self.model.read_tensor(tensor)?)
    }

    /// The bytes of strings, paid for.
    fn string(&mut self, span: onnx::Span) -> Result<Vec<u8>> {
        self.charge(STRING_LEN + span.len() as usize)?;
        Ok(self.model.source().read(span)?)
    }

    pub(super) fn attributes(
        &mut self,
        node: &onnx::Node,
        scope: &Scope,
    ) -> Result<BTreeMap<String, Attribute>> {
        let mut attributes = BTreeMap::new();
        for attribute in &node.attributes {
            self.charge(ATTRIBUTE_LEN + attribute.name.len())?;
            // A reference to what the call leaves out is left out too.
            let Some(value) = self.attribute(&attribute.value, scope)? else {
                continue;
            };
            if attributes.insert(attribute.name.clone(), value).is_some() {
                let name = &attribute.name;
                let message = format!("{} has attribute {name:?} twice", describe(node));
                return Err(Error::malformed(message));
            }
        }
        Ok(attributes)
    }

    pub(super) fn attribute(
        &mut self,
        value: &AttributeValue,
        scope: &Scope,
    ) -> Result<Option<Attribute>> {
        Ok(Some(match value {
            AttributeValue::Float(value) => Attribute::Float(*value),
            AttributeValue::Int(value) => Attribute::Int(*value),
            AttributeValue::String(span) => Attribute::String(self.string(*span)?),
            AttributeValue::Tensor(tensor) => Attribute::Tensor(self.tensor(tensor)?),
            AttributeValue::Graph(graph) => {
                Attribute::Graph(Box::new(self.any_graph(graph, scope)?.0))
            }
            AttributeValue::Floats(values) => {
                self.charge(size_of_val(&**values))?;
                Attribute::Floats(values.clone())
            }
            AttributeValue::Ints(values) => {
                self.charge(size_of_val(&**values))?;
                Attribute::Ints(values.clone())
            }
            AttributeValue::Strings(spans) => {
                let strings = spans.iter().map(|&span| self.string(span));
                Attribute::Strings(strings.collect::<Result<_>>()?)
            }
            AttributeValue::Reference(name) => {
                let Some(value) = scope.attributes.get(name) else {
                    return Ok(None);
                };
                self.charge(attribute_len(value))?;
                value.clone()
            }
            _ => Attribute::Other,
        }))
    }
}

/// Bytes of memory that an attribute takes.
fn attribute_len(value: &Attribute) -> usize {
    match value {
        Attribute::Tensor(tensor) => tensor_len(tensor),
        Attribute::String(bytes) => bytes.len(),
        Attribute::Strings(strings) => strings.iter().map(|s| STRING_LEN + s.len()).sum(),
        Attribute::Floats(values) => size_of_val(&**values),
        Attribute::Ints(values) => size_of_val(&**values),
        Attribute::Graph(graph) => graph_len(graph),
        _ => 0,
    }
}

fn tensor_len(tensor: &Tensor) -> usize {
    match tensor.data() {
        TensorData::String(strings) => strings.iter().map(|s| STRING_LEN + s.len()).sum(),
        data => data.element_type().len_bytes(data.len()).unwrap_or(0),
    }
}

fn graph_len(graph: &Graph) -> usize {
    let names = |names: &[String]| names.iter().map(|name| STRING_LEN + name.len()).sum();
    let node = |node: &Node| {
        let names: [usize; 2] = [names(&node.inputs), names(&node.outputs)];
        let attributes = node.attributes.iter();
        let attributes: usize = attributes
            .map(|(name, value)| ATTRIBUTE_LEN + name.len() + attribute_len(value))
            .sum();
        size_of::<Node>() + names[0] + names[1] + attributes
    };
    let constants = graph.constants.iter();
    let constants: usize = constants
        .map(|(name, tensor)| STRING_LEN + name.len() + tensor_len(tensor))
        .sum();
    graph.nodes.iter().map(node).sum::<usize>() + constants
}

pub(super) fn insert_constant(
    constants: &mut BTreeMap<String, Tensor>,
    name: String,
    tensor: Tensor,
) -> Result<()> {
    match constants.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(tensor);
            Ok(())
        }
        Entry::Occupied(entry) => {
            let message = format!("constant {:?} is defined twice", entry.key());
            Err(Error::malformed(message))
        }
    }
}

pub(super) fn value(info: &onnx::ValueInfo, scope: &Scope) -> Value {
    let (element_type, shape) = match &info.value_type {
        Some(ValueType::Tensor(tensor)) => {
            let element_type = (tensor.element_type.to_onnx() != 0).then_some(tensor.element_type);
            let shape = tensor.shape.as_ref();
            (
                element_type,
                shape.map(|dims| dims.iter().map(dim).collect()),
            )
        }
        _ => (None, None),
    };
    Value {
        name: scope.name(&info.name),
        element_type,
        shape,
    }
}

/// A negative extent is how some writers say that it is not known.
fn dim(dim: &onnx::Dim) -> Dim {
    match dim {
        onnx::Dim::Value(value) => {
            usize::try_from(*value).map_or_else(|_| Dim::Symbol(String::new()), Dim::Fixed)
        }
        onnx::Dim::Symbol(name) => Dim::Symbol(name.clone()),
        onnx::Dim::Unknown => Dim::Symbol(String::new()),
    }
}
