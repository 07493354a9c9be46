//! The command line as its users meet it: the built binary, run on models
//! that are made here. Links, signals and limits are those of Unix.
#![cfg(unix)]

mod allocation;
mod arguments;
mod bad_inputs;
mod bad_models;
mod bad_outputs;
mod command_files;
mod container;
mod contract;
mod coreml;
mod correction;
mod distillation;
mod evaluate;
mod external_data;
mod interrupt;
mod model_forms;
mod preservation;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod tflite;
mod threads;
mod vectors;
mod verify;
mod weight_files;
