//! Matrix products whose left rows may lie anywhere: dense layers and
//! convolutions.
//!
//! A convolution over channels-last images is the product of a matrix with one
//! row per output pixel and the weights `[window, out]`. A row is the window
//! under that pixel: in memory a few [runs](RowRuns) (one for each row of the
//! window) at offsets that are the same for all pixels, from a start that the
//! [grid](Grid) of pixels gives. The kernel reads it from where it is: each
//! value is broadcast and multiplied with a vector of output channels, so no
//! rearranged copy of the input (im2col) is ever made.

mod packed;

use std::mem::MaybeUninit;

use crate::codes::{give_back, take_buffer};
use crate::isa::{Isa, Kernel};
use crate::pool::{SendPtr, ThreadPool};
use crate::vector::Vector;

pub use packed::PackedMatrix;
use packed::{PANEL, Panel, Values};

/// Where the rows of a matrix start in a slice: row `y * width + x` at
/// `start + y * row_stride + x * pixel_stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Where the first row starts.
    pub start: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Elements from one row of pixels to the next.
    pub row_stride: usize,
    /// Elements from one pixel to the next.
    pub pixel_stride: usize,
}

impl Grid {
    /// `count` rows, one every `stride` elements.
    pub fn rows(count: usize, stride: usize) -> Self {
        Self {
            start: 0,
            height: 1,
            width: count,
            row_stride: 0,
            pixel_stride: stride,
        }
    }

    /// The pixels of a channels-last image without gaps.
    pub fn image(height: usize, width: usize, channels: usize) -> Self {
        Self {
            start: 0,
            height,
            width,
            row_stride: width * channels,
            pixel_stride: channels,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.height * self.width
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same rows as one line of pixels where no gap is between lines.
    pub(crate) fn joined(self) -> Self {
        if self.height > 1 && self.row_stride == self.width * self.pixel_stride {
            Self {
                start: self.start,
                ..Self::rows(self.len(), self.pixel_stride)
            }
        } else {
            self
        }
    }

    /// Elements a slice needs for rows that reach `row_len` from their start;
    /// `None` where that is more than a slice can have.
    pub(crate) fn needed(&self, row_len: usize) -> Option<usize> {
        self.height.checked_mul(self.width)?;
        if self.is_empty() {
            return Some(0);
        }
        let rows = (self.height - 1).checked_mul(self.row_stride)?;
        let pixels = (self.width - 1).checked_mul(self.pixel_stride)?;
        let last = self.start.checked_add(rows)?.checked_add(pixels)?;
        last.checked_add(row_len)
    }

    /// Whether a slice of this length holds rows that reach `row_len` from their start.
    pub(crate) fn fits(&self, row_len: usize, slice_len: usize) -> bool {
        self.needed(row_len)
            .is_some_and(|needed| needed <= slice_len)
    }

    /// Whether rows of this length, which fit a slice, never overlap.
    pub(crate) fn is_disjoint(&self, row_len: usize) -> bool {
        (self.width <= 1 || self.pixel_stride >= row_len)
            && (self.height <= 1
                || self.row_stride >= self.width.saturating_sub(1) * self.pixel_stride + row_len)
    }
}

/// The values of one row: runs of `len` consecutive elements, each at an
/// offset from where the row starts.
#[derive(Clone, Copy, Debug)]
pub struct RowRuns<'a> {
    offsets: &'a [usize],
    len: usize,
}

impl<'a> RowRuns<'a> {
    /// Runs of `len` elements at these offsets.
    pub fn new(offsets: &'a [usize], len: usize) -> Self {
        Self { offsets, len }
    }

    /// A row without gaps.
    pub fn contiguous(len: usize) -> Self {
        Self { offsets: &[0], len }
    }

    /// Values in a row; `None` where there are more than can be counted.
    fn count(&self) -> Option<usize> {
        self.offsets.len().checked_mul(self.len)
    }

    /// How far a row reaches from its start.
    fn reach(&self) -> Option<usize> {
        match self.offsets.iter().max() {
            Some(max) => max.checked_add(self.len),
            None => Some(0),
        }
    }
}

/// What happens to a result before it is stored: `output = min(max(product +
/// bias + residual, at_least), at_most)`; NaN stays NaN.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Added to the product; laid out as the output is.
    pub residual: Option<&'a [f32]>,
    /// Lower bound; `-∞` for none.
    pub at_least: f32,
    /// Upper bound; `∞` for none.
    pub at_most: f32,
}

