//! Levels of a model's tensors as engines that multiply integers take them.

use campana_codebook::QuantizedTensor;
use campana_design::integer_levels::{put_on_integer_grid, round_to_integers};

use crate::choice::Target;
use crate::outcome::{QuantizedModel, TensorOutcome, clip, sqnr_db};

/// Largest whole number of levels. Kernels that add products in 16 bits take
/// two products of 255 x 64, and four of 255 x 32; what that costs falls with
/// the number of levels. Those of TFLite Micro add in 32 bits.
fn largest_number(target: Target, levels: usize) -> f32 {
    match target {
        Target::TfLiteMicro => 127.0,
        _ => largest_integer(levels),
    }
}

/// The same for whatever target.
pub(crate) fn largest_integer(levels: usize) -> f32 {
    if levels <= 8 { 32.0 } else { 64.0 }
}

/// Rounds the levels of all quantized tensors to whole numbers times a scale,
/// where the target computes on integers.
pub fn round_levels(model: &mut QuantizedModel<'_>, target: Target) {
    for outcome in &mut model.tensors {
        round_outcome(outcome, target);
    }
}

/// Rounds the levels of one tensor for a target that computes on integers;
/// says whether it has any other than zero.
pub fn round_tensor(tensor: &mut QuantizedTensor, target: Target) -> bool {
    match target.stores_integers() {
        true => {
            let values = tensor.dequantize();
            put_on_integer_grid(tensor, &values)
        }
        false => {
            let largest = largest_number(target, tensor.tables.levels());
            round_to_integers(tensor, largest)
        }
    }
}

/// As [`round_levels`] for one tensor. Weights of recurrent layers keep their levels:
/// engines compute those in floats and want constants there, which OpenVINO
/// does not make of integers behind a Cast.
pub fn round_outcome(outcome: &mut TensorOutcome<'_>, target: Target) {
    if target.rounds_activations()
        && !outcome.tensor.is_recurrent()
        && let Some(tensor) = &mut outcome.quantized
    {
        let before = tensor.dequantize();
        if !round_tensor(tensor, target) {
            return;
        }
        // Both errors are small and hardly correlated: the squares add up.
        let after = tensor.dequantize();
        let pairs = before.iter().zip(&after);
        let added: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
        outcome.squared_error += added;
        outcome.report.mse = Some(outcome.squared_error / after.len().max(1) as f64);
        outcome.report.sqnr_db = Some(sqnr_db(outcome.energy, outcome.squared_error));
        outcome.report.clip = Some(clip(tensor));
        outcome.report.output_bytes = tensor.len_bytes() as u64;
    }
}
