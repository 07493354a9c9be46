//! Field numbers of the ONNX schema (`onnx.proto3`, IR version 14 and before).

/// Fields of `ModelProto`.
pub mod model {
    #![expect(missing_docs, reason = "each is named after its field")]
    pub const IR_VERSION: u32 = 1;
    pub const PRODUCER_NAME: u32 = 2;
    pub const PRODUCER_VERSION: u32 = 3;
    pub const DOMAIN: u32 = 4;
    pub const MODEL_VERSION: u32 = 5;
    pub const DOC_STRING: u32 = 6;
    pub const GRAPH: u32 = 7;
    pub const OPSET_IMPORT: u32 = 8;
    pub const METADATA_PROPS: u32 = 14;
    pub const TRAINING_INFO: u32 = 20;
    pub const FUNCTIONS: u32 = 25;
    pub const CONFIGURATION: u32 = 26;
}

/// Fields of `GraphProto`.
pub mod graph {
    #![expect(missing_docs, reason = "each is named after its field")]
    pub const NODE: u32 = 1;
    pub const NAME: u32 = 2;
    pub const INITIALIZER: u32 = 5;
    pub const DOC_STRING: u32 = 10;
    pub const INPUT: u32 = 11;
    pub const OUTPUT: u32 = 12;
    pub const VALUE_INFO: u32 = 13;
    pub const QUANTIZATION_ANNOTATION: u32 = 14;
    pub const SPARSE_INITIALIZER: u32 = 15;
    pub const METADATA_PROPS: u32 = 16;
}

/// Fields of `NodeProto`.
pub mod node {
    #![expect(missing_docs, reason = "each is named after its field")]
    pub const INPUT: u32 = 1;
    pub const OUTPUT: u32 = 2;
    pub const NAME: u32 = 3;
    pub const OP_TYPE: u32 = 4;
    pub const ATTRIBUTE: u32 = 5;
    pub const DOC_STRING: u32 = 6;
    pub const DOMAIN: u32 = 7;
    pub const OVERLOAD: u32 = 8;
    pub const METADATA_PROPS: u32 = 9;
    pub const DEVICE_CONFIGURATIONS: u32 = 10;
}

/// Fields of `AttributeProto`.
pub mod attribute {
    #![expect(missing_docs, reason = "each is named after its field")]
    pub const NAME: u32 = 1;
    pub const F: u32 = 2;
    pub const I: u32 = 3;
    pub const S: u32 = 4;
    pub const T: u32 = 5;
    pub const G: u32 = 6;
    pub const FLOATS: u32 = 7;
    pub const INTS: u32 = 8;
    pub const STRINGS: u32 = 9;
    pub const TENSORS: u32 = 10;
    pub const GRAPHS: u32 = 11;
    pub const DOC_STRING: u32 = 13;
    pub const TP: u32 = 14;
    pub const TYPE_PROTOS: u32 = 15;
    pub const TYPE: u32 = 20;
    pub const REF_ATTR_NAME: u32 = 21;
    pub const SPARSE_TENSOR: u32 = 22;
    pub const SPARSE_TENSORS: u32 = 23;
}

/// Numbers of `AttributeProto.AttributeType`.
pub(crate) mod attribute_type {
    pub(crate) const FLOAT: i32 = 1;
    pub(crate) const INT: i32 = 2;
    pub(crate) const STRING: i32 = 3;
    pub(crate) const TENSOR: i32 = 4;
    pub(crate) const GRAPH: i32 = 5;
    pub(crate) const FLOATS: i32 = 6;
    pub(crate) const INTS: i32 = 7;
    pub(crate) const STRINGS: i32 = 8;
    pub(crate) const TENSORS: i32 = 9;
    pub(crate) const GRAPHS: i32 = 10;
    pub(crate) const SPARSE_TENSOR: i32 = 11;
    pub(crate) const SPARSE_TENSORS: i32 = 12;
}

