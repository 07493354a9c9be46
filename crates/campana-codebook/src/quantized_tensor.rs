//! A weight tensor as codes and levels.

use alloc::vec;
use alloc::vec::Vec;

use campana_tensor::Partition;

use crate::{Packing, Storage, VectorCodes};

/// One or more tables of levels, all of the same length.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelTables {
    values: Vec<f32>,
    levels: usize,
    storage: Storage,
}

impl LevelTables {
    /// Tables of `levels` values each, one after another in `values`, shape
    /// `[tables, levels]`; every value is rounded to the storage type.
    ///
    /// # Panics
    ///
    /// Where `values` is not a whole number of tables, or `levels` is 0.
    pub fn new(mut values: Vec<f32>, levels: usize, storage: Storage) -> Self {
        assert!(
            levels > 0 && values.len().is_multiple_of(levels),
            "whole tables"
        );
        for value in &mut values {
            *value = storage.round(*value);
        }
        Self {
            values,
            levels,
            storage,
        }
    }

    /// All values, shape `[tables, levels]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One table.
    ///
    /// # Panics
    ///
    /// Where there is no such table.
    pub fn table(&self, table: usize) -> &[f32] {
        &self.values[table * self.levels..][..self.levels]
    }

    /// Number of tables.
    pub fn count(&self) -> usize {
        self.values.len() / self.levels
    }

    /// Levels of each table.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// How the values are stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Bytes of all tables as stored.
    pub fn len_bytes(&self) -> usize {
        self.values.len() * self.storage.len_bytes()
    }
}

/// A weight tensor as packed codes, level tables and, for each group of
/// weights, the table it uses and an optional shift and scale.
///
/// The value of a weight with code `c` in group `g` is computed in `f32`, each
/// operation rounded:
///
/// ```text
/// w = (table[table_of_group[g]][c] + shift[g]) * (scale[g] * scale_unit)
/// ```
///
/// The fields are public since this is a plain record of what is stored;
/// [`check`](Self::check) says whether they fit together.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedTensor {
    /// Extents of the tensor, outermost first.
    pub shape: Vec<usize>,
    /// Which weights form a group.
    pub partition: Partition,
    /// How the codes lie in `packed`.
    pub packing: Packing,
    /// The codes of all weights, row-major, packed.
    pub packed: Vec<u8>,
    /// The level tables.
    pub tables: LevelTables,
    /// The table of each group; `None` where all use the first.
    pub table_of_group: Option<Vec<u16>>,
    /// A factor for each group, not negative, and its storage.
    pub scale: Option<(Vec<f32>, Storage)>,
    /// What all stored scales are multiplied with; lets them be small whole
    /// numbers.
    pub scale_unit: Option<f32>,
    /// A term for each group, added before the scale, and its storage.
    pub shift: Option<(Vec<f32>, Storage)>,
}

impl QuantizedTensor {
    /// Whether all parts fit together: lengths, table numbers, codes.
    pub fn check(&self) -> Result<(), &'static str> {
        self.check_groups()?;
        let count = self.partition.len();
        if self.packed.len() != self.packing.len_bytes(count) {
            return Err("the packed codes are not as long as the weights need");
        }
        match self
            .packing
            .are_below(&self.packed, count, self.tables.levels())
        {
            true => Ok(()),
            false => Err("a code has no level"),
        }
    }

    /// Whether all parts but the codes fit together.
    pub fn check_groups(&self) -> Result<(), &'static str> {
        let groups = self.partition.group_count();
        if self.shape.iter().product::<usize>() != self.partition.len() {
            return Err("the shape does not have as many weights as the groups");
        }
        let wrong_len = |values: &Option<(Vec<f32>, Storage)>| {
            values
                .as_ref()
                .is_some_and(|(values, _)| values.len() != groups)
        };
        if wrong_len(&self.scale) || wrong_len(&self.shift) {
            return Err("there must be one scale and one shift for each group");
        }
        match &self.table_of_group {
            Some(tables) if tables.len() != groups => {
                Err("there must be one table number for each group")
            }
            Some(tables)
                if tables
                    .iter()
                    .any(|&t| usize::from(t) >= self.tables.count()) =>
            {
                Err("a group names a table that is not there")
            }
            _ => Ok(()),
        }
    }

    /// The codes, one byte each, row-major.
    pub fn codes(&self) -> Vec<u8> {
        self.packing.unpack(&self.packed, self.partition.len())
    }

    /// The factor of one group, its stored scale times the unit in `f32`.
    pub fn group_scale(&self, group: usize) -> Option<f32> {
        let (values, _) = self.scale.as_ref()?;
        Some(
            self.scale_unit
                .map_or(values[group], |unit| values[group] * unit),
        )
    }

    /// Which of the tables a group has.
    pub fn group_table(&self, group: usize) -> usize {
        self.table_of_group
            .as_ref()
            .map_or(0, |tables| usize::from(tables[group]))
    }

    /// What is added to a group's table before it is scaled; 0 where nothing is.
    pub fn group_shift(&self, group: usize) -> f32 {
        self.shift.as_ref().map_or(0.0, |(shifts, _)| shifts[group])
    }

    /// The levels of one group as its weights are decoded.
    pub fn group_levels(&self, group: usize) -> Vec<f32> {
        let table = self.group_table(group);
        affine_levels(
            self.tables.table(table),
            self.group_scale(group),
            self.shift.as_ref().map(|(values, _)| values[group]),
        )
    }

    /// Where levels are stored as 8-bit integers, and stay such with the offset of
    /// each group: the integer that each weight is, row-major, and the scale of
    /// each group.
    pub fn integers(&self) -> Option<(Vec<i8>, Vec<f32>)> {
        if self.tables.storage() != Storage::I8 {
            return None;
        }
        let codes = self.codes();
        let mut integers = vec![0; codes.len()];
        for group in 0..self.partition.group_count() {
            let table = self.tables.table(self.group_table(group));
            let shift = self.group_shift(group);
            let levels = table.iter().map(|level| {
                let level = level + shift;
                (f32::from(level as i8) == level).then_some(level as i8)
            });
            let levels: Vec<i8> = levels.collect::<Option<_>>()?;
            for run in self.partition.runs(group) {
                for (integer, &code) in integers[run.clone()].iter_mut().zip(&codes[run]) {
                    *integer = levels[usize::from(code)];
                }
            }
        }
        let groups = 0..self.partition.group_count();
        let scales = groups.map(|group| self.group_scale(group).unwrap_or(1.0));
        Some((integers, scales.collect()))
    }

    /// The weights that a runtime computes from what is stored, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let codes = self.codes();
        let mut weights = vec![0.0; codes.len()];
        for group in 0..self.partition.group_count() {
            let levels = self.group_levels(group);
            for run in self.partition.runs(group) {
                for (weight, &code) in weights[run.clone()].iter_mut().zip(&codes[run]) {
                    *weight = levels[usize::from(code)];
                }
            }
        }
        weights
    }

    /// Bytes of the tables as stored. What several tensors share counts for none
    /// of them: a table of vectors, where the tensor has [too
    /// few](VectorCodes::have_own_table) for its own, and their integer levels.
    pub fn tables_len_bytes(&self) -> usize {
        match &self.packing {
            Packing::Vectors(codes) => {
                let is_own = VectorCodes::have_own_table(self.packed.len(), codes.dimension());
                if is_own { codes.table().len() } else { 0 }
            }
            _ => self.tables.len_bytes(),
        }
    }

    /// Bytes of codes, [tables](Self::tables_len_bytes), table numbers, scales and
    /// shifts as stored.
    pub fn len_bytes(&self) -> usize {
        let floats = |values: &Option<(Vec<f32>, Storage)>| {
            values
                .as_ref()
                .map_or(0, |(values, storage)| values.len() * storage.len_bytes())
        };
        self.packed.len()
            + self.tables_len_bytes()
            + self.table_of_group.as_ref().map_or(0, |tables| {
                tables.len() * offset_len_bytes(self.tables.count(), self.tables.levels())
            })
            + floats(&self.scale)
            + self.scale_unit.map_or(0, |_| Storage::F32.len_bytes())
            + floats(&self.shift)
    }
}