impl Epilogue<'_> {
    /// The product and its bias alone.
    pub const NONE: Self = Self {
        residual: None,
        at_least: f32::NEG_INFINITY,
        at_most: f32::INFINITY,
    };
}

/// Vectors of columns that are multiplied at once.
const MAX_VECTORS: usize = 4;

/// Rows that this many vectors of columns take at once, so that the sums, the
/// weights and a value of the input have a register each; 0 for more vectors
/// than an ISA takes.
///
/// With sixteen registers three times four rows would fill them as well and
/// read less, but leaves the compiler none to spare: it spilled a sum in the
/// inner loop and halved the speed.
const fn tile_rows<V: Vector>(vectors: usize) -> usize {
    let rows: [usize; MAX_VECTORS + 1] = match (V::REGISTERS, V::LANES) {
        (32, _) => [0, 12, 12, 8, 6],
        // A panel is four such vectors.
        (16, 4) => [0, 8, 6, 4, 3],
        (16, _) => [0, 8, 6, 0, 0],
        _ => panic!("no tiles for this many registers"),
    };
    rows[vectors]
}

/// Products (multiply-adds) below which waking another thread costs more than it gives.
const MIN_PRODUCTS_PER_THREAD: usize = 50_000;

/// Bytes of packed weights that may stay in the first cache beside a few rows.
const SMALL_WEIGHTS_BYTES: usize = 16 << 10;

/// Bytes of input that a panel is multiplied with before the next panel comes.
const ROW_BLOCK_BYTES: usize = 128 << 10;

/// Bytes of decoded values that are kept beside a block of input rows.
const DECODED_BYTES: usize = 128 << 10;

/// Rows of a block where all weights stay in the first cache.
const SMALL_ROW_BLOCK: usize = 24;

/// Output rows `= input rows x weights`, with the epilogue.
///
/// Input row `i` holds the runs of `input` at the `i`-th place of its grid;
/// output row `i` is `weights.columns()` long.
///
/// # Panics
///
/// Where the grids differ in length, a row reaches beyond its slice, output
/// rows overlap, or the runs are not `weights.rows()` long.
#[expect(
    clippy::too_many_arguments,
    reason = "a matrix product and where its parts lie"
)]
pub fn gemm(
    isa: Isa,
    pool: &ThreadPool,
    input: &[f32],
    input_grid: Grid,
    runs: RowRuns<'_>,
    weights: &PackedMatrix,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
    output_grid: Grid,
) {
    let columns = weights.columns;
    let reach = runs.reach().unwrap_or(usize::MAX);
    assert!(input_grid.fits(reach, input.len()), "input too short");
    assert!(output_grid.fits(columns, output.len()), "output too short");
    assert!(output_grid.is_disjoint(columns), "output rows overlap");
    if let Some(residual) = epilogue.residual {
        assert!(
            output_grid.fits(columns, residual.len()),
            "residual too short"
        );
    }
    assert_eq!(
        runs.count(),
        Some(weights.rows),
        "runs as long as the weights' rows"
    );
    let rows = input_grid.len();
    assert_eq!(rows, output_grid.len(), "as many output as input rows");
    let (input_grid, output_grid) = (input_grid.joined(), output_grid.joined());
    if rows == 0 || columns == 0 {
        return;
    }

    let threads = pool
        .threads()
        .min(rows * columns * weights.rows / MIN_PRODUCTS_PER_THREAD)
        .max(1);
    let (row_jobs, panel_jobs) = split(threads, rows, weights, input_grid.pixel_stride);
    let output = SendPtr(output.as_mut_ptr());
    let panels = weights.panels.len();
    pool.run(row_jobs * panel_jobs, |job| {
        let part = |parts: usize, part: usize, whole: usize| {
            whole * part / parts..whole * (part + 1) / parts
        };
        let panel_range = part(panel_jobs, job % panel_jobs, panels);
        let row_range = part(row_jobs, job / panel_jobs, rows);
        // SAFETY: the assertions above hold the input, the output and the
        // residual to their grids; jobs are disjoint in rows or columns of an
        // output whose rows do not overlap.
        unsafe {
            isa.run(Product {
                isa,
                input: input.as_ptr(),
                input_grid,
                runs,
                weights,
                panels: &weights.panels[panel_range],
                rows: row_range,
                is_one_row: rows == 1,
                epilogue,
                output: output.get(),
                output_grid,
            });
        }
    });
}

