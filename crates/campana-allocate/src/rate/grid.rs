//! Uniform grids for all tensors of a model, one step for all of them.

use std::collections::HashMap;

use campana_codebook::{LevelTables, Packing, QuantizedTensor, Storage};
use campana_design::{Moments, Summary, code_bits};
use campana_ir::weights::{ModelTensor, Role, constant_tensors};
use campana_onnx::Model;
use campana_quantize::kept::{keep, kept_beforehand};
use campana_quantize::outcome::clip;
use campana_quantize::weights::{check_finite, read_weights, shape};
use campana_quantize::{
    Effort, Error, Options, Progress, QuantizedModel, RateGoal, Target, TensorOutcome,
    TensorReport, check_cancelled, shares_in_sums, sqnr_db,
};
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

use crate::rate::normalization::row_gains;

/// Steps of the search for a grid.
const BISECTIONS: usize = 40;

/// How far below the middle between two levels the threshold to the outer one
/// lies, in steps: less than the optimum at low rates, since codes are chosen
/// again.
const DEAD_ZONE: f64 = 0.06;

/// Bounds of a tensor's step relative to the mean of all.
const STEP_RATIOS: [f64; 2] = [0.25, 2.0];

/// Bytes that codes and decoder of a tensor take in a container beyond its
/// entropy.
const OVERHEAD_BYTES: usize = 60;

/// Largest code on either side of zero.
const MAX_CODE: f64 = 127.0;

/// The weights of a model in units of their grids.
pub(crate) struct Grid<'m> {
    tensors: Vec<Gridded<'m>>,
}

struct Gridded<'m> {
    tensor: ModelTensor<'m>,
    /// What is not quantized says why.
    weights: Result<Weights, String>,
}

struct Weights {
    values: Vec<f32>,
    partition: Partition,
    moments: Moments,
    family: String,
    /// Step of each group relative to the model's.
    units: Vec<f32>,
}

impl<'m> Grid<'m> {
    /// Reads the weights of a model.
    pub(crate) fn of(
        model: &'m Model,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let gains = row_gains(model);
        let tensors: Vec<Result<Gridded<'m>, Error>> = constant_tensors(model)
            .into_par_iter()
            .map(|tensor| {
                check_cancelled(progress)?;
                let weights = match kept_beforehand(&tensor, options) {
                    Some(reason) => Err(reason),
                    None => Weights::read(model, &tensor, gains.get(tensor.name)),
                };
                Ok(Gridded {
                    weights: match weights {
                        Ok(weights) => {
                            check_finite(tensor.name, &weights.moments)?;
                            Ok(weights)
                        }
                        Err(reason) => Err(reason),
                    },
                    tensor,
                })
            })
            .collect();
        let mut grid = Self {
            tensors: tensors.into_iter().collect::<Result<_, _>>()?,
        };
        grid.balance(&shares_in_sums(model));
        Ok(grid)
    }

    /// Gives each tensor the step that suits its deviation, size and share of
    /// the sum that it goes into.
    fn balance(&mut self, shares: &HashMap<String, f64>) {
        let mut weights: Vec<(f64, &mut Weights)> = self
            .tensors
            .iter_mut()
            .filter_map(|gridded| {
                let share = shares.get(gridded.tensor.name).copied().unwrap_or(1.0);
                Some((share, gridded.weights.as_mut().ok()?))
            })
            .collect();
        let layers: Vec<(usize, f64)> = weights
            .iter()
            .map(|(share, weights)| (weights.values.len(), *share))
            .collect();
        for ((_, weights), ratio) in weights.iter_mut().zip(step_ratios(&layers)) {
            let deviation = weights.deviation();
            for unit in &mut weights.units {
                *unit = (f64::from(*unit) * deviation * ratio) as f32;
            }
        }
    }

    pub(crate) fn tensors(&self) -> Vec<ModelTensor<'m>> {
        self.tensors.iter().map(|t| t.tensor.clone()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tensors.iter().all(|gridded| gridded.weights.is_err())
    }

    /// The step at which codes rounded one by one have this entropy, or this
    /// share that is not zero.
    pub(crate) fn step_for(&self, goal: RateGoal, limit: f64) -> f64 {
        let (mut fine, mut coarse) = ((2.0f64).powi(-7), (2.0f64).powi(5));
        for _ in 0..BISECTIONS {
            let step = (fine * coarse).sqrt();
            let measured = match goal {
                RateGoal::Bits(_) => self.bits(step),
                RateGoal::Zeros(_) => self.density(step),
            };
            if measured > limit {
                fine = step;
            } else {
                coarse = step;
            }
            if coarse / fine < 1.0005 {
                break;
            }
        }
        coarse
    }