/// Fields of `TensorProto`.
pub mod tensor {
    #![expect(missing_docs, reason = "each is named after its field")]
    pub const DIMS: u32 = 1;
    pub const DATA_TYPE: u32 = 2;
    pub const SEGMENT: u32 = 3;
    pub const FLOAT_DATA: u32 = 4;
    pub const INT32_DATA: u32 = 5;
    pub const STRING_DATA: u32 = 6;
    pub const INT64_DATA: u32 = 7;
    pub const NAME: u32 = 8;
    pub const RAW_DATA: u32 = 9;
    pub const DOUBLE_DATA: u32 = 10;
    pub const UINT64_DATA: u32 = 11;
    pub const DOC_STRING: u32 = 12;
    pub const EXTERNAL_DATA: u32 = 13;
    pub const DATA_LOCATION: u32 = 14;
    pub const METADATA_PROPS: u32 = 16;
}

/// Fields of `SparseTensorProto`.
pub mod sparse_tensor {
    #![expect(missing_docs, reason = "each is named after its field")]
    pub const VALUES: u32 = 1;
    pub const INDICES: u32 = 2;
    pub const DIMS: u32 = 3;
}

/// Fields of `ValueInfoProto`.
pub mod value_info {
    #![expect(missing_docs, reason = "each is named after its field")]
    pub const NAME: u32 = 1;
    pub const TYPE: u32 = 2;
    pub const DOC_STRING: u32 = 3;
    pub const METADATA_PROPS: u32 = 4;
}

/// Fields of `TypeProto` and of the messages inside it.
pub(crate) mod type_proto {
    pub(crate) const TENSOR_TYPE: u32 = 1;
    pub(crate) const SEQUENCE_TYPE: u32 = 4;
    pub(crate) const MAP_TYPE: u32 = 5;
    pub(crate) const OPAQUE_TYPE: u32 = 7;
    pub(crate) const SPARSE_TENSOR_TYPE: u32 = 8;
    pub(crate) const OPTIONAL_TYPE: u32 = 9;
    /// Of `Tensor` and `SparseTensor`.
    pub(crate) const ELEM_TYPE: u32 = 1;
    pub(crate) const SHAPE: u32 = 2;
    /// Of `TensorShapeProto` and its `Dimension`.
    pub(crate) const DIM: u32 = 1;
    pub(crate) const DIM_VALUE: u32 = 1;
    pub(crate) const DIM_PARAM: u32 = 2;
}

/// Fields of `OperatorSetIdProto`.
pub(crate) mod opset {
    pub(crate) const DOMAIN: u32 = 1;
    pub(crate) const VERSION: u32 = 2;
}

/// Fields of `StringStringEntryProto`.
pub(crate) mod entry {
    pub(crate) const KEY: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
}

/// Fields of `TrainingInfoProto`.
pub mod training_info {
    #![expect(missing_docs, reason = "each is named after its field")]
    pub const INITIALIZATION: u32 = 1;
    pub const ALGORITHM: u32 = 2;
    pub const INITIALIZATION_BINDING: u32 = 3;
    pub const UPDATE_BINDING: u32 = 4;
}

/// Fields of `FunctionProto`.
pub mod function {
    #![expect(missing_docs, reason = "each is named after its field")]
    pub const NAME: u32 = 1;
    pub const INPUT: u32 = 4;
    pub const OUTPUT: u32 = 5;
    pub const ATTRIBUTE: u32 = 6;
    pub const NODE: u32 = 7;
    pub const DOC_STRING: u32 = 8;
    pub const OPSET_IMPORT: u32 = 9;
    pub const DOMAIN: u32 = 10;
    pub const ATTRIBUTE_PROTO: u32 = 11;
    pub const VALUE_INFO: u32 = 12;
    pub const OVERLOAD: u32 = 13;
    pub const METADATA_PROPS: u32 = 14;
}
