//! Layers with so many inputs that their Hessian would not fit into memory.
//!
//! A dense layer behind a flattened image has tens of thousands of inputs; the
//! memory of its Hessian grows with their square, the time of its factor with
//! their cube. Its inputs are taken in parts, as if inputs of different parts did
//! not vary together: codes are chosen part by part, for the levels as they are.

use std::ops::Range;

use campana_codebook::QuantizedTensor;
use campana_quantize::{Error, round_tensor};
use campana_rounding::LayerHessian;
use campana_tensor::{Granularity, Partition};

use crate::correct::aim::aimed;
use crate::correct::layer::{Rows, losses, solve_codes};
use crate::correct::layer_inputs::LayerInput;
use crate::correct::moments::{About, InputMoments, TargetRows};
use crate::correct::rounding::Rounding;
use crate::correct::state::Correction;
use crate::correct::vector_layer::vector_len;

/// Inputs of a part of a larger one.
const PART: usize = 4096;

impl Correction<'_, '_, '_> {
    /// Codes for the least error of a layer's outputs, part by part of its inputs;
    /// `None` where that lowers none, or levels are not those of whole rows.
    pub(super) fn solve_in_parts(
        &self,
        inputs: &[LayerInput<'_>],
        tensor: &QuantizedTensor,
        rows: &Rows,
        about: About,
    ) -> Result<Option<QuantizedTensor>, Error> {
        let has_own_levels = (0..rows.count()).all(|row| rows.groups[row].len() == 1);
        let is_dense = inputs.iter().all(|input| input.windows.groups() == 1);
        if self.rounding == Rounding::AtRate
            || vector_len(tensor).is_some()
            || !has_own_levels
            || !is_dense
        {
            return Ok(None);
        }
        let mut rounded = tensor.clone();
        // Not on integers beyond the levels of the bits that were asked for.
        let mut is_changed = self.has_integer_levels()
            && round_tensor(&mut rounded, self.quantized.target)
            && rounded.tables.levels() <= tensor.tables.levels();
        let mut tensor = match is_changed {
            true => rounded,
            false => tensor.clone(),
        };
        let mut codes = rows.gather(&tensor.codes());
        let row_len = rows.row_len();
        for start in (0..row_len).step_by(PART) {
            let part = Part {
                inputs: start..(start + PART).min(row_len),
                row_len,
            };
            if let Some(chosen) = self.solve_part(inputs, &tensor, rows, &part, about)? {
                part.put(&mut codes, &chosen);
                is_changed = true;
            }
        }
        let codes = rows.scatter(&codes, 1);
        tensor.packing.pack(&codes, &mut tensor.packed);
        Ok(is_changed.then_some(tensor))
    }

    /// The codes of a part of a layer's inputs, row by row, where they lower the
    /// error.
    fn solve_part(
        &self,
        inputs: &[LayerInput<'_>],
        tensor: &QuantizedTensor,
        rows: &Rows,
        part: &Part,
        about: About,
    ) -> Result<Option<Vec<u8>>, Error> {
        let tensor = part.of_tensor(tensor, rows);
        let weights = part.of_rows(rows.weights());
        let weights: Vec<f32> = weights.into_iter().map(|w| w * rows.unit).collect();
        let Some(mut rows) = Rows::new(&weights, &tensor, 0) else {
            return Ok(None);
        };
        let own = rows.weights().to_vec();
        let mut moments = InputMoments::new().with_targets(TargetRows {
            weights: &own,
            row_len: part.inputs.len(),
            block: 1,
        });
        for input in inputs {
            let gatherer = input.gatherer().of_part(part.inputs.clone());
            self.add_moments(&mut moments, input, gatherer, None)?;
        }
        let moments = moments.finish(about);
        if moments.len() != 1 || moments[0].own.inputs() != part.inputs.len() {
            return Ok(None);
        }
        let share = self.covariance_share;
        let moments = moments
            .into_iter()
            .map(|moments| moments.shrunk_to(share, 1));
        let (solvers, target) = aimed(&mut rows, moments.collect(), None);
        let Some(solved) = solve_codes(&rows, &tensor, &solvers) else {
            return Ok(None);
        };
        let moments: [(&LayerHessian, &[f32]); 1] = [(solvers[0].hessian(), &target[0])];
        let [before, after] = losses(&rows, [&tensor, &solved], &moments);
        Ok((after < before).then(|| solved.codes()))
    }
}

/// A part of the inputs of rows of weights.
struct Part {
    inputs: Range<usize>,
    row_len: usize,
}

impl Part {
    /// The part of each row.
    fn of_rows<T: Copy>(&self, rows: &[T]) -> Vec<T> {
        let rows = rows.chunks_exact(self.row_len);
        rows.flat_map(|row| row[self.inputs.clone()].iter().copied())
            .collect()
    }

    /// Puts a part of each row where it belongs.
    fn put(&self, rows: &mut [u8], parts: &[u8]) {
        let rows = rows.chunks_exact_mut(self.row_len);
        for (row, part) in rows.zip(parts.chunks_exact(self.inputs.len())) {
            row[self.inputs.clone()].copy_from_slice(part);
        }
    }

    /// A tensor of the part of each row, with the levels of the whole one.
    fn of_tensor(&self, tensor: &QuantizedTensor, rows: &Rows) -> QuantizedTensor {
        let codes = self.of_rows(&rows.gather(&tensor.codes()));
        let shape = vec![rows.count(), self.inputs.len()];
        let granularity = match tensor.partition.group_count() {
            1 => Granularity::PerTensor,
            _ => Granularity::PerChannel,
        };
        let mut packed = vec![0; tensor.packing.len_bytes(codes.len())];
        tensor.packing.pack(&codes, &mut packed);
        QuantizedTensor {
            partition: Partition::new(&shape, Some(0), granularity),
            shape,
            packed,
            ..tensor.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use campana_codebook::{LevelTables, Packing, Storage};

    use super::*;

    #[test]
    fn parts_are_those_of_each_row_along_any_axis() {
        // Rows along the second axis: [0, 2, 1, 0], [1, 0, 2, 1], [2, 1, 0, 2].
        let codes = [0u8, 1, 2, 2, 0, 1, 1, 2, 0, 0, 1, 2];
        let packing = Packing::densest(3);
        let mut packed = vec![0; packing.len_bytes(codes.len())];
        packing.pack(&codes, &mut packed);
        let tensor = QuantizedTensor {
            shape: vec![4, 3],
            partition: Partition::new(&[4, 3], Some(1), Granularity::PerChannel),
            packing,
            packed,
            tables: LevelTables::new(vec![-1.0, 0.5, 2.0], 3, Storage::F32),
            table_of_group: None,
            scale: Some((vec![2.0, 0.5, 1.0], Storage::F32)),
            scale_unit: None,
            shift: None,
        };
        let rows = Rows::new(&tensor.dequantize(), &tensor, 1).unwrap();
        let part = Part {
            inputs: 1..3,
            row_len: 4,
        };
        let cut = part.of_tensor(&tensor, &rows);
        cut.check().unwrap();
        assert_eq!(cut.codes(), [2, 1, 0, 2, 1, 0]);
        assert_eq!(cut.dequantize(), [4.0, 1.0, -0.5, 1.0, 0.5, -1.0]);
        let mut all = rows.gather(&tensor.codes());
        part.put(&mut all, &[0, 0, 1, 1, 2, 2]);
        assert_eq!(all, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!(rows.scatter(&all, 1), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }
}
