//! One model in every runtime of a machine: do the answers agree, and what is
//! smaller or faster than the float model it came from?
//!
//! Each model runs in a process of its own in each runtime, a [`Worker`], so
//! that load time and memory are those of this model alone. Workers are asked
//! in turn for the time of one run each, so that a machine that gets slower
//! does so for all. campana's own engine is one of the runtimes and answers
//! the same questions ([`serve`]); the others live in Python.
#![forbid(unsafe_code)]

mod error;
mod exchange;
mod inputs;
mod measure;
mod outcome;
mod runtime;
mod serve;
mod worker;

pub use error::{Error, ErrorKind};
pub use inputs::{InputSet, Inputs, graph_of, random_sets};
pub use measure::{Subject, verify};
pub use outcome::{Gain, Missing, Row, Verdict, Verification};
pub use runtime::{Python, Runtime, is_tflite};
pub use serve::serve;
pub use worker::Worker;
