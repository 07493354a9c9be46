//! The native part of the browser page in `web/`: a network in memory, its
//! distributions, and a smaller network, without files, threads or a clock.
//! It is compiled to WebAssembly by `tools/web/build.sh`; no algorithm is here.
//!
//! ```no_run
//! use campana_quantize::Silent;
//! use campana_web::Network;
//!
//! let network = Network::read("model.onnx", std::fs::read("model.onnx")?)?;
//! let smaller = network.quantize(4, "auto", &Silent)?;
//! println!("{} -> {} bytes", network.len_bytes(), smaller.model.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod bindings;
mod network;

pub use network::{Network, Smaller};
