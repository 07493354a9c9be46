//! Levels that are small whole numbers times a scale of each group, for
//! engines that multiply integers.

use campana_codebook::{LevelTables, Packing, QuantizedTensor, Storage};
use campana_tensor::Partition;
use rayon::prelude::*;

/// Largest number where other engines compute. onnxruntime and others add two
/// products in 16 bits on processors without VNNI, and saturate: on such a
/// processor, with 127, about 12 of 100 answers of a ResNet-20 on CIFAR-100
/// changed by that alone. With 64 no sum can.
const LARGEST_INT8: u8 = 64;

/// Largest number of a grid that is coarser than the storage asks for: it was
/// chosen with its scales, and is left as it is.
const LARGEST_INT4: f32 = 7.0;

/// How far below the largest weight's a grid's scale is sought, and in how many
/// steps.
const LEAST_SCALE: f64 = 0.4;
const SCALE_STEPS: u32 = 30;

/// Fits of a scale to the numbers that it led to.
const SCALE_FITS: usize = 3;

/// Largest number that is stored.
const LARGEST_STORED: f32 = 127.0;

/// The uniform symmetric quantizer of the least squared error for each group:
/// integers from `-(2^(bits - 1) - 1)`, at most -1, to its opposite, times the
/// group's scale. For engines that have weights of 4 bits and no tables.
///
/// # Panics
///
/// If `bits` is not in 1 to 4.
pub fn uniform_grid(
    values: &[f32],
    shape: &[usize],
    partition: &Partition,
    bits: u8,
) -> QuantizedTensor {
    assert!((1..=4).contains(&bits), "a grid of 1 to 4 bits");
    let largest = ((1u8 << (bits - 1)) - 1).max(1);
    let largest = f32::from(largest);
    let mut codes = vec![0; values.len()];
    let groups = 0..partition.group_count();
    let group_values = |group| -> Vec<f32> {
        let runs = partition.runs(group);
        runs.flat_map(|run| &values[run]).copied().collect()
    };
    let scales: Vec<f32> = groups
        .into_par_iter()
        .map(|group| grid_scale(&group_values(group), largest))
        .collect();
    for (group, &scale) in scales.iter().enumerate() {
        for position in partition.runs(group).flatten() {
            codes[position] = (grid_number(values[position], scale, largest) + largest) as u8;
        }
    }
    let levels = 2 * largest as usize + 1;
    let packing = Packing::densest(levels);
    let mut packed = vec![0; packing.len_bytes(codes.len())];
    packing.pack(&codes, &mut packed);
    let table = (0..levels).map(|code| code as f32 - largest).collect();
    QuantizedTensor {
        shape: shape.to_vec(),
        partition: partition.clone(),
        packing,
        packed,
        tables: LevelTables::new(table, levels, Storage::I8),
        table_of_group: None,
        scale: Some((scales, Storage::F32)),
        scale_unit: None,
        shift: None,
    }
}

/// The number of a grid that stands for a value; 0 where the scale is.
fn grid_number(value: f32, scale: f32, largest: f32) -> f32 {
    match scale > 0.0 {
        true => (value / scale).round_ties_even().clamp(-largest, largest),
        false => 0.0,
    }
}

/// The scale with which a grid is nearest to some values, in the squares.
fn grid_scale(values: &[f32], largest: f32) -> f32 {
    let max = values.iter().fold(0f32, |max, value| max.max(value.abs()));
    if max < f32::MIN_POSITIVE * largest {
        return 0.0;
    }
    // In units of the largest value, so that squares are harmless.
    let values: Vec<f64> = values
        .iter()
        .map(|value| f64::from(*value) / f64::from(max))
        .collect();
    let largest = f64::from(largest);
    let number = |value: f64, scale: f64| {
        let number = (value / scale).round_ties_even();
        number.clamp(-largest, largest)
    };
    let error = |scale: f64| -> f64 {
        let errors = values.iter().map(|&v| v - number(v, scale) * scale);
        errors.map(|error| error * error).sum()
    };
    let step = (1.0 - LEAST_SCALE) / f64::from(SCALE_STEPS);
    let tried = (0..=SCALE_STEPS).map(|i| (1.0 - f64::from(i) * step) / largest);
    let nearest = tried.min_by(|a, b| error(*a).total_cmp(&error(*b)));
    let mut scale = nearest.unwrap_or(1.0 / largest);
    for _ in 0..SCALE_FITS {
        let numbers = values.iter().map(|&value| (value, number(value, scale)));
        let [product, square] = numbers.fold([0.0; 2], |[product, square], (value, number)| {
            [product + value * number, square + number * number]
        });
        if square > 0.0 {
            scale = product / square;
        }
    }
    (scale * f64::from(max)) as f32
}

