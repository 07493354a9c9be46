//! Runs a model on zeros of its input's shape, and prints the largest output.
//!
//! ```sh
//! cargo run --release --example run -- model.onnx
//! ```
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::error::Error;
use std::path::Path;

use campana::{Input, TensorData, open_session};

/// The position of the largest value of the first output.
pub(crate) fn run(model: &Path) -> Result<Option<usize>, Box<dyn Error>> {
    let session = open_session(model)?;
    let input = &session.plan().inputs()[0];
    // Extents that are open, such as the batch, become 1.
    let declared = input.shape.as_ref().ok_or("an input of unknown rank")?;
    let shape: Vec<usize> = declared
        .iter()
        .map(|extent| extent.to_string().parse().unwrap_or(1))
        .collect();
    let zeros = vec![0f32; shape.iter().product()];
    let input_values = Input::F32 {
        shape: &shape,
        data: &zeros,
    };
    let outputs = session.run(&[(&input.name, input_values)])?;
    let Some(TensorData::F32(scores)) = outputs.first().map(campana::Tensor::data) else {
        return Ok(None);
    };
    let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    Ok(best.map(|(position, _)| position))
}

#[allow(dead_code, reason = "the tests call the function above")]
fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).expect("usage: run MODEL");
    println!("largest output: {:?}", run(Path::new(&model))?);
    Ok(())
}