/// Levels of a table under a scale and a shift, `(level + shift) * scale`,
/// computed as a runtime does: in `f32`, each operation rounded.
pub fn affine_levels(table: &[f32], scale: Option<f32>, shift: Option<f32>) -> Vec<f32> {
    table
        .iter()
        .map(|&level| {
            let shifted = shift.map_or(level, |shift| level + shift);
            scale.map_or(shifted, |scale| shifted * scale)
        })
        .collect()
}

/// Bytes of the stored offset of a table among `tables` of `levels` values.
pub fn offset_len_bytes(tables: usize, levels: usize) -> usize {
    match tables.saturating_sub(1) * levels {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_tensor::Granularity;

    fn two_channels() -> QuantizedTensor {
        let partition = Partition::new(&[2, 2], Some(0), Granularity::PerChannel);
        QuantizedTensor {
            shape: vec![2, 2],
            partition,
            packing: Packing::densest(2),
            packed: vec![0b0110],
            tables: LevelTables::new(vec![-1.0, 1.0, -2.0, 3.0], 2, Storage::I8),
            table_of_group: Some(vec![0, 1]),
            scale: Some((vec![1.0, 4.0], Storage::I8)),
            scale_unit: Some(0.5),
            shift: Some((vec![0.0, 0.25], Storage::F32)),
        }
    }

    #[test]
    fn each_group_has_its_table_scale_and_shift() {
        let tensor = two_channels();
        assert_eq!(tensor.check(), Ok(()));
        assert_eq!(tensor.dequantize(), [-0.5, 0.5, 6.5, -3.5]);
        assert_eq!(tensor.len_bytes(), 1 + 4 + 2 + (2 + 4) + 2 * 4);
    }

    #[test]
    fn integers_times_scales_are_the_weights() {
        let mut tensor = two_channels();
        assert_eq!(tensor.integers(), None, "an offset of a quarter");
        tensor.shift = Some((vec![0.0, -1.0], Storage::I8));
        let (integers, scales) = tensor.integers().unwrap();
        assert_eq!(integers, [-1, 1, 2, -3]);
        assert_eq!(scales, [0.5, 2.0]);
        assert_eq!(tensor.dequantize(), [-0.5, 0.5, 4.0, -6.0]);
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        let fault = |break_it: fn(&mut QuantizedTensor)| {
            let mut tensor = two_channels();
            break_it(&mut tensor);
            tensor.check().unwrap_err()
        };
        assert!(fault(|t| t.shape = vec![3]).contains("shape"));
        assert!(fault(|t| t.packed.push(0)).contains("packed codes"));
        assert!(fault(|t| t.scale = Some((vec![1.0], Storage::F32))).contains("one scale"));
        assert!(fault(|t| t.table_of_group = Some(vec![0, 2])).contains("not there"));
        let one_level = LevelTables::new(vec![0.0; 2], 1, Storage::F32);
        let mut tensor = two_channels();
        tensor.tables = one_level;
        assert!(tensor.check().unwrap_err().contains("no level"));
    }
}
