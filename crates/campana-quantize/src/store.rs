//! From designed levels to stored tensors: what is kept of each group, in
//! which element type, and the codes.

use campana_codebook::{Codebook, LevelTables, Packing, QuantizedTensor, Storage, affine_levels};
use campana_design::Levels;
use campana_tensor::Partition;
use rayon::prelude::*;

/// Up to this many levels a codebook per group is stored as 8-bit integers
/// times a scale: 0.1 to 1.3 % more squared error at 2 to 4 bits on real
/// networks, but 3 to 6 % at 5 bits.
const MAX_LEVELS_STORED_AS_I8: usize = 16;

/// From this many values on, 16-bit storage and the cast that it takes in the
/// graph are smaller than 32-bit storage.
const MIN_COUNT_STORED_AS_F16: usize = 32;

/// What a scale for each codebook takes beside its values: a multiplication and
/// the header of a tensor in the graph.
const SCALING_LEN_BYTES: usize = 48;

/// From this many scales on, 8-bit storage and the multiplication with its unit
/// are smaller than 16-bit storage.
const MIN_COUNT_STORED_AS_I8: usize = 96;

/// Relative error that rounding may put on a scale stored in 16 bits; up to 16
/// levels, and more.
const MAX_SCALE_ERROR: [f32; 2] = [1.0 / 128.0, 1.0 / 2048.0];

/// The same for a scale stored in 8 bits. Weights are assigned after the
/// rounding, so a scale that is off by this much costs 0.5 % squared error at 4
/// bits.
const MAX_COARSE_SCALE_ERROR: f32 = 1.0 / 16.0;

/// A group whose scale is below this share of the largest counts as if it had
/// that scale: dead channels must not decide the storage of all others.
const SMALLEST_SCALE: f32 = 1e-3;

/// Error that rounding may put on a shift, in units of the weights' standard
/// deviation; up to 16 levels, and more.
const MAX_SHIFT_ERROR: [f32; 2] = [1.0 / 128.0, 1.0 / 1024.0];

/// Weights that one task assigns; a multiple of the codes per byte of every
/// packing, so that tasks write whole bytes.
const BLOCK: usize = 120 << 10;

/// A stored tensor and the error it was stored with.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Codes and levels.
    pub tensor: QuantizedTensor,
    /// Sum of the squared differences of weights and decoded weights.
    pub squared_error: f64,
}

/// What each group decodes with; the part of a [`QuantizedTensor`] that does
/// not depend on the codes.
#[derive(Clone, Debug)]
pub struct GroupLevels {
    tables: LevelTables,
    table_of_group: Option<Vec<u16>>,
    scale: Option<(Vec<f32>, Storage)>,
    scale_unit: Option<f32>,
    shift: Option<(Vec<f32>, Storage)>,
    /// Of each group, where they are not the midpoints of its levels.
    thresholds: Option<Vec<Vec<f64>>>,
}

/// How precisely scales and shifts are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As designed, but for rounding to 16 bits where that changes next to
    /// nothing.
    Fine,
    /// In 8 bits for up to 16 levels, where that is possible.
    Coarse,
}

/// Stores weights with the levels designed for each of their groups.
///
/// One group keeps its levels in 32 bits. Several groups with affine levels
/// keep each distinct table once, and a scale (and a shift, where one is not
/// zero) for each group; several groups with free levels keep a table each.
///
/// # Panics
///
/// Where there is not one design for each group, or `weights` is not as long
/// as the partition.
pub fn store(
    weights: &[f32],
    shape: &[usize],
    partition: &Partition,
    designs: &[Levels],
    precision: Precision,
) -> Stored {
    assert_eq!(weights.len(), partition.len(), "weights of the partition");
    assert_eq!(
        designs.len(),
        partition.group_count(),
        "a design for each group"
    );
    let groups = GroupLevels::new(designs, precision);
    let packing = Packing::densest(groups.tables.levels());
    let (packed, squared_error) = groups.assign_and_pack(weights, partition, &packing);
    Stored {
        tensor: groups.into_tensor(shape, partition, packing, packed),
        squared_error,
    }
}

impl GroupLevels {
    /// The levels as stored; see [`store`].
    pub fn new(designs: &[Levels], precision: Precision) -> Self {
        let levels = match designs {
            [] => Self::one_table(vec![0.0]),
            [design] => Self::one_table(to_f32(&design.values())),
            _ => Self::affine(designs, precision).unwrap_or_else(|| Self::own(designs, precision)),
        };
        let thresholds = designs.iter().map(|design| match design {
            Levels::Coded { thresholds, .. } => Some(thresholds.clone()),
            Levels::Affine { .. } | Levels::Free(_) => None,
        });
        Self {
            thresholds: thresholds.collect(),
            ..levels
        }
    }

