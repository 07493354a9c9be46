//! How the weights of a model are distributed.

use std::collections::BTreeMap;

use campana_design::{Distribution, Family, Summary, predicted_sqnr_db};
use campana_ir::weights::{ModelTensor, Role, constant_tensors};
use campana_onnx::Model;
use rayon::prelude::*;
use serde::Serialize;

use crate::error::Error;
use crate::progress::{Progress, check_cancelled};
use crate::weights::{check_finite, read_weights};

/// A weight this many standard deviations from the mean counts as an outlier:
/// one in 16,000 for a Gaussian, one in 290 for a Laplace distribution.
pub const OUTLIER_DEVIATIONS: f64 = 4.0;

/// Bins of a tensor's histogram.
pub const HISTOGRAM_BINS: usize = 96;

/// The histogram covers this many standard deviations to either side.
const HISTOGRAM_DEVIATIONS: f64 = 6.0;

/// What the weights of a model look like; the keys of the JSON are a contract.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The model that was read.
    pub model: String,
    /// Number of weights in all tensors.
    pub weights: u64,
    /// The weight tensors, in the file's order.
    pub tensors: Vec<TensorInspection>,
    /// Weights that the file holds quantized.
    pub quantized: Vec<QuantizedInspection>,
}

/// How a file holds the quantized weights of one tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizedInspection {
    /// The tensor's name.
    pub name: String,
    /// `codebook` for codes of levels in tables, `vectors` for those of a codebook
    /// of vectors of weights, `linear` for integers with
    /// scales (`DequantizeLinear`).
    pub form: &'static str,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Number of weights.
    pub count: u64,
    /// Levels that a code may select, in each table.
    pub levels: u64,
    /// Level tables, or scales.
    pub tables: u64,
    /// Bits of a weight, with its share of tables, scales and offsets.
    pub bits_per_weight: f64,
}

impl Inspection {
    /// What its tensors say of a model of this name.
    pub fn new(model: String, tensors: Vec<TensorInspection>) -> Self {
        Self {
            model,
            weights: tensors.iter().map(|tensor| tensor.count).sum(),
            tensors,
            quantized: Vec::new(),
        }
    }
}

/// What the weights of one tensor look like.
#[derive(Clone, Debug, Serialize)]
pub struct TensorInspection {
    /// The tensor's name.
    pub name: String,
    /// The operator that uses it.
    pub op: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Number of weights.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Fourth central moment over squared variance: 3 for a Gaussian, 6 for a
    /// Laplace distribution; null for a constant tensor.
    pub kurtosis: f64,
    /// Smallest weight.
    pub min: f32,
    /// Largest weight.
    pub max: f32,
    /// Weights more than [`OUTLIER_DEVIATIONS`] standard deviations from the
    /// mean.
    pub outliers: u64,
    /// Kolmogorov-Smirnov statistic of the fitted Gaussian: the largest
    /// distance of the two distribution functions, 0 to 1.
    pub d_gaussian: f64,
    /// The same of the fitted Laplace distribution.
    pub d_laplace: f64,
    /// The same of the fitted generalized Gaussian distribution.
    pub d_ggd: f64,
    /// The family with the smaller D of Gaussian and Laplace.
    pub family: String,
    /// Location and scale of the fitted Gaussian: mean, standard deviation.
    pub gaussian: [f64; 2],
    /// Location and scale of the fitted Laplace distribution: median, mean
    /// absolute deviation from it.
    pub laplace: [f64; 2],
    /// Location, scale and shape of the fitted generalized Gaussian
    /// distribution: the mean, and what gives the standard and the mean
    /// absolute deviation. Shape 1 is Laplace, 2 Gaussian.
    pub ggd: [f64; 3],
    /// SQNR in dB that the family's optimal quantizer would have at 1 to 8
    /// bits if the weights were distributed exactly so.
    pub predicted_sqnr_db: BTreeMap<String, f64>,
    /// Weights in equal bins.
    #[serde(skip)]
    pub histogram: Histogram,
    /// The fitted distribution of the chosen family.
    #[serde(skip)]
    pub fitted: Option<Distribution>,
}

/// Counts of weights in equal bins; what lies outside counts in the first and
/// last bin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Lower edge of the first bin.
    pub low: f64,
    /// Upper edge of the last bin.
    pub high: f64,
    /// Weights in each bin.
    pub counts: Vec<u32>,
}

