//! Codes and levels of one tensor for the least error of its layer's outputs.

use campana_codebook::{Codebook, QuantizedTensor};
use campana_design::{Levels, UnitTable};
use campana_quantize::store::{GroupLevels, Precision};
use campana_rounding::{
    CodedRow, GptqSolver, LayerHessian, LeftRows, LevelSystem, PackedTiles, RoundedRows,
};
use campana_tensor::{Granularity, Partition};
use rayon::prelude::*;

/// Sweeps of coordinate descent after each fit of the levels.
pub(super) const SWEEPS: usize = 4;

/// Above this many levels fitting them again gains nothing.
const MAX_LEVELS_TO_FIT: usize = 64;

/// How far rows go towards those that undo the errors of layers before: the
/// moments that say where are those of a few images, and all of the way is
/// worse than none on some networks.
const AIM: f32 = 0.5;

/// Weights whose moments the system of a shared table sums up: far more than it
/// has levels, and more rows would cost much and tell nothing new.
const WEIGHTS_FOR_TABLE: usize = 1 << 17;

/// Rows that a layer's error is measured on before and after.
const MEASURED_ROWS: usize = 128;

/// One tensor's rows: the weights of each output channel, gathered, in units of
/// a power of two that makes squares of them harmless.
pub(crate) struct Rows {
    partition: Partition,
    /// Row by row.
    weights: Vec<f32>,
    /// What a weight of 1 stands for.
    pub(super) unit: f32,
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
        let unit = power_of_two_near(weights);
        let mut rows = Self {
            weights: Vec::with_capacity(weights.len()),
            unit,
            groups: Vec::with_capacity(partition.group_count()),
            partition,
        };
        for row in 0..rows.partition.group_count() {
            let mut groups: Vec<usize> = Vec::new();
            for run in rows.partition.runs(row) {
                for position in run.clone() {
                    let group = tensor.partition.group_of(position);
                    if groups.last() != Some(&group) {
                        groups.push(group);
                    }
                }
                rows.weights
                    .extend(weights[run].iter().map(|weight| weight / unit));
            }
            let distinct = groups
                .iter()
                .collect::<std::collections::HashSet<_>>()
                .len();
            if distinct != groups.len() || !rows.row_len().is_multiple_of(groups.len().max(1)) {
                return None;
            }
            rows.groups.push(groups);
        }
        let as_many = |groups: &Vec<usize>| groups.len() == rows.groups[0].len();
        rows.groups.iter().all(as_many).then_some(rows)
    }

    /// Moves the rows of one block, of several of equal size, towards those
    /// that on the inputs of the quantized network come nearest to what the
    /// rows do on those of the float network: `wanted` are the moments of the
    /// outputs that the rows are to have with these inputs. No row moves
    /// further than its length, so that one of zeros stays.
    pub(crate) fn aim(&mut self, block: usize, blocks: usize, solver: &GptqSolver, target: &[f32]) {
        let n = self.row_len();
        let rows = self.rows_of(block, blocks);
        let weights = &mut self.weights[rows.start * n..rows.end * n];
        // The damping of the moments must not draw weights to zero.
        let damping = solver.factor_damping() as f32;
        let damped: Vec<f32> = target
            .iter()
            .zip(&*weights)
            .map(|(target, weight)| target + damping * weight)
            .collect();
        let aimed = solver.solve_rows(&damped);
        let energy = |values: &mut dyn Iterator<Item = f32>| -> f64 {
            values.map(|value| f64::from(value).powi(2)).sum()
        };
        let rows = weights.chunks_exact_mut(n).zip(aimed.chunks_exact(n));
        for (weights, aimed) in rows {
            let pairs = aimed.iter().zip(&*weights);
            let moved = energy(&mut pairs.map(|(aimed, weight)| aimed - weight));
            let own = energy(&mut weights.iter().copied());
            let share = (f64::from(AIM) * moved.sqrt()).min(own.sqrt()) / moved.sqrt();
            if share > 0.0 && share.is_finite() {
                for (weight, aimed) in weights.iter_mut().zip(aimed) {
                    *weight += share as f32 * (aimed - *weight);
                }
            }
        }
    }

    /// Number of rows.
    pub(crate) fn count(&self) -> usize {
        self.groups.len()
    }

    /// Weights in a row.
    pub(crate) fn row_len(&self) -> usize {
        self.partition.group_len()
    }

    /// The weights of one row, in units of `unit`.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.weights[row * self.row_len()..][..self.row_len()]
    }

    /// All weights, row by row, in units of `unit`.
    pub(crate) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The weights of the rows of one block of several of equal size.
    pub(super) fn weights_of(&self, block: usize, blocks: usize) -> &[f32] {
        let rows = self.rows_of(block, blocks);
        &self.weights[rows.start * self.row_len()..rows.end * self.row_len()]
    }

    /// The rows of one block of several of equal size.
    pub(super) fn rows_of(&self, block: usize, blocks: usize) -> std::ops::Range<usize> {
        self.count() * block / blocks..self.count() * (block + 1) / blocks
    }

    /// What is given for each weight where it lies, row by row.
    pub(super) fn gather(&self, codes: &[u8]) -> Vec<u8> {
        let rows = 0..self.count();
        rows.flat_map(|row| self.partition.runs(row))
            .flat_map(|run| codes[run].iter().copied())
            .collect()
    }

    /// What is given for each row in order, a code for every `vector` weights,
    /// where the weights lie.
    pub(super) fn scatter(&self, rows: &[u8], vector: usize) -> Vec<u8> {
        let mut codes = vec![0; self.partition.len() / vector];
        let rows = rows.chunks_exact((self.row_len() / vector).max(1));
        for (row, mut rest) in rows.enumerate() {
            for run in self.partition.runs(row) {
                let (now, later) = rest.split_at(run.len() / vector);
                codes[run.start / vector..][..now.len()].copy_from_slice(now);
                rest = later;
            }
        }
        codes
    }
}

