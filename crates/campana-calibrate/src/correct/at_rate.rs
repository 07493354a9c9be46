//! Codes of one tensor for the least sum of output error and coded bits.

use campana_codebook::{Codebook, LevelTables, Packing, QuantizedTensor, Storage};
use campana_design::code_bits;
use campana_rounding::{Compensation, LevelSystem, Rate};
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
    compensations: &[Compensation],
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
    let of_row = |row: usize| &compensations[row * compensations.len() / rows.count().max(1)];
    let step = f64::from(levels[levels.len() - 1] - levels[0]) / (levels.len() - 1) as f64;
    let slopes: Vec<f32> = compensations
        .iter()
        .map(|compensation| (SLOPE * step * step * compensation.unexplained_variance()) as f32)
        .collect();
    let slope_of = |row: usize| slopes[row * slopes.len() / rows.count().max(1)];
    let normal: Vec<Vec<f32>> = rows
        .weights
        .iter()
        .zip(&rows.groups)
        .map(|(weights, groups)| match tensor.group_scale(groups[0]) {
            Some(scale) if scale > 0.0 => weights.iter().map(|weight| weight / scale).collect(),
            Some(_) => vec![0.0; weights.len()],
            None => weights.clone(),
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
            let (weights, compensation) = (&normal[row], of_row(row));
            if round < 2 {
                compensation.round_at_rate(weights, &codebook, &rate, codes);
            }
            compensation.descend_at_rate(weights, &codebook, &rate, codes, SWEEPS);
        });
        if round > 0
            && let Some(fitted) = fit(&normal, &codes, &levels, zero, step, &of_row)
        {
            (levels, codebook) = fitted;
        }
    }
    let codes = rows.scatter(&codes);
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

/// Levels of least error for these codes; `None` where they are not in order.
fn fit<'c>(
    rows: &[Vec<f32>],
    codes: &[Vec<u8>],
    levels: &[f32],
    zero: usize,
    step: f64,
    of_row: &(impl Fn(usize) -> &'c Compensation + Sync),
) -> Option<(Vec<f32>, Codebook)> {
    let systems: Vec<LevelSystem> = rows
        .par_iter()
        .zip(codes)
        .enumerate()
        .map(|(row, (weights, codes))| {
            let mut system = LevelSystem::new(levels.len());
            system.add_row(of_row(row).moment(), weights, codes, 1.0, 0.0);
            system
        })
        .collect();
    let mut system = LevelSystem::new(levels.len());
    systems.iter().for_each(|row| system.add(row));
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
