//! Vectors and their codebook for the least error of a layer's outputs.

use campana_codebook::{Packing, QuantizedTensor, VectorCodebook};
use campana_quantize::store::Precision;
use campana_quantize::vectors::VectorLevels;
use campana_rounding::{AssignedRows, GptqSolver, PackedTiles, VectorRows, refit_vectors};
use rayon::prelude::*;

use crate::correct::layer::{Rows, SWEEPS, scale_factors};

/// Entries are fitted to the rows of about this many weights of each block of
/// rows at most: 256 entries need many, but the cost of a step grows with them.
const WEIGHTS_FOR_TABLE: usize = 1 << 20;

/// Whose entries are fitted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// The layer's alone.
    Own,
    /// Several layers': it stays.
    Shared,
}

/// Weights of a vector, where a tensor is stored in vectors.
pub(crate) fn vector_len(tensor: &QuantizedTensor) -> Option<usize> {
    match &tensor.packing {
        Packing::Vectors(codes) => Some(codes.dimension()),
        _ => None,
    }
}

/// Chooses vectors again, and then `fits` times the scales of rows and the
/// entries: for inputs of these covariances, one for each block of rows of equal
/// number. `None` where the tensor is not stored in vectors with a scale a row.
pub(crate) fn solve_vectors(
    rows: &Rows,
    tensor: &QuantizedTensor,
    solvers: &[GptqSolver],
    precision: Precision,
    table: Table,
    fits: usize,
) -> Option<QuantizedTensor> {
    let layer = VectorLayer::new(rows, solvers)?;
    let mut levels = VectorLevels::of(tensor)?;
    let mut assigned = layer.round(&levels);
    let error =
        |blocks: &[VectorRows]| -> f64 { blocks.iter().flat_map(VectorRows::row_errors).sum() };
    let mut least = error(&assigned);
    for _ in 0..fits {
        let Some(fitted) = layer.fit(&levels, &assigned, precision, table) else {
            break;
        };
        let numbers = assigned.iter().map(|rows| rows.numbers.clone()).collect();
        let again = layer.descend(&fitted, numbers);
        let now = error(&again);
        // Rounding entries and scales may cost more than fitting gains.
        if now >= least {
            break;
        }
        (least, levels, assigned) = (now, fitted, again);
    }
    Some(layer.stored(tensor, levels, assigned))
}

/// Chooses vectors again for the entries and scales that a tensor has, as after
/// these were rounded to other integers.
pub(crate) fn solve_numbers(
    rows: &Rows,
    tensor: &QuantizedTensor,
    solvers: &[GptqSolver],
) -> Option<QuantizedTensor> {
    let layer = VectorLayer::new(rows, solvers)?;
    let levels = VectorLevels::of(tensor)?;
    let assigned = layer.round(&levels);
    Some(layer.stored(tensor, levels, assigned))
}

/// Rows of which each has one scale, and their solvers.
struct VectorLayer<'a> {
    rows: &'a Rows,
    solvers: &'a [GptqSolver],
    packed: Vec<PackedTiles>,
}

impl<'a> VectorLayer<'a> {
    fn new(rows: &'a Rows, solvers: &'a [GptqSolver]) -> Option<Self> {
        let has_one_scale = |groups: &Vec<usize>| groups.len() == 1;
        rows.groups.iter().all(has_one_scale).then(|| Self {
            rows,
            solvers,
            packed: solvers
                .par_iter()
                .map(|solver| solver.hessian().packed())
                .collect(),
        })
    }

    /// The scales of a block's rows, in units of the rows.
    fn scales(&self, levels: &VectorLevels, block: usize) -> Vec<f32> {
        let rows = self.rows.rows_of(block, self.solvers.len());
        let groups = self.rows.groups[rows].iter();
        groups
            .map(|groups| levels.scale(groups[0]) / self.rows.unit)
            .collect()
    }

    fn each_block<T: Send>(&self, work: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
        (0..self.solvers.len()).into_par_iter().map(work).collect()
    }