/// The power of two next to the root mean square; 1 where all is zero.
fn power_of_two_near(weights: &[f32]) -> f32 {
    let energy: f64 = weights.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
    let unit = (energy / weights.len().max(1) as f64).sqrt().log2().round();
    if unit.is_finite() {
        unit.clamp(-126.0, 126.0).exp2() as f32
    } else {
        1.0
    }
}

/// Rows that see the same inputs.
struct Block<'a> {
    weights: &'a [f32],
    solver: &'a GptqSolver,
    /// The Hessian of the solver, packed.
    packed: &'a PackedTiles,
}

impl Block<'_> {
    /// Rows rounded one weight after another, then descended.
    fn rounded(&self, codebooks: &[Vec<&Codebook>]) -> RoundedRows {
        let mut codes = vec![0; self.weights.len()];
        self.solver.round_rows(self.weights, codebooks, &mut codes);
        self.descended(codebooks, codes)
    }

    /// Rows of these codes, changed one by one to lower the error.
    fn descended(&self, codebooks: &[Vec<&Codebook>], codes: Vec<u8>) -> RoundedRows {
        let mut found = RoundedRows::new(self.weights, codebooks, codes);
        found.set_gradient(self.packed);
        self.solver.descend_rows(codebooks, &mut found, SWEEPS);
        found
    }
}

/// Chooses codes again, and levels where `fits` says how often: for inputs of
/// these covariances, one for each block of rows of equal number.
pub(crate) fn solve(
    rows: &Rows,
    tensor: &QuantizedTensor,
    solvers: &[GptqSolver],
    precision: Precision,
    fits: usize,
) -> QuantizedTensor {
    let blocks = solvers.len();
    let packed: Vec<PackedTiles> = solvers
        .par_iter()
        .map(|solver| solver.hessian().packed())
        .collect();
    let mut designs = designs_of(tensor);
    let mut levels = GroupLevels::new(&designs, precision);
    let codebooks = all_codebooks(&levels, tensor, rows.unit);
    let each_block = |work: &(dyn Fn(usize) -> RoundedRows + Sync)| -> Vec<RoundedRows> {
        (0..blocks).into_par_iter().map(work).collect()
    };
    let block_of = |block: usize| Block {
        weights: rows.weights_of(block, blocks),
        solver: &solvers[block],
        packed: &packed[block],
    };
    let mut rounded = each_block(&|block| {
        let codebooks = row_codebooks(rows, &codebooks, rows.rows_of(block, blocks));
        block_of(block).rounded(&codebooks)
    });
    let error = |rounded: &[RoundedRows]| -> f64 {
        let rows = rounded.iter().flat_map(RoundedRows::row_errors);
        rows.sum()
    };
    let mut least = error(&rounded);
    for _ in 0..fits {
        let fit = Fit {
            rows,
            count: tensor.tables.levels(),
            rounded: &rounded,
            solvers,
            packed: &packed,
        };
        let Some((fitted, order)) = fit.levels(tensor, &designs) else {
            break;
        };
        let fitted_levels = GroupLevels::new(&fitted, precision);
        let codebooks = all_codebooks(&fitted_levels, tensor, rows.unit);
        let again = each_block(&|block| {
            let first = rows.rows_of(block, blocks).start;
            let codes = rounded[block].codes.chunks(rows.row_len().max(1));
            let codes = codes.enumerate().flat_map(|(row, codes)| {
                let place = &order[(first + row).min(order.len() - 1)];
                codes.iter().map(|&code| place[usize::from(code)])
            });
            let codebooks = row_codebooks(rows, &codebooks, rows.rows_of(block, blocks));
            block_of(block).descended(&codebooks, codes.collect())
        });
        let now = error(&again);
        // Rounding levels to their storage may cost more than fitting gains.
        if now >= least {
            break;
        }
        (least, designs, levels, rounded) = (now, fitted, fitted_levels, again);
    }
    let codes: Vec<u8> = rounded.into_iter().flat_map(|rows| rows.codes).collect();
    levels.with_codes(&tensor.shape, &tensor.partition, &rows.scatter(&codes, 1))
}

