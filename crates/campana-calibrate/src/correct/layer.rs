//! Codes and levels of one tensor for the least error of its layer's outputs.

use campana_codebook::{Codebook, QuantizedTensor};
use campana_design::Levels;
use campana_quantize::store::{GroupLevels, Precision};
use campana_rounding::{Compensation, LevelSystem, best_scale};
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

/// Sweeps of coordinate descent after each fit of the levels.
const SWEEPS: usize = 4;

/// Above this many levels fitting them again gains nothing.
const MAX_LEVELS_TO_FIT: usize = 64;

/// How far rows go towards those that undo the errors of layers before: the
/// moments that say where are those of a few images, and all of the way is
/// worse than none on some networks.
const AIM: f32 = 0.5;

/// One tensor's rows: the weights of each output channel, gathered.
pub(crate) struct Rows {
    partition: Partition,
    pub(super) weights: Vec<Vec<f32>>,
    /// Groups that share levels, for each row, in the order of its weights.
    pub(super) groups: Vec<Vec<usize>>,
}

impl Rows {
    /// The rows of a tensor along its channel axis; `None` where levels are
    /// shared in a way that rows do not fit.
    pub(crate) fn new(
        weights: &[f32],
        tensor: &QuantizedTensor,
        channel_axis: usize,
    ) -> Option<Self> {
        let partition = Partition::new(&tensor.shape, Some(channel_axis), Granularity::PerChannel);
        let mut rows = Self {
            weights: Vec::with_capacity(partition.group_count()),
            groups: Vec::with_capacity(partition.group_count()),
            partition,
        };
        for row in 0..rows.partition.group_count() {
            let mut gathered = Vec::with_capacity(rows.partition.group_len());
            let mut groups: Vec<usize> = Vec::new();
            for run in rows.partition.runs(row) {
                for position in run.clone() {
                    let group = tensor.partition.group_of(position);
                    if groups.last() != Some(&group) {
                        groups.push(group);
                    }
                }
                gathered.extend_from_slice(&weights[run]);
            }
            let distinct = groups
                .iter()
                .collect::<std::collections::HashSet<_>>()
                .len();
            if distinct != groups.len() || gathered.len() % groups.len().max(1) != 0 {
                return None;
            }
            rows.weights.push(gathered);
            rows.groups.push(groups);
        }
        Some(rows)
    }

    /// The rows that on the inputs of the quantized network come nearest to
    /// what the rows do on those of the float network: for each block of rows
    /// the moments of both inputs with each other.
    ///
    /// Where the outputs are added to another value, each row also makes up
    /// for what that lacks as far as the inputs tell: for each row the moments
    /// of that with the inputs, in the units of the row's output.
    pub(crate) fn aim(
        &mut self,
        compensations: &[Compensation],
        cross: &[Vec<f64>],
        lack: Option<&[f64]>,
    ) {
        let blocks = compensations.len();
        let (count, n) = (self.count().max(1), self.row_len());
        self.weights
            .par_iter_mut()
            .enumerate()
            .for_each(|(row, weights)| {
                let block = row * blocks / count;
                let mut wanted = vec![0f64; n];
                for (weight, cross) in weights.iter().zip(cross[block].chunks_exact(n)) {
                    for (wanted, cross) in wanted.iter_mut().zip(cross) {
                        *wanted += f64::from(*weight) * cross;
                    }
                }
                if let Some(lack) = lack {
                    for (wanted, lack) in wanted.iter_mut().zip(&lack[row * n..][..n]) {
                        *wanted += lack;
                    }
                }
                // The damping of the moments must not draw weights to zero.
                let damping = compensations[block].moment().damping();
                let wanted: Vec<f32> = wanted
                    .iter()
                    .zip(weights.iter())
                    .map(|(wanted, weight)| (wanted + damping * f64::from(*weight)) as f32)
                    .collect();
                let aimed = compensations[block].solve(&wanted);
                for (weight, aimed) in weights.iter_mut().zip(aimed) {
                    *weight += AIM * (aimed - *weight);
                }
            });
    }

    /// Number of rows.
    pub(crate) fn count(&self) -> usize {
        self.weights.len()
    }

    /// Weights in a row.
    pub(crate) fn row_len(&self) -> usize {
        self.partition.group_len()
    }

    /// What is given for each row in order, where the weights lie.
    pub(super) fn scatter(&self, rows: &[Vec<u8>]) -> Vec<u8> {
        let mut codes = vec![0; self.partition.len()];
        for (row, values) in rows.iter().enumerate() {
            let mut rest = values.as_slice();
            for run in self.partition.runs(row) {
                let (now, later) = rest.split_at(run.len());
                codes[run].copy_from_slice(now);
                rest = later;
            }
        }
        codes
    }
}

