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

/// A shift may move by this share of the scale when it is rounded.
const MAX_SHIFT_ERROR_PER_SCALE: f32 = 1e-3;

/// Weights that one task assigns; a multiple of the codes per byte of every
/// packing, so that tasks write whole bytes.
const BLOCK: usize = 120 << 10;

/// A stored tensor and the error it was stored with.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Codes and levels.
    pub(crate) tensor: QuantizedTensor,
    /// Sum of the squared differences of weights and decoded weights.
    pub(crate) squared_error: f64,
}

/// What each group decodes with; the part of a [`QuantizedTensor`] that does
/// not depend on the codes.
struct GroupLevels {
    tables: LevelTables,
    table_of_group: Option<Vec<u16>>,
    scale: Option<(Vec<f32>, Storage)>,
    shift: Option<(Vec<f32>, Storage)>,
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
pub(crate) fn store(
    weights: &[f32],
    shape: &[usize],
    partition: &Partition,
    designs: &[Levels],
) -> Stored {
    assert_eq!(weights.len(), partition.len(), "weights of the partition");
    assert_eq!(
        designs.len(),
        partition.group_count(),
        "a design for each group"
    );
    let groups = GroupLevels::new(designs);
    let packing = Packing::densest(groups.tables.levels());
    let (packed, squared_error) = groups.assign_and_pack(weights, partition, packing);
    let tensor = QuantizedTensor {
        shape: shape.to_vec(),
        partition: partition.clone(),
        packing,
        packed,
        tables: groups.tables,
        table_of_group: groups.table_of_group,
        scale: groups.scale,
        shift: groups.shift,
    };
    Stored {
        tensor,
        squared_error,
    }
}

impl GroupLevels {
    fn new(designs: &[Levels]) -> Self {
        match designs {
            [] => Self::one_table(vec![0.0]),
            [design] => Self::one_table(to_f32(&design.values())),
            _ => Self::affine(designs).unwrap_or_else(|| Self::own(designs)),
        }
    }

    fn one_table(levels: Vec<f32>) -> Self {
        let count = levels.len();
        Self {
            tables: LevelTables::new(levels, count, Storage::F32),
            table_of_group: None,
            scale: None,
            shift: None,
        }
    }

    /// Shared tables; `None` where a design is free, or tables differ in
    /// length.
    fn affine(designs: &[Levels]) -> Option<Self> {
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
            if number.is_none() {
                tables.push(table);
            }
            scales.push(*scale as f32);
            shifts.push(*shift as f32);
        }
        let levels = tables[0].len();
        if tables.iter().any(|table| table.len() != levels) {
            return None;
        }
        let scale_storage = float_storage(&scales);
        let scales: Vec<f32> = scales.iter().map(|&s| scale_storage.round(s)).collect();
        let shift_storage = shift_storage(&shifts, &scales);
        let shifts: Vec<f32> = shifts.iter().map(|&s| shift_storage.round(s)).collect();
        Some(Self {
            table_of_group: (tables.len() > 1).then_some(table_of_group),
            tables: LevelTables::new(tables.concat(), levels, Storage::F32),
            scale: Some((scales, scale_storage)),
            shift: shifts
                .iter()
                .any(|&s| s != 0.0)
                .then_some((shifts, shift_storage)),
        })
    }

    /// A table of its own for each group, shorter ones filled up with their
    /// last level.
    fn own(designs: &[Levels]) -> Self {
        let mut tables: Vec<Vec<f32>> = designs.iter().map(|d| to_f32(&d.values())).collect();
        let levels = tables.iter().map(Vec::len).max().unwrap_or(1);
        for table in &mut tables {
            let last = table.last().copied().unwrap_or(0.0);
            table.resize(levels, last);
        }
        let table_of_group = Some((0..designs.len() as u16).collect());
        if levels > MAX_LEVELS_STORED_AS_I8 {
            let values = tables.concat();
            let storage = Storage::narrowest_float(&values);
            return Self {
                tables: LevelTables::new(values, levels, storage),
                table_of_group,
                scale: None,
                shift: None,
            };
        }
        let largest = |table: &Vec<f32>| table.iter().fold(0f32, |max, level| max.max(level.abs()));
        let scales: Vec<f32> = tables.iter().map(|table| largest(table) / 127.0).collect();
        let scale_storage = float_storage(&scales);
        let scales: Vec<f32> = scales.iter().map(|&s| scale_storage.round(s)).collect();
        for (table, &scale) in tables.iter_mut().zip(&scales) {
            for level in table.iter_mut() {
                *level = if scale == 0.0 { 0.0 } else { *level / scale };
            }
        }
        Self {
            tables: LevelTables::new(tables.concat(), levels, Storage::I8),
            table_of_group,
            scale: Some((scales, scale_storage)),
            shift: None,
        }
    }

    fn codebook(&self, group: usize) -> Codebook {
        let table = self
            .table_of_group
            .as_ref()
            .map_or(0, |tables| usize::from(tables[group]));
        let levels = affine_levels(
            self.tables.table(table),
            self.scale.as_ref().map(|(values, _)| values[group]),
            self.shift.as_ref().map(|(values, _)| values[group]),
        );
        Codebook::new(levels).expect("designs are finite and ascending, and scales not negative")
    }

    /// The packed codes and the sum of squared errors, the same whatever the
    /// number of threads.
    fn assign_and_pack(
        &self,
        weights: &[f32],
        partition: &Partition,
        packing: Packing,
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
                        Some(codebooks) => assign(&codebooks[group], run, codes),
                        None => assign(&self.codebook(group), run, codes),
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

fn assign(codebook: &Codebook, weights: &[f32], codes: &mut [u8]) -> f64 {
    codebook.assign(weights, codes);
    codebook.squared_error(weights, codes)
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn float_storage(values: &[f32]) -> Storage {
    if values.len() < MIN_COUNT_STORED_AS_F16 {
        Storage::F32
    } else {
        Storage::narrowest_float(values)
    }
}

fn shift_storage(shifts: &[f32], scales: &[f32]) -> Storage {
    let kept = |(&shift, &scale): (&f32, &f32)| {
        (Storage::F16.round(shift) - shift).abs() <= MAX_SHIFT_ERROR_PER_SCALE * scale
    };
    if shifts.len() >= MIN_COUNT_STORED_AS_F16 && shifts.iter().zip(scales).all(kept) {
        Storage::F16
    } else {
        Storage::F32
    }
}
