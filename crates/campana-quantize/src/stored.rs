//! What was stored of a quantized tensor, beside its weights: what a report
//! draws.

use crate::vectors::VectorLevels;
use campana_codebook::{Packing, QuantizedTensor};
use campana_design::Summary;
use campana_ir::weights::Role;
use campana_onnx::Model;
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

use crate::error::Error;
use crate::inspect::{TensorInspection, inspect_weights};
use crate::outcome::{QuantizedModel, TensorOutcome};
use crate::weights::read_weights;

/// A quantized tensor's weights, the levels that replaced them, and the error.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Position of the tensor in [`QuantizedModel::tensors`].
    pub index: usize,
    /// The weights as the levels see them; their unit depends on `sharing`.
    pub weights: TensorInspection,
    /// How groups of weights come to their levels.
    pub sharing: Sharing,
    /// The levels in the unit of `weights`, ascending, each once; where groups
    /// have tables of their own, those of all of them; the components of vectors.
    pub levels: Vec<f32>,
    /// The vectors of a codebook of them, in the unit of `weights`.
    pub vectors: Option<VectorTable>,
    /// For each output channel the root of its squared error over its squared
    /// weights: 0 is exact, 1 as far off as zeros would be; NaN for a channel
    /// that is [nearly nothing](NEARLY_NOTHING). Empty where the tensor has no
    /// channels.
    pub channel_errors: Vec<f64>,
}

/// The vectors of a codebook.
#[derive(Clone, Debug)]
pub struct VectorTable {
    /// Weights of a vector.
    pub dimension: usize,
    /// Vector by vector.
    pub values: Vec<f32>,
}

/// A channel with less than this share of the mean channel's squared weights
/// is one that training switched off: what becomes of it changes nothing, and
/// its error as a share of itself would be the largest of all.
pub const NEARLY_NOTHING: f64 = 1e-3;

/// How groups of weights come to their levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All weights have the same levels; they are shown as they are.
    Same,
    /// The groups share one table, which each shifts and scales for itself;
    /// weights are shown in the table's unit, shift and scale undone.
    Scaled,
    /// Groups have tables of their own; weights are shown as they are.
    Own,
    /// Vectors of weights share a codebook, which each channel scales for itself;
    /// weights are shown with that scale undone.
    Vectors,
}

/// Compares the quantized tensors of a model with its weights, in its order.
///
/// # Errors
///
/// Where a tensor's data cannot be read.
pub fn stored_tensors(
    model: &Model,
    quantized: &QuantizedModel<'_>,
) -> Result<Vec<StoredTensor>, Error> {
    let outcomes: Vec<_> = quantized.tensors.iter().enumerate().collect();
    let views: Vec<Result<Option<StoredTensor>, Error>> = outcomes
        .into_par_iter()
        .map(|(index, outcome)| {
            let Some(stored) = &outcome.quantized else {
                return Ok(None);
            };
            let weights = read_weights(model, &outcome.tensor)?;
            Ok(Some(view(index, outcome, stored, weights)))
        })
        .collect();
    views.into_iter().filter_map(Result::transpose).collect()
}

fn view(
    index: usize,
    outcome: &TensorOutcome<'_>,
    stored: &QuantizedTensor,
    mut weights: Vec<f32>,
) -> StoredTensor {
    let channel_errors = match outcome.tensor.role {
        Role::Weight { channel_axis, .. } => channel_errors(&weights, stored, channel_axis),
        Role::Other(_) => Vec::new(),
    };
    let sharing = sharing(stored);
    let mut levels = match sharing {
        Sharing::Same => stored.group_levels(0),
        Sharing::Scaled | Sharing::Vectors => {
            weights = in_units_of_the_table(&weights, stored);
            stored.tables.table(0).to_vec()
        }
        Sharing::Own => (0..stored.partition.group_count())
            .flat_map(|group| stored.group_levels(group))
            .collect(),
    };
    let vectors = VectorLevels::of(stored).map(|levels| VectorTable {
        dimension: levels.codebook().dimension(),
        values: levels.codebook().vectors(),
    });
    if let Some(vectors) = &vectors {
        levels.clone_from(&vectors.values);
    }
    levels.sort_by(f32::total_cmp);
    levels.dedup();
    let report = &outcome.report;
    let summary = Summary::of(&weights);
    StoredTensor {
        index,
        weights: inspect_weights(&report.name, &report.op, report.shape.clone(), &summary),
        sharing,
        levels,
        vectors,
        channel_errors,
    }
}

fn sharing(stored: &QuantizedTensor) -> Sharing {
    if matches!(stored.packing, Packing::Vectors(_)) {
        return Sharing::Vectors;
    }
    let is_adjusted = stored.scale.is_some() || stored.shift.is_some();
    match (stored.partition.group_count(), stored.tables.count()) {
        (0 | 1, _) => Sharing::Same,
        (_, 1) if is_adjusted => Sharing::Scaled,
        (_, 1) => Sharing::Same,
        _ => Sharing::Own,
    }
}

