//! One table of levels for all groups of a tensor, with a scale and, where
//! asked for, a shift for each group: the codebook per channel that costs a
//! few hundredths of a bit a weight.

use std::borrow::Cow;

use campana_codebook::Codebook;
use campana_design::{Levels, Moments, UnitTable, kmeans_levels, kmeans_nearly};
use campana_tensor::Partition;
use rayon::prelude::*;

/// The start's k-means sees at most this many of the normalized weights.
const MAX_START_SAMPLE: usize = 1 << 16;

/// Passes over the weights; fewer where one gains less than `MIN_GAIN`.
const MAX_PASSES: usize = 24;

/// Of larger tensors the table starts nearly at the best and settles on some of
/// the groups, as many as have this many weights and no fewer than so many; all
/// groups then find their scales and shifts in fewer passes.
const MAX_SETTLED: usize = 1 << 21;
const SETTLED_SAMPLE: usize = 1 << 18;
const MIN_SETTLED_GROUPS: usize = 16;
const PASSES_AFTER_SAMPLE: usize = 2;

/// Relative drop of the squared error that is worth another pass.
const MIN_GAIN: f64 = 1e-4;

/// (1 + sqrt(5)) / 2.
const GOLDEN_RATIO: f64 = 1.618_033_988_749_895;

/// Alternations between table and scales on the sums of one pass.
const ALTERNATIONS: usize = 3;

/// What a group has beside the shared table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupParameters {
    /// A scale: levels are `table * scale`.
    Scale,
    /// A scale and a shift: levels are `table * scale + shift`. The shift is
    /// the least-squares one, so that the mean error of each group is zero.
    ScaleAndShift,
}

/// Levels for each group out of one table, by alternating least squares:
/// weights are assigned to the nearest level, then table, scales and shifts
/// are each set to what is best for the others, until the squared error
/// settles; for large tensors first on some of the groups. A local optimum; the
/// start is the optimal codebook of all groups' normalized weights, or `nearly`,
/// as it is for large tensors.
///
/// # Panics
///
/// Where `weights` is not as long as the partition.
pub fn shared_levels(
    weights: &[f32],
    partition: &Partition,
    levels: usize,
    parameters: GroupParameters,
    nearly: bool,
) -> Vec<Levels> {
    assert_eq!(weights.len(), partition.len(), "weights of the partition");
    let mut state = SharedTable::start(weights, partition, levels, parameters, nearly);
    let all: Vec<usize> = (0..partition.group_count()).collect();
    if weights.len() <= MAX_SETTLED {
        state.settle(weights, partition, &all, MAX_PASSES);
    } else {
        let count = (SETTLED_SAMPLE / partition.group_len()).max(MIN_SETTLED_GROUPS);
        let some = spread(all.len(), count);
        state.settle(weights, partition, &some, MAX_PASSES);
        state.settle(weights, partition, &all, PASSES_AFTER_SAMPLE);
    }
    state.into_levels()
}

struct SharedTable {
    table: Vec<f64>,
    /// Scale and shift of each group; a scale of 0 marks a constant group.
    groups: Vec<(f64, f64)>,
    parameters: GroupParameters,
}

/// What one pass sums up of a group: for each level the number of weights
/// assigned to it and their sum.
struct GroupSums {
    group: usize,
    count: Vec<f64>,
    sum: Vec<f64>,
    error: f64,
}

impl SharedTable {
    fn start(
        weights: &[f32],
        partition: &Partition,
        levels: usize,
        parameters: GroupParameters,
        nearly: bool,
    ) -> Self {
        let groups: Vec<(f64, f64)> = (0..partition.group_count())
            .into_par_iter()
            .map(|group| {
                let moments = Moments::of(&gather(weights, partition, group));
                match parameters {
                    GroupParameters::Scale => (moments.mean_square.sqrt(), 0.0),
                    GroupParameters::ScaleAndShift => (moments.std(), moments.mean),
                }
            })
            .collect();
        let stride = weights.len().div_ceil(MAX_START_SAMPLE).max(1);
        let sample: Vec<f32> = (0..weights.len())
            .step_by(stride)
            .filter_map(|position| {
                let (scale, shift) = groups[partition.group_of(position)];
                let normalized = (f64::from(weights[position]) - shift) / scale;
                normalized.is_finite().then_some(normalized as f32)
            })
            .collect();
        let mut table = if nearly || weights.len() > MAX_SETTLED {
            kmeans_nearly(&sample, levels)
        } else {
            kmeans_levels(&sample, levels)
        };
        if table.is_empty() {
            table.push(0.0);
        }
        let last = table[table.len() - 1];
        table.resize(levels, last);
        Self {
            table,
            groups,
            parameters,
        }
    }