/// Number of parts to cut the rows and the panels into.
fn split(
    threads: usize,
    rows: usize,
    weights: &PackedMatrix,
    pixel_stride: usize,
) -> (usize, usize) {
    if threads == 1 {
        return (1, 1);
    }
    let panels = weights.panels.len();
    let few_rows = rows < threads * 2 * SMALL_ROW_BLOCK;
    // Threads that share rows read all weights each, and the other way round.
    let heavy_weights = weights.decoded_len_bytes() > rows * pixel_stride * size_of::<f32>();
    if panels >= threads && (few_rows || heavy_weights && panels.is_multiple_of(threads)) {
        let jobs = (panels / threads / 2).clamp(1, 4) * threads;
        return (1, jobs);
    }
    let jobs = (rows / (threads * 2 * SMALL_ROW_BLOCK)).clamp(1, 4) * threads;
    (jobs.min(rows), 1)
}

struct Product<'a> {
    isa: Isa,
    input: *const f32,
    input_grid: Grid,
    runs: RowRuns<'a>,
    weights: &'a PackedMatrix,
    panels: &'a [Panel],
    rows: std::ops::Range<usize>,
    /// Whether there is no other row, in this part or in others.
    is_one_row: bool,
    epilogue: Epilogue<'a>,
    output: *mut f32,
    output_grid: Grid,
}

impl Kernel for Product<'_> {
    type Output = ();

    /// # Safety
    ///
    /// All rows and columns are inside the input, the output and the residual,
    /// and nothing else touches these parts of the output.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let end = |panel: &Panel| panel.column + panel.width;
        let mut left = self.panels;
        while let Some(&first) = left.first() {
            let (panels, later, buffer, values) = match &self.weights.values {
                Values::Floats(values) => (left, &left[..0], None, values.as_slice().as_ptr()),
                Values::Codes(codes) => {
                    let decoded_len = |panel| codes.decoded_len(first.column..end(panel));
                    let fitting = left
                        .iter()
                        .take_while(|panel| decoded_len(*panel) * size_of::<f32>() <= DECODED_BYTES)
                        .count();
                    let (panels, later) = left.split_at(fitting.max(1));
                    let mut buffer = take_buffer(decoded_len(&panels[panels.len() - 1]));
                    let values = buffer.as_mut_slice().as_mut_ptr();
                    for panel in panels {
                        // SAFETY: the buffer is long enough for these panels.
                        unsafe {
                            let to = values.add(panel.start - first.start);
                            codes.decode_panel(self.isa, panel.column, end(panel), to);
                        }
                    }
                    // Where the first panel would start if all before it were there.
                    let values = values.cast_const().wrapping_sub(first.start);
                    (panels, later, Some(buffer), values)
                }
            };
            // SAFETY: the caller's promise; the panels' values are there.
            unsafe { self.panels::<V>(panels, values) };
            if let Some(buffer) = buffer {
                give_back(buffer);
            }
            left = later;
        }
    }
}

