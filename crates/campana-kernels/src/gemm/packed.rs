//! The right side of a matrix product, laid out for the kernel.

use crate::aligned::AlignedBuffer;
use crate::codes::{CodedMatrix, Decoding};
use crate::vector::MIN_LANES;

/// Columns of a panel; the last may have [`MIN_LANES`].
pub(super) const PANEL: usize = 16;

/// A right-hand matrix `[rows, columns]` with its bias, laid out for the kernel.
///
/// Columns are cut into panels of 16, the last of 8 where that is enough; a panel holds its columns'
/// values row by row, so the kernel reads it from front to back. Columns beyond
/// the matrix are zeros. Values may be kept as [codes](crate::codes), which a
/// product decodes a few panels at a time.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) panels: Vec<Panel>,
    pub(super) values: Values,
    pub(super) bias: AlignedBuffer,
    /// A factor of each column's products, where there is one.
    pub(super) scale: Option<AlignedBuffer>,
}

/// Values of all panels.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Floats(AlignedBuffer),
    Codes(CodedMatrix),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub(super) column: usize,
    /// Columns, those beyond the matrix included.
    pub(super) width: usize,
    /// Values of the panels before it.
    pub(super) start: usize,
}

impl PackedMatrix {
    /// Lays out the matrix whose value at `(row, column)` is `value(row, column)`.
    ///
    /// # Panics
    ///
    /// Where the matrix has more elements than can be counted.
    pub fn pack(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let padded = columns.next_multiple_of(MIN_LANES);
        let len = padded
            .checked_mul(rows)
            .expect("a matrix that fits in memory");
        let panels = panels(rows, padded);
        let mut values = AlignedBuffer::zeros(len);
        for panel in &panels {
            let width = panel.width;
            let columns = width.min(columns - panel.column);
            let packed = &mut values.as_mut_slice()[panel.start..panel.start + rows * width];
            for (row, packed) in packed.chunks_exact_mut(width).enumerate() {
                for (column, packed) in packed[..columns].iter_mut().enumerate() {
                    *packed = value(row, panel.column + column);
                }
            }
        }
        Self {
            rows,
            columns,
            panels,
            values: Values::Floats(values),
            bias: AlignedBuffer::zeros(padded),
            scale: None,
        }
    }

    /// Lays out a matrix of the codes `code(row, column)`.
    ///
    /// # Panics
    ///
    /// Where a list of the decoding is not as long as said there, names a block
    /// or table that is not there, a code has no level, or the matrix has more
    /// elements than can be counted.
    pub fn pack_codes(
        rows: usize,
        columns: usize,
        decoding: Decoding,
        code: impl Fn(usize, usize) -> u8,
    ) -> Self {
        let mut codes = CodedMatrix::pack(rows, columns, decoding, code);
        let padded = columns.next_multiple_of(MIN_LANES);
        // Multiplying a sum costs less than multiplying its weights.
        let scale = codes.take_column_scale().map(|factors| {
            let mut scale = AlignedBuffer::zeros(padded);
            scale.as_mut_slice()[..factors.len()].copy_from_slice(&factors);
            scale
        });
        Self {
            rows,
            columns,
            panels: panels(rows, padded),
            values: Values::Codes(codes),
            bias: AlignedBuffer::zeros(padded),
            scale,
        }
    }

    /// The same with a bias for each column.
    ///
    /// # Panics
    ///
    /// Where there are not as many as columns.
    pub fn with_bias(mut self, bias: &[f32]) -> Self {
        assert_eq!(bias.len(), self.columns, "one bias a column");
        self.bias.as_mut_slice()[..bias.len()].copy_from_slice(bias);
        self
    }

    /// The same with a factor for each column, the bias left as it is.
    ///
    /// # Panics
    ///
    /// Where there are not as many as columns.
    pub fn with_column_scale(mut self, factors: &[f32]) -> Self {
        assert_eq!(factors.len(), self.columns, "one factor a column");
        let padded = self.bias.as_slice().len();
        let scale = self.scale.get_or_insert_with(|| {
            let mut ones = AlignedBuffer::zeros(padded);
            ones.as_mut_slice().fill(1.0);
            ones
        });
        for (scale, factor) in scale.as_mut_slice().iter_mut().zip(factors) {
            *scale *= factor;
        }
        self
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes in memory.
    pub fn len_bytes(&self) -> usize {
        let values = match &self.values {
            Values::Floats(values) => values.len_bytes(),
            Values::Codes(codes) => codes.len_bytes(),
        };
        let scale = self.scale.as_ref().map_or(0, AlignedBuffer::len_bytes);
        values + self.bias.len_bytes() + scale
    }

    /// Bytes of all values as floats.
    pub(super) fn decoded_len_bytes(&self) -> usize {
        self.bias.as_slice().len() * self.rows * size_of::<f32>()
    }
}

fn panels(rows: usize, padded: usize) -> Vec<Panel> {
    (0..padded)
        .step_by(PANEL)
        .map(|column| Panel {
            column,
            width: PANEL.min(padded - column),
            start: column * rows,
        })
        .collect()
}