/// Weights with their group's shift and scale undone; those of a group whose
/// scale is zero have no place among the levels and are left out.
fn in_units_of_the_table(weights: &[f32], stored: &QuantizedTensor) -> Vec<f32> {
    let mut moved = Vec::with_capacity(weights.len());
    for group in 0..stored.partition.group_count() {
        let scale = stored.group_scale(group).unwrap_or(1.0);
        let shift = stored
            .shift
            .as_ref()
            .map_or(0.0, |(shifts, _)| shifts[group]);
        let inverse = 1.0 / scale;
        if !inverse.is_finite() {
            continue;
        }
        for run in stored.partition.runs(group) {
            moved.extend(weights[run].iter().map(|weight| weight * inverse - shift));
        }
    }
    moved
}

fn channel_errors(
    weights: &[f32],
    stored: &QuantizedTensor,
    channel_axis: Option<usize>,
) -> Vec<f64> {
    let channels = Partition::new(&stored.shape, channel_axis, Granularity::PerChannel);
    if channels.group_count() < 2 {
        return Vec::new();
    }
    let decoded = stored.dequantize();
    let square = |value: f32| f64::from(value) * f64::from(value);
    let sums: Vec<[f64; 2]> = (0..channels.group_count())
        .map(|channel| {
            let [mut energy, mut error] = [0.0; 2];
            for run in channels.runs(channel) {
                for (&weight, &value) in weights[run.clone()].iter().zip(&decoded[run]) {
                    energy += square(weight);
                    error += square(weight - value);
                }
            }
            [energy, error]
        })
        .collect();
    let mean = sums.iter().map(|[energy, _]| energy).sum::<f64>() / sums.len() as f64;
    sums.iter()
        .map(|&[energy, error]| match error {
            _ if energy <= NEARLY_NOTHING * mean => f64::NAN,
            error => (error / energy).sqrt(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use campana_codebook::{LevelTables, Storage};

    use super::*;

    /// Two channels of two weights, levels -1 and 1 scaled by 1/2 and 2 after
    /// a shift of 0 and 1.
    fn scaled() -> QuantizedTensor {
        QuantizedTensor {
            shape: vec![2, 2],
            partition: Partition::new(&[2, 2], Some(0), Granularity::PerChannel),
            packing: Packing::densest(2),
            packed: vec![0b1010],
            tables: LevelTables::new(vec![-1.0, 1.0], 2, Storage::F32),
            table_of_group: None,
            scale: Some((vec![0.5, 2.0], Storage::F32)),
            scale_unit: None,
            shift: Some((vec![0.0, 1.0], Storage::F32)),
        }
    }

    #[test]
    fn what_a_scale_and_a_shift_did_is_undone() {
        let tensor = scaled();
        assert_eq!(sharing(&tensor), Sharing::Scaled);
        let decoded = tensor.dequantize();
        assert_eq!(decoded, [-0.5, 0.5, 0.0, 4.0]);
        assert_eq!(
            in_units_of_the_table(&decoded, &tensor),
            [-1.0, 1.0, -1.0, 1.0]
        );
    }

    #[test]
    fn groups_without_a_scale_are_left_out() {
        let mut tensor = scaled();
        tensor.scale = Some((vec![0.0, 2.0], Storage::F32));
        assert_eq!(
            in_units_of_the_table(&[0.0, 0.0, 0.0, 4.0], &tensor),
            [-1.0, 1.0]
        );
    }

    #[test]
    fn tables_decide_what_is_shared() {
        let mut tensor = scaled();
        (tensor.scale, tensor.shift) = (None, None);
        assert_eq!(sharing(&tensor), Sharing::Same);
        tensor.tables = LevelTables::new(vec![-1.0, 1.0, -2.0, 2.0], 2, Storage::F32);
        tensor.table_of_group = Some(vec![0, 1]);
        assert_eq!(sharing(&tensor), Sharing::Own);
    }

    #[test]
    fn errors_are_shares_of_each_channels_weights() {
        let tensor = scaled();
        let errors = channel_errors(&[-0.5, 0.5, 3.0, 4.0], &tensor, Some(0));
        assert_eq!(errors, [0.0, 0.6]);
        assert!(channel_errors(&[0.0; 4], &tensor, None).is_empty());
        let of_little = channel_errors(&[-0.5, 0.5, 0.01, 0.0], &tensor, Some(0));
        assert!(of_little[0] == 0.0 && of_little[1].is_nan());
        let of_nothing = channel_errors(&[0.0; 4], &tensor, Some(0));
        assert!(of_nothing.iter().all(|error| error.is_nan()));
    }
}
