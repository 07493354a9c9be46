//! Laying out weights that are kept as codes.

use std::collections::HashMap;

use campana_codebook::{QuantizedTensor, Storage};
use campana_kernels::codes::{Decoding, Tables};

/// Where the weight at `(row, column)` of a matrix lies in a row-major tensor:
/// at `row_offsets[row] + (first_column + column) * column_stride`.
pub(super) struct MatrixOf<'a> {
    pub(super) row_offsets: &'a [usize],
    pub(super) first_column: usize,
    pub(super) columns: usize,
    pub(super) column_stride: usize,
}

impl MatrixOf<'_> {
    /// Position of a weight in the tensor.
    pub(super) fn position(&self, row: usize, column: usize) -> usize {
        self.row_offsets[row] + (self.first_column + column) * self.column_stride
    }
}

/// How a kernel decodes the codes of a tensor that it reads as a matrix; `None`
/// where weights of one column fall into more blocks of rows than it can tell
/// apart.
pub(super) fn decoding(tensor: &QuantizedTensor, matrix: &MatrixOf<'_>) -> Option<Decoding> {
    let levels = tensor.tables.levels();
    let values = tensor.tables.values();
    let tables = match tensor.tables.storage() {
        Storage::I8 => Tables::I8(values.iter().map(|&level| level as i8).collect()),
        _ => Tables::F32(values.to_vec()),
    };
    let Groups {
        block_of_row,
        groups,
    } = groups(tensor, matrix)?;
    let table_of = tensor.table_of_group.as_ref();
    let shift = tensor.shift.as_ref();
    Some(Decoding {
        tables,
        levels,
        table_of: table_of.map_or_else(Vec::new, |tables| {
            groups.iter().map(|&group| tables[group]).collect()
        }),
        shift: shift.map_or_else(Vec::new, |(shifts, _)| {
            groups.iter().map(|&group| shifts[group]).collect()
        }),
        scale: groups
            .iter()
            .map_while(|&group| tensor.group_scale(group))
            .collect(),
        block_of_row,
    })
}

/// The groups of a tensor as a matrix has them.
struct Groups {
    /// Empty where all rows are one block.
    block_of_row: Vec<u16>,
    /// The group of each column in each block.
    groups: Vec<usize>,
}

fn groups(tensor: &QuantizedTensor, matrix: &MatrixOf<'_>) -> Option<Groups> {
    let partition = &tensor.partition;
    let group_of = |row, column| partition.group_of(matrix.position(row, column));
    let row_count = matrix.row_offsets.len();
    let of_row = |row: usize| (0..matrix.columns).map(move |column| group_of(row, column));
    let one_block = || Groups {
        block_of_row: Vec::new(),
        groups: of_row(0).collect(),
    };
    if matrix.columns == 0 || row_count == 0 {
        return None;
    }
    if partition.group_count() == 1 || columns_are_channels(tensor, matrix) {
        return Some(one_block());
    }
    // Rows with the same groups are one block.
    let mut blocks: HashMap<Vec<usize>, u16> = HashMap::new();
    let mut block_of_row = Vec::with_capacity(row_count);
    let mut groups = Vec::new();
    let mut last: Option<(Vec<usize>, u16)> = None;
    for row in 0..row_count {
        let found: Vec<usize> = of_row(row).collect();
        if let Some((of_last, block)) = &last
            && *of_last == found
        {
            block_of_row.push(*block);
            continue;
        }
        let next = u16::try_from(blocks.len()).ok()?;
        let block = *blocks.entry(found.clone()).or_insert_with(|| {
            groups.extend_from_slice(&found);
            next
        });
        block_of_row.push(block);
        last = Some((found, block));
    }
    if blocks.len() == 1 {
        block_of_row.clear();
    }
    Some(Groups {
        block_of_row,
        groups,
    })
}

/// Whether each column is a channel, and each channel a group.
fn columns_are_channels(tensor: &QuantizedTensor, matrix: &MatrixOf<'_>) -> bool {
    let [outer_blocks, _, channels, inner_blocks, inner] = tensor.partition.extents();
    outer_blocks == 1
        && inner_blocks == 1
        && matrix.column_stride == inner
        && matrix.first_column + matrix.columns <= channels
        && matrix
            .row_offsets
            .iter()
            .all(|offset| offset % (channels * inner).max(1) < inner)
}
