//! What an ONNX model says, field by field, without its large payloads.

use std::collections::HashMap;

use campana_tensor::ElementType;

use crate::message::MessageId;
use crate::source::Span;

/// An operator set that a model or function relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsetImport {
    /// The set's domain; `""` is ONNX's own, as is `"ai.onnx"`.
    pub domain: String,
    /// The set's version.
    pub version: i64,
    /// Where it lies.
    pub message: MessageId,
}

/// A named piece of metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The name.
    pub key: String,
    /// Where the value's bytes lie.
    pub value: Span,
    /// Where it lies.
    pub message: MessageId,
}

/// What is needed to train a model further.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingInfo {
    /// The graph that gives the initial values.
    pub initialization: Option<Graph>,
    /// The graph of one training step.
    pub algorithm: Option<Graph>,
    /// Initializers set by `initialization`, and the outputs they are set to.
    pub initialization_binding: Vec<(String, String)>,
    /// Initializers set by `algorithm`, and the outputs they are set to.
    pub update_binding: Vec<(String, String)>,
    /// Where it lies.
    pub message: MessageId,
}

/// An operator defined by the model itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// The operator that it defines.
    pub name: String,
    /// The operator's domain.
    pub domain: String,
    /// Tells apart functions of the same name and domain; usually empty.
    pub overload: String,
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Names of the attributes without a default.
    pub attributes: Vec<String>,
    /// Attributes with their defaults.
    pub attribute_defaults: Vec<Attribute>,
    /// The body.
    pub nodes: Vec<Node>,
    /// Operator sets of the body.
    pub opset_imports: Vec<OpsetImport>,
    /// Where it lies.
    pub message: MessageId,
}

/// A graph of operators.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    /// The operators, in the file's order.
    pub nodes: Vec<Node>,
    /// Constant tensors.
    pub initializers: Vec<TensorProto>,
    /// Constant tensors stored by their elements that are not zero.
    pub sparse_initializers: Vec<SparseTensor>,
    /// Inputs; before IR version 4 these include the initializers.
    pub inputs: Vec<ValueInfo>,
    /// Outputs.
    pub outputs: Vec<ValueInfo>,
    /// What is declared of other values.
    pub value_info: Vec<ValueInfo>,
    /// Where it lies.
    pub message: MessageId,
}

impl Graph {
    /// The initializers, by name.
    pub fn initializers_by_name(&self) -> HashMap<&str, &TensorProto> {
        let tensors = self.initializers.iter();
        tensors
            .map(|tensor| (tensor.name.as_str(), tensor))
            .collect()
    }
}

/// One operator of a graph or function.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The node's name; may be empty.
    pub name: String,
    /// The operator, e.g. `Conv`.
    pub op_type: String,
    /// The operator's domain; `""` is ONNX's own, as is `"ai.onnx"`.
    pub domain: String,
    /// Which function of that name is meant; usually empty.
    pub overload: String,
    /// Names of the inputs; `""` where an optional one is left out.
    pub inputs: Vec<String>,
    /// Names of the outputs; `""` where an optional one is left out.
    pub outputs: Vec<String>,
    /// The attributes, in the file's order.
    pub attributes: Vec<Attribute>,
    /// Where it lies.
    pub message: MessageId,
}

impl Node {
    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// The integer attribute of this name; `None` where there is none or it is
    /// of another kind.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name)?.value {
            AttributeValue::Int(value) => Some(value),
            _ => None,
        }
    }
}

/// A named attribute of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The attribute's name.
    pub name: String,
    /// Its value.
    pub value: AttributeValue,
    /// Where it lies.
    pub message: MessageId,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AttributeValue {
    /// A number.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A string; the range holds its bytes.
    String(Span),
    /// A tensor.
    Tensor(Box<TensorProto>),
    /// A graph, as in the branches of `If`.
    Graph(Box<Graph>),
    /// A sparse tensor.
    SparseTensor(Box<SparseTensor>),
    /// Numbers.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
    /// Strings; the ranges hold their bytes.
    Strings(Vec<Span>),
    /// Tensors.
    Tensors(Vec<TensorProto>),
    /// Graphs.
    Graphs(Vec<Graph>),
    /// Sparse tensors.
    SparseTensors(Vec<SparseTensor>),
    /// In a function: the value of the calling node's attribute of this name.
    Reference(String),
    /// A kind that is not looked into (types, and what later versions add), by
    /// its number in the schema; 0 where neither kind nor value is given.
    Other(i32),
}

/// A tensor's header and where its elements are.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorProto {
    /// The tensor's name; may be empty in attributes.
    pub name: String,
    /// The extents as the file gives them: negative ones are not refused here.
    pub dims: Vec<i64>,
    /// Type of the elements.
    pub element_type: ElementType,
    /// Where the elements are.
    pub data: DataLocation,
    /// Where it lies.
    pub message: MessageId,
}

/// Where a tensor's elements are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataLocation {
    /// Nowhere: right for a tensor without elements.
    Absent,
    /// In `raw_data`: little-endian, in the given range.
    Raw(Span),
    /// In one of the typed fields (`float_data` and so on), by its number.
    Typed(u32),
    /// In another file.
    External(ExternalData),
    /// A part of a larger tensor; not supported.
    Segment,
}

/// Where in which file a tensor's elements are, as the model says: unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalData {
    /// Path relative to the model's folder, `/` between the parts.
    pub location: String,
    /// First byte; 0 where not given.
    pub offset: u64,
    /// Number of bytes, where given.
    pub length: Option<u64>,
    /// SHA-1 digest of the file, where given.
    pub checksum: Option<String>,
}

/// A tensor of which only some elements are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseTensor {
    /// The stored elements; its name is the sparse tensor's.
    pub values: Option<TensorProto>,
    /// Their positions, flat (`[n]`) or by axis (`[n, rank]`).
    pub indices: Option<TensorProto>,
    /// The extents.
    pub dims: Vec<i64>,
    /// Where it lies.
    pub message: MessageId,
}

impl SparseTensor {
    /// The tensor's name; empty where it has no values.
    pub fn name(&self) -> &str {
        self.values.as_ref().map_or("", |values| &values.name)
    }
}

/// A named value with what is declared of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// The value's name.
    pub name: String,
    /// Its type, where declared.
    pub value_type: Option<ValueType>,
    /// Where it lies.
    pub message: MessageId,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueType {
    /// A dense tensor.
    Tensor(TensorType),
    /// A sparse tensor.
    SparseTensor(TensorType),
    /// Values of one type in order.
    Sequence(Box<ValueType>),
    /// A value or nothing.
    Optional(Box<ValueType>),
    /// Keys and values.
    Map {
        /// Type of the keys.
        key: ElementType,
        /// Type of the values.
        value: Box<ValueType>,
    },
    /// A type known to its domain alone, or none at all.
    Other,
}

/// Element type and shape of a tensor that is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Type of the elements.
    pub element_type: ElementType,
    /// Extents, outermost first; `None` where even the rank is unknown.
    pub shape: Option<Vec<Dim>>,
}

/// One extent of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A fixed extent, as the file gives it: negative ones are not refused.
    Value(i64),
    /// Known only at run time, and the same wherever the name is the same.
    Symbol(String),
    /// Known only at run time.
    Unknown,
}
