//! campana for JavaScript: networks in memory that are inspected, made smaller
//! and run, without files, threads or a clock. It is compiled to WebAssembly by
//! `tools/web/modules.sh`, for the page in `web/` and the npm package; no
//! algorithm is here.
//!
//! ```no_run
//! use campana_quantize::Silent;
//! use campana_web::{Choices, Network, Session};
//!
//! let network = Network::read("model.onnx", std::fs::read("model.onnx")?)?;
//! let choices = Choices { target: Some("w4a8".to_owned()), ..Choices::default() };
//! let smaller = network.quantize(&choices, &Silent)?;
//! println!("{} bytes", smaller.model.len());
//! println!("{:?}", Session::open(smaller.model)?.inputs());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod bindings;
mod error;
mod network;
mod picture;
mod session;

pub use error::Error;
pub use network::{Choices, Inspected, Network, Smaller, methods, targets};
pub use picture::{prepare_picture, prepare_pixels, sidecar_of};
pub use session::{Described, Session, tensor};