    /// Mean entropy of codes rounded one by one.
    fn bits(&self, step: f64) -> f64 {
        let sums: Vec<(f64, usize)> = self
            .tensors
            .par_iter()
            .filter_map(|gridded| gridded.weights.as_ref().ok())
            .map(|weights| {
                let (codes, most) = weights.codes(step);
                let levels = 2 * usize::from(most) + 1;
                let bits = code_bits(codes.iter().copied(), levels);
                let sum = codes.iter().map(|&code| f64::from(bits[usize::from(code)]));
                // A level takes about a byte and a half.
                (sum.sum::<f64>() + 12.0 * levels as f64, codes.len())
            })
            .collect();
        let bits: f64 = sums.iter().map(|(bits, _)| bits).sum();
        let count: usize = sums.iter().map(|(_, count)| count).sum();
        bits / count.max(1) as f64
    }

    /// Share of codes rounded one by one that are not zero.
    fn density(&self, step: f64) -> f64 {
        let counts: Vec<[usize; 2]> = self
            .tensors
            .par_iter()
            .filter_map(|gridded| gridded.weights.as_ref().ok())
            .map(|weights| {
                let (codes, zero) = weights.codes(step);
                [
                    codes.iter().filter(|&&code| code != zero).count(),
                    codes.len(),
                ]
            })
            .collect();
        let [others, count] = counts
            .iter()
            .fold([0; 2], |[a, b], &[others, count]| [a + others, b + count]);
        others as f64 / count.max(1) as f64
    }

    /// The model on grids of this step.
    pub(crate) fn quantize(&self, step: f64) -> Result<QuantizedModel<'m>, Error> {
        let tensors = self
            .tensors
            .par_iter()
            .map(|gridded| match &gridded.weights {
                Err(reason) => keep(gridded.tensor.clone(), reason.clone()),
                Ok(weights) => weights.quantize(&gridded.tensor, step),
            })
            .collect();
        // Grids stay as they are until the rate is met.
        Ok(QuantizedModel {
            tensors,
            target: Target::Lut,
            effort: Effort::Full,
        })
    }
}

/// Steps over deviations of tensors of so many weights and such shares of the
/// sums that they go into: in proportion to `sqrt(count / share)`, within
/// bounds of their mean.
fn step_ratios(layers: &[(usize, f64)]) -> Vec<f64> {
    let size = |&(count, share): &(usize, f64)| (count as f64 / share).sqrt();
    let total: f64 = layers.iter().map(|(count, _)| *count as f64).sum();
    let logs: f64 = layers
        .iter()
        .map(|layer| layer.0 as f64 * size(layer).ln())
        .sum();
    let mean = (logs / total.max(1.0)).exp();
    let [least, most] = STEP_RATIOS;
    layers
        .iter()
        .map(|layer| (size(layer) / mean).clamp(least, most))
        .collect()
}

impl Weights {
    /// The weights of a tensor; an error says why it stays float.
    fn read(
        model: &Model,
        tensor: &ModelTensor<'_>,
        gains: Option<&Vec<f32>>,
    ) -> Result<Self, String> {
        let Role::Weight { channel_axis, .. } = tensor.role else {
            unreachable!("only weights are quantized");
        };
        let values = read_weights(model, tensor).map_err(|error| error.to_string())?;
        if values.len() * 4 < 4 * OVERHEAD_BYTES {
            return Err("too small to gain".to_owned());
        }
        let shape = shape(tensor);
        let per_channel = Partition::new(&shape, channel_axis, Granularity::PerChannel);
        let gains = gains.filter(|gains| gains.len() == per_channel.group_count());
        let (partition, units) = match gains {
            Some(gains) => {
                let largest = gains.iter().fold(0f32, |max, gain| max.max(gain.abs()));
                let least = (largest * 1e-3).max(f32::MIN_POSITIVE);
                let units = gains.iter().map(|gain| 1.0 / gain.abs().max(least));
                (per_channel, units.collect())
            }
            None => (
                Partition::new(&shape, channel_axis, Granularity::PerTensor),
                vec![1.0],
            ),
        };
        let summary = Summary::of(&values);
        Ok(Self {
            moments: *summary.moments(),
            family: summary.best_fit().family.to_string(),
            values,
            partition,
            units,
        })
    }

