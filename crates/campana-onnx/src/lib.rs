//! ONNX models in and out, byte for byte; knows nothing of quantization.
//!
//! [`Model`] reads what a model says and where each part lies; its weights stay
//! in the file until they are asked for.
#![forbid(unsafe_code)]

mod byte_order;
mod data;
mod error;
mod external;
mod message;
mod model;
mod parse;
mod proto;
pub mod schema;
mod sniff;
mod source;
mod typed_data;
mod wire;

pub use error::{Error, ErrorKind, Result};
pub use message::{FieldRun, MessageId};
pub use model::Model;
pub use proto::{
    Attribute, AttributeValue, DataLocation, Dim, ExternalData, Function, Graph, Metadata, Node,
    OpsetImport, SparseTensor, TensorProto, TensorType, TrainingInfo, ValueInfo, ValueType,
};
pub use source::{Source, Span};
