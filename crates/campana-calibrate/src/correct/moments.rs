//! Second moments of what a layer's weights are multiplied with.

use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_rounding::{
    LayerHessian, LeftRows, PackedTiles, Sums, scale_and_center, sum, sum_and_squares,
};
use campana_tensor::Tensor;
use rayon::prelude::*;

use crate::correct::inputs::{Gathered, Gatherer, addend_error_at};

/// What moments are taken about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The mean: its error is corrected behind the layer.
    Mean,
    /// Zero: it is not.
    Zero,
}

/// Rows of weights that are to give with the quantized inputs what they give
/// with the float ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TargetRows<'w> {
    /// Row by row; those of a group of channels are neighbours.
    pub(crate) weights: &'w [f32],
    /// Weights in a row.
    pub(crate) row_len: usize,
    /// So many neighbours of a row meet the same channel.
    pub(crate) block: usize,
}

impl<'w> TargetRows<'w> {
    /// The rows of one of several groups.
    fn of_group(self, group: usize, groups: usize) -> Self {
        let rows = self.weights.len() / self.row_len.max(1);
        let range =
            rows * group / groups * self.row_len..rows * (group + 1) / groups * self.row_len;
        Self {
            weights: &self.weights[range],
            ..self
        }
    }

    fn count(&self) -> usize {
        self.weights.len() / self.row_len.max(1)
    }

    fn rows(&self) -> LeftRows<'w> {
        LeftRows::contiguous(self.weights, self.row_len)
    }
}

/// Moments of the inputs of each group in the quantized network, and of what
/// rows of weights give in the float network with these inputs, gathered batch
/// by batch.
pub(crate) struct InputMoments<'w> {
    target: Option<TargetRows<'w>>,
    count: usize,
    groups: Vec<GroupMoments<'w>>,
    /// Sums of the products of what the other side of an addition lacks, at
    /// the same places, with the inputs; shape `[outputs, weights]`.
    addend_error: Vec<f32>,
}

/// The moments of one group. Inputs are in units of a power of two of their
/// own, so that no square is too large or too small for single precision.
pub(crate) struct Moments {
    /// Of the inputs in the quantized network.
    pub(crate) own: LayerHessian,
    /// `E[(w x_float) x_quantized^T]` for each row `w`; empty without rows.
    pub(crate) target: Vec<f32>,
    /// The same where no channel varies with another.
    target_within: Vec<f32>,
    /// `E[(s_float - s_quantized) x_quantized^T]` where the layer's outputs are
    /// added to `s`, shape `[outputs, weights]`; else empty.
    pub(crate) addend_error: Vec<f32>,
    /// What an input of 1 stands for.
    pub(crate) unit: f64,
}

impl Moments {
    /// The same with this share of the moments of different channels, which
    /// `block` weights each meet, and of those with what another value lacks.
    #[must_use]
    pub(crate) fn shrunk_to(mut self, share: f64, block: usize) -> Self {
        let pairs = self.target.iter_mut().zip(&self.target_within);
        pairs.for_each(|(target, within)| *target = within + share as f32 * (*target - within));
        self.addend_error
            .iter_mut()
            .for_each(|addend_error| *addend_error *= share as f32);
        Self {
            own: self.own.with_share_between(block, share),
            ..self
        }
    }
}

impl Moments {
    /// Lets the rows' outputs make up for what the value lacks that they are
    /// added to: of that, `units` are one of each row's output. The rows are in
    /// units of `row_unit`.
    pub(crate) fn add_addend_error(&mut self, units: &[f64], row_unit: f32) {
        let n = self.own.inputs().max(1);
        if self.addend_error.len() != self.target.len()
            || units.len() * n != self.addend_error.len()
        {
            return;
        }
        let rows = self
            .target
            .chunks_exact_mut(n)
            .zip(self.addend_error.chunks_exact(n));
        for ((target, addend_error), unit) in rows.zip(units) {
            let factor = unit / f64::from(row_unit);
            for (target, addend_error) in target.iter_mut().zip(addend_error) {
                *target += (f64::from(*addend_error) * factor) as f32;
            }
        }
    }
}

