//! Planning and execution of image networks: the stage between a model's
//! graph and its outputs.
//!
//! A [`Plan`] is a graph made ready once: constants folded, batch
//! normalization, activations and residual sums fused into convolutions,
//! weights laid out for the kernels; what cannot run is an error here, before
//! anything runs. A [`Session`] runs it: for each combination of input shapes
//! it works out layouts and memory once, and keeps both.
//!
//! ```
//! use campana_ir::graph::{Graph, Node, Value};
//! use campana_runtime::{Plan, PlanOptions, Session};
//! use campana_tensor::{Tensor, TensorData};
//!
//! let value = |name: &str| Value { name: name.into(), element_type: None, shape: None };
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
//! let session = Session::new(Plan::new(&graph, PlanOptions::default())?, 1);
//! let x = Tensor::new(vec![2], TensorData::F32(vec![-1.0, 2.0])).unwrap();
//! let outputs = session.run(&[("x", (&x).into())])?;
//! assert_eq!(outputs[0].data(), &TensorData::F32(vec![0.0, 2.0]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod error;
pub mod integer;
mod limits;
mod ops;
mod parameters;
mod plan;
mod program;
mod session;
mod strided;

pub use campana_kernels::Peak;
pub use error::{PlanError, PlanErrorKind, RunError, RunErrorKind};
pub use limits::{Interrupt, Limits};
pub use parameters::parameters;
pub use plan::{Plan, PlanOptions};
pub use session::{Input, NodeTime, Session};
