//! Matrices of weights that are kept as codes of few bits and decoded into a
//! small buffer just before a kernel reads them.
//!
//! Columns are cut into panels of 16, the last of 8 where that is enough. A
//! panel holds its codes row by row in lines of 16: a line is one row, or two
//! of a panel of 8. The `b` bits of a line's codes lie in `2 b` bytes, as
//! fields of 4, 2 and 1 bits (8 alone where `b` is 8), wide fields first: in
//! the `2 f` bytes of an `f`-bit field, byte `j` holds that field of the codes
//! `j`, `j + 2 f`, `j + 4 f`, .. from its low bits up. So a few shifts and masks
//! of whole words give 16 codes in order, one a byte.

use std::cell::Cell;

use crate::aligned::AlignedBuffer;
use crate::isa::{Isa, Kernel};
use crate::vector::{MIN_LANES, Vector};

/// Codes in a line.
const LINE: usize = 2 * MIN_LANES;

/// Bits of codes that the shorter vector lookup takes.
const SHORT_BITS: usize = 4;

/// Isa tables, one after another.
#[derive(Clone, Debug, PartialEq)]
pub enum Tables {
    /// As floats.
    F32(Vec<f32>),
    /// As small whole numbers, which a scale makes levels.
    I8(Vec<i8>),
}

impl Tables {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I8(values) => values.len(),
        }
    }

    fn len_bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values.as_slice()),
            Self::I8(values) => size_of_val(values.as_slice()),
        }
    }

    #[inline(always)]
    fn get(&self, at: usize) -> f32 {
        match self {
            Self::F32(values) => values[at],
            Self::I8(values) => f32::from(values[at]),
        }
    }
}

/// How the codes of a matrix `[rows, columns]` become values:
/// `(table[code] + shift) * scale`.
///
/// Tables, shifts and scales are those of a column, or of a column in a block
/// of rows; lists of them have the shape `[blocks, columns]`.
#[derive(Clone, Debug)]
pub struct Decoding {
    /// The level tables.
    pub tables: Tables,
    /// Levels of each table: 1 to 256.
    pub levels: usize,
    /// The block of each row; empty where all rows are one block.
    pub block_of_row: Vec<u16>,
    /// The table of each column; empty where all use the first.
    pub table_of: Vec<u16>,
    /// A term of each column; empty for none.
    pub shift: Vec<f32>,
    /// A factor of each column; empty for none.
    pub scale: Vec<f32>,
}

/// A matrix of codes and how they become values.
#[derive(Clone, Debug)]
pub(crate) struct CodedMatrix {
    rows: usize,
    bits: usize,
    lines: Vec<u8>,
    decoding: Decoding,
    /// Columns of a row in the lists of `decoding`.
    padded: usize,
    /// Where all columns use one table: its levels as floats, as many as the
    /// vector lookup reads.
    table: Option<AlignedBuffer>,
}

impl CodedMatrix {
    /// Packs the codes `code(row, column)`.
    ///
    /// # Panics
    ///
    /// Where a list of the decoding is not as long as said there, names a block
    /// or table that is not there, a code has no level, or the matrix has more
    /// elements than can be counted.
    pub(crate) fn pack(
        rows: usize,
        columns: usize,
        mut decoding: Decoding,
        code: impl Fn(usize, usize) -> u8,
    ) -> Self {
        let levels = decoding.levels;
        assert!((1..=256).contains(&levels), "1 to 256 levels");
        assert!(
            decoding.tables.len() >= levels && decoding.tables.len().is_multiple_of(levels),
            "whole tables"
        );
        let blocks = match decoding.block_of_row.iter().max() {
            Some(&last) => usize::from(last) + 1,
            None => 1,
        };
        assert!(
            decoding.block_of_row.is_empty() || decoding.block_of_row.len() == rows,
            "a block for each row"
        );
        let tables = decoding.tables.len() / levels;
        assert!(
            decoding.table_of.iter().all(|&t| usize::from(t) < tables),
            "tables that are there"
        );
        let padded = columns.next_multiple_of(MIN_LANES);
        pad_columns(&mut decoding.table_of, blocks, columns, padded);
        pad_columns(&mut decoding.shift, blocks, columns, padded);
        pad_columns(&mut decoding.scale, blocks, columns, padded);
        let bits = (usize::BITS - (levels - 1).leading_zeros()).max(1) as usize;
        let table = decoding.table_of.is_empty().then(|| {
            let mut table = AlignedBuffer::zeros(1 << bits.max(SHORT_BITS));
            for (at, level) in table.as_mut_slice()[..levels].iter_mut().enumerate() {
                *level = decoding.tables.get(at);
            }
            table
        });
        let count = lines_before(rows, padded);
        let len = count
            .checked_mul(2 * bits)
            .expect("a matrix that fits in memory");
        let mut lines = Vec::with_capacity(len);
        let mut column = 0;
        while column < padded {
            let width = LINE.min(padded - column);
            for first_row in (0..rows).step_by(LINE / width) {
                let codes: [u8; LINE] = std::array::from_fn(|slot| {
                    let (row, column) = (first_row + slot / width, column + slot % width);
                    if row < rows && column < columns {
                        let code = code(row, column);
                        assert!(usize::from(code) < levels, "a code with a level");
                        code
                    } else {
                        0
                    }
                });
                push_line(&codes, bits, &mut lines);
            }
            column += width;
        }
        Self {
            rows,
            bits,
            lines,
            decoding,
            padded,
            table,
        }
    }