    fn one_table(levels: Vec<f32>) -> Self {
        let count = levels.len();
        Self {
            tables: LevelTables::new(levels, count, Storage::F32),
            table_of_group: None,
            scale: None,
            scale_unit: None,
            shift: None,
            thresholds: None,
        }
    }

    /// Shared tables; `None` where a design is free, or tables differ in
    /// length.
    fn affine(designs: &[Levels], precision: Precision) -> Option<Self> {
        let mut tables: Vec<Vec<f32>> = Vec::new();
        let mut table_of_group = Vec::with_capacity(designs.len());
        let mut scales = Vec::with_capacity(designs.len());
        let mut shifts = Vec::with_capacity(designs.len());
        for design in designs {
            let Levels::Affine {
                table,
                scale,
                shift,
            } = design
            else {
                return None;
            };
            let table = to_f32(table);
            let number = tables.iter().position(|known| *known == table);
            table_of_group.push(number.unwrap_or(tables.len()) as u16);
            let (scale, shift) = scale_after_shift(&table, *scale, *shift);
            scales.push(scale);
            shifts.push(shift);
            if number.is_none() {
                tables.push(table);
            }
        }
        let levels = tables[0].len();
        if tables.iter().any(|table| table.len() != levels) {
            return None;
        }
        let mut values = tables.concat();
        let shift = store_shifts(&shifts, &mut values, tables.len(), &mut scales, precision);
        let (scales, storage, scale_unit) = store_scales(&scales, levels, precision);
        Some(Self {
            table_of_group: (tables.len() > 1).then_some(table_of_group),
            tables: LevelTables::new(values, levels, Storage::F32),
            scale: Some((scales, storage)),
            scale_unit,
            shift,
            thresholds: None,
        })
    }

    /// A table of its own for each group, shorter ones filled up with their
    /// last level.
    fn own(designs: &[Levels], precision: Precision) -> Self {
        let mut tables: Vec<Vec<f32>> = designs.iter().map(|d| to_f32(&d.values())).collect();
        let levels = tables.iter().map(Vec::len).max().unwrap_or(1);
        for table in &mut tables {
            let last = table.last().copied().unwrap_or(0.0);
            table.resize(levels, last);
        }
        let table_of_group = Some((0..designs.len() as u16).collect());
        let largest = |table: &Vec<f32>| table.iter().fold(0f32, |max, level| max.max(level.abs()));
        let scales: Vec<f32> = tables.iter().map(|table| largest(table) / 127.0).collect();
        let (scales, storage, scale_unit) = store_scales(&scales, levels, precision);
        let values = tables.concat();
        let float = Storage::narrowest_float(&values);
        let scaled_len_bytes =
            values.len() + scales.len() * storage.len_bytes() + SCALING_LEN_BYTES;
        if levels > MAX_LEVELS_STORED_AS_I8 || values.len() * float.len_bytes() <= scaled_len_bytes
        {
            return Self {
                tables: LevelTables::new(values, levels, float),
                table_of_group,
                scale: None,
                scale_unit: None,
                shift: None,
                thresholds: None,
            };
        }
        for (table, &scale) in tables.iter_mut().zip(&scales) {
            let scale = scale * scale_unit.unwrap_or(1.0);
            for level in table.iter_mut() {
                *level = if scale == 0.0 { 0.0 } else { *level / scale };
            }
        }
        Self {
            tables: LevelTables::new(tables.concat(), levels, Storage::I8),
            table_of_group,
            scale: Some((scales, storage)),
            scale_unit,
            shift: None,
            thresholds: None,
        }
    }

    /// The tensor with codes that were chosen for these levels.
    pub fn with_codes(
        self,
        shape: &[usize],
        partition: &Partition,
        codes: &[u8],
    ) -> QuantizedTensor {
        let packing = Packing::densest(self.tables.levels());
        let mut packed = vec![0; packing.len_bytes(codes.len())];
        packing.pack(codes, &mut packed);
        self.into_tensor(shape, partition, packing, packed)
    }

    fn into_tensor(
        self,
        shape: &[usize],
        partition: &Partition,
        packing: Packing,
        packed: Vec<u8>,
    ) -> QuantizedTensor {
        QuantizedTensor {
            shape: shape.to_vec(),
            partition: partition.clone(),
            packing,
            packed,
            tables: self.tables,
            table_of_group: self.table_of_group,
            scale: self.scale,
            scale_unit: self.scale_unit,
            shift: self.shift,
        }
    }

