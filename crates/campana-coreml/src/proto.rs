//! The messages of Core ML's model format that are written, with the numbers of
//! their fields.
//!
//! # References
//!
//! Apple, Core ML model format specification, `Model.proto`, `FeatureTypes.proto`
//! and `MIL.proto`, <https://apple.github.io/coremltools/mlmodel/index.html>.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(int32, tag = "1")]
    pub(crate) specification_version: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) description: Option<ModelDescription>,
    #[prost(message, optional, tag = "502")]
    pub(crate) ml_program: Option<Program>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ModelDescription {
    #[prost(message, repeated, tag = "1")]
    pub(crate) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) output: Vec<FeatureDescription>,
    #[prost(string, tag = "11")]
    pub(crate) predicted_feature_name: String,
    #[prost(string, tag = "12")]
    pub(crate) predicted_probabilities_name: String,
    #[prost(message, optional, tag = "100")]
    pub(crate) metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metadata {
    #[prost(btree_map = "string, string", tag = "100")]
    pub(crate) user_defined: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureDescription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) short_description: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) feature_type: Option<FeatureType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FeatureType {
    #[prost(oneof = "FeatureKind", tags = "3, 4, 5, 6")]
    pub(crate) kind: Option<FeatureKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum FeatureKind {
    #[prost(message, tag = "3")]
    String(Empty),
    #[prost(message, tag = "4")]
    Image(ImageFeature),
    #[prost(message, tag = "5")]
    Array(ArrayFeature),
    #[prost(message, tag = "6")]
    Dictionary(DictionaryFeature),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageFeature {
    #[prost(int64, tag = "1")]
    pub(crate) width: i64,
    #[prost(int64, tag = "2")]
    pub(crate) height: i64,
    #[prost(enumeration = "ColorSpace", tag = "3")]
    pub(crate) color_space: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum ColorSpace {
    Invalid = 0,
    Grayscale = 10,
    Rgb = 20,
    Bgr = 30,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrayFeature {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) shape: Vec<i64>,
    #[prost(enumeration = "ArrayType", tag = "2")]
    pub(crate) data_type: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum ArrayType {
    Invalid = 0,
    Float32 = 65568,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionaryFeature {
    #[prost(message, optional, tag = "2")]
    pub(crate) string_key: Option<Empty>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Program {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) functions: BTreeMap<String, Function>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Function {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<NamedType>,
    #[prost(string, tag = "2")]
    pub(crate) opset: String,
    #[prost(btree_map = "string, message", tag = "3")]
    pub(crate) blocks: BTreeMap<String, Block>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Block {
    #[prost(string, repeated, tag = "2")]
    pub(crate) outputs: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) operations: Vec<Operation>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Operation {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) inputs: BTreeMap<String, Argument>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) outputs: Vec<NamedType>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub(crate) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Argument {
    #[prost(message, repeated, tag = "1")]
    pub(crate) arguments: Vec<Binding>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Binding {
    #[prost(oneof = "Bound", tags = "1, 2")]
    pub(crate) bound: Option<Bound>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Bound {
    #[prost(string, tag = "1")]
    Name(String),
    #[prost(message, tag = "2")]
    Value(Value),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NamedType {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value_type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueType {
    #[prost(oneof = "TypeKind", tags = "1, 2, 4")]
    pub(crate) kind: Option<TypeKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum TypeKind {
    #[prost(message, tag = "1")]
    Tensor(TensorType),
    #[prost(message, tag = "2")]
    List(Box<ListType>),
    #[prost(message, tag = "4")]
    Dictionary(Box<DictionaryType>),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorType {
    #[prost(enumeration = "DataType", tag = "1")]
    pub(crate) data_type: i32,
    #[prost(int64, tag = "2")]
    pub(crate) rank: i64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListType {
    #[prost(message, optional, tag = "1")]
    pub(crate) element: Option<ValueType>,
    #[prost(message, optional, tag = "2")]
    pub(crate) length: Option<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DictionaryType {
    #[prost(message, optional, tag = "1")]
    pub(crate) key: Option<ValueType>,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<ValueType>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Dimension {
    #[prost(message, optional, tag = "1")]
    pub(crate) constant: Option<ConstantDimension>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ConstantDimension {
    #[prost(uint64, tag = "1")]
    pub(crate) size: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    #[prost(message, optional, tag = "2")]
    pub(crate) value_type: Option<ValueType>,
    #[prost(oneof = "ValueKind", tags = "3, 5")]
    pub(crate) kind: Option<ValueKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ValueKind {
    #[prost(message, tag = "3")]
    Immediate(Immediate),
    #[prost(message, tag = "5")]
    Blob(BlobValue),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Immediate {
    #[prost(oneof = "ImmediateKind", tags = "1, 3")]
    pub(crate) kind: Option<ImmediateKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ImmediateKind {
    #[prost(message, tag = "1")]
    Tensor(TensorValue),
    #[prost(message, tag = "3")]
    List(ListValue),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BlobValue {
    #[prost(string, tag = "1")]
    pub(crate) file_name: String,
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListValue {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorValue {
    #[prost(oneof = "TensorKind", tags = "1, 2, 3, 4, 7")]
    pub(crate) kind: Option<TensorKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum TensorKind {
    #[prost(message, tag = "1")]
    Floats(Floats),
    #[prost(message, tag = "2")]
    Ints(Ints),
    #[prost(message, tag = "3")]
    Bools(Bools),
    #[prost(message, tag = "4")]
    Strings(Strings),
    #[prost(message, tag = "7")]
    Bytes(Bytes),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Floats {
    #[prost(float, repeated, tag = "1")]
    pub(crate) values: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ints {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) values: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bools {
    #[prost(bool, repeated, tag = "1")]
    pub(crate) values: Vec<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Strings {
    #[prost(string, repeated, tag = "1")]
    pub(crate) values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bytes {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) values: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum DataType {
    Unused = 0,
    Bool = 1,
    String = 2,
    Float16 = 10,
    Float32 = 11,
    Float64 = 12,
    Int8 = 21,
    Int32 = 23,
    Uint8 = 31,
    Uint32 = 33,
    Uint4 = 35,
    Uint2 = 36,
    Uint1 = 37,
    Uint6 = 38,
    Uint3 = 39,
}