    /// Bytes in memory.
    pub(crate) fn len_bytes(&self) -> usize {
        let decoding = &self.decoding;
        self.lines.len()
            + decoding.tables.len_bytes()
            + size_of_val(decoding.block_of_row.as_slice())
            + size_of_val(decoding.table_of.as_slice())
            + size_of_val(decoding.shift.as_slice())
            + size_of_val(decoding.scale.as_slice())
            + self.table.as_ref().map_or(0, AlignedBuffer::len_bytes)
    }

    /// The scale of each column, given up; `None` where rows differ in it.
    pub(crate) fn take_column_scale(&mut self) -> Option<Vec<f32>> {
        let scale = &mut self.decoding.scale;
        let takes = self.decoding.block_of_row.is_empty() && !scale.is_empty();
        takes.then(|| std::mem::take(scale))
    }

    /// Multiplies each column with a factor.
    pub(crate) fn scale_columns(&mut self, factors: &[f32]) {
        let blocks = match self.decoding.block_of_row.iter().max() {
            Some(&last) => usize::from(last) + 1,
            None => 1,
        };
        let scale = &mut self.decoding.scale;
        if scale.is_empty() {
            scale.resize(blocks * self.padded, 1.0);
        }
        for row in scale.chunks_mut(self.padded.max(1)) {
            for (scale, factor) in row.iter_mut().zip(factors) {
                *scale *= factor;
            }
        }
    }

    /// Floats that a buffer needs for the decoded panels of these columns.
    pub(crate) fn decoded_len(&self, columns: std::ops::Range<usize>) -> usize {
        (lines_before(self.rows, columns.end) - lines_before(self.rows, columns.start)) * LINE
    }

    /// Decodes all columns into rows of the padded length, one after another.
    pub(crate) fn decode_rows(&self, isa: Isa, values: &mut [f32]) {
        assert!(
            values.len() >= self.rows * self.padded,
            "room for all values"
        );
        let mut lines = AlignedBuffer::zeros(self.decoded_len(0..LINE.min(self.padded)));
        for column in (0..self.padded).step_by(LINE) {
            let width = LINE.min(self.padded - column);
            // SAFETY: `lines` holds the panel, whose columns exist.
            unsafe {
                let to = lines.as_mut_slice().as_mut_ptr();
                self.decode_panel(isa, column, column + width, to);
            }
            let rows = lines.as_slice().chunks(width).take(self.rows);
            for (row, from) in rows.enumerate() {
                values[row * self.padded + column..][..width].copy_from_slice(from);
            }
        }
    }

    /// Decodes the panel of the columns `column..end`, row by row.
    ///
    /// # Safety
    ///
    /// The panel exists and `to` is valid for writing its
    /// [`decoded_len`](Self::decoded_len).
    pub(crate) unsafe fn decode_panel(&self, isa: Isa, column: usize, end: usize, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            isa.run(Panel {
                matrix: self,
                column,
                width: end - column,
                to,
            });
        }
    }
}