/// Whether all levels are those of a [`uniform_grid`].
pub fn is_uniform_grid(tensor: &QuantizedTensor) -> bool {
    let levels = tensor.tables.values();
    let largest = (levels.len() / 2) as f32;
    tensor.tables.count() == 1
        && tensor.shift.is_none()
        && tensor.scale.is_some()
        && largest <= LARGEST_INT4
        && levels
            .iter()
            .enumerate()
            .all(|(code, &level)| level == code as f32 - largest)
}

/// Puts the values that a tensor decodes to on a uniform grid, the largest of
/// each group being the largest number: a table that groups share would leave
/// few numbers to groups without outliers. A [`uniform_grid`] is left as it is.
/// Says whether all values are finite.
pub fn put_on_integer_grid(tensor: &mut QuantizedTensor, values: &[f32]) -> bool {
    if is_uniform_grid(tensor) {
        return true;
    }
    if values.iter().any(|value| !value.is_finite()) {
        return false;
    }
    let levels = 2 * usize::from(LARGEST_INT8) + 1;
    let largest = f32::from(LARGEST_INT8);
    let groups = tensor.partition.group_count();
    let mut codes = vec![LARGEST_INT8; values.len()];
    let mut scales = vec![0.0; groups];
    for (group, scale) in scales.iter_mut().enumerate() {
        let runs = || tensor.partition.runs(group);
        let max = runs()
            .flat_map(|run| &values[run])
            .fold(0f32, |max, value| max.max(value.abs()));
        if max < f32::MIN_POSITIVE * largest {
            continue;
        }
        *scale = max / largest;
        for run in runs() {
            for (code, value) in codes[run.clone()].iter_mut().zip(&values[run]) {
                *code = ((value / *scale).round_ties_even() + largest) as u8;
            }
        }
    }
    let packing = Packing::densest(levels);
    let mut packed = vec![0; packing.len_bytes(codes.len())];
    packing.pack(&codes, &mut packed);
    let table = (0..levels).map(|code| code as f32 - largest).collect();
    tensor.packing = packing;
    tensor.packed = packed;
    tensor.tables = LevelTables::new(table, levels, Storage::I8);
    tensor.table_of_group = None;
    tensor.scale = Some((scales, Storage::F32));
    tensor.scale_unit = None;
    tensor.shift = None;
    true
}

/// Rounds one tensor's levels; says whether it has any other than zero.
///
/// Each table has a unit of its own: channels of small weights beside one of
/// large weights keep their levels apart.
pub fn round_to_integers(tensor: &mut QuantizedTensor, largest: f32) -> bool {
    let groups = tensor.partition.group_count();
    let levels = tensor.tables.levels();
    let mut units = vec![0f32; tensor.tables.count()];
    for group in 0..groups {
        let (table, shift) = (tensor.group_table(group), tensor.group_shift(group));
        for level in tensor.tables.table(table) {
            let stored = level.abs().max(shift.abs()) / LARGEST_STORED;
            units[table] = units[table]
                .max((level + shift).abs() / largest)
                .max(stored);
        }
    }
    if units.iter().any(|unit| !unit.is_finite()) || units.iter().all(|&unit| unit == 0.0) {
        return false;
    }
    let whole = |value: f32, unit: f32| match unit {
        0.0 => 0.0,
        unit => (value / unit).round_ties_even(),
    };
    let values = tensor.tables.values().chunks_exact(levels).zip(&units);
    let values = values
        .flat_map(|(table, &unit)| table.iter().map(move |&level| whole(level, unit)))
        .collect();
    let unit_of: Vec<f32> = (0..groups)
        .map(|group| units[tensor.group_table(group)])
        .collect();
    if let Some((shifts, _)) = &mut tensor.shift {
        let pairs = shifts.iter_mut().zip(&unit_of);
        pairs.for_each(|(shift, &unit)| *shift = whole(*shift, unit));
    }
    tensor.tables = LevelTables::new(values, levels, Storage::I8);
    if tensor.scale.is_some() && units.len() == 1 {
        tensor.scale_unit = Some(tensor.scale_unit.unwrap_or(1.0) * units[0]);
        return true;
    }
    let scales = unit_of.iter().enumerate();
    let scales = scales.map(|(group, unit)| unit * tensor.group_scale(group).unwrap_or(1.0));
    tensor.scale = Some((scales.collect(), Storage::F32));
    tensor.scale_unit = None;
    true
}

