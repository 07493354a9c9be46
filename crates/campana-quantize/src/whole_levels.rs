//! Levels that are small whole numbers times a scale of each group, for
//! engines that multiply integers.

use campana_codebook::{LevelTables, QuantizedTensor, Storage};

use crate::Target;
use crate::quantize::{QuantizedModel, sqnr_db};

/// Largest whole number of levels: kernels that add products in 16 bits take
/// two products of 255 x 64, and four of 255 x 32. What that costs falls with
/// the number of levels.
fn largest_number(levels: usize) -> f32 {
    match levels {
        0..=8 => 32.0,
        9..=16 => 64.0,
        _ => LARGEST_OF_MANY,
    }
}

/// The same for more than 16 levels.
const LARGEST_OF_MANY: f32 = 64.0;

/// Largest number where other engines compute: the whole of 8 bits.
const LARGEST_INT8: f32 = 127.0;

/// Rounds the levels of all quantized tensors to whole numbers times a scale,
/// where the target computes on integers.
pub fn round_levels(model: &mut QuantizedModel<'_>, target: Target) {
    let largest = match target {
        Target::W4a8 => None,
        Target::Int8 => Some(LARGEST_INT8),
        Target::Lut | Target::LutUint4 | Target::Float | Target::Campana => return,
    };
    for outcome in &mut model.tensors {
        let Some(tensor) = &mut outcome.quantized else {
            continue;
        };
        let before = tensor.dequantize();
        let largest = largest.unwrap_or_else(|| largest_number(tensor.tables.levels()));
        if !round_tensor(tensor, largest) {
            continue;
        }
        // Both errors are small and hardly correlated: the squares add up.
        let after = tensor.dequantize();
        let pairs = before.iter().zip(&after);
        let added: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
        outcome.squared_error += added;
        outcome.report.mse = Some(outcome.squared_error / after.len().max(1) as f64);
        outcome.report.sqnr_db = Some(sqnr_db(outcome.energy, outcome.squared_error));
        outcome.report.clip = Some(crate::quantize::clip(tensor));
        outcome.report.output_bytes = tensor.len_bytes() as u64;
    }
}

/// Rounds one tensor's levels; says whether it has any other than zero.
fn round_tensor(tensor: &mut QuantizedTensor, largest: f32) -> bool {
    let groups = tensor.partition.group_count();
    let table_of = |group: usize| -> usize {
        tensor
            .table_of_group
            .as_ref()
            .map_or(0, |tables| usize::from(tables[group]))
    };
    let shift_of = |group: usize| {
        tensor
            .shift
            .as_ref()
            .map_or(0.0, |(shifts, _)| shifts[group])
    };
    // Levels before the scale, which all groups share the unit of.
    let max = (0..groups)
        .flat_map(|group| {
            let shift = shift_of(group);
            tensor
                .tables
                .table(table_of(group))
                .iter()
                .map(move |level| (level + shift).abs())
        })
        .fold(0f32, f32::max);
    if max == 0.0 || !max.is_finite() {
        return false;
    }
    let unit = max / largest;
    let whole = |value: f32| (value / unit).round_ties_even();
    let values = tensor
        .tables
        .values()
        .iter()
        .map(|&level| whole(level))
        .collect();
    tensor.tables = LevelTables::new(values, tensor.tables.levels(), Storage::I8);
    if let Some((shifts, _)) = &mut tensor.shift {
        shifts.iter_mut().for_each(|shift| *shift = whole(*shift));
    }
    match &tensor.scale {
        Some(_) => tensor.scale_unit = Some(tensor.scale_unit.unwrap_or(1.0) * unit),
        None => tensor.scale = Some((vec![unit; groups], Storage::F32)),
    }
    true
}