/// Gives a list of shape `[blocks, columns]` rows of the padded length.
fn pad_columns<T: Copy + Default>(list: &mut Vec<T>, blocks: usize, columns: usize, padded: usize) {
    if list.is_empty() {
        return;
    }
    assert_eq!(list.len(), blocks * columns, "one value for each column");
    if padded != columns {
        let mut rows = Vec::with_capacity(blocks * padded);
        for row in list.chunks(columns.max(1)) {
            rows.extend_from_slice(row);
            rows.resize(rows.len() + padded - columns, T::default());
        }
        *list = rows;
    }
}

/// Lines of the panels before a column.
fn lines_before(rows: usize, column: usize) -> usize {
    let halves = if column.is_multiple_of(LINE) {
        0
    } else {
        rows.div_ceil(2)
    };
    column / LINE * rows + halves
}

/// Widths of the fields of codes, widest first.
const fn fields(bits: usize) -> [(usize, usize); 3] {
    if bits == 8 {
        return [(8, 0), (0, 0), (0, 0)];
    }
    let (four, two) = (bits & 4, bits & 2);
    [(four, 0), (two, four), (bits & 1, four + two)]
}

fn push_line(codes: &[u8; LINE], bits: usize, lines: &mut Vec<u8>) {
    for (field, low_bit) in fields(bits).into_iter().filter(|(field, _)| *field > 0) {
        let mask = (1u16 << field) - 1;
        for j in 0..2 * field {
            let byte = (0..8 / field).fold(0, |byte, t| {
                let part = u16::from(codes[j + 2 * field * t]) >> low_bit & mask;
                byte | part << (t * field)
            });
            lines.push(byte as u8);
        }
    }
}

/// The codes of a line, one a byte, from the low bits up.
///
/// # Safety
///
/// `line` is valid for reading `2 * BITS` bytes.
#[inline(always)]
unsafe fn unpack_line<const BITS: usize>(line: *const u8) -> [u64; 2] {
    const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    const PAIRS: u64 = 0x0303_0303_0303_0303;
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Copies a word's half bytes four times, each a bit further down.
    const SPREAD: u64 = 1 | 1 << 15 | 1 << 30 | 1 << 45;
    let (mut low, mut high) = (0u64, 0u64);
    let mut at = line;
    let [(first, _), (two, two_at), (one, one_at)] = const { fields(BITS) };
    // SAFETY: the fields together are `2 * BITS` bytes.
    unsafe {
        if first == 8 {
            let [low, high] = at.cast::<[[u8; 8]; 2]>().read_unaligned();
            return [u64::from_le_bytes(low), u64::from_le_bytes(high)];
        }
        if first == 4 {
            let word = u64::from_le_bytes(at.cast::<[u8; 8]>().read_unaligned());
            low = word & NIBBLES;
            high = word >> 4 & NIBBLES;
            at = at.add(8);
        }
        if two == 2 {
            let word = u64::from(u32::from_le_bytes(at.cast::<[u8; 4]>().read_unaligned()));
            low |= ((word | word >> 2 << 32) & PAIRS) << two_at;
            high |= ((word >> 4 | word >> 6 << 32) & PAIRS) << two_at;
            at = at.add(4);
        }
        if one == 1 {
            let word = u64::from(u16::from_le_bytes(at.cast::<[u8; 2]>().read_unaligned()));
            low |= (((word & NIBBLES) * SPREAD) & ONES) << one_at;
            high |= ((((word >> 4) & NIBBLES) * SPREAD) & ONES) << one_at;
        }
    }
    [low, high]
}

/// One panel to decode.
struct Panel<'a> {
    matrix: &'a CodedMatrix,
    column: usize,
    width: usize,
    to: *mut f32,
}

impl Kernel for Panel<'_> {
    type Output = ();

    /// # Safety
    ///
    /// The panel exists and `to` is valid for writing its decoded length.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.matrix.bits {
                1 => self.decode::<V, 1>(),
                2 => self.decode::<V, 2>(),
                3 => self.decode::<V, 3>(),
                4 => self.decode::<V, 4>(),
                5 => self.decode::<V, 5>(),
                6 => self.decode::<V, 6>(),
                7 => self.decode::<V, 7>(),
                _ => self.decode::<V, 8>(),
            }
        }
    }
}