#[cfg(test)]
mod tests {
    use campana_tensor::Granularity;

    use super::*;

    #[test]
    fn scales_of_a_grid_are_those_of_the_least_error() {
        let [rows, n] = [3, 500];
        let value = |at: usize| ((at % n) as f32 * 0.731).sin() * [1.0, 1e-30, 0.0][at / n];
        let values: Vec<f32> = (0..rows * n).map(value).collect();
        let partition = Partition::new(&[rows, n], Some(0), Granularity::PerChannel);
        for bits in 1..=4 {
            let grid = uniform_grid(&values, &[rows, n], &partition, bits);
            assert_eq!(grid.check(), Ok(()));
            assert!(is_uniform_grid(&grid));
            let scales = &grid.scale.as_ref().unwrap().0;
            assert_eq!(scales[2], 0.0);
            let error = |scale: f32| -> f64 {
                let largest = grid.tables.values()[grid.tables.levels() - 1];
                let errors = values[..n]
                    .iter()
                    .map(|&value| value - grid_number(value, scale, largest) * scale);
                errors.map(|error| f64::from(error).powi(2)).sum()
            };
            let found = error(scales[0]);
            let least = (1..400)
                .map(|i| error(i as f32 / 200.0))
                .fold(f64::MAX, f64::min);
            assert!(found <= 1.01 * least, "{bits} bits: {found} {least}");
            assert!((scales[1] / scales[0] / 1e-30 - 1.0).abs() < 1e-3);
            let mut kept = grid.clone();
            assert!(put_on_integer_grid(&mut kept, &grid.dequantize()));
            assert_eq!(kept, grid);
        }
    }

    #[test]
    fn groups_that_share_a_table_have_grids_of_their_own() {
        let packing = Packing::densest(4);
        let mut packed = vec![0; packing.len_bytes(8)];
        packing.pack(&[0, 1, 2, 3, 1, 2, 2, 1], &mut packed);
        let mut tensor = QuantizedTensor {
            shape: vec![2, 4],
            partition: Partition::new(&[2, 4], Some(0), Granularity::PerChannel),
            packing,
            packed,
            tables: LevelTables::new(vec![-1000.0, -1.0, 2.0, 1000.0], 4, Storage::F32),
            table_of_group: None,
            scale: Some((vec![1.0, 0.5], Storage::F32)),
            scale_unit: None,
            shift: None,
        };
        let values = tensor.dequantize();
        assert!(put_on_integer_grid(&mut tensor, &values));
        assert_eq!(tensor.check(), Ok(()));
        let expected = [-1000.0, 0.0, 0.0, 1000.0, -0.5, 1.0, 1.0, -0.5];
        assert_eq!(tensor.dequantize(), expected);
    }

    #[test]
    fn small_tables_beside_large_ones_keep_their_levels() {
        let values = vec![-1000.0, -1.0, 1.0, 1000.0, -0.003, -0.001, 0.001, 0.002];
        for shift in [None, Some((vec![0.5, 0.0005], Storage::F32))] {
            let packing = Packing::densest(4);
            let mut packed = vec![0; packing.len_bytes(8)];
            packing.pack(&[0, 1, 2, 3, 0, 1, 2, 3], &mut packed);
            let mut tensor = QuantizedTensor {
                shape: vec![2, 4],
                partition: Partition::new(&[2, 4], Some(0), Granularity::PerChannel),
                packing,
                packed,
                tables: LevelTables::new(values.clone(), 4, Storage::F32),
                table_of_group: Some(vec![0, 1]),
                scale: None,
                scale_unit: None,
                shift,
            };
            let before = tensor.dequantize();
            assert!(round_to_integers(&mut tensor, 64.0));
            let after = tensor.dequantize();
            for (row, largest) in [(0..4, 1001.0), (4..8, 0.004)] {
                for (before, after) in before[row.clone()].iter().zip(&after[row]) {
                    let error = (before - after).abs();
                    assert!(error <= largest / 64.0, "{after} for {before}");
                }
            }
            assert!(tensor.tables.values().iter().all(|v| v.fract() == 0.0));
        }
    }
}
