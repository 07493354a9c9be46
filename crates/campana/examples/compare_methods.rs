//! Two ways to design levels at the same width, by the accuracy they leave.
//!
//! ```sh
//! cargo run --release --example compare_methods -- model.onnx images
//! ```
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::path::Path;

use campana::{Correction, Error, EvaluateReport, Quantizer, evaluate};

/// The accuracy of the network with uniform levels and with those of `auto`, 2
/// bits each, without a correction.
pub(crate) fn compare(model: &Path, data: &Path, folder: &Path) -> Result<EvaluateReport, Error> {
    let mut models = Vec::new();
    for method in ["minmax", "auto"] {
        let output = folder.join(format!("{method}.onnx"));
        Quantizer::open(model)?
            .bits(2)
            .method(method.parse().expect("a method"))
            .correction(Correction::None)
            .overwrite()
            .save(&output)?;
        models.push(output);
    }
    evaluate(&models, data, Some(model))
}

#[allow(dead_code, reason = "the tests call the function above")]
fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data] = &arguments[..] else {
        panic!("usage: compare_methods MODEL DATA");
    };
    let report = compare(Path::new(model), Path::new(data), Path::new("."))?;
    for model in report.models {
        println!("{}: top-1 {:?}", model.model, model.top1);
    }
    Ok(())
}