impl Panel<'_> {
    /// # Safety
    ///
    /// As for `run`; codes have this many bits.
    #[inline(always)]
    unsafe fn decode<V: Vector, const BITS: usize>(&self) {
        let matrix = self.matrix;
        let first = lines_before(matrix.rows, self.column);
        let count = (matrix.rows * self.width).div_ceil(LINE);
        let lines = &matrix.lines[first * 2 * BITS..(first + count) * 2 * BITS];
        let plain = matrix.decoding.shift.is_empty() && matrix.decoding.scale.is_empty();
        for (line, bytes) in lines.chunks_exact(2 * BITS).enumerate() {
            // SAFETY: the line is as long as it must be; there is room for what it holds.
            unsafe {
                let codes = unpack_line::<BITS>(bytes.as_ptr());
                let to = self.to.add(line * LINE);
                if let Some(table) = &matrix.table {
                    let table = table.as_slice().as_ptr();
                    for at in (0..LINE).step_by(V::LANES) {
                        let values = if BITS <= SHORT_BITS {
                            V::look_up(table, codes, at)
                        } else {
                            V::look_up_long::<BITS>(table, codes, at)
                        };
                        values.store(to.add(at));
                    }
                } else {
                    let values = self.look_up(line, codes);
                    for at in (0..LINE).step_by(V::LANES) {
                        V::load(values.as_ptr().add(at)).store(to.add(at));
                    }
                }
                if !plain {
                    self.shift_and_scale::<V::Narrow>(line, to);
                }
            }
        }
    }

    /// Where the parameters of half a line lie in the lists of the decoding.
    #[inline(always)]
    fn parameters_at(&self, line: usize, half: usize) -> usize {
        let slot = line * LINE + half * MIN_LANES;
        // In a panel's last line, half may lie beyond its rows.
        let row = (slot / self.width).min(self.matrix.rows - 1);
        let block = match self.matrix.decoding.block_of_row.get(row) {
            Some(&block) => usize::from(block),
            None => 0,
        };
        block * self.matrix.padded + self.column + slot % self.width
    }

    /// The levels of a line's codes in tables that differ by column.
    #[inline(always)]
    fn look_up(&self, line: usize, codes: [u64; 2]) -> [f32; LINE] {
        let decoding = &self.matrix.decoding;
        let mut values = [0.0; LINE];
        for half in 0..2 {
            let at = self.parameters_at(line, half);
            let tables = decoding.table_of.get(at..at + MIN_LANES);
            let codes = codes[half].to_le_bytes();
            for lane in 0..MIN_LANES {
                let table = tables.map_or(0, |tables| usize::from(tables[lane]));
                let at = table * decoding.levels + usize::from(codes[lane]);
                values[half * MIN_LANES + lane] = decoding.tables.get(at);
            }
        }
        values
    }

    /// # Safety
    ///
    /// As for `run`; `to` is where the line lies; `V` has at most [`MIN_LANES`] lanes.
    #[inline(always)]
    unsafe fn shift_and_scale<V: Vector>(&self, line: usize, to: *mut f32) {
        let decoding = &self.matrix.decoding;
        for half in 0..2 {
            let at = self.parameters_at(line, half);
            let shift = decoding.shift.get(at..at + MIN_LANES);
            let scale = decoding.scale.get(at..at + MIN_LANES);
            for lane in (0..MIN_LANES).step_by(V::LANES) {
                // SAFETY: the caller's promise; the lists are checked.
                unsafe {
                    let to = to.add(half * MIN_LANES + lane);
                    let mut values = V::load(to);
                    if let Some(shift) = shift {
                        values = values.add(V::load(shift.as_ptr().add(lane)));
                    }
                    if let Some(scale) = scale {
                        values = values.mul(V::load(scale.as_ptr().add(lane)));
                    }
                    values.store(to);
                }
            }
        }
    }
}

thread_local! {
    /// Where each thread decodes to.
    static DECODED: Cell<AlignedBuffer> = const { Cell::new(AlignedBuffer::empty()) };
}

/// This thread's buffer for decoded values, at least this long; to be given
/// back with [`give_back`].
pub(crate) fn take_buffer(len: usize) -> AlignedBuffer {
    let buffer = DECODED.take();
    if buffer.as_slice().len() >= len {
        buffer
    } else {
        AlignedBuffer::zeros(len)
    }
}

/// Keeps the buffer for the thread's next use.
pub(crate) fn give_back(buffer: AlignedBuffer) {
    DECODED.set(buffer);
}

#[cfg(test)]
mod tests;