    /// Root of the mean square of the weights in their units.
    fn deviation(&self) -> f64 {
        let mut sum = 0.0;
        for (group, unit) in self.units.iter().enumerate() {
            for run in self.partition.runs(group) {
                for &value in &self.values[run] {
                    sum += (f64::from(value) / f64::from(*unit)).powi(2);
                }
            }
        }
        (sum / self.values.len().max(1) as f64).sqrt()
    }

    /// Codes rounded one by one, and the code of zero, which is the largest on
    /// either side.
    fn codes(&self, step: f64) -> (Vec<u8>, u8) {
        let mut whole = vec![0i8; self.values.len()];
        let mut most = 1;
        for (group, &unit) in self.units.iter().enumerate() {
            let factor = (1.0 / (step * f64::from(unit))) as f32;
            let factor = if factor.is_finite() { factor } else { 0.0 };
            for run in self.partition.runs(group) {
                for (code, &value) in whole[run.clone()].iter_mut().zip(&self.values[run]) {
                    let scaled = (value * factor).abs() + (0.5 - DEAD_ZONE) as f32;
                    let magnitude = scaled.min(MAX_CODE as f32) as i8;
                    *code = if value < 0.0 { -magnitude } else { magnitude };
                    most = most.max(magnitude);
                }
            }
        }
        let most = most as u8;
        let codes = whole
            .into_iter()
            .map(|code| (i16::from(code) + i16::from(most)) as u8)
            .collect();
        (codes, most)
    }

    fn quantize<'m>(&self, tensor: &ModelTensor<'m>, step: f64) -> TensorOutcome<'m> {
        let (codes, most) = self.codes(step);
        let count = 2 * usize::from(most) + 1;
        let packing = Packing::densest(count);
        let mut packed = vec![0; packing.len_bytes(codes.len())];
        packing.pack(&codes, &mut packed);
        let steps: Vec<f32> = self
            .units
            .iter()
            .map(|&unit| short((step * f64::from(unit)) as f32))
            .collect();
        let own = if steps.len() == 1 { steps[0] } else { 1.0 };
        let levels = (0..count)
            .map(|code| (code as f32 - f32::from(most)) * own)
            .collect();
        let quantized = QuantizedTensor {
            shape: shape(tensor),
            partition: self.partition.clone(),
            packing,
            packed,
            tables: LevelTables::new(levels, count, Storage::F32),
            table_of_group: None,
            scale: (steps.len() > 1).then_some((steps, Storage::F32)),
            scale_unit: None,
            shift: None,
        };
        let decoded = quantized.dequantize();
        let squared_error: f64 = self
            .values
            .iter()
            .zip(&decoded)
            .map(|(value, decoded)| (f64::from(*decoded) - f64::from(*value)).powi(2))
            .sum();
        let moments = &self.moments;
        let energy = moments.mean_square * moments.count as f64;
        let input_bytes = tensor
            .proto
            .element_type
            .len_bytes(self.values.len())
            .unwrap_or(0);
        TensorOutcome {
            report: TensorReport {
                name: tensor.name.to_owned(),
                op: tensor.op_type.to_owned(),
                shape: shape(tensor),
                bits: None,
                method: Some("ecsq".to_owned()),
                family: Some(self.family.clone()),
                granularity: Some("tensor".to_owned()),
                clip: Some(clip(&quantized)),
                mse: Some(squared_error / self.values.len() as f64),
                sqnr_db: Some(sqnr_db(energy, squared_error)),
                bits_per_weight: 0.0,
                divergence: None,
                byte_price: None,
                kept: None,
                input_bytes: input_bytes as u64,
                output_bytes: 0,
            },
            tensor: tensor.clone(),
            quantized: Some(quantized),
            corrected: None,
            energy,
            squared_error,
        }
    }
}

/// A step with four significant bits, so that levels are short in a container.
fn short(step: f32) -> f32 {
    f32::from_bits((step.to_bits() + (1 << 19)) & !((1 << 20) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_a_sum_has_twice_the_step() {
        let ratios = step_ratios(&[(1000, 1.0), (1000, 0.25), (4000, 1.0), (1, 1.0)]);
        assert!((ratios[1] / ratios[0] - 2.0).abs() < 1e-12, "{ratios:?}");
        assert!((ratios[2] / ratios[1] - 1.0).abs() < 1e-12, "{ratios:?}");
        assert_eq!(ratios[3], STEP_RATIOS[0]);
        assert!(step_ratios(&[]).is_empty());
    }
}
