//! From a model to its quantized tensors.

use campana_codebook::{Packing, QuantizedTensor};
use campana_design::{Levels, Moments, Summary, design};
use campana_model::weights::{ModelTensor, Role, constant_tensors};
use campana_onnx::Model;
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

use crate::auto::{Prices, Tables, best_design};
use crate::residual::shares_in_sums;
use crate::shared::gather;
use crate::store::{Precision, Stored, store};
use crate::widths::Widths;
use crate::write::{decoded_len_bytes, shared_len_bytes};
use crate::{
    Error, ErrorKind, MethodChoice, Options, Progress, Target, TensorChoice, TensorReport,
};

/// No decoder of one tensor has as many bytes beside its codes and levels.
const MOST_DECODER_BYTES: usize = 4096;

/// A model's tensors with what became of each.
#[derive(Debug)]
pub struct QuantizedModel<'m> {
    /// The constant float tensors, in the file's order.
    pub tensors: Vec<TensorOutcome<'m>>,
    /// What it will be written as; a correction rounds levels as this asks.
    pub target: Target,
}

impl QuantizedModel<'_> {
    /// Whether any tensor is quantized.
    pub(crate) fn has_changes(&self) -> bool {
        self.tensors
            .iter()
            .any(|outcome| outcome.quantized.is_some())
    }
}

/// What became of one tensor.
#[derive(Clone, Debug)]
pub struct TensorOutcome<'m> {
    /// The tensor in the model.
    pub tensor: ModelTensor<'m>,
    /// Its codes and levels; `None` where it stays float.
    pub quantized: Option<QuantizedTensor>,
    /// Other values of a tensor that stays float, which make up for errors of
    /// quantized ones; row-major.
    pub corrected: Option<Vec<f32>>,
    /// Sum of the squared weights; 0 where it stays float.
    pub energy: f64,
    /// Sum of the squared errors of the weights.
    pub squared_error: f64,
    /// What is said of it.
    pub report: TensorReport,
}

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
    let prices = Prices::new(counts.len(), weights, options.means_are_corrected);
    let shares = shares_in_sums(model);
    let share = |tensor: &ModelTensor<'_>| shares.get(tensor.name).copied().unwrap_or(1.0);
    let untold: Vec<(Vec<usize>, f64)> = tensors
        .iter()
        .filter(|tensor| kept_beforehand(tensor, options).is_none())
        .filter(|tensor| options.bits_for(tensor.name).is_none())
        .map(|tensor| (shape(tensor), share(tensor)))
        .collect();
    let widths = Widths::new(options, &untold);
    if let Some(plan) = &options.plan {
        let is_weight = |tensor: &&ModelTensor<'_>| matches!(tensor.role, Role::Weight { .. });
        let names: Vec<&str> = tensors.iter().filter(is_weight).map(|t| t.name).collect();
        plan.check_names(&names)?;
    }
    let outcomes: Vec<Result<TensorOutcome<'_>, Error>> = tensors
        .into_par_iter()
        .map(|tensor| {
            if progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let outcome = match kept_beforehand(&tensor, options) {
                Some(reason) => keep(tensor, reason),
                None => {
                    let choice =
                        widths.choice_of(options, tensor.name, &shape(&tensor), share(&tensor));
                    quantize_tensor(model, tensor, choice, prices)?
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
            None => saved.push((tensor.packing, gain)),
        }
    }
    saved.retain(|&(packing, gain)| gain <= shared_len_bytes(packing));
    for outcome in tensors {
        let is_costly =
            |tensor: &QuantizedTensor| saved.iter().any(|(packing, _)| *packing == tensor.packing);
        if outcome.quantized.as_ref().is_some_and(is_costly) {
            *outcome = keep(outcome.tensor.clone(), TOO_SMALL.to_owned());
        }
    }
}

/// A pattern that fits nothing is a typing error that would go unnoticed.
pub(crate) fn check_patterns(options: &Options, tensors: &[ModelTensor<'_>]) -> Result<(), Error> {
    let weights = tensors
        .iter()
        .filter(|tensor| matches!(tensor.role, Role::Weight { .. }));
    options.check_names(&weights.map(|tensor| tensor.name).collect::<Vec<_>>())
}

/// Why a tensor stays float, as far as can be said without its data.
pub(crate) fn kept_beforehand(tensor: &ModelTensor<'_>, options: &Options) -> Option<String> {
    match &tensor.role {
        Role::Other(purpose) => Some(purpose.clone()),
        Role::Weight { .. } if options.keeps(tensor.name) => Some("kept by --keep".to_owned()),
        Role::Weight { .. } if tensor.proto.count().is_ok_and(|count| count == 0) => {
            Some("empty".to_owned())
        }
        Role::Weight { .. } if options.choice_of(tensor.name).bits.is_none() => {
            Some("kept by the plan".to_owned())
        }
        Role::Weight { .. } => None,
    }
}

pub(crate) fn shape(tensor: &ModelTensor<'_>) -> Vec<usize> {
    // Negative or overflowing extents are refused when the data is read.
    tensor
        .proto
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).unwrap_or(0))
        .collect()
}