/// Chooses codes again, and levels where `fits` says how often: for inputs of
/// these covariances, one for each block of rows of equal number.
pub(crate) fn solve(
    rows: &Rows,
    tensor: &QuantizedTensor,
    compensations: &[Compensation],
    precision: Precision,
    fits: usize,
) -> QuantizedTensor {
    let of_row = |row: usize| &compensations[row * compensations.len() / rows.count().max(1)];
    let mut designs = designs_of(tensor);
    let mut levels = GroupLevels::new(&designs, precision);
    let codebooks = all_codebooks(&levels, tensor);
    let mut codes: Vec<Vec<u8>> = (0..rows.count())
        .into_par_iter()
        .map(|row| {
            let codebooks = row_codebooks(rows, &codebooks, row);
            let mut codes = vec![0; rows.row_len()];
            of_row(row).round(&rows.weights[row], &codebooks, &mut codes);
            of_row(row).descend(&rows.weights[row], &codebooks, &mut codes, SWEEPS);
            codes
        })
        .collect();
    let error = |codebooks: &[Codebook], codes: &[Vec<u8>]| -> f64 {
        let errors: Vec<f64> = codes
            .par_iter()
            .enumerate()
            .map(|(row, codes)| {
                let codebooks = row_codebooks(rows, codebooks, row);
                of_row(row).error(&rows.weights[row], &codebooks, codes)
            })
            .collect();
        errors.iter().sum()
    };
    let mut least = error(&codebooks, &codes);
    for _ in 0..fits {
        let Some((fitted, recoded)) = fit(rows, tensor, &designs, &codes, &of_row) else {
            break;
        };
        let fitted_levels = GroupLevels::new(&fitted, precision);
        let codebooks = all_codebooks(&fitted_levels, tensor);
        let descended: Vec<Vec<u8>> = recoded
            .into_par_iter()
            .enumerate()
            .map(|(row, mut codes)| {
                let codebooks = row_codebooks(rows, &codebooks, row);
                of_row(row).descend(&rows.weights[row], &codebooks, &mut codes, SWEEPS);
                codes
            })
            .collect();
        let now = error(&codebooks, &descended);
        // Rounding levels to their storage may cost more than fitting gains.
        if now >= least {
            break;
        }
        (least, designs, levels, codes) = (now, fitted, fitted_levels, descended);
    }
    levels.with_codes(&tensor.shape, &tensor.partition, &rows.scatter(&codes))
}

fn all_codebooks(levels: &GroupLevels, tensor: &QuantizedTensor) -> Vec<Codebook> {
    (0..tensor.partition.group_count())
        .map(|group| levels.codebook(group))
        .collect()
}

fn row_codebooks<'c>(rows: &Rows, codebooks: &'c [Codebook], row: usize) -> Vec<&'c Codebook> {
    rows.groups[row]
        .iter()
        .map(|&group| &codebooks[group])
        .collect()
}

/// Whether each group has a table of its own.
fn has_own_tables(tensor: &QuantizedTensor) -> bool {
    tensor.tables.count() > 1 && tensor.tables.count() == tensor.partition.group_count()
}

/// The designs that are stored as this tensor's levels are.
fn designs_of(tensor: &QuantizedTensor) -> Vec<Levels> {
    let to_f64 = |levels: Vec<f32>| levels.into_iter().map(f64::from).collect::<Vec<_>>();
    (0..tensor.partition.group_count())
        .map(|group| match tensor.group_scale(group) {
            Some(scale) if !has_own_tables(tensor) => {
                let table = tensor.tables.table(tensor.group_table(group));
                let scale = f64::from(scale);
                Levels::Affine {
                    table: to_f64(table.to_vec()).into(),
                    scale,
                    shift: f64::from(tensor.group_shift(group)) * scale,
                }
            }
            _ => Levels::Free(to_f64(tensor.group_levels(group))),
        })
        .collect()
}

