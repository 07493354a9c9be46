//! From a model to its quantized tensors.

use std::collections::HashSet;

use campana_codebook::{Packing, QuantizedTensor};
use campana_design::integer_levels::uniform_grid;
use campana_design::{Levels, Summary, design};
use campana_ir::decoder::encode::{decoded_len_bytes, shared_len_bytes};
use campana_ir::weights::{ModelTensor, Role, constant_tensors};
use campana_onnx::Model;
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

use crate::auto::{Prices, Tables, best_design};
use crate::choice::{GRID_BITS, MethodChoice, TensorChoice};
use crate::error::Error;
use crate::integer_levels::largest_integer;
use crate::kept::{check_patterns, keep, kept_beforehand};
use crate::options::Options;
use crate::outcome::{QuantizedModel, TensorOutcome, TensorReport, clip, sqnr_db};
use crate::progress::{Progress, check_cancelled};
use crate::residual::shares_in_sums;
use crate::shared::gather;
use crate::solved::solved_weights;
use crate::store::{Precision, Stored, store};
use crate::vectors::{SharedVectors, Vectors};
use crate::weights::{check_finite, count, float_len_bytes, read_weights, shape};
use crate::widths::{Layer, Widths};

/// No decoder of one tensor has as many bytes beside its codes and levels.
const MOST_DECODER_BYTES: usize = 4096;

/// Quantizes the weights of a model; biases, parameters of normalizations,
/// what the user keeps and what is too small to gain stay float.
///
/// # Errors
///
/// Where an option is out of range or a pattern fits no weight tensor, a
/// tensor's data cannot be read, a weight is NaN or infinite, or `progress`
/// says to stop.
pub fn quantize<'m>(
    model: &'m Model,
    options: &Options,
    progress: &dyn Progress,
) -> Result<QuantizedModel<'m>, Error> {
    options.check()?;
    let tensors = constant_tensors(model);
    check_patterns(options, &tensors)?;
    let weights = tensors
        .iter()
        .filter(|tensor| kept_beforehand(tensor, options).is_none());
    let counts: Vec<usize> = weights.map(count).collect();
    let weights = counts.iter().copied().fold(0, usize::saturating_add);
    progress.start(weights as u64);
    let prices = Prices::new(counts.len(), weights);
    let solved = match options.means_are_corrected {
        true => solved_weights(model, &tensors),
        false => HashSet::new(),
    };
    let shares = shares_in_sums(model);
    let layer = |tensor: &ModelTensor<'_>| Layer {
        count: count(tensor),
        share: shares.get(tensor.name).copied().unwrap_or(1.0),
        is_depthwise: tensor.role.is_depthwise(),
    };
    let untold: Vec<Layer> = tensors
        .iter()
        .filter(|tensor| kept_beforehand(tensor, options).is_none())
        .filter(|tensor| options.bits_for(tensor.name).is_none())
        .map(layer)
        .collect();
    let widths = Widths::new(options, &untold);
    if let Some(plan) = &options.plan {
        let is_weight = |tensor: &&ModelTensor<'_>| matches!(tensor.role, Role::Weight { .. });
        let names: Vec<&str> = tensors.iter().filter(is_weight).map(|t| t.name).collect();
        plan.check_names(&names)?;
    }
    // Or why it is kept.
    let choices: Vec<Result<TensorChoice, String>> = tensors
        .iter()
        .map(|tensor| match kept_beforehand(tensor, options) {
            Some(reason) => Err(reason),
            None => Ok(widths.choice_of(options, tensor.name, layer(tensor))),
        })
        .collect();
    let chosen = tensors.iter().zip(&choices);
    let chosen: Vec<(&ModelTensor<'_>, TensorChoice)> = chosen
        .filter_map(|(tensor, choice)| Some((tensor, *choice.as_ref().ok()?)))
        .collect();
    let used = chosen
        .iter()
        .filter_map(|(_, choice)| choice.bits)
        .collect();
    let vectors = SharedVectors::learn(model, &chosen, &used)?;
    let outcomes: Vec<Result<TensorOutcome<'_>, Error>> = tensors
        .into_par_iter()
        .zip(choices)
        .map(|(tensor, choice)| {
            check_cancelled(progress)?;
            let outcome = match choice {
                Err(reason) => keep(tensor, reason),
                Ok(choice) => {
                    let prices = match solved.contains(tensor.name) {
                        true => prices.with_corrected_mean(),
                        false => prices,
                    };
                    quantize_tensor(model, tensor, choice, prices, &vectors)?
                }
            };
            if outcome.quantized.is_some() {
                progress.tensor_done(outcome.tensor.name, count(&outcome.tensor) as u64);
            }
            Ok(outcome)
        })
        .collect();
    // The first error in the file's order, whichever thread met one first.
    let mut tensors: Vec<TensorOutcome<'_>> = outcomes.into_iter().collect::<Result<_, _>>()?;
    // Widths of a plan were weighed against each other, tables included.
    if !options.target.rounds_activations() && options.plan.is_none() {
        keep_costly_packings(&mut tensors);
    }
    Ok(QuantizedModel {
        tensors,
        target: options.target,
        effort: options.effort,
    })
}

