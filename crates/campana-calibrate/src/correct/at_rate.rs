//! Codes of one tensor for the least sum of output error and coded bits.

use campana_codebook::{Codebook, LevelTables, Packing, QuantizedTensor, Storage};
use campana_design::code_bits;
use campana_rounding::{CodedRow, GptqSolver, LevelSystem, Rate, RoundedRows};
use rayon::prelude::*;

use crate::correct::layer::Rows;

/// Squared error that one bit is worth, in squared steps of the grid: the
/// slope of `D = step^2 / 12` over the rate, `2 ln 2 D`, which is that of all
/// good quantizers at high rates.
const SLOPE: f64 = std::f64::consts::LN_2 / 6.0;

/// Sweeps of coordinate descent after each change of bits or levels.
const SWEEPS: usize = 3;

/// How often codes, their bits and the levels follow each other.
const ROUNDS: usize = 3;

/// Parts of a step that levels are rounded to, so that they are short.
const LEVEL_PARTS: f64 = 64.0;

/// Chooses codes and levels again for inputs of these covariances. The tensor
/// has one table with a level of zero and at most one scale a row; others stay
/// as they are.
pub(crate) fn solve(
    rows: &Rows,
    tensor: &QuantizedTensor,
    solvers: &[GptqSolver],
) -> QuantizedTensor {
    let mut levels = tensor.tables.values().to_vec();
    let Some(zero) = levels.iter().position(|&level| level == 0.0) else {
        return tensor.clone();
    };
    let one_group = |groups: &Vec<usize>| groups.len() == 1;
    if tensor.tables.count() > 1
        || tensor.shift.is_some()
        || levels.len() < 3
        || !rows.groups.iter().all(one_group)
    {
        return tensor.clone();
    }
    let of_row = |row: usize| &solvers[row * solvers.len() / rows.count().max(1)];
    let step = f64::from(levels[levels.len() - 1] - levels[0]) / (levels.len() - 1) as f64;
    let slopes: Vec<f32> = solvers
        .iter()
        .map(|solver| (SLOPE * step * step * solver.unexplained_variance()) as f32)
        .collect();
    let slope_of = |row: usize| slopes[row * slopes.len() / rows.count().max(1)];
    let normal: Vec<Vec<f32>> = rows
        .groups
        .iter()
        .enumerate()
        .map(|(row, groups)| {
            let weights = rows.row(row).iter();
            match tensor.group_scale(groups[0]) {
                Some(scale) if scale > 0.0 => {
                    let factor = f64::from(rows.unit) / f64::from(scale);
                    weights
                        .map(|&weight| (f64::from(weight) * factor) as f32)
                        .collect()
                }
                Some(_) => vec![0.0; weights.len()],
                None => weights.map(|weight| weight * rows.unit).collect(),
            }
        })
        .collect();
    let Ok(mut codebook) = Codebook::new(levels.clone()) else {
        return tensor.clone();
    };
    let mut codes: Vec<Vec<u8>> = normal
        .par_iter()
        .map(|weights| {
            let mut codes = vec![0; weights.len()];
            codebook.assign(weights, &mut codes);
            codes
        })
        .collect();
    for round in 0..ROUNDS {
        let bits = code_bits(codes.iter().flatten().copied(), levels.len());
        codes.par_iter_mut().enumerate().for_each(|(row, codes)| {
            let rate = Rate {
                bits: &bits,
                slope: slope_of(row),
                zero: zero as u8,
            };
            let (weights, solver) = (&normal[row], of_row(row));
            if round < 2 {
                solver.round_at_rate(weights, &codebook, &rate, codes);
            }
            solver.descend_at_rate(weights, &codebook, &rate, codes, SWEEPS);
        });
        if round > 0
            && let Some(system) = system(&normal, &codes, &codebook, &of_row)
            && let Some(fitted) = fit(&system, &levels, zero, step)
        {
            (levels, codebook) = fitted;
        }
    }
    let codes = rows.scatter(&codes.concat(), 1);
    let packing = Packing::densest(levels.len());
    let mut packed = vec![0; packing.len_bytes(codes.len())];
    packing.pack(&codes, &mut packed);
    let count = levels.len();
    QuantizedTensor {
        packing,
        packed,
        tables: LevelTables::new(levels, count, Storage::F32),
        ..tensor.clone()
    }
}

/// Weights whose moments the system of the levels sums up; see
/// [`layer`](crate::correct::layer).
const WEIGHTS_FOR_TABLE: usize = 1 << 17;

/// The system of the levels for these codes, of as many rows as it takes;
/// `None` where there are none.
fn system<'c>(
    rows: &[Vec<f32>],
    codes: &[Vec<u8>],
    codebook: &Codebook,
    of_row: &(impl Fn(usize) -> &'c GptqSolver + Sync),
) -> Option<LevelSystem> {
    let target = WEIGHTS_FOR_TABLE.div_ceil(rows.first()?.len().max(1));
    let step = (rows.len() / target.max(1)).max(1);
    let levels: Vec<f64> = codebook.levels().iter().map(|&v| f64::from(v)).collect();
    let codebooks = [vec![codebook]];
    let systems: Vec<LevelSystem> = (0..rows.len())
        .into_par_iter()
        .step_by(step)
        .map(|row| {
            let moment = of_row(row).hessian();
            let mut rounded = RoundedRows::new(&rows[row], &codebooks, codes[row].clone());
            rounded.set_gradient_by_rows(moment);
            let coded = CodedRow {
                codes: &rounded.codes,
                gradient: &rounded.gradient,
                scale: 1.0,
            };
            let mut system = LevelSystem::new(levels.len());
            system.add_rows(moment, &[coded], &levels);
            system
        })
        .collect();
    let mut system = LevelSystem::new(levels.len());
    systems.iter().for_each(|row| system.add(row));
    Some(system)
}

/// Levels of least error for a system; `None` where they are not in order.
fn fit(
    system: &LevelSystem,
    levels: &[f32],
    zero: usize,
    step: f64,
) -> Option<(Vec<f32>, Codebook)> {
    let before: Vec<f64> = levels.iter().map(|&level| f64::from(level)).collect();
    let unit = step / LEVEL_PARTS;
    let fitted: Vec<f32> = system
        .solve_around_zero(&before, zero)
        .into_iter()
        .map(|level| ((level / unit).round() * unit) as f32)
        .collect();
    let apart = fitted.windows(2).all(|pair| pair[0] < pair[1]);
    if !apart || fitted[zero] != 0.0 {
        return None;
    }
    let codebook = Codebook::new(fitted.clone()).ok()?;
    Some((fitted, codebook))
}
