//! The smallest file: codes for an entropy coder, at a rate or with a share of
//! zeros that is asked for.
//!
//! Lloyd-Max codes are near maximal entropy, and coding them gains little. At
//! equal entropy a uniform grid with a zero is better, and close to the best
//! there is: its error exceeds that of the optimal entropy-constrained
//! quantizer by less than 2 % for Gaussian and Laplace weights from 1 to 6
//! bits. All rows of a tensor share the grid, measured in units of what follows
//! them: a batch normalization multiplies a row's errors, so its weights are
//! quantized as they are after it. How steps relate between tensors follows
//! from equal slopes: if each layer's relative error counts alike, a tensor of
//! `n` weights of deviation `s` gets a step in proportion to `s sqrt(n)`, and one
//! in a residual block of a [share](campana_quantize::shares_in_sums) `a` of the sum behind it to
//! `s sqrt(n / a)`.
//!
//! [`correct`](campana_calibrate::correct()) with [`Rounding::AtRate`](campana_calibrate::Rounding)
//! then weighs each code's error against its bits. At last the normalizations
//! take up the rows' scales, and what they no longer need (two of their four
//! vectors are constant then) costs nothing in a container.
//!
//! # References
//!
//! Gish, Pierce, "Asymptotically efficient quantizing", IEEE Transactions on
//! Information Theory 14, 1968, doi 10.1109/TIT.1968.1054193. Sullivan,
//! "Efficient scalar quantization of exponential and Laplacian random
//! variables", IEEE Transactions on Information Theory 42, 1996,
//! doi 10.1109/18.532878.

mod grid;
mod normalization;

use campana_container::Piece;
use campana_design::code_bits;
use campana_onnx::Model;
use campana_quantize::kept::check_patterns;
use campana_quantize::{Error, Options, Progress, QuantizedModel, RateGoal, zero_share};

use crate::rate::grid::Grid;

/// Networks that are corrected in the search for the rate, at most.
const ATTEMPTS: usize = 3;

/// Share of the rate that may be left unused.
const SLACK: f64 = 0.015;

/// Quantizes a model to codes for an entropy coder that come near to a goal,
/// and keep to it. `correct` gets each attempt; it is to call
/// [`correct`](campana_calibrate::correct()) with [`Rounding::AtRate`](campana_calibrate::Rounding),
/// or nothing. Returns the best attempt that keeps to the goal, with what
/// `correct` said of it.
///
/// # Errors
///
/// As [`quantize`](campana_quantize::quantize()), where the goal is out of range, and
/// those of `correct`.
pub fn quantize_at_rate<'m, R, E: From<Error>>(
    model: &'m Model,
    options: &Options,
    goal: RateGoal,
    progress: &dyn Progress,
    mut correct: impl FnMut(&mut QuantizedModel<'m>) -> Result<R, E>,
) -> Result<(QuantizedModel<'m>, R), E> {
    options.check()?;
    goal.check()?;
    let limit = goal.limit();
    let grid = Grid::of(model, options, progress)?;
    check_patterns(options, &grid.tensors())?;
    let mut expected = limit;
    let mut best: Option<(f64, (QuantizedModel<'m>, R))> = None;
    for attempt in 0..ATTEMPTS {
        let step = grid.step_for(goal, expected);
        let mut quantized = grid.quantize(step)?;
        let said = correct(&mut quantized)?;
        normalization::absorb(model, &mut quantized)?;
        let bits = measure(&mut quantized);
        let actual = match goal {
            RateGoal::Bits(_) => bits,
            RateGoal::Zeros(_) => 1.0 - zero_share(&quantized),
        };
        let fits = actual <= limit;
        let better = best.as_ref().is_none_or(|(known, _)| {
            if fits {
                *known > limit || actual > *known
            } else {
                actual < *known
            }
        });
        if better {
            best = Some((actual, (quantized, said)));
        }
        if fits && actual >= limit * (1.0 - SLACK) || grid.is_empty() {
            break;
        }
        // Rather a little less than to try once more.
        let aim = if attempt == 0 { 0.3 } else { 0.6 } * SLACK * limit;
        expected = (expected + limit - aim - actual).max(expected * 0.3);
    }
    Ok(best.expect("at least one attempt").1)
}

/// Codes and table of a tensor as the container stores them; all tensors
/// together, since each is coded with what was learned from those before.
/// Writes each tensor's share into its report; returns the bits of a weight.
fn measure(quantized: &mut QuantizedModel<'_>) -> f64 {
    let tables: Vec<Vec<u8>> = quantized
        .tensors
        .iter()
        .filter_map(|outcome| outcome.quantized.as_ref())
        .map(|tensor| {
            let scales = tensor.scale.iter().flat_map(|(values, _)| values);
            let values = tensor.tables.values().iter().chain(scales);
            values.flat_map(|value| value.to_le_bytes()).collect()
        })
        .collect();
    let mut pieces = Vec::new();
    let changed = quantized
        .tensors
        .iter()
        .filter_map(|outcome| outcome.quantized.as_ref());
    for (tensor, table) in changed.zip(&tables) {
        let rows = tensor.shape.first().copied().unwrap_or(1).max(1);
        pieces.push(Piece::Codes {
            packed: &tensor.packed,
            packing: tensor.packing.clone(),
            row_len: (tensor.partition.len() / rows).max(1),
        });
        pieces.push(Piece::Values {
            bytes: table,
            width: 4,
            kind: 0,
        });
    }
    let bytes = campana_container::pack(&pieces).len() as f64;
    let entropies: Vec<f64> = quantized
        .tensors
        .iter()
        .map(|outcome| outcome.quantized.as_ref().map_or(0.0, entropy))
        .collect();
    let total = entropies.iter().sum::<f64>().max(1.0);
    let mut weights = 0;
    for (outcome, entropy) in quantized.tensors.iter_mut().zip(entropies) {
        if let Some(tensor) = &outcome.quantized {
            let count = tensor.partition.len();
            let share = bytes * entropy / total;
            outcome.report.output_bytes = share.round() as u64;
            outcome.report.bits_per_weight = 8.0 * share / count.max(1) as f64;
            weights += count;
        }
    }
    8.0 * bytes / weights.max(1) as f64
}

/// Bits of a tensor's codes under their own frequencies.
fn entropy(tensor: &campana_codebook::QuantizedTensor) -> f64 {
    let codes = tensor.codes();
    let bits = code_bits(codes.iter().copied(), tensor.tables.levels());
    codes
        .iter()
        .map(|&code| f64::from(bits[usize::from(code)]))
        .sum()
}
