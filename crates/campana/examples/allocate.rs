//! The most accurate network in so many bytes: each tensor gets its own width.
//!
//! ```sh
//! cargo run --release --example allocate -- model.onnx small.onnx 60000
//! ```
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::path::Path;

use campana::{Error, Goal, Quantizer};

pub(crate) fn allocate(model: &Path, small: &Path, most_bytes: u64) -> Result<u64, Error> {
    let report = Quantizer::open(model)?
        .goal(Goal::MaxSize(most_bytes))
        .overwrite()
        .save(small)?;
    for tensor in &report.tensors {
        println!("{:>5.2} bits  {}", tensor.bits_per_weight, tensor.name);
    }
    Ok(report.output_bytes)
}

#[allow(dead_code, reason = "the tests call the function above")]
fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, small, most_bytes] = &arguments[..] else {
        panic!("usage: allocate MODEL OUTPUT BYTES");
    };
    let most_bytes = most_bytes.parse().expect("a number of bytes");
    let bytes = allocate(Path::new(model), Path::new(small), most_bytes)?;
    println!("{bytes} bytes");
    Ok(())
}