/// Chooses codes again for the levels that a tensor has, as after these were
/// rounded to integers; `None` where they are none of a codebook.
pub(crate) fn solve_codes(
    rows: &Rows,
    tensor: &QuantizedTensor,
    solvers: &[GptqSolver],
) -> Option<QuantizedTensor> {
    let blocks = solvers.len();
    let groups = 0..tensor.partition.group_count();
    let codebooks: Vec<Codebook> = groups
        .map(|group| {
            Some(
                Codebook::new(tensor.group_levels(group))
                    .ok()?
                    .scaled(rows.unit.recip()),
            )
        })
        .collect::<Option<_>>()?;
    let codes: Vec<Vec<u8>> = (0..blocks)
        .into_par_iter()
        .map(|block| {
            let codebooks = row_codebooks(rows, &codebooks, rows.rows_of(block, blocks));
            let block = Block {
                weights: rows.weights_of(block, blocks),
                solver: &solvers[block],
                packed: &solvers[block].hessian().packed(),
            };
            block.rounded(&codebooks).codes
        })
        .collect();
    let codes = rows.scatter(&codes.concat(), 1);
    let mut packed = vec![0; tensor.packing.len_bytes(codes.len())];
    tensor.packing.pack(&codes, &mut packed);
    Some(QuantizedTensor {
        packed,
        ..tensor.clone()
    })
}

/// What a layer's outputs lose by the decoded weights of some tensors, up to
/// what none of them changes: on some rows, the same for all tensors. For each
/// block of rows the inputs' moments, and those that the outputs of the rows
/// are to have with these inputs.
pub(crate) fn losses<const N: usize>(
    rows: &Rows,
    tensors: [&QuantizedTensor; N],
    moments: &[(&LayerHessian, &[f32])],
) -> [f64; N] {
    let blocks = moments.len();
    let step = rows.count().div_ceil(MEASURED_ROWS).max(1);
    tensors.map(|tensor| {
        let decoded = tensor.dequantize();
        let losses: Vec<f64> = moments
            .par_iter()
            .enumerate()
            .map(|(block, moment)| {
                let terms = row_terms(rows, &decoded, *moment, rows.rows_of(block, blocks), step);
                let losses = terms.iter().map(|[square, product]| square - 2.0 * product);
                losses.sum()
            })
            .collect();
        losses.iter().sum()
    })
}

/// Of every `step`th row of a block, the square of what its outputs are by the
/// decoded weights, and the product of that with what they are to be: both means
/// over the inputs.
pub(super) fn row_terms(
    rows: &Rows,
    decoded: &[f32],
    (moment, target): (&LayerHessian, &[f32]),
    block: std::ops::Range<usize>,
    step: usize,
) -> Vec<[f64; 2]> {
    let n = rows.row_len().max(1);
    let measured: Vec<usize> = block.clone().step_by(step).collect();
    let values: Vec<f32> = measured
        .iter()
        .flat_map(|&row| rows.partition.runs(row))
        .flat_map(|run| decoded[run].iter().map(|value| value / rows.unit))
        .collect();
    let products = moment.packed().multiply(LeftRows::contiguous(&values, n));
    let damping = moment.damping();
    let of_row = |at: usize| {
        let (values, products) = (&values[at * n..], &products[at * n..]);
        let target = &target[(measured[at] - block.start) * n..];
        let terms = values.iter().zip(products).zip(target).take(n);
        terms.fold([0.0; 2], |sums, ((&value, &product), &target)| {
            let [value, product, target] = [value, product, target].map(f64::from);
            [
                sums[0] + value * (product - damping * value),
                sums[1] + value * target,
            ]
        })
    };
    (0..measured.len()).map(of_row).collect()
}