/// Inspects the weight tensors of a model.
///
/// # Errors
///
/// Where a tensor's data cannot be read or holds NaN or infinity, or
/// `progress` says to stop.
pub fn inspect(model: &Model, name: &str, progress: &dyn Progress) -> Result<Inspection, Error> {
    let tensors: Vec<_> = constant_tensors(model)
        .into_iter()
        .filter(|tensor| matches!(tensor.role, Role::Weight { .. }))
        // Extents that overflow are refused when the data is read.
        .filter(|tensor| !tensor.proto.count().is_ok_and(|count| count == 0))
        .collect();
    let count = |tensor: &ModelTensor<'_>| tensor.proto.count().unwrap_or(0) as u64;
    progress.start(tensors.iter().map(count).sum());
    let outcomes: Vec<Result<TensorInspection, Error>> = tensors
        .par_iter()
        .map(|tensor| {
            check_cancelled(progress)?;
            let inspected = inspect_tensor(model, tensor)?;
            progress.tensor_done(tensor.name, inspected.count);
            Ok(inspected)
        })
        .collect();
    // The first error in the file's order, whichever thread met one first.
    let tensors = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Inspection::new(name.to_owned(), tensors))
}

fn inspect_tensor(model: &Model, tensor: &ModelTensor<'_>) -> Result<TensorInspection, Error> {
    let weights = read_weights(model, tensor)?;
    let shape = tensor.proto.shape().unwrap_or_default();
    inspect_values(tensor.name, tensor.op_type, shape, &weights)
}

/// Inspects the weights of one tensor, row-major.
///
/// # Errors
///
/// Where a weight is NaN or infinite.
pub fn inspect_values(
    name: &str,
    op: &str,
    shape: Vec<usize>,
    weights: &[f32],
) -> Result<TensorInspection, Error> {
    let summary = Summary::of(weights);
    check_finite(name, summary.moments())?;
    Ok(inspect_weights(name, op, shape, &summary))
}

/// What is said of weights that were summarized.
pub(crate) fn inspect_weights(
    name: &str,
    op: &str,
    shape: Vec<usize>,
    summary: &Summary<'_>,
) -> TensorInspection {
    let (weights, moments, fits) = (summary.weights(), summary.moments(), summary.fits());
    let best = fits.best();
    let ggd = summary.generalized_gaussian();
    let far = OUTLIER_DEVIATIONS * moments.std();
    let outliers = weights
        .par_iter()
        .filter(|&&weight| (f64::from(weight) - moments.mean).abs() > far);
    TensorInspection {
        name: name.to_owned(),
        op: op.to_owned(),
        shape,
        count: weights.len() as u64,
        mean: moments.mean,
        std: moments.std(),
        kurtosis: moments.kurtosis,
        min: moments.min,
        max: moments.max,
        outliers: outliers.count() as u64,
        d_gaussian: fits.d_gaussian,
        d_laplace: fits.d_laplace,
        d_ggd: summary.d_generalized_gaussian(),
        family: best.family.to_string(),
        gaussian: [fits.gaussian.location, fits.gaussian.scale],
        laplace: [fits.laplace.location, fits.laplace.scale],
        ggd: [ggd.location, ggd.scale, ggd.shape],
        predicted_sqnr_db: (1..=8)
            .map(|bits| (bits.to_string(), predicted_sqnr_db(best, moments, bits)))
            .collect(),
        histogram: histogram(weights, moments.mean, moments.std()),
        fitted: Some(*best),
    }
}

fn histogram(weights: &[f32], mean: f64, std: f64) -> Histogram {
    let reach = if std > 0.0 {
        HISTOGRAM_DEVIATIONS * std
    } else {
        1.0
    };
    let (low, high) = (mean - reach, mean + reach);
    let bins_per_unit = HISTOGRAM_BINS as f64 / (high - low);
    let mut counts = vec![0; HISTOGRAM_BINS];
    for &weight in weights {
        let bin = ((f64::from(weight) - low) * bins_per_unit) as usize;
        counts[bin.min(HISTOGRAM_BINS - 1)] += 1;
    }
    Histogram { low, high, counts }
}

/// The families whose D is reported.
pub const FAMILIES: [Family; 2] = [Family::Gaussian, Family::Laplace];