/// Keeps tensors whose packing needs a byte table that is larger than what
/// all tensors of that packing save.
fn keep_costly_packings(tensors: &mut [TensorOutcome<'_>]) {
    let mut saved: Vec<(Packing, u64)> = Vec::new();
    for outcome in &*tensors {
        let Some(tensor) = &outcome.quantized else {
            continue;
        };
        let float = outcome.report.input_bytes + outcome.tensor.name.len() as u64;
        // The decoders of large tensors need not be built to be counted.
        let stored = match tensor.len_bytes() {
            len if len > MOST_DECODER_BYTES => len as u64,
            _ => decoded_len_bytes(tensor, outcome.tensor.name),
        };
        let gain = float.saturating_sub(stored);
        match saved
            .iter_mut()
            .find(|(packing, _)| *packing == tensor.packing)
        {
            Some((_, sum)) => *sum += gain,
            None => saved.push((tensor.packing.clone(), gain)),
        }
    }
    saved.retain(|(packing, gain)| *gain <= shared_len_bytes(packing));
    for outcome in tensors {
        let is_costly =
            |tensor: &QuantizedTensor| saved.iter().any(|(packing, _)| *packing == tensor.packing);
        if outcome.quantized.as_ref().is_some_and(is_costly) {
            *outcome = keep(outcome.tensor.clone(), TOO_SMALL.to_owned());
        }
    }
}

/// Quantizes one weight tensor of a model as it was chosen: in vectors of a
/// table of `vectors`, where it is small and chosen to be.
///
/// # Errors
///
/// Where it cannot be read or a weight is NaN or infinite.
///
/// # Panics
///
/// Where the tensor is no weight.
pub fn quantize_tensor<'m>(
    model: &Model,
    tensor: ModelTensor<'m>,
    choice: TensorChoice,
    prices: Prices,
    vectors: &SharedVectors,
) -> Result<TensorOutcome<'m>, Error> {
    let values = read_weights(model, &tensor)?;
    let Role::Weight { channel_axis, .. } = tensor.role else {
        unreachable!("only weights are quantized");
    };
    let weights = Weights {
        name: tensor.name,
        op: tensor.op_type,
        shape: &shape(&tensor),
        channel_axis,
        float_bytes: float_len_bytes(&tensor),
        values: &values,
    };
    let Some(quantized) = quantize_chosen(&weights, choice, prices, vectors)? else {
        return Ok(keep(tensor, TOO_SMALL.to_owned()));
    };
    Ok(TensorOutcome {
        tensor,
        quantized: Some(quantized.tensor),
        corrected: None,
        energy: quantized.energy,
        squared_error: quantized.squared_error,
        report: quantized.report,
    })
}

/// Why [`quantize_weights`] may leave a tensor as it is.
pub const TOO_SMALL: &str = "too small to gain";

/// A weight tensor that was read.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// The operator that uses it.
    pub op: &'a str,
    /// Extents, outermost first.
    pub shape: &'a [usize],
    /// The axis of the output channels.
    pub channel_axis: Option<usize>,
    /// Bytes that it takes as floats.
    pub float_bytes: usize,
    /// The weights, row-major.
    pub values: &'a [f32],
}

/// What became of a tensor's weights.
#[derive(Clone, Debug)]
pub struct QuantizedWeights {
    /// Codes and levels.
    pub tensor: QuantizedTensor,
    /// Sum of the squared weights.
    pub energy: f64,
    /// Sum of their squared errors.
    pub squared_error: f64,
    /// What is said of it.
    pub report: TensorReport,
}

/// Quantizes one tensor; `None` where it is [too small](TOO_SMALL).
///
/// # Errors
///
/// Where an option is out of range, or a weight is NaN or infinite.
pub fn quantize_weights(
    weights: &Weights<'_>,
    options: &Options,
    prices: Prices,
) -> Result<Option<QuantizedWeights>, Error> {
    options.check()?;
    let choice = options.choice_of(weights.name);
    quantize_chosen(weights, choice, prices, &SharedVectors::default())
}