impl<'w> InputMoments<'w> {
    /// No inputs yet.
    pub(crate) fn new() -> Self {
        Self {
            target: None,
            count: 0,
            groups: Vec::new(),
            addend_error: Vec::new(),
        }
    }

    /// The same for what these rows give, too.
    #[must_use]
    pub(crate) fn with_targets(self, target: TargetRows<'w>) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }

    /// Adds what a layer takes from a batch of inputs in the float and the
    /// quantized network, and of what the outputs are added to in both.
    pub(crate) fn add(
        &mut self,
        gatherer: &mut Gatherer,
        batches: [&Tensor; 2],
        others: Option<[&Tensor; 2]>,
    ) -> Result<(), Error> {
        let [mut float, mut quantized] = gatherer.gather(batches)?;
        let Some(first) = quantized.first().filter(|first| first.count > 0) else {
            return Ok(());
        };
        let addend_error = match others {
            Some(others) => addend_error_at(first, others)?,
            None => None,
        };
        self.count += first.count;
        if self.groups.is_empty() {
            let (target, groups) = (self.target, quantized.len());
            let pairs = float.par_iter().zip(&quantized).enumerate();
            self.groups = pairs
                .map(|(group, pair)| {
                    let target = target.map(|target| target.of_group(group, groups));
                    GroupMoments::new(pair.0, pair.1, target)
                })
                .collect();
        }
        let fits = |(group, gathered): (&GroupMoments<'_>, &Gathered)| {
            group.quantized.origin.len() * gathered.count == gathered.columns.len()
        };
        let all_fit = |all: &[Gathered]| {
            all.len() == self.groups.len() && self.groups.iter().zip(all).all(fits)
        };
        if !all_fit(&float) || !all_fit(&quantized) {
            return Err(unsupported("a layer's inputs change their size"));
        }
        let pairs = float.par_iter_mut().zip(&mut quantized);
        self.groups
            .par_iter_mut()
            .zip(pairs)
            .for_each(|(group, pair)| {
                group.add(pair.0, pair.1);
            });
        if let (Some(mut addend_error), [group], [gathered]) =
            (addend_error, &*self.groups, &*quantized)
        {
            addend_error
                .iter_mut()
                .for_each(|value| *value /= group.unit);
            let rows = LeftRows::contiguous(&addend_error, gathered.count);
            let n = group.quantized.origin.len();
            self.addend_error.resize(rows.count * n, 0.0);
            let sums = Sums {
                values: &mut self.addend_error,
                stride: n,
                offset: 0,
            };
            packed(gathered).multiply_add(rows, sums);
        }
        Ok(())
    }

    /// For each group the covariances, or second moments about zero, drawn
    /// towards their diagonal as far as the windows are too few for the number
    /// of weights.
    pub(crate) fn finish(self, about: About) -> Vec<Moments> {
        let count = self.count.max(1) as f64;
        let mut addend_error = Some(self.addend_error);
        let groups = self.groups.into_par_iter();
        let mut finished: Vec<Moments> = groups.map(|group| group.finish(count, about)).collect();
        if let ([moments], Some(mut addend_error)) = (&mut *finished, addend_error.take()) {
            // Relative to the first batch's means: what lacks on average is no
            // affair of the weights.
            let kept = kept(count, moments.own.inputs());
            addend_error
                .iter_mut()
                .for_each(|sum| *sum = (f64::from(*sum) / count * kept) as f32);
            moments.addend_error = addend_error;
        }
        finished
    }
}

/// Share of the moments of different inputs that `count` windows are enough
/// for.
fn kept(count: f64, inputs: usize) -> f64 {
    count / (count + inputs as f64)
}

/// What was gathered, as the right-hand side of products over the windows.
fn packed(gathered: &Gathered) -> PackedTiles {
    let (columns, count) = (&gathered.columns, gathered.count);
    PackedTiles::pack(count, columns.len() / count, |row, column| {
        columns[column * count + row]
    })
}

/// Sums over windows of what lies beyond the first batch's means.
struct GroupMoments<'w> {
    quantized: Beyond,
    float: Beyond,
    /// What an input of 1 stands for, a power of two.
    unit: f32,
    /// The upper triangle of `[weights, weights]`, quantized with quantized.
    own: Vec<f32>,
    target: Option<TargetRows<'w>>,
    /// What the rows give with the quantized inputs: shape `[rows, weights]`.
    sums: Vec<f32>,
    /// Float with quantized inputs, shape `[weights, weights]`, where these are
    /// so few that the products with the rows are best made at the end; else
    /// empty.
    cross: Vec<f32>,
    /// Float with quantized inputs of the same channel: for each weight those
    /// of its block, shape `[weights, block]`. Where one channel is all, its own
    /// alone: the sums say the rest.
    within: Vec<f32>,
    block: usize,
}

