//! Core ML packages of the typed graph, without coremltools.
//!
//! [`convert`] writes a network as a MIL program whose weights stay codes and
//! tables. It computes in 16- or 32-bit floats; inputs and outputs are 32-bit
//! floats, or, where an [`Image`] says how pixels become values, a picture; and
//! where classes have names, the program tells the class.
//!
//! ```
//! use campana_coreml::{Options, Package, Precision};
//! use campana_ir::graph::{Dim, Graph, Node, Value};
//! use campana_tensor::ElementType;
//!
//! let value = |name: &str| Value {
//!     name: name.into(),
//!     element_type: Some(ElementType::F32),
//!     shape: Some(vec![Dim::Symbol("N".into()), Dim::Fixed(2)]),
//! };
//! let graph = Graph {
//!     nodes: vec![Node::new("Relu", &["x"], &["y"])],
//!     inputs: vec![value("x")],
//!     outputs: vec![value("y")],
//!     ..Graph::default()
//! };
//! let package = campana_coreml::convert(&graph, &Options::new(Precision::Float16))?;
//! assert_eq!(package.files()[0].0, Package::PATHS[0]);
//! # Ok::<(), campana_coreml::Error>(())
//! ```
#![forbid(unsafe_code)]

mod blob;
mod convert;
mod error;
mod package;
mod parameters;
mod picture;
mod program;
mod proto;
mod weights;

pub use convert::convert;
pub use error::{Error, ErrorKind};
pub use package::Package;
pub use picture::{Channels, Image, Layout, Options};
pub use program::Precision;