    fn codebook(&self, group: usize) -> Codebook {
        let (scale, shift) = self.groups[group];
        let levels = self
            .table
            .iter()
            .map(|level| (level * scale + shift) as f32)
            .collect();
        Codebook::new(levels).expect("the table is kept ascending and scales not negative")
    }

    /// Alternates for these groups until their squared error settles.
    fn settle(&mut self, weights: &[f32], partition: &Partition, groups: &[usize], passes: usize) {
        let mut last_error = f64::INFINITY;
        for _ in 0..passes {
            let sums = self.assign(weights, partition, groups);
            let error = sums.iter().map(|group| group.error).sum::<f64>();
            if error >= last_error * (1.0 - MIN_GAIN) {
                break;
            }
            last_error = error;
            self.refit(&sums);
        }
    }

    fn assign(&self, weights: &[f32], partition: &Partition, groups: &[usize]) -> Vec<GroupSums> {
        groups
            .par_iter()
            .map(|&group| {
                let weights = gather(weights, partition, group);
                let mut codes = vec![0; weights.len()];
                let codebook = self.codebook(group);
                let mut sums = GroupSums {
                    group,
                    count: vec![0.0; self.table.len()],
                    sum: vec![0.0; self.table.len()],
                    error: codebook.assign_with_error(&weights, &mut codes),
                };
                for (&weight, &code) in weights.iter().zip(&codes) {
                    sums.count[usize::from(code)] += 1.0;
                    sums.sum[usize::from(code)] += f64::from(weight);
                }
                sums
            })
            .collect()
    }

    fn refit(&mut self, sums: &[GroupSums]) {
        for _ in 0..ALTERNATIONS {
            self.refit_table(sums);
            self.refit_groups(sums);
        }
    }

    /// Each level becomes the weighted centroid of the normalized weights
    /// assigned to it; a group counts with the square of its scale.
    fn refit_table(&mut self, sums: &[GroupSums]) {
        for level in 0..self.table.len() {
            let mut numerator = 0.0;
            let mut denominator = 0.0;
            for of in sums {
                let (scale, shift) = self.groups[of.group];
                numerator += scale * (of.sum[level] - shift * of.count[level]);
                denominator += scale * scale * of.count[level];
            }
            if denominator > 0.0 {
                self.table[level] = numerator / denominator;
            }
        }
        self.table.sort_by(f64::total_cmp);
    }

    /// Scale and shift of each group by linear regression of its weights on
    /// the levels they are assigned to.
    fn refit_groups(&mut self, sums: &[GroupSums]) {
        for of in sums {
            let (scale, shift) = &mut self.groups[of.group];
            let (mut n, mut t, mut tt, mut w, mut tw) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for ((&count, &sum), &level) in of.count.iter().zip(&of.sum).zip(&self.table) {
                n += count;
                t += count * level;
                tt += count * level * level;
                w += sum;
                tw += sum * level;
            }
            let fitted = match self.parameters {
                GroupParameters::Scale => tw / tt,
                GroupParameters::ScaleAndShift => (tw - t * w / n) / (tt - t * t / n),
            };
            // All weights on one level (or on zero) leave the scale open.
            if fitted.is_finite() && fitted > 0.0 {
                *scale = fitted;
            }
            if self.parameters == GroupParameters::ScaleAndShift && n > 0.0 {
                *shift = (w - *scale * t) / n;
            }
        }
    }

    fn into_levels(self) -> Vec<Levels> {
        let table = UnitTable::from(self.table);
        self.groups
            .into_iter()
            .map(|(scale, shift)| Levels::Affine {
                table: table.clone(),
                scale,
                shift,
            })
            .collect()
    }
}

/// At most `count` of `len` positions, ascending, evenly spread but without a
/// period that channels of a network could have too: multiples of the golden
/// section.
pub fn spread(len: usize, count: usize) -> Vec<usize> {
    let position = |step: usize| {
        let share = (step as f64 * GOLDEN_RATIO).fract();
        ((share * len as f64) as usize).min(len - 1)
    };
    let mut positions: Vec<usize> = (0..count.min(len)).map(position).collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// The weights of one group, in the tensor's order.
pub fn gather<'w>(weights: &'w [f32], partition: &Partition, group: usize) -> Cow<'w, [f32]> {
    if partition.is_contiguous()
        && let Some(run) = partition.runs(group).next()
    {
        return Cow::Borrowed(&weights[run]);
    }
    let mut gathered = Vec::with_capacity(partition.group_len());
    for run in partition.runs(group) {
        gathered.extend_from_slice(&weights[run]);
    }
    Cow::Owned(gathered)
}