/// Values relative to an origin.
struct Beyond {
    origin: Vec<f32>,
    sums: Vec<f64>,
}

impl<'w> GroupMoments<'w> {
    fn new(float: &Gathered, quantized: &Gathered, target: Option<TargetRows<'w>>) -> Self {
        let n = quantized.columns.len() / quantized.count.max(1);
        let (rows, block) = target.map_or((0, 0), |target| (target.count(), target.block));
        let block = if block < n { block } else { 1 };
        let unit = unit_of(&quantized.columns);
        Self {
            quantized: Beyond::new(quantized, unit),
            float: Beyond::new(float, unit),
            unit,
            own: vec![0.0; n * n],
            target: target.filter(|target| target.row_len == n),
            sums: vec![0.0; rows * n],
            cross: vec![0.0; if n <= 2 * rows { n * n } else { 0 }],
            within: vec![0.0; n * block],
            block,
        }
    }

    fn add(&mut self, float: &mut Gathered, quantized: &mut Gathered) {
        let count = quantized.count;
        self.quantized.take(quantized, self.unit);
        self.float.take(float, self.unit);
        let n = self.quantized.origin.len();
        let right = packed(quantized);
        let sums = |values| Sums {
            values,
            stride: n,
            offset: 0,
        };
        let rows = LeftRows::contiguous(&quantized.columns, count);
        right.multiply_add_upper(rows, sums(&mut self.own));
        let Some(target) = self.target else {
            return;
        };
        if self.cross.is_empty() {
            let inputs =
                PackedTiles::pack(n, count, |row, column| float.columns[row * count + column]);
            let outputs = inputs.multiply(target.rows());
            let rows = LeftRows::contiguous(&outputs, count);
            right.multiply_add(rows, sums(&mut self.sums));
        } else {
            let rows = LeftRows::contiguous(&float.columns, count);
            right.multiply_add(rows, sums(&mut self.cross));
        }
        let block = self.block;
        self.within
            .par_chunks_exact_mut(block)
            .enumerate()
            .for_each(|(j, within)| {
                let column = &quantized.columns[j * count..][..count];
                for (i, sum) in (j / block * block..n).zip(within) {
                    *sum += campana_rounding::dot(&float.columns[i * count..][..count], column);
                }
            });
    }