/// As [`quantize_weights`], for a choice that was made; `None` also where it
/// is to keep the tensor.
fn quantize_chosen(
    weights: &Weights<'_>,
    choice: TensorChoice,
    prices: Prices,
    vectors: &SharedVectors,
) -> Result<Option<QuantizedWeights>, Error> {
    let Some(bits) = choice.bits else {
        return Ok(None);
    };
    let &Weights {
        name,
        shape,
        float_bytes,
        values,
        ..
    } = weights;
    let summary = Summary::of(values);
    check_finite(name, summary.moments())?;
    let (method, stored) = stored_as_chosen(weights, &summary, bits, choice, prices, vectors);
    let Stored {
        tensor,
        squared_error,
    } = stored;
    let len_bytes = tensor.len_bytes();
    if !choice.on_integers && !gains(weights, &tensor) {
        return Ok(None);
    }
    let moments = summary.moments();
    let energy = moments.mean_square * moments.count as f64;
    let report = TensorReport {
        name: name.to_owned(),
        op: weights.op.to_owned(),
        shape: shape.to_vec(),
        bits: Some(bits),
        method: Some(method.to_string()),
        family: Some(summary.best_fit().family.to_string()),
        granularity: Some(granularity_name(&tensor.partition, choice.granularity)),
        clip: Some(clip(&tensor)),
        mse: Some(squared_error / values.len() as f64),
        sqnr_db: Some(sqnr_db(energy, squared_error)),
        bits_per_weight: len_bytes as f64 * 8.0 / values.len() as f64,
        divergence: None,
        byte_price: choice.byte_price,
        kept: None,
        input_bytes: float_bytes as u64,
        output_bytes: len_bytes as u64,
    };
    Ok(Some(QuantizedWeights {
        tensor,
        energy,
        squared_error,
        report,
    }))
}

/// Weights stored as they were chosen to be, and the method that did it.
fn stored_as_chosen(
    weights: &Weights<'_>,
    summary: &Summary<'_>,
    bits: u8,
    choice: TensorChoice,
    prices: Prices,
    vectors: &SharedVectors,
) -> (MethodChoice, Stored) {
    let &Weights {
        shape,
        channel_axis,
        values,
        ..
    } = weights;
    match choice.method {
        MethodChoice::Auto | MethodChoice::Vectors => {
            let in_vectors = Vectors::chosen(shape, channel_axis, &choice)
                .and_then(|rows| rows.store(values, shape, vectors));
            if let Some(stored) = in_vectors {
                return (MethodChoice::Vectors, stored);
            }
            let by_channel = matches!(
                choice.granularity,
                Granularity::PerChannel | Granularity::PerTensor
            );
            if choice.on_grid && bits <= GRID_BITS && by_channel {
                let partition = Partition::new(shape, channel_axis, choice.granularity);
                let tensor = uniform_grid(values, shape, &partition, bits);
                let pairs = tensor.dequantize().into_iter().zip(values);
                let squared_error = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
                let stored = Stored {
                    tensor,
                    squared_error,
                };
                return (MethodChoice::Auto, stored);
            }
            let prices = match choice.byte_price {
                Some(price) => prices.with_byte(price),
                None => prices,
            };
            let levels = 1 << bits;
            let prices = match choice.on_integers {
                true => prices.on_integers(largest_integer(levels)),
                false => prices,
            };
            let tables = if choice.stored_as_integers {
                Tables::Scaled
            } else if choice.on_integers && shape.len() == 2 {
                Tables::One
            } else {
                Tables::Any
            };
            let granularity = choice.granularity;
            let stored = best_design(
                values,
                shape,
                channel_axis,
                granularity,
                levels,
                prices,
                tables,
            );
            (MethodChoice::Auto, stored)
        }
        MethodChoice::Fixed(method) => {
            let partition = Partition::new(shape, channel_axis, choice.granularity);
            let designs: Vec<Levels> = if partition.group_count() == 1 {
                vec![design(method, summary, bits).levels]
            } else {
                let design_group = |group| {
                    design(
                        method,
                        &Summary::of(&gather(values, &partition, group)),
                        bits,
                    )
                    .levels
                };
                (0..partition.group_count())
                    .into_par_iter()
                    .map(design_group)
                    .collect()
            };
            let stored = store(values, shape, &partition, &designs, Precision::Fine);
            (choice.method, stored)
        }
    }
}

/// Whether a quantized tensor and its decoder are smaller than the weights.
fn gains(weights: &Weights<'_>, quantized: &QuantizedTensor) -> bool {
    let float = weights.float_bytes;
    // A decoder beside the codes and levels never comes near this length.
    float > 2 * quantized.len_bytes() + MOST_DECODER_BYTES
        || decoded_len_bytes(quantized, weights.name) < (float + weights.name.len()) as u64
}

fn granularity_name(partition: &Partition, asked: Granularity) -> String {
    match asked {
        _ if partition.group_count() == 1 => "tensor".to_owned(),
        Granularity::PerGroup(_) => format!("group={}", partition.group_len()),
        _ => "channel".to_owned(),
    }
}