    /// All rows rounded one vector after another, then descended.
    fn round(&self, levels: &VectorLevels) -> Vec<VectorRows> {
        let numbers = self.each_block(|block| {
            let weights = self.rows.weights_of(block, self.solvers.len());
            let mut numbers = vec![0; weights.len() / levels.codebook().dimension()];
            self.solvers[block].round_vectors(
                weights,
                &self.scales(levels, block),
                levels.codebook(),
                &mut numbers,
            );
            numbers
        });
        self.descend(levels, numbers)
    }

    /// Rows of these vectors, changed one by one to lower the error.
    fn descend(&self, levels: &VectorLevels, numbers: Vec<Vec<u8>>) -> Vec<VectorRows> {
        self.each_block(|block| {
            let mut rows = self.assigned(levels.codebook(), levels, block, numbers[block].clone());
            let scales = self.scales(levels, block);
            self.solvers[block].descend_vectors(&scales, levels.codebook(), &mut rows, SWEEPS);
            rows
        })
    }

    fn assigned(
        &self,
        codebook: &VectorCodebook,
        levels: &VectorLevels,
        block: usize,
        numbers: Vec<u8>,
    ) -> VectorRows {
        VectorRows::new(
            self.rows.weights_of(block, self.solvers.len()),
            &self.scales(levels, block),
            codebook,
            numbers,
            &self.packed[block],
        )
    }

    /// Scales of least error for these vectors, and then entries.
    fn fit(
        &self,
        levels: &VectorLevels,
        assigned: &[VectorRows],
        precision: Precision,
        table: Table,
    ) -> Option<VectorLevels> {
        let mut scales: Vec<f64> = (0..levels.groups())
            .map(|group| f64::from(levels.scale(group)))
            .collect();
        let factors = self.each_block(|block| {
            let rows = &assigned[block];
            scale_factors(&self.solvers[block], &rows.decoded, &rows.gradient)
        });
        for (groups, factor) in self.rows.groups.iter().zip(factors.concat()) {
            scales[groups[0]] *= factor;
        }
        let scaled = levels.with_scales(&scales, precision);
        match table {
            Table::Shared => Some(scaled),
            Table::Own => VectorLevels::new(&self.entries(&scaled, assigned), &scales, precision),
        }
    }

    /// The entries of less error for these vectors and scales: of as many rows
    /// as it takes.
    fn entries(&self, levels: &VectorLevels, assigned: &[VectorRows]) -> VectorCodebook {
        let n = self.rows.row_len().max(1);
        let dimension = levels.codebook().dimension();
        struct Part {
            numbers: Vec<u8>,
            gradient: Vec<f32>,
            scales: Vec<f32>,
            variances: Vec<f32>,
        }
        let parts: Vec<Part> = self.each_block(|block| {
            let numbers = &assigned[block].numbers;
            let rows = self.assigned(levels.codebook(), levels, block, numbers.clone());
            let scales = self.scales(levels, block);
            let step = scales.len().div_ceil((WEIGHTS_FOR_TABLE / n).max(1)).max(1);
            let taken = (0..scales.len()).step_by(step);
            let hessian = self.solvers[block].hessian();
            Part {
                numbers: taken
                    .clone()
                    .flat_map(|row| &numbers[row * n / dimension..(row + 1) * n / dimension])
                    .copied()
                    .collect(),
                gradient: taken
                    .clone()
                    .flat_map(|row| &rows.gradient[row * n..(row + 1) * n])
                    .copied()
                    .collect(),
                scales: taken.map(|row| scales[row]).collect(),
                variances: (0..n).map(|input| hessian.variance(input)).collect(),
            }
        });
        let rows: Vec<AssignedRows<'_>> = parts
            .iter()
            .zip(&self.packed)
            .map(|(part, hessian)| AssignedRows {
                numbers: &part.numbers,
                gradient: &part.gradient,
                scales: &part.scales,
                hessian,
                variances: &part.variances,
            })
            .collect();
        refit_vectors(levels.codebook(), &rows)
    }

    fn stored(
        &self,
        tensor: &QuantizedTensor,
        levels: VectorLevels,
        assigned: Vec<VectorRows>,
    ) -> QuantizedTensor {
        let numbers: Vec<u8> = assigned.into_iter().flat_map(|rows| rows.numbers).collect();
        let numbers = self.rows.scatter(&numbers, levels.codebook().dimension());
        levels.with_numbers(&tensor.shape, &tensor.partition, numbers)
    }
}