    fn finish(mut self, count: f64, about: About) -> Moments {
        let n = self.quantized.sums.len();
        let kept = kept(count, n);
        let means = |beyond: &Beyond| -> [Vec<f64>; 2] {
            let off: Vec<f64> = beyond.sums.iter().map(|sum| sum / count).collect();
            let origins = beyond.origin.iter().map(|&origin| f64::from(origin));
            let means = origins
                .zip(&off)
                .map(|(origin, off)| origin + off)
                .collect();
            [off, means]
        };
        let [float, quantized] = [means(&self.float), means(&self.quantized)];
        // From a sum of products beyond two origins to the moment.
        let moment = |sum: f32, left: [f64; 2], j: usize| {
            let covariance = f64::from(sum) / count - left[0] * quantized[0][j];
            match about {
                About::Mean => covariance,
                About::Zero => covariance + left[1] * quantized[1][j],
            }
        };
        let rows = self.own.par_chunks_exact_mut(n.max(1)).enumerate();
        rows.for_each(|(i, row)| {
            let left = [quantized[0][i], quantized[1][i]];
            for (j, value) in row.iter_mut().enumerate().skip(i) {
                let full = moment(*value, left, j);
                *value = if i == j { full } else { full * kept } as f32;
            }
        });
        let mut within_all = vec![0f32; self.sums.len()];
        if let Some(target) = self.target {
            if !self.cross.is_empty() {
                let cross = &self.cross;
                let packed = PackedTiles::pack(n, n, |row, column| cross[row * n + column]);
                self.sums = packed.multiply(target.rows());
            }
            let block = self.block;
            let is_whole = target.block >= n;
            let weights = target.weights.par_chunks_exact(n);
            self.sums
                .par_chunks_exact_mut(n)
                .zip(within_all.par_chunks_exact_mut(n))
                .zip(weights)
                .for_each(|((sums, within_row), weights)| {
                    let product = |values: &[f64]| -> f64 {
                        let pairs = weights.iter().zip(values);
                        pairs
                            .map(|(&weight, value)| f64::from(weight) * value)
                            .sum()
                    };
                    let left = [product(&float[0]), product(&float[1])];
                    for (j, (sum, within_row)) in sums.iter_mut().zip(within_row).enumerate() {
                        let first = j / block * block;
                        let pairs = weights[first..].iter().zip(&self.within[j * block..]);
                        let (mut same, mut own) = (0.0, 0.0);
                        for (i, (&weight, &within)) in (first..).zip(pairs.take(block)) {
                            let term =
                                f64::from(weight) * moment(within, [float[0][i], float[1][i]], j);
                            same += term;
                            if i == j {
                                own = term;
                            }
                        }
                        let full = moment(*sum, left, j);
                        let same = if is_whole { full } else { same };
                        *sum = (own + kept * (full - own)) as f32;
                        *within_row = (own + kept * (same - own)) as f32;
                    }
                });
        }
        Moments {
            own: LayerHessian::from_upper(n, self.own),
            target: self.sums,
            target_within: within_all,
            addend_error: Vec::new(),
            unit: f64::from(self.unit),
        }
    }
}

/// The power of two next to the root mean square of values; 1 where there is
/// none.
fn unit_of(values: &[f32]) -> f32 {
    let energy = sum_and_squares(values)[1];
    let exponent = (energy / values.len().max(1) as f64).sqrt().log2().round();
    if exponent.is_finite() {
        exponent.clamp(-126.0, 126.0).exp2() as f32
    } else {
        1.0
    }
}

impl Beyond {
    /// Relative to the means of these, in units of `unit`.
    fn new(first: &Gathered, unit: f32) -> Self {
        let count = first.count.max(1);
        let columns = first.columns.chunks_exact(count);
        let origin: Vec<f32> = columns
            .map(|column| (sum(column) / f64::from(unit) / count as f64) as f32)
            .collect();
        Self {
            sums: vec![0.0; origin.len()],
            origin,
        }
    }

