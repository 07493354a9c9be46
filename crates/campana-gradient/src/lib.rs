//! Reverse-mode differentiation (backpropagation) of a graph: from the
//! gradients of a loss with regard to some of its values to those with regard
//! to its constants. What distillation learns by.
//!
//! The forward pass is the engine's: a [`Backward`] says which values a
//! [`Session`](campana_runtime::Session) must give besides, and goes through
//! the nodes from the last to the first, each by the rule of its operator. An
//! operator without a rule is an error before anything runs.
//!
//! ```
//! use std::collections::HashMap;
//!
//! use campana_gradient::Backward;
//! use campana_ir::graph::{Graph, Node, Value};
//! use campana_tensor::{Tensor, TensorData};
//!
//! let tensor = |values: &[f32]| Tensor::new(vec![2], TensorData::F32(values.to_vec())).unwrap();
//! // y = relu(x * w)
//! let graph = Graph {
//!     nodes: vec![
//!         Node::new("Mul", &["x", "w"], &["product"]),
//!         Node::new("Relu", &["product"], &["y"]),
//!     ],
//!     inputs: vec![Value::named("x")],
//!     outputs: vec![Value::named("y")],
//!     constants: [("w".to_owned(), tensor(&[3.0, -3.0]))].into(),
//!     ..Graph::default()
//! };
//! let x = tensor(&[2.0, 5.0]);
//! let backward = Backward::new(&graph, &["w"], &["y"], &[("x", &x)])?;
//! let session = backward.session(&graph, 1)?;
//! let values = backward.values(&session, &[("x", &x)])?;
//! let loss = HashMap::from([("y".to_owned(), vec![1.0, 1.0])]);
//! let gradients = backward.run(&graph, &values, loss)?;
//! assert_eq!(gradients["w"], [2.0, 0.0]);
//! # Ok::<(), campana_gradient::Error>(())
//! ```
#![forbid(unsafe_code)]

mod backward;
mod broadcast;
mod error;
mod product;
mod rule;
mod rules;
mod window;

pub use backward::{Backward, Values};
pub use error::{Error, ErrorKind};