    /// The levels of one group.
    pub fn codebook(&self, group: usize) -> Codebook {
        let table = self
            .table_of_group
            .as_ref()
            .map_or(0, |tables| usize::from(tables[group]));
        let mut levels = affine_levels(
            self.tables.table(table),
            self.scale.as_ref().map(|(values, _)| {
                self.scale_unit
                    .map_or(values[group], |unit| values[group] * unit)
            }),
            self.shift.as_ref().map(|(values, _)| values[group]),
        );
        let codebook = match &self.thresholds {
            Some(thresholds) => {
                // Without what a short table was filled up with.
                levels.truncate(thresholds[group].len() + 1);
                Codebook::with_thresholds(levels, &thresholds[group])
            }
            None => Codebook::new(levels),
        };
        codebook.expect("designs are finite and ascending, and scales not negative")
    }

    /// The packed codes and the sum of squared errors, the same whatever the
    /// number of threads.
    fn assign_and_pack(
        &self,
        weights: &[f32],
        partition: &Partition,
        packing: &Packing,
    ) -> (Vec<u8>, f64) {
        let mut packed = vec![0; packing.len_bytes(weights.len())];
        let plane_len = packing.plane_len_bytes(weights.len()).max(1);
        let block_len_bytes = BLOCK / packing.codes_per_byte();
        // The part of each plane that each block writes.
        let mut blocks: Vec<Vec<&mut [u8]>> = Vec::new();
        blocks.resize_with(weights.len().div_ceil(BLOCK), Vec::new);
        for plane in packed.chunks_mut(plane_len) {
            for (block, bytes) in blocks.iter_mut().zip(plane.chunks_mut(block_len_bytes)) {
                block.push(bytes);
            }
        }
        // Runs of one weight each would make a codebook for every weight.
        let codebooks: Option<Vec<Codebook>> =
            (!partition.is_contiguous() || partition.group_count() == 1).then(|| {
                (0..partition.group_count())
                    .map(|group| self.codebook(group))
                    .collect()
            });
        let run_len = partition.extents()[4].max(1);
        let errors: Vec<f64> = blocks
            .into_par_iter()
            .zip(weights.par_chunks(BLOCK))
            .enumerate()
            .map(|(block, (planes, weights))| {
                let mut codes = vec![0; weights.len()];
                let mut error = 0.0;
                let mut done = 0;
                while done < weights.len() {
                    let position = block * BLOCK + done;
                    let run_end = (done + run_len - position % run_len).min(weights.len());
                    let run = &weights[done..run_end];
                    let codes = &mut codes[done..run_end];
                    let group = partition.group_of(position);
                    error += match &codebooks {
                        Some(codebooks) => codebooks[group].assign_with_error(run, codes),
                        None => self.codebook(group).assign_with_error(run, codes),
                    };
                    done = run_end;
                }
                for (plane, bytes) in planes.into_iter().enumerate() {
                    packing.pack_plane(plane, &codes, bytes);
                }
                error
            })
            .collect();
        (packed, errors.iter().sum())
    }
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// From `level * scale + shift` to `(level + shift) * scale`. A group whose
/// weights are all equal gets the scale that puts the table's outermost level
/// on that side there.
fn scale_after_shift(table: &[f32], scale: f64, shift: f64) -> (f32, f32) {
    if scale > 0.0 && (shift / scale).abs() < f64::from(f32::MAX) {
        return (scale as f32, (shift / scale) as f32);
    }
    let outermost = if shift < 0.0 {
        table.first()
    } else {
        table.last()
    };
    // A table of zeros has no level on that side: such a group is lost, and
    // another design is better.
    let scale = outermost.map_or(0.0, |&level| shift / f64::from(level));
    if scale > 0.0 && scale <= f64::from(f32::MAX) {
        (scale as f32, 0.0)
    } else {
        (0.0, 0.0)
    }
}

/// Shifts as stored; none where all are zero.
///
/// Up to 16 levels of one table they are whole numbers of a unit that goes into
/// the table and the scales.
fn store_shifts(
    shifts: &[f32],
    tables: &mut [f32],
    table_count: usize,
    scales: &mut [f32],
    precision: Precision,
) -> Option<(Vec<f32>, Storage)> {
    let largest = shifts.iter().fold(0f32, |max, shift| max.max(shift.abs()));
    if largest == 0.0 {
        return None;
    }
    let many = usize::from(tables.len() / table_count > MAX_LEVELS_STORED_AS_I8);
    let std = (tables.iter().map(|level| level * level).sum::<f32>() / tables.len() as f32).sqrt();
    let max_error = MAX_SHIFT_ERROR[many] * std;
    let unit = largest / 127.0;
    let several = shifts.len() >= MIN_COUNT_STORED_AS_F16;
    if precision == Precision::Coarse
        && several
        && many == 0
        && table_count == 1
        && unit / 2.0 <= max_error
        && unit.is_normal()
    {
        tables.iter_mut().for_each(|level| *level /= unit);
        scales.iter_mut().for_each(|scale| *scale *= unit);
        let whole = shifts.iter().map(|&shift| Storage::I8.round(shift / unit));
        return Some((whole.collect(), Storage::I8));
    }
    let storage = Storage::F16;
    let fits = shifts
        .iter()
        .all(|&shift| (storage.round(shift) - shift).abs() <= max_error);
    let storage = if several && fits {
        storage
    } else {
        Storage::F32
    };
    Some((
        shifts.iter().map(|&shift| storage.round(shift)).collect(),
        storage,
    ))
}

/// Scales as stored, and their common factor.
pub(crate) fn store_scales(
    scales: &[f32],
    levels: usize,
    precision: Precision,
) -> (Vec<f32>, Storage, Option<f32>) {
    let largest = scales.iter().copied().fold(0f32, f32::max);
    let fits = |storage: Storage, unit: f32, max_error: f32| {
        scales.iter().all(|&scale| {
            let error = (storage.round(scale / unit) * unit - scale).abs();
            error <= max_error * scale.max(SMALLEST_SCALE * largest)
        })
    };
    let rounded = |storage: Storage, unit: f32| {
        scales
            .iter()
            .map(|&scale| storage.round(scale / unit))
            .collect()
    };
    let many = levels > MAX_LEVELS_STORED_AS_I8;
    let unit = largest / 127.0;
    if precision == Precision::Coarse
        && !many
        && scales.len() >= MIN_COUNT_STORED_AS_I8
        && unit.is_normal()
        && fits(Storage::I8, unit, MAX_COARSE_SCALE_ERROR)
    {
        return (rounded(Storage::I8, unit), Storage::I8, Some(unit));
    }
    let max_error = MAX_SCALE_ERROR[usize::from(many)];
    let storage = if scales.len() >= MIN_COUNT_STORED_AS_F16 && fits(Storage::F16, 1.0, max_error) {
        Storage::F16
    } else {
        Storage::F32
    };
    (rounded(storage, 1.0), storage, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_tensor::Granularity;

    fn own(groups: usize, levels: usize, spread: f64) -> GroupLevels {
        let table = |group: usize| {
            let level = move |code: usize| (code as f64 - 1.2) * (1.0 + spread * group as f64);
            Levels::Free((0..levels).map(level).collect())
        };
        let designs: Vec<Levels> = (0..groups).map(table).collect();
        GroupLevels::own(&designs, Precision::Coarse)
    }

    #[test]
    fn short_codebooks_of_few_groups_need_no_scale() {
        let few = own(16, 4, 0.1);
        assert_eq!(few.tables.storage(), Storage::F16);
        assert!(few.scale.is_none());
        for (groups, levels) in [(16, 16), (64, 4)] {
            let many = own(groups, levels, 0.1);
            assert_eq!(many.tables.storage(), Storage::I8, "{groups} x {levels}");
            assert!(many.scale.is_some());
        }
    }

    #[test]
    fn codebooks_out_of_half_precision_are_scaled() {
        let wide = own(16, 4, 1e5);
        assert_eq!(wide.tables.storage(), Storage::I8);
        assert!(wide.scale.is_some());
    }

    #[test]
    fn weights_go_by_the_thresholds_of_a_design() {
        let partition = Partition::new(&[2, 3], Some(0), Granularity::PerChannel);
        let coded = |levels: &[f64], thresholds: &[f64]| Levels::Coded {
            levels: levels.to_vec(),
            thresholds: thresholds.to_vec(),
        };
        // The second group has fewer levels: its table is filled up.
        let designs = [
            coded(&[0.0, 1.0, 2.0], &[0.8, 1.2]),
            coded(&[-1.0, 1.0], &[-0.5]),
        ];
        let weights = [0.7, 1.1, 1.3, -0.6, -0.4, 1.0];
        let stored = store(&weights, &[2, 3], &partition, &designs, Precision::Fine);
        assert_eq!(stored.tensor.codes(), [0, 1, 2, 0, 1, 1]);
    }
}
