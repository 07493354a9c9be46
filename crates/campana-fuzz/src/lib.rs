//! Mutation testing of every reader and round trip, on the stable toolchain.
//!
//! Beside libFuzzer, which `guided/` runs the same targets under, a harness of its own:
//! files of a small [`corpus`] are changed at random ([`mutate`]) and given to a
//! [`Target`], within the process. Each execution must end without a panic,
//! soon, and within the memory that the readers promise: 64 times the file plus
//! 64 MB ([`execute`]). [`graphs`] makes whole networks at random instead, valid
//! in form and hostile in content.
//!
//! ```text
//! cargo run --release -p campana-fuzz -- onnx --seconds 3600
//! ```
//!
//! The same seed gives the same executions. See `docs/fuzzing.md`.
#![forbid(unsafe_code)]

pub mod corpus;
mod execute;
pub mod graphs;
mod little_endian;
mod mutate;
mod random;
mod repair;
mod targets;
mod watchdog;

pub use execute::{Execution, Finding, execute};
pub use mutate::{HOSTILE, exhaustive, mutate};
pub use random::Random;
pub use targets::{Target, targets};
pub use watchdog::Watchdog;

/// Counts what is allocated in this process.
#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
