//! Quantized networks as plain C for microcontrollers.
//!
//! A network whose activations are rounded to 8 bits (campana's `w4a8` and
//! `int8` forms) becomes C99 that needs nothing but `<stdint.h>` and
//! `<string.h>`: weights as packed codes and int8 levels in `const` arrays, one
//! static arena in which values share memory, kernels that are copied along, and
//! a program that tests it all. Nothing is allocated, nothing calls itself, and
//! there is no arithmetic of floats: what the desktop engine computes in float32
//! is computed on integers with the same result, bit for bit (`fixed`).
//!
//! ```
//! use campana_firmware::Firmware;
//! use campana_ir::graph::{Dim, Graph, Node, Value};
//! use campana_tensor::{ElementType, Tensor, TensorData};
//!
//! let tensor = |shape: &[usize], data| Tensor::new(shape.to_vec(), data).unwrap();
//! let value = |name: &str, shape: Option<Vec<Dim>>| Value {
//!     name: name.into(),
//!     element_type: Some(ElementType::F32),
//!     shape,
//! };
//! let graph = Graph {
//!     nodes: vec![
//!         Node::new("QuantizeLinear", &["x", "scale", "zero"], &["codes"]),
//!         Node::new("DequantizeLinear", &["codes", "scale", "zero"], &["rounded"]),
//!         Node::new("MatMul", &["rounded", "weights"], &["y"]),
//!     ],
//!     inputs: vec![value("x", Some(vec![Dim::Symbol("N".into()), Dim::Fixed(2)]))],
//!     outputs: vec![value("y", None)],
//!     constants: [
//!         ("scale".to_owned(), tensor(&[], TensorData::F32(vec![0.1]))),
//!         ("zero".to_owned(), tensor(&[], TensorData::U8(vec![128]))),
//!         ("weights".to_owned(), tensor(&[2, 1], TensorData::F32(vec![0.5, -1.0]))),
//!     ]
//!     .into(),
//!     ..Graph::default()
//! };
//! let firmware = Firmware::new(&graph, "tiny")?;
//! let files = firmware.files()?;
//! let header = files.iter().find(|file| file.name == "tiny.h").unwrap();
//! assert!(header.text.contains("int tiny_run(const int8_t *input, float *output);"));
//! assert_eq!(firmware.plan().multiply_accumulates(), 2);
//! # Ok::<(), campana_firmware::Error>(())
//! ```
#![forbid(unsafe_code)]

mod arena;
mod codes;
mod error;
mod file;
mod firmware;
mod fixed;
mod inputs;
mod kernels;
mod layer;
mod live;
mod logits;
mod memory;
mod plan;
mod project;
mod self_test;
mod source;
mod strips;

pub use error::{Error, ErrorKind};
pub use file::{File, foreign_name};
pub use firmware::Firmware;
pub use plan::{Budget, LayerCost, MemoryPlan, Shortfall};