    /// Makes values relative to the origin, and adds them up.
    fn take(&mut self, gathered: &mut Gathered, unit: f32) {
        let columns = gathered.columns.par_chunks_exact_mut(gathered.count);
        let origins = self.origin.par_iter().zip(&mut self.sums);
        columns.zip(origins).for_each(|(column, (origin, total))| {
            // A power of two, so that its inverse is exact.
            scale_and_center(column, unit.recip(), *origin);
            *total += sum(column);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correct::inputs::Windows;
    use campana_tensor::TensorData;

    /// Relative to the largest moment, of sums in single precision.
    const MAX_MOMENT_ERROR: f64 = 1e-5;

    fn batch(rows: usize, len: usize, factor: f32, seed: usize) -> Tensor {
        let values = (0..rows * len)
            .map(|i| (((i * 7919 + seed * 31 + i * i % 97) % 1009) as f32 / 504.5 - 0.7) * factor)
            .collect();
        Tensor::new(vec![rows, len], TensorData::F32(values)).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        match tensor.data() {
            TensorData::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
            _ => unreachable!("made of floats"),
        }
    }

    /// Moments of float outputs, or inputs, with quantized inputs.
    fn reference(left: &[f64], right: &[f64], sizes: [usize; 2], about: About) -> Vec<f64> {
        let [m, n] = sizes;
        let count = right.len() / n;
        let mean = |values: &[f64], len: usize, at: usize| -> f64 {
            (0..count).map(|k| values[k * len + at]).sum::<f64>() / count as f64
        };
        let pairs = (0..m).flat_map(|i| (0..n).map(move |j| [i, j]));
        pairs
            .map(|[i, j]| {
                let products = (0..count).map(|k| left[k * m + i] * right[k * n + j]);
                let about_zero = products.sum::<f64>() / count as f64;
                match about {
                    About::Zero => about_zero,
                    About::Mean => about_zero - mean(left, m, i) * mean(right, n, j),
                }
            })
            .collect()
    }

    #[test]
    fn moments_are_those_of_all_inputs_at_every_scale() {
        let (count, n) = (40, 6);
        for (factor, about, rows) in [
            (1.0, About::Mean, 2),
            (1e-25, About::Zero, 3),
            (1e19, About::Mean, 7),
            (1.0, About::Zero, 1),
        ] {
            let [float, quantized] = [1, 2].map(|seed| batch(count, n, factor, seed));
            let weights: Vec<f32> = (0..rows * n).map(|i| (i % 5) as f32 - 1.5).collect();
            let target = TargetRows {
                weights: &weights,
                row_len: n,
                block: 2,
            };
            let mut moments = InputMoments::new().with_targets(target);
            let mut gatherer = Gatherer::new(Windows::Rows, count);
            moments
                .add(&mut gatherer, [&float, &quantized], None)
                .unwrap();
            let [moments] = <[Moments; 1]>::try_from(moments.finish(about))
                .ok()
                .unwrap();
            let unit = moments.unit * moments.unit;
            let kept = kept(count as f64, n);
            let [x, y] = [values(&float), values(&quantized)];
            let own = reference(&y, &y, [n, n], about);
            let cross = reference(&x, &y, [n, n], about);
            let largest = own.iter().fold(0.0, |max: f64, value| max.max(value.abs()));
            let near = |found: f32, expected: f64| {
                let error = (f64::from(found) * unit - expected).abs();
                assert!(
                    error < 10.0 * MAX_MOMENT_ERROR * largest,
                    "{found} {expected}"
                );
            };
            for i in 0..n {
                for j in 0..n {
                    let share = if i == j { 1.0 } else { kept };
                    let damping = if i == j {
                        moments.own.damping() * unit
                    } else {
                        0.0
                    };
                    near(moments.own.row(i)[j], own[i * n + j] * share + damping);
                }
            }
            for row in 0..rows {
                for j in 0..n {
                    let expected = |is_counted: &dyn Fn(usize) -> bool| -> f64 {
                        let terms = (0..n).filter(|&i| is_counted(i)).map(|i| {
                            let share = if i == j { 1.0 } else { kept };
                            f64::from(weights[row * n + i]) * cross[i * n + j] * share
                        });
                        terms.sum()
                    };
                    near(moments.target[row * n + j], expected(&|_| true));
                    let within = expected(&|i| i / 2 == j / 2);
                    near(moments.target_within[row * n + j], within);
                }
            }
        }
    }
}
