//! Designs a codebook for values of one's own, and tells what it costs.
//!
//! ```sh
//! cargo run --release --example own_codebook
//! ```
#![expect(clippy::print_stdout, reason = "a program that reports")]

use campana::{Codebook, kmeans_levels};

/// Signal to quantization noise ratio, in dB, of the optimal codebook of so
/// many levels for these values.
pub(crate) fn sqnr_db(values: &[f32], levels: usize) -> f64 {
    let levels = kmeans_levels(values, levels);
    let levels = levels.into_iter().map(|level| level as f32).collect();
    let codebook = Codebook::new(levels).expect("levels that ascend");
    let mut codes = vec![0; values.len()];
    codebook.assign(values, &mut codes);
    let (mut signal, mut noise) = (0.0, 0.0);
    for (&value, &code) in values.iter().zip(&codes) {
        let error = value - codebook.levels()[usize::from(code)];
        signal += f64::from(value).powi(2);
        noise += f64::from(error).powi(2);
    }
    10.0 * (signal / noise).log10()
}

#[allow(dead_code, reason = "the tests call the function above")]
fn main() {
    let values: Vec<f32> = (-500..=500).map(|i| (i as f32 / 200.0).sinh()).collect();
    for bits in 1..=4 {
        println!("{bits} bits: {:.2} dB", sqnr_db(&values, 1 << bits));
    }
}