impl Product<'_> {
    /// All rows of some panels.
    ///
    /// # Safety
    ///
    /// As for `run`; `values` is where the panels' values lie, less what they
    /// say comes before.
    #[inline(always)]
    unsafe fn panels<V: Vector>(&self, panels: &[Panel], values: *const f32) {
        let panels_bytes = panels.len() * PANEL * self.weights.rows * size_of::<f32>();
        let block = if panels_bytes <= SMALL_WEIGHTS_BYTES {
            SMALL_ROW_BLOCK
        } else {
            let row_bytes = (self.input_grid.pixel_stride * size_of::<f32>()).max(1);
            (ROW_BLOCK_BYTES / row_bytes).max(SMALL_ROW_BLOCK)
        };
        let mut begin = self.rows.start;
        while begin < self.rows.end {
            let end = self.rows.end.min(begin + block);
            let mut left = panels;
            while let Some(&first) = left.first() {
                let count = panels_at_once::<V>(left);
                left = &left[count..];
                let columns = Columns {
                    first: first.column,
                    weights: values.wrapping_add(first.start),
                };
                // SAFETY: the caller's promise; the panels are as wide as these vectors.
                unsafe {
                    match count * first.width / V::LANES {
                        0 => self.block::<V::Narrow, 1>(columns, begin, end),
                        1 => self.block::<V, 1>(columns, begin, end),
                        2 => self.block::<V, 2>(columns, begin, end),
                        3 => self.block::<V, 3>(columns, begin, end),
                        _ => self.block::<V, 4>(columns, begin, end),
                    }
                }
            }
            begin = end;
        }
    }

    /// The rows `begin..end` of some columns.
    ///
    /// # Safety
    ///
    /// As for `run`; the columns are `NV` vectors.
    #[inline(always)]
    unsafe fn block<V: Vector, const NV: usize>(&self, columns: Columns, begin: usize, end: usize) {
        let most_rows = const { tile_rows::<V>(NV) };
        if const { tile_rows::<V>(NV) == 0 } {
            unreachable!("no ISA takes more vectors than it has tiles for");
        }
        let mut cursor = Cursor::new(self.input_grid, self.output_grid, begin);
        let mut left = end - begin;
        while left > 0 {
            // Tiles of nearly equal height: a last one of a single row would
            // wait for its own sums.
            let height = left.div_ceil(left.div_ceil(most_rows));
            left -= height;
            // SAFETY: the caller's promise.
            unsafe {
                // Constants of their own, so that no tile is compiled that never runs.
                macro_rules! tile {
                    ($($rows:literal)*) => {
                        const { assert!(tile_rows::<V>(NV) == 0 $(|| tile_rows::<V>(NV) == $rows)*) };
                        // It adds up in another order: a row that is alone only because
                        // of how the rows were cut would depend on the threads.
                        if height == 1 && self.is_one_row {
                            self.single::<V, NV>(columns, &mut cursor);
                        } else $(if const { $rows <= tile_rows::<V>(NV) } && height == $rows {
                            self.tile::<V, $rows, NV>(columns, &mut cursor);
                        } else)* {
                            unreachable!("tiles no higher than the ISA's");
                        }
                    };
                }
                tile!(1 2 3 4 5 6 7 8 9 10 11 12);
            }
        }
    }

    /// Floats from one row of the columns' weights to the next.
    #[inline(always)]
    fn row_step<V: Vector, const NV: usize>() -> usize {
        PANEL.min(NV * V::LANES)
    }

    /// Floats from the weights of one vector of columns to those of the next:
    /// a whole panel where the vector is one.
    #[inline(always)]
    fn vector_step<V: Vector>(&self) -> usize {
        if V::LANES == PANEL {
            self.weights.rows * PANEL
        } else {
            V::LANES
        }
    }

    /// `MR` rows of some columns.
    ///
    /// # Safety
    ///
    /// As for `run`; the columns are `NV` vectors and the cursor has `MR` rows left.
    #[inline(always)]
    unsafe fn tile<V: Vector, const MR: usize, const NV: usize>(
        &self,
        columns: Columns,
        cursor: &mut Cursor,
    ) {
        let mut inputs = [self.input; MR];
        let mut outputs = [0; MR];
        for i in 0..MR {
            let (input, output) = cursor.next();
            // SAFETY: the row starts inside the input.
            inputs[i] = unsafe { self.input.add(input) };
            outputs[i] = output + columns.first;
        }
        let mut weights = columns.weights;
        let (row_step, vector_step) = (Self::row_step::<V, NV>(), self.vector_step::<V>());
        // SAFETY: the columns' values and biases are `NV` vectors.
        unsafe {
            let mut first = [V::splat(0.0); NV];
            for j in 0..NV {
                first[j] = self.first_sum(columns, j);
            }
            let mut sums = [first; MR];
            for &offset in self.runs.offsets {
                for k in offset..offset + self.runs.len {
                    let mut weights_row = first;
                    for j in 0..NV {
                        weights_row[j] = V::load(weights.add(j * vector_step));
                    }
                    for i in 0..MR {
                        let value = V::splat(*inputs[i].add(k));
                        for j in 0..NV {
                            sums[i][j] = value.mul_add(weights_row[j], sums[i][j]);
                        }
                    }
                    weights = weights.add(row_step);
                }
            }
            // Written out, because a loop here would keep the sums in memory
            // throughout the loop above.
            macro_rules! each_row {
                ($i:ident => $work:expr) => {
                    each_row!($i => $work; 0 1 2 3 4 5 6 7 8 9 10 11)
                };
                ($i:ident => $work:expr; $($row:literal)*) => {
                    $(if $row < MR {
                        let $i = $row % MR;
                        $work;
                    })*
                };
            }
            if self.weights.scale.is_some() {
                each_row!(i => sums[i] = self.scaled(columns.first, sums[i]));
            }
            if columns.first + NV * V::LANES <= self.weights.columns {
                if self.epilogue.residual.is_some() {
                    each_row!(i => sums[i] = self.with_residual(outputs[i], sums[i]));
                }
                each_row!(i => self.store_whole(outputs[i], sums[i]));
                return;
            }
            let mut kept = MaybeUninit::<[[V; NV]; MR]>::uninit();
            let kept = kept.as_mut_ptr().cast::<[V; NV]>();
            each_row!(i => kept.add(i).write(sums[i]));
            for i in 0..MR {
                self.store_part(columns.first, outputs[i], *kept.add(i));
            }
        }
    }

    /// One row of some columns: four sums for each vector, so that none waits for the last.
    ///
    /// # Safety
    ///
    /// As for `tile`.
    #[inline(always)]
    unsafe fn single<V: Vector, const NV: usize>(&self, columns: Columns, cursor: &mut Cursor) {
        const STEPS: usize = 4;
        let (input, output) = cursor.next();
        let mut weights = columns.weights;
        let (row_step, vector_step) = (Self::row_step::<V, NV>(), self.vector_step::<V>());
        // SAFETY: as in `tile`.
        unsafe {
            let input = self.input.add(input);
            let mut sums = [[V::splat(0.0); NV]; STEPS];
            for j in 0..NV {
                sums[0][j] = self.first_sum(columns, j);
            }
            for &offset in self.runs.offsets {
                let mut k = 0;
                while k + STEPS <= self.runs.len {
                    for step in 0..STEPS {
                        let value = V::splat(*input.add(offset + k + step));
                        for j in 0..NV {
                            let at = step * row_step + j * vector_step;
                            let weight = V::load(weights.add(at));
                            sums[step][j] = value.mul_add(weight, sums[step][j]);
                        }
                    }
                    weights = weights.add(STEPS * row_step);
                    k += STEPS;
                }
                while k < self.runs.len {
                    let value = V::splat(*input.add(offset + k));
                    for j in 0..NV {
                        let weight = V::load(weights.add(j * vector_step));
                        sums[0][j] = value.mul_add(weight, sums[0][j]);
                    }
                    weights = weights.add(row_step);
                    k += 1;
                }
            }
            let mut sum = sums[0];
            for j in 0..NV {
                sum[j] = (sum[j].add(sums[1][j])).add(sums[2][j].add(sums[3][j]));
            }
            let output = output + columns.first;
            if self.weights.scale.is_some() {
                sum = self.scaled(columns.first, sum);
            }
            if columns.first + NV * V::LANES > self.weights.columns {
                return self.store_part(columns.first, output, sum);
            }
            if self.epilogue.residual.is_some() {
                sum = self.with_residual(output, sum);
            }
            self.store_whole(output, sum);
        }
    }

    /// What the sums of vector `j` of some columns start from: the bias, unless
    /// that comes after a factor.
    ///
    /// # Safety
    ///
    /// The columns are more than `j` vectors.
    #[inline(always)]
    unsafe fn first_sum<V: Vector>(&self, columns: Columns, j: usize) -> V {
        match self.weights.scale {
            Some(_) => V::splat(0.0),
            // SAFETY: biases are as long as all panels together.
            None => unsafe { self.bias(columns.first, j) },
        }
    }

    /// # Safety
    ///
    /// As for `first_sum`.
    #[inline(always)]
    unsafe fn bias<V: Vector>(&self, first_column: usize, j: usize) -> V {
        let bias = self.weights.bias.as_slice().as_ptr();
        // SAFETY: the caller's promise.
        unsafe { V::load(bias.add(first_column + j * V::LANES)) }
    }

    /// Sums times their columns' factors, plus their biases.
    ///
    /// # Safety
    ///
    /// As for `tile`; the weights have factors.
    #[inline(always)]
    unsafe fn scaled<V: Vector, const NV: usize>(
        &self,
        first_column: usize,
        mut sums: [V; NV],
    ) -> [V; NV] {
        if let Some(scale) = &self.weights.scale {
            // SAFETY: factors are as long as all panels together.
            unsafe {
                let scale = scale.as_slice().as_ptr().add(first_column);
                for j in 0..NV {
                    let scale = V::load(scale.add(j * V::LANES));
                    sums[j] = sums[j].mul_add(scale, self.bias(first_column, j));
                }
            }
        }
        sums
    }

    /// Sums plus what is added to them.
    ///
    /// # Safety
    ///
    /// As for `tile`; all the columns are the matrix's, and `output` is where
    /// their part of the row starts.
    #[inline(always)]
    unsafe fn with_residual<V: Vector, const NV: usize>(
        &self,
        output: usize,
        mut sums: [V; NV],
    ) -> [V; NV] {
        if let Some(residual) = self.epilogue.residual {
            for j in 0..NV {
                // SAFETY: the residual is as long as the output.
                let residual = unsafe { V::load(residual.as_ptr().add(output + j * V::LANES)) };
                sums[j] = sums[j].add(residual);
            }
        }
        sums
    }

    /// Writes sums, held to the bounds.
    ///
    /// # Safety
    ///
    /// As for `with_residual`.
    #[inline(always)]
    unsafe fn store_whole<V: Vector, const NV: usize>(&self, output: usize, sums: [V; NV]) {
        let at_least = V::splat(self.epilogue.at_least);
        let at_most = V::splat(self.epilogue.at_most);
        for j in 0..NV {
            let sum = sums[j].at_least(at_least).at_most(at_most);
            // SAFETY: the columns are inside the output.
            unsafe { sum.store(self.output.add(output + j * V::LANES)) };
        }
    }

    /// Writes sums as `with_residual` and `store_whole` do, those whose columns
    /// the matrix has.
    ///
    /// # Safety
    ///
    /// As for `tile`; `output` is where the columns' part of the row starts.
    #[inline(always)]
    unsafe fn store_part<V: Vector, const NV: usize>(
        &self,
        first_column: usize,
        output: usize,
        sums: [V; NV],
    ) {
        let columns = self.weights.columns - first_column;
        for j in 0..NV {
            let len = columns.saturating_sub(j * V::LANES).min(V::LANES);
            if len == 0 {
                return;
            }
            let mut sum = sums[j];
            // SAFETY: `len` columns are inside the output and the residual.
            unsafe {
                let at = output + j * V::LANES;
                if let Some(residual) = self.epilogue.residual {
                    sum = sum.add(V::load_first(residual.as_ptr().add(at), len));
                }
                sum.at_least(V::splat(self.epilogue.at_least))
                    .at_most(V::splat(self.epilogue.at_most))
                    .store_first(self.output.add(at), len);
            }
        }
    }
}

