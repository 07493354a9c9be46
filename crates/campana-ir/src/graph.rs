//! The computation graph of a model, free of any file format.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use campana_codebook::QuantizedTensor;
use campana_tensor::{ElementType, Tensor};

/// A graph of operators in topological order; values are referred to by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    /// Operators, each after those that make its inputs.
    pub nodes: Vec<Node>,
    /// What the caller must give, constants with defaults excluded.
    pub inputs: Vec<Value>,
    /// What the graph gives back.
    pub outputs: Vec<Value>,
    /// Tensors known beforehand (weights), by name.
    pub constants: BTreeMap<String, Tensor>,
    /// Tensors known beforehand that are kept as codes and levels, by name;
    /// none of them is among the constants too.
    pub quantized: BTreeMap<String, QuantizedTensor>,
    /// Version of each operator set in use, by domain (`""` is ONNX's own).
    pub opsets: BTreeMap<String, i64>,
}

/// The operator set taken where a graph names none.
const DEFAULT_OPSET: i64 = 17;

impl Graph {
    /// The names that the graph takes from around it, where it is one inside of
    /// a node.
    pub fn captures(&self) -> BTreeSet<&str> {
        let outputs = self.nodes.iter().flat_map(|node| &node.outputs);
        let inputs = self.inputs.iter().map(|input| &input.name);
        let constants = self.constants.keys().chain(self.quantized.keys());
        let own: BTreeSet<&str> = constants
            .chain(inputs)
            .chain(outputs)
            .map(String::as_str)
            .collect();
        let read = self.nodes.iter().flat_map(Node::reads);
        let outputs = self.outputs.iter().map(|output| output.name.as_str());
        read.chain(outputs)
            .filter(|name| !name.is_empty() && !own.contains(name))
            .collect()
    }

    /// The version of ONNX's own operators that the graph uses.
    pub fn opset(&self) -> i64 {
        let own = self.opsets.get("").or(self.opsets.get("ai.onnx"));
        own.copied().unwrap_or(DEFAULT_OPSET)
    }
}

impl<'a> From<&'a Graph> for Cow<'a, Graph> {
    fn from(graph: &'a Graph) -> Self {
        Cow::Borrowed(graph)
    }
}

impl From<Graph> for Cow<'_, Graph> {
    fn from(graph: Graph) -> Self {
        Cow::Owned(graph)
    }
}

/// One operator of a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The node's name; may be empty.
    pub name: String,
    /// The operator, e.g. `Conv`.
    pub op_type: String,
    /// The operator's domain; `""` is ONNX's own.
    pub domain: String,
    /// Names of the inputs; `""` where an optional one is left out.
    pub inputs: Vec<String>,
    /// Names of the outputs; `""` where an optional one is left out.
    pub outputs: Vec<String>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
}

impl Node {
    /// An operator of ONNX's own without attributes or a name.
    pub fn new(op_type: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        Self {
            op_type: op_type.to_owned(),
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            outputs: outputs.iter().map(|&name| name.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// What to call the node: its name, or else its first output.
    pub fn label(&self) -> &str {
        match self.name.as_str() {
            "" => self.outputs.first().map_or("", String::as_str),
            name => name,
        }
    }

    /// An attribute that is a float, or this where it is left out.
    pub fn float(&self, attribute: &str, default: f32) -> f32 {
        match self.attributes.get(attribute) {
            Some(Attribute::Float(value)) => *value,
            _ => default,
        }
    }

    /// An attribute that is an integer, or this where it is left out.
    pub fn int(&self, attribute: &str, default: i64) -> i64 {
        match self.attributes.get(attribute) {
            Some(Attribute::Int(value)) => *value,
            _ => default,
        }
    }

    /// An attribute that is a text, or this where it is left out or not UTF-8.
    pub fn text<'n>(&'n self, attribute: &str, default: &'n str) -> &'n str {
        match self.attributes.get(attribute) {
            Some(Attribute::String(bytes)) => std::str::from_utf8(bytes).unwrap_or(default),
            _ => default,
        }
    }

    /// The graphs among the attributes, by their names: the branches of If, the
    /// bodies of Loop and Scan.
    pub fn graphs(&self) -> impl Iterator<Item = (&str, &Graph)> {
        self.attributes
            .iter()
            .filter_map(|(name, value)| match value {
                Attribute::Graph(graph) => Some((name.as_str(), &**graph)),
                _ => None,
            })
    }

    /// All values that the node reads: its inputs, and what its graphs take from
    /// around it.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        let captured = self.graphs().flat_map(|(_, graph)| graph.captures());
        let inputs = self.inputs.iter().map(String::as_str);
        inputs.filter(|name| !name.is_empty()).chain(captured)
    }
}

/// Value of a node's attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is named after ONNX's type")]
pub enum Attribute {
    Float(f32),
    Int(i64),
    String(Vec<u8>),
    Tensor(Tensor),
    Graph(Box<Graph>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<Vec<u8>>),
    /// A kind that no operator of an image network uses.
    Other,
}

/// A named value with what is declared of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The value's name.
    pub name: String,
    /// Type of the elements, where declared.
    pub element_type: Option<ElementType>,
    /// Extents, outermost first, where the rank is declared.
    pub shape: Option<Vec<Dim>>,
}

impl Value {
    /// A value of which nothing but the name is declared.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            element_type: None,
            shape: None,
        }
    }
}

/// One extent of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A fixed extent.
    Fixed(usize),
    /// Known only at run time; the name may be empty.
    Symbol(String),
}

/// The extent, or the name of one that is not known beforehand (`?` without).
impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(extent) => write!(f, "{extent}"),
            Self::Symbol(name) if name.is_empty() => f.write_str("?"),
            Self::Symbol(name) => f.write_str(name),
        }
    }
}
