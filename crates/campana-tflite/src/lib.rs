//! TFLite models of the typed graph, without TensorFlow.
//!
//! [`convert`] writes a network as a TFLite flatbuffer. Where the graph rounds
//! activations to 8 bits (QuantizeLinear and DequantizeLinear, as campana's
//! `int8` form has them) and weights are int8, operators compute on int8 with
//! the same scales and zero points; all else computes in float32. Values of
//! convolutions lie with their channels last, and so do the inputs of the graph
//! that convolutions read; outputs lie as in the graph. For TFLite Micro weights
//! stay codes and tables.
//!
//! ```
//! use campana_ir::graph::{Dim, Graph, Node, Value};
//! use campana_tensor::ElementType;
//! use campana_tflite::Interpreter;
//!
//! let value = |name: &str| Value {
//!     name: name.into(),
//!     element_type: Some(ElementType::F32),
//!     shape: Some(vec![Dim::Symbol("N".into()), Dim::Fixed(2)]),
//! };
//! let graph = Graph {
//!     nodes: vec![Node {
//!         op_type: "Relu".into(),
//!         inputs: vec!["x".into()],
//!         outputs: vec!["y".into()],
//!         ..Node::default()
//!     }],
//!     inputs: vec![value("x")],
//!     outputs: vec![value("y")],
//!     ..Graph::default()
//! };
//! let file = campana_tflite::convert(&graph, Interpreter::TfLite)?;
//! assert_eq!(&file[4..8], b"TFL3");
//! # Ok::<(), campana_tflite::Error>(())
//! ```
#![forbid(unsafe_code)]

mod convert;
mod decode;
mod error;
mod flatbuffer;
mod folding;
mod inputs;
mod layout;
mod parameters;
mod schema;
mod values;

pub use convert::{Interpreter, convert};
pub use error::{Error, ErrorKind};
