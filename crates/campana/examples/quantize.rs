//! Makes a network small: 4 bits a weight, corrected on synthetic images.
//!
//! ```sh
//! cargo run --release --example quantize -- model.onnx small.onnx
//! ```
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::path::Path;

use campana::{Error, Quantizer};

pub(crate) fn quantize(model: &Path, small: &Path) -> Result<(), Error> {
    let report = Quantizer::open(model)?.bits(4).overwrite().save(small)?;
    println!(
        "{} weights, {:.2} bits each: {} bytes of {}",
        report.weights, report.bits_per_weight, report.output_bytes, report.input_bytes
    );
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    Ok(())
}

#[allow(dead_code, reason = "the tests call the function above")]
fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, small] = &arguments[..] else {
        panic!("usage: quantize MODEL OUTPUT");
    };
    quantize(Path::new(model), Path::new(small))
}