/// Levels of least error for these codes, and the codes under their order;
/// `None` where they cannot be fitted.
fn fit<'c>(
    rows: &Rows,
    tensor: &QuantizedTensor,
    designs: &[Levels],
    codes: &[Vec<u8>],
    of_row: &(impl Fn(usize) -> &'c Compensation + Sync),
) -> Option<(Vec<Levels>, Vec<Vec<u8>>)> {
    let count = tensor.tables.levels();
    if count > MAX_LEVELS_TO_FIT || rows.groups.iter().any(|groups| groups.len() > 1) {
        return None;
    }
    if has_own_tables(tensor) {
        let fitted: Vec<(Levels, Vec<u8>)> = (0..rows.count())
            .into_par_iter()
            .map(|row| {
                let mut system = LevelSystem::new(count);
                system.add_row(
                    of_row(row).moment(),
                    &rows.weights[row],
                    &codes[row],
                    1.0,
                    0.0,
                );
                let (levels, order) =
                    ascending(system.solve(&designs[rows.groups[row][0]].values()));
                (Levels::Free(levels), recode(&codes[row], &order))
            })
            .collect();
        let (fitted, recoded): (Vec<_>, Vec<_>) = fitted.into_iter().unzip();
        let mut by_group = designs.to_vec();
        for (row, levels) in fitted.into_iter().enumerate() {
            by_group[rows.groups[row][0]] = levels;
        }
        return Some((by_group, recoded));
    }
    if tensor.tables.count() > 1 {
        return None;
    }
    // One table under all scales: first the scales, then the table.
    let parameters: Vec<(f64, f64)> = (0..rows.count())
        .into_par_iter()
        .map(|row| match &designs[rows.groups[row][0]] {
            Levels::Affine {
                table,
                scale,
                shift,
            } => {
                let decoded: Vec<f32> = codes[row]
                    .iter()
                    .map(|&code| (table[usize::from(code)] * scale + shift) as f32)
                    .collect();
                let factor = best_scale(of_row(row).moment(), &rows.weights[row], &decoded);
                (scale * f64::from(factor), shift * f64::from(factor))
            }
            Levels::Free(_) | Levels::Coded { .. } => (1.0, 0.0),
        })
        .collect();
    let systems: Vec<LevelSystem> = (0..rows.count())
        .into_par_iter()
        .map(|row| {
            let (scale, shift) = parameters[row];
            let mut system = LevelSystem::new(count);
            let shift = if scale > 0.0 { shift / scale } else { 0.0 };
            let (weights, codes) = (&rows.weights[row], &codes[row]);
            system.add_row(
                of_row(row).moment(),
                weights,
                codes,
                scale as f32,
                shift as f32,
            );
            system
        })
        .collect();
    let mut system = LevelSystem::new(count);
    systems.iter().for_each(|row| system.add(row));
    let before: Vec<f64> = match &designs[0] {
        Levels::Affine { table, .. } => table.to_vec(),
        Levels::Free(levels) | Levels::Coded { levels, .. } => levels.clone(),
    };
    let (table, order) = ascending(system.solve(&before));
    let recoded = codes.iter().map(|codes| recode(codes, &order)).collect();
    let fitted = designs.iter().map(|design| match design {
        Levels::Affine { .. } => None,
        Levels::Free(_) | Levels::Coded { .. } => Some(Levels::Free(table.clone())),
    });
    let shared: campana_design::UnitTable = table.clone().into();
    let mut by_group: Vec<Levels> = fitted
        .map(|free| {
            free.unwrap_or(Levels::Affine {
                table: shared.clone(),
                scale: 0.0,
                shift: 0.0,
            })
        })
        .collect();
    for (row, (row_scale, row_shift)) in parameters.into_iter().enumerate() {
        if let Levels::Affine { scale, shift, .. } = &mut by_group[rows.groups[row][0]] {
            (*scale, *shift) = (row_scale, row_shift);
        }
    }
    Some((by_group, recoded))
}

/// The values in ascending order, and the new position of each.
fn ascending(values: Vec<f64>) -> (Vec<f64>, Vec<u8>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut place = vec![0; values.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new as u8;
    }
    (order.iter().map(|&old| values[old]).collect(), place)
}

fn recode(codes: &[u8], place: &[u8]) -> Vec<u8> {
    codes.iter().map(|&code| place[usize::from(code)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_design::kmeans_levels;
    use campana_quantize::store::store;
    use campana_rounding::SecondMoment;

    #[test]
    fn rows_move_towards_what_their_sum_lacks() {
        const MAX_ERROR: f32 = 0.01;
        let weights = [0.5f32, -1.0, 0.25, 2.0];
        let shape = [2, 2];
        let whole = Partition::new(&shape, None, Granularity::PerTensor);
        let designs = [Levels::Free(kmeans_levels(&weights, 4))];
        let tensor = store(&weights, &shape, &whole, &designs, Precision::Fine).tensor;
        // Inputs of variances 2 and 1 that are the same in both networks.
        let moment = vec![2.0, 0.0, 0.0, 1.0];
        let compensation = [Compensation::new(&SecondMoment::new(2, moment.clone()))];
        let aimed = |lack: Option<&[f64]>| {
            let mut rows = Rows::new(&weights, &tensor, 0).unwrap();
            rows.aim(&compensation, std::slice::from_ref(&moment), lack);
            rows.weights.concat()
        };
        let near = |found: Vec<f32>, expected: [f32; 4]| {
            let pairs = found.iter().zip(expected);
            assert!(
                pairs.clone().all(|(a, b)| (a - b).abs() < MAX_ERROR),
                "{found:?}, not {expected:?}"
            );
        };
        near(aimed(None), weights);
        // Output 1 lacks what is 0.4 of its second input.
        let lack = [0.0, 0.0, 0.0, 0.4];
        near(aimed(Some(&lack)), [0.5, -1.0, 0.25, 2.0 + AIM * 0.4]);
    }
}
