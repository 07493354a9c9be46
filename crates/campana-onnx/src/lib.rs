//! ONNX models in and out, byte for byte; knows nothing of quantization.
//!
//! [`Model`] reads what a model says and where each part lies; its weights stay
//! in the file until they are asked for. [`Edits`] writes the model again with
//! parts removed, replaced or added, and copies every other byte: functions,
//! training information, doc strings, metadata, unknown fields and whatever
//! later versions of ONNX add. Without edits, output and input are the same.
//!
//! ```
//! use campana_onnx::{Content, Edits, Model, NewNode, NewTensor, Source, schema};
//! use campana_tensor::ElementType;
//!
//! // y = x + 1, made by hand.
//! let one = 1f32.to_le_bytes().to_vec();
//! let graph = Content::default()
//!     .message(schema::graph::NODE, NewNode::new("Add", ["x", "one"], ["y"]))
//!     .message(
//!         schema::graph::INITIALIZER,
//!         NewTensor::raw("one", &[1], ElementType::F32, one),
//!     );
//! let bytes = Content::default()
//!     .int(schema::model::IR_VERSION, 8)
//!     .message(schema::model::GRAPH, graph)
//!     .into_bytes()?;
//!
//! let model = Model::parse(Source::from_bytes(bytes))?;
//! let one = &model.graph.initializers[0];
//! assert_eq!(model.read_f32(one)?, [1.0]);
//!
//! // The same with another constant.
//! let two = 2f32.to_le_bytes().to_vec();
//! let two = NewTensor::raw("one", &[1], ElementType::F32, two);
//! let mut edits = Edits::new(&model);
//! edits.replace(
//!     one.message,
//!     Content::default().message(schema::graph::INITIALIZER, two),
//! );
//! let mut out = Vec::new();
//! edits.write(&mut out)?;
//! let model = Model::parse(Source::from_bytes(out))?;
//! assert_eq!(model.read_f32(&model.graph.initializers[0])?, [2.0]);
//! # Ok::<(), campana_onnx::Error>(())
//! ```
#![forbid(unsafe_code)]

mod byte_order;
mod content;
mod data;
mod edit;
mod encode;
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
mod walk;
mod wire;

pub use campana_tensor::Limits;
pub use content::Content;
pub use edit::{Edits, MAX_MODEL_LEN};
pub use encode::{NewAttribute, NewNode, NewTensor, NewValueInfo, metadata_entry, opset_import};
pub use error::{Error, ErrorKind, Result};
pub use message::{FieldRun, MessageId};
pub use model::Model;
pub use proto::{
    Attribute, AttributeValue, DataLocation, Dim, ExternalData, Function, Graph, Metadata, Node,
    OpsetImport, SparseTensor, TensorProto, TensorType, TrainingInfo, ValueInfo, ValueType,
};
pub use source::{Source, Span};
