//! The `campana` command as a function: what the program runs, and the Python
//! package as `python -m campana`.
//!
//! ```
//! let status = campana::main_from(["campana", "--version"].map(Into::into), Vec::new());
//! assert_eq!(status, 0);
//! ```
#![forbid(unsafe_code)]

mod args;
mod commands;
mod examples;
mod interrupt;
mod main_from;
mod named;
mod printer;
mod program;
mod progress;
mod table;

pub use main_from::main_from;