pub(crate) fn count(tensor: &ModelTensor<'_>) -> usize {
    count_in(&shape(tensor))
}

/// Elements of a tensor of this shape. Extents that overflow are refused when
/// the data is read.
pub(crate) fn count_in(shape: &[usize]) -> usize {
    shape
        .iter()
        .fold(1, |product, &dim| product.saturating_mul(dim))
}

pub(crate) fn float_len_bytes(tensor: &ModelTensor<'_>) -> usize {
    tensor
        .proto
        .element_type
        .len_bytes(count(tensor))
        .unwrap_or(0)
}

pub(crate) fn keep(tensor: ModelTensor<'_>, reason: String) -> TensorOutcome<'_> {
    let element_bits = tensor.proto.element_type.bits().unwrap_or(0);
    let bytes = float_len_bytes(&tensor) as u64;
    TensorOutcome {
        report: TensorReport {
            op: tensor.op_type.to_owned(),
            ..TensorReport::kept(tensor.name, shape(&tensor), element_bits, bytes, reason)
        },
        tensor,
        quantized: None,
        corrected: None,
        energy: 0.0,
        squared_error: 0.0,
    }
}

pub(crate) fn quantize_tensor<'m>(
    model: &Model,
    tensor: ModelTensor<'m>,
    choice: TensorChoice,
    prices: Prices,
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
    let Some(quantized) = quantize_chosen(&weights, choice, prices)? else {
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
    quantize_chosen(weights, options.choice_of(weights.name), prices)
}

/// As [`quantize_weights`], for a choice that was made; `None` also where it
/// is to keep the tensor.
fn quantize_chosen(
    weights: &Weights<'_>,
    choice: TensorChoice,
    prices: Prices,
) -> Result<Option<QuantizedWeights>, Error> {
    let Some(bits) = choice.bits else {
        return Ok(None);
    };
    let prices = match choice.byte_price {
        Some(price) => prices.with_byte(price),
        None => prices,
    };
    let &Weights {
        name,
        shape,
        channel_axis,
        float_bytes,
        values,
        ..
    } = weights;
    let summary = Summary::of(values);
    check_finite(name, summary.moments())?;
    let partition = Partition::new(shape, channel_axis, choice.granularity);
    let stored = match choice.method {
        MethodChoice::Auto => {
            let levels = 1 << bits;
            let tables = match choice.on_integers && shape.len() == 2 {
                true => Tables::One,
                false => Tables::Any,
            };
            best_design(
                values,
                shape,
                channel_axis,
                choice.granularity,
                levels,
                prices,
                tables,
            )
        }
        MethodChoice::Fixed(method) => {
            let designs: Vec<Levels> = if partition.group_count() == 1 {
                vec![design(method, &summary, bits).levels]
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
            store(values, shape, &partition, &designs, Precision::Fine)
        }
    };
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
        method: Some(choice.method.to_string()),
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

/// Whether a quantized tensor and its decoder are smaller than the weights.
fn gains(weights: &Weights<'_>, quantized: &QuantizedTensor) -> bool {
    let float = weights.float_bytes;
    // A decoder beside the codes and levels never comes near this length.
    float > 2 * quantized.len_bytes() + MOST_DECODER_BYTES
        || decoded_len_bytes(quantized, weights.name) < (float + weights.name.len()) as u64
}

/// The weights of a tensor.
pub(crate) fn read_weights(model: &Model, tensor: &ModelTensor<'_>) -> Result<Vec<f32>, Error> {
    model.read_f32(tensor.proto).map_err(|error| {
        let message = format!("cannot read tensor '{}'", tensor.name);
        Error::new(ErrorKind::InvalidModel, message).with_source(error)
    })
}

/// An error where some weights of a tensor are not finite.
pub(crate) fn check_finite(name: &str, moments: &Moments) -> Result<(), Error> {
    if moments.non_finite == 0 {
        return Ok(());
    }
    let Moments {
        count, non_finite, ..
    } = moments;
    Err(Error::new(
        ErrorKind::InvalidModel,
        format!(
            "tensor '{name}' has {non_finite} NaN or infinite weights among {}; repair the model, or leave \
             this tensor as it is with --keep '{name}'",
            count + non_finite
        ),
    ))
}

/// `10 log10(energy / squared_error)`; infinite where nothing was lost.
pub fn sqnr_db(energy: f64, squared_error: f64) -> f64 {
    10.0 * (energy / squared_error).log10()
}

fn granularity_name(partition: &Partition, asked: Granularity) -> String {
    match asked {
        _ if partition.group_count() == 1 => "tensor".to_owned(),
        Granularity::PerGroup(_) => format!("group={}", partition.group_len()),
        _ => "channel".to_owned(),
    }
}

/// The lowest and the highest level of all groups.
pub(crate) fn clip(tensor: &QuantizedTensor) -> [f32; 2] {
    let mut clip = [f32::INFINITY, f32::NEG_INFINITY];
    for group in 0..tensor.partition.group_count() {
        for level in tensor.group_levels(group) {
            clip = [clip[0].min(level), clip[1].max(level)];
        }
    }
    clip
}