/// Some columns of the weights.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    /// Where their weights of the first row lie.
    weights: *const f32,
}

/// Number of panels that are multiplied at once, out of these: one, or several
/// where each is one vector.
#[inline(always)]
fn panels_at_once<V: Vector>(panels: &[Panel]) -> usize {
    if V::LANES < PANEL {
        return 1;
    }
    let whole = panels.len() - usize::from(panels[panels.len() - 1].width < PANEL);
    // Groups of nearly equal size.
    whole.checked_div(whole.div_ceil(MAX_VECTORS)).unwrap_or(1)
}

/// Walks two grids of equally many rows at once.
struct Cursor {
    input: GridCursor,
    output: GridCursor,
}

impl Cursor {
    fn new(input: Grid, output: Grid, row: usize) -> Self {
        Self {
            input: GridCursor::new(input, row),
            output: GridCursor::new(output, row),
        }
    }

    #[inline(always)]
    fn next(&mut self) -> (usize, usize) {
        (self.input.next(), self.output.next())
    }
}

pub(crate) struct GridCursor {
    grid: Grid,
    x: usize,
    at: usize,
    row_start: usize,
}

impl GridCursor {
    pub(crate) fn new(grid: Grid, row: usize) -> Self {
        let (y, x) = (row / grid.width, row % grid.width);
        let row_start = grid.start + y * grid.row_stride;
        Self {
            grid,
            x,
            at: row_start + x * grid.pixel_stride,
            row_start,
        }
    }

    /// Where the first of the next `count` rows starts, behind which they are
    /// skipped; `None` where they reach the end of their line.
    #[inline(always)]
    pub(crate) fn next_on_line(&mut self, count: usize) -> Option<usize> {
        if self.x + count >= self.grid.width {
            return None;
        }
        let at = self.at;
        self.x += count;
        self.at += count * self.grid.pixel_stride;
        Some(at)
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> usize {
        let at = self.at;
        self.x += 1;
        if self.x == self.grid.width {
            self.x = 0;
            self.row_start += self.grid.row_stride;
            self.at = self.row_start;
        } else {
            self.at += self.grid.pixel_stride;
        }
        at
    }
}

#[cfg(test)]
mod tests;