/// The codebooks of all groups in units of `unit`.
fn all_codebooks(levels: &GroupLevels, tensor: &QuantizedTensor, unit: f32) -> Vec<Codebook> {
    (0..tensor.partition.group_count())
        .map(|group| levels.codebook(group).scaled(unit.recip()))
        .collect()
}

fn row_codebooks<'c>(
    rows: &Rows,
    codebooks: &'c [Codebook],
    range: std::ops::Range<usize>,
) -> Vec<Vec<&'c Codebook>> {
    rows.groups[range]
        .iter()
        .map(|groups| groups.iter().map(|&group| &codebooks[group]).collect())
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

/// Rounded rows whose levels are fitted.
struct Fit<'a> {
    rows: &'a Rows,
    /// Levels of a table.
    count: usize,
    rounded: &'a [RoundedRows],
    solvers: &'a [GptqSolver],
    /// The Hessian of each solver, packed.
    packed: &'a [PackedTiles],
}

impl Fit<'_> {
    /// Levels of least error for these codes, and for each row, or for all, the
    /// new place of each level; `None` where they cannot be fitted.
    fn levels(
        &self,
        tensor: &QuantizedTensor,
        designs: &[Levels],
    ) -> Option<(Vec<Levels>, Vec<Vec<u8>>)> {
        let one_group = |groups: &Vec<usize>| groups.len() == 1;
        if self.count > MAX_LEVELS_TO_FIT || !self.rows.groups.iter().all(one_group) {
            return None;
        }
        if has_own_tables(tensor) {
            return Some(self.own_tables(designs));
        }
        (tensor.tables.count() <= 1).then(|| self.shared_table(designs))
    }

    fn block_of(&self, row: usize) -> usize {
        row * self.solvers.len() / self.rows.count().max(1)
    }

    /// One row's part of a value of all rows of its block.
    fn part<T>(&self, row: usize, values: impl Fn(&RoundedRows) -> &Vec<T>) -> &[T] {
        let block = self.block_of(row);
        let first = self.rows.rows_of(block, self.solvers.len()).start;
        let n = self.rows.row_len();
        &values(&self.rounded[block])[(row - first) * n..][..n]
    }

    /// The levels in units of the rows.
    fn in_units(&self, levels: &[f64]) -> Vec<f64> {
        let unit = f64::from(self.rows.unit);
        levels.iter().map(|level| level / unit).collect()
    }

    /// A table for each row.
    fn own_tables(&self, designs: &[Levels]) -> (Vec<Levels>, Vec<Vec<u8>>) {
        let unit = f64::from(self.rows.unit);
        let fitted: Vec<(Levels, Vec<u8>)> = (0..self.rows.count())
            .into_par_iter()
            .map(|row| {
                let before = self.in_units(&designs[self.rows.groups[row][0]].values());
                let moment = self.solvers[self.block_of(row)].hessian();
                let mut system = LevelSystem::new(self.count);
                let coded = CodedRow {
                    codes: self.part(row, |rounded| &rounded.codes),
                    gradient: self.part(row, |rounded| &rounded.gradient),
                    scale: 1.0,
                };
                system.add_rows(moment, &[coded], &before);
                let (levels, place) = ascending(system.solve(&before));
                let levels = levels.into_iter().map(|level| level * unit).collect();
                (Levels::Free(levels), place)
            })
            .collect();
        let mut by_group = designs.to_vec();
        let mut places = Vec::with_capacity(fitted.len());
        for (row, (levels, place)) in fitted.into_iter().enumerate() {
            by_group[self.rows.groups[row][0]] = levels;
            places.push(place);
        }
        (by_group, places)
    }

    /// One table under all scales: first the scales, then the table.
    fn shared_table(&self, designs: &[Levels]) -> (Vec<Levels>, Vec<Vec<u8>>) {
        let unit = f64::from(self.rows.unit);
        let mut by_group = designs.to_vec();
        let is_affine = matches!(designs[0], Levels::Affine { .. });
        let mut scales = vec![1.0; self.rows.count()];
        let mut factors = scales.clone();
        if is_affine {
            factors = self.scale_factors();
            for (row, &factor) in factors.iter().enumerate() {
                if let Levels::Affine { scale, shift, .. } = &mut by_group[self.rows.groups[row][0]]
                {
                    (*scale, *shift) = (*scale * factor, *shift * factor);
                    scales[row] = *scale / unit;
                }
            }
        }
        let before: Vec<f64> = match &designs[0] {
            Levels::Affine { table, .. } => table.to_vec(),
            Levels::Free(levels) | Levels::Coded { levels, .. } => self.in_units(levels),
        };
        let (table, place) =
            ascending(self.table_system(&scales, &factors, &before).solve(&before));
        let shared: UnitTable = table.clone().into();
        for design in &mut by_group {
            match design {
                Levels::Affine { table, .. } => *table = shared.clone(),
                Levels::Free(_) | Levels::Coded { .. } => {
                    let levels = table.iter().map(|level| level * unit).collect();
                    *design = Levels::Free(levels);
                }
            }
        }
        (by_group, vec![place])
    }

    /// The system of the shared table under these scales, which are those of
    /// the rows as they are rounded times a factor: of as many rows as it takes.
    fn table_system(&self, scales: &[f64], factors: &[f64], before: &[f64]) -> LevelSystem {
        let (rows, n) = (self.rows, self.rows.row_len().max(1));
        let target = WEIGHTS_FOR_TABLE.div_ceil(n);
        let step = (rows.count() / target.max(1)).max(1);
        let blocks = self.solvers.len();
        let systems: Vec<LevelSystem> = (0..blocks)
            .into_par_iter()
            .map(|block| {
                let range = rows.rows_of(block, blocks);
                let taken: Vec<usize> = range.filter(|row| row % step == 0).collect();
                let decoded: Vec<f32> = taken
                    .iter()
                    .flat_map(|&row| self.part(row, |rounded| &rounded.decoded))
                    .copied()
                    .collect();
                // What the factors add to the gradient.
                let mut gradients = self.packed[block].multiply(LeftRows::contiguous(&decoded, n));
                for (gradient, &row) in gradients.chunks_exact_mut(n).zip(&taken) {
                    let before = self.part(row, |rounded| &rounded.gradient);
                    let change = factors[row] as f32 - 1.0;
                    for (value, before) in gradient.iter_mut().zip(before) {
                        *value = before + change * *value;
                    }
                }
                let coded: Vec<CodedRow<'_>> = taken
                    .iter()
                    .zip(gradients.chunks_exact(n))
                    .map(|(&row, gradient)| CodedRow {
                        codes: self.part(row, |rounded| &rounded.codes),
                        gradient,
                        scale: scales[row] as f32,
                    })
                    .collect();
                let mut system = LevelSystem::new(self.count);
                system.add_rows(self.solvers[block].hessian(), &coded, before);
                system
            })
            .collect();
        let mut system = LevelSystem::new(self.count);
        systems.iter().for_each(|block| system.add(block));
        system
    }

    /// The factor on each row's decoded weights of least output error.
    fn scale_factors(&self) -> Vec<f64> {
        let factors: Vec<Vec<f64>> = self
            .rounded
            .par_iter()
            .zip(self.solvers)
            .map(|(rounded, solver)| scale_factors(solver, &rounded.decoded, &rounded.gradient))
            .collect();
        factors.concat()
    }
}

/// The factor on each row's decoded weights of least output error, where `(q - w)
/// H` is the gradient; 1 where that is not positive.
pub(super) fn scale_factors(solver: &GptqSolver, decoded: &[f32], gradient: &[f32]) -> Vec<f64> {
    let n = solver.hessian().inputs().max(1);
    let energies = solver.energies(decoded);
    let rows = decoded.chunks_exact(n).zip(gradient.chunks_exact(n));
    rows.zip(energies)
        .map(|((decoded, gradient), energy)| {
            let pairs = decoded.iter().zip(gradient);
            let slope: f64 = pairs.map(|(&q, &g)| f64::from(q) * f64::from(g)).sum();
            let factor = 1.0 - slope / energy;
            if factor > 0.0 && factor.is_finite() {
                factor
            } else {
                1.0
            }
        })
        .collect()
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

#[cfg(test)]
mod tests;
