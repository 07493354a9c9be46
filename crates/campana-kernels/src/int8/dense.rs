//! Matrix products of codes: dense layers and convolutions.

use std::cell::RefCell;

use super::pack::{GroupOffsets, PackedWeights, Panel};
use super::requantize::{PARAMETER_MULTIPLE, Requantize};
use super::vector::{Int8, MAX_PANEL_VECTORS, MAX_SUMS};
use crate::aligned::AlignedBuffer;
use crate::gemm::{Grid, GridCursor};
use crate::level::{Int8Kernel, Level};
use crate::pool::{SendPtr, ThreadPool};
use crate::vector::Vector;

/// Where results go.
#[derive(Debug)]
pub enum Output<'a> {
    /// As codes; the bounds must be whole numbers of 0 to 255.
    Codes(&'a mut [u8]),
    /// As floats.
    Floats(&'a mut [f32]),
}

impl Output<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Codes(codes) => codes.len(),
            Self::Floats(floats) => floats.len(),
        }
    }
}

/// Products below which waking another thread costs more than it gives.
const MIN_PRODUCTS_PER_THREAD: usize = 100_000;

/// Bytes of input that a panel is multiplied with before the next panel comes.
const ROW_BLOCK_BYTES: usize = 192 << 10;

/// Rows that the work is cut into multiples of.
const TILE_ROWS: usize = 4;

/// Most rows that a panel takes at once, at any level.
const MAX_TILE_ROWS: usize = 14;

/// Most sums of a tile, at any level.
const MAX_TILE_SUMS: usize = 24 * MAX_SUMS;

/// Up to this many rows weights are decoded where they are used; for more, once into memory.
const MAX_ROWS_DECODED_IN_PLACE: usize = 2;

/// Output rows `= requantize(input rows x weights)`.
///
/// Input row `i` starts at the `i`-th place of its grid, and its values are at
/// `offsets` from there; up to three bytes behind a run are read
/// and not used. Output row `i` is `weights.columns()` long. A residual of
/// codes, laid out as the output, is added times its factor.
///
/// # Panics
///
/// Where the weights are laid out for another level, the grids differ in
/// length, a row reaches beyond its slice, output rows overlap, or `requantize` is for another number of channels.
#[expect(
    clippy::too_many_arguments,
    reason = "a matrix product and where its parts lie"
)]
pub fn multiply(
    level: Level,
    pool: &ThreadPool,
    input: &[u8],
    input_grid: Grid,
    weights: &PackedWeights,
    offsets: &GroupOffsets,
    requantize: &Requantize,
    residual: Option<(&[u8], f32)>,
    output: Output<'_>,
    output_grid: Grid,
) {
    let columns = weights.columns();
    let rows = input_grid.len();
    let groups = weights.group_count();
    assert_eq!(weights.level(), level, "weights laid out for this level");
    assert_eq!(offsets.offsets.len(), groups, "offsets of these weights");
    assert_eq!(rows, output_grid.len(), "as many output as input rows");
    assert_eq!(requantize.channels(), columns, "parameters of each column");
    assert!(
        input_grid.fits(offsets.reach, input.len()),
        "input too short"
    );
    assert!(output_grid.fits(columns, output.len()), "output too short");
    assert!(output_grid.is_disjoint(columns), "output rows overlap");
    if let Some((residual, _)) = residual {
        assert!(
            output_grid.fits(columns, residual.len()),
            "residual too short"
        );
    }
    if rows == 0 || columns == 0 {
        return;
    }
    let (input_grid, output_grid) = (input_grid.joined(), output_grid.joined());
    let threads = pool
        .threads()
        .min(rows * columns * weights.rows() / MIN_PRODUCTS_PER_THREAD)
        .max(1);
    let panels = weights.panels().len();
    let (row_jobs, panel_jobs) = split(threads, rows, panels, weights, input_grid.pixel_stride);
    let target = match output {
        Output::Codes(codes) => Target::Codes(SendPtr(codes.as_mut_ptr())),
        Output::Floats(floats) => Target::Floats(SendPtr(floats.as_mut_ptr())),
    };
    pool.run(row_jobs * panel_jobs, |job| {
        let part = |parts: usize, part: usize, whole: usize| {
            whole * part / parts..whole * (part + 1) / parts
        };
        let panels = &weights.panels()[part(panel_jobs, job % panel_jobs, panels)];
        // SAFETY: the assertions above hold the input, the output and the
        // residual to their grids; jobs are disjoint in rows or columns of an
        // output whose rows do not overlap.
        unsafe {
            level.run_int8(Product {
                input: input.as_ptr(),
                input_grid,
                weights,
                offsets: &offsets.offsets,
                panels,
                rows: part(row_jobs, job / panel_jobs, rows),
                requantize,
                residual: residual.map(|(codes, factor)| (codes.as_ptr(), factor)),
                target: &target,
                output_grid,
            });
        }
    });
}

/// Number of parts to cut the rows and the panels into.
fn split(
    threads: usize,
    rows: usize,
    panels: usize,
    weights: &PackedWeights,
    pixel_stride: usize,
) -> (usize, usize) {
    if threads == 1 {
        return (1, 1);
    }
    // Threads that share rows read and decode all weights each.
    let heavy_weights = weights.len_bytes() > rows * pixel_stride;
    if panels >= threads
        && (rows < threads * 4 * TILE_ROWS || heavy_weights && panels.is_multiple_of(threads))
    {
        return (1, (panels / threads / 2).clamp(1, 4) * threads);
    }
    let jobs = (rows / (threads * 8 * TILE_ROWS)).clamp(1, 4) * threads;
    (jobs.min(rows), 1)
}

enum Target {
    Codes(SendPtr<u8>),
    Floats(SendPtr<f32>),
}

struct Product<'a> {
    input: *const u8,
    input_grid: Grid,
    weights: &'a PackedWeights,
    offsets: &'a [u32],
    panels: &'a [Panel],
    rows: std::ops::Range<usize>,
    requantize: &'a Requantize,
    residual: Option<(*const u8, f32)>,
    target: &'a Target,
    output_grid: Grid,
}

thread_local! {
    /// A panel's weights in 8 bits.
    static DECODED: RefCell<AlignedBuffer> = RefCell::default();
}

impl Int8Kernel for Product<'_> {
    type Output = ();

    /// # Safety
    ///
    /// All rows and columns are inside the input, the output and the residual,
    /// and nothing else touches these parts of the output.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let row_bytes = self.input_grid.pixel_stride.max(1);
        let block = (ROW_BLOCK_BYTES / row_bytes).max(8 * TILE_ROWS);
        let mut begin = self.rows.start;
        while begin < self.rows.end {
            let end = self.rows.end.min(begin + block);
            for &panel in self.panels {
                // SAFETY: the caller's promise; a panel has one to four vectors.
                unsafe {
                    match panel.vectors {
                        1 => self.block::<V, 1>(panel, begin, end),
                        2 => self.block::<V, 2>(panel, begin, end),
                        3 => self.block::<V, 3>(panel, begin, end),
                        _ => self.block::<V, 4>(panel, begin, end),
                    }
                }
            }
            begin = end;
        }
    }
}

impl Product<'_> {
    /// The rows `begin..end` of one panel.
    ///
    /// # Safety
    ///
    /// As for `run`; the panel is `NV` vectors wide.
    #[inline(always)]
    unsafe fn block<V: Int8, const NV: usize>(&self, panel: Panel, begin: usize, end: usize) {
        if V::TILE_ROWS[NV - 1] == 0 {
            return;
        }
        let stored = self.weights.bytes()[panel.start..].as_ptr();
        let bits = self.weights.bits();
        if bits != 8 && end - begin <= MAX_ROWS_DECODED_IN_PLACE {
            // SAFETY: the caller's promise.
            unsafe {
                match bits {
                    4 => self.rows_of::<V, NV, 4>(panel, stored, begin, end),
                    _ => self.rows_of::<V, NV, 2>(panel, stored, begin, end),
                }
            }
            return;
        }
        // Taken out, because a closure would be compiled without the level's instructions.
        let mut decoded = AlignedBuffer::default();
        let mut bytes = stored;
        if bits != 8 {
            decoded = DECODED.take();
            let steps = panel.joined + panel.apart;
            let len = (steps + 1) * 2 * NV * V::BYTES / size_of::<f32>();
            if decoded.as_slice().len() < len {
                decoded = AlignedBuffer::zeros(len);
            }
            let start = decoded.as_mut_bytes().as_mut_ptr();
            // SAFETY: the caller's promise; `decoded` holds the panel's steps and one more.
            unsafe {
                match bits {
                    4 => self.decode::<V, NV, 4>(stored, steps, start),
                    _ => self.decode::<V, NV, 2>(stored, steps, start),
                }
            }
            bytes = start;
        }
        // One call for all widths: everything below is compiled into it.
        // SAFETY: the caller's promise.
        unsafe { self.rows_of::<V, NV, 8>(panel, bytes, begin, end) };
        if bits != 8 {
            DECODED.set(decoded);
        }
    }

    /// A panel's weights as 8-bit numbers.
    ///
    /// # Safety
    ///
    /// `bytes` holds the steps in `BITS` bits; `decoded` is valid for one step more, in 8 bits.
    #[inline(always)]
    unsafe fn decode<V: Int8, const NV: usize, const BITS: u8>(
        &self,
        bytes: *const u8,
        steps: usize,
        decoded: *mut u8,
    ) {
        // SAFETY: the caller's promise; a table has 16 bytes.
        unsafe {
            let table = V::table(self.weights.table().as_ptr());
            let vectors = if BITS == 4 { steps } else { steps.div_ceil(2) };
            for s in 0..vectors {
                for j in 0..NV {
                    let codes = V::load(bytes.add((s * NV + j) * V::BYTES));
                    if BITS == 4 {
                        let to = decoded.add((2 * s * NV + j) * V::BYTES);
                        V::store(V::lookup::<0, 15>(table, codes), to);
                        V::store(V::lookup::<4, 15>(table, codes), to.add(NV * V::BYTES));
                    } else {
                        let to = decoded.add((4 * s * NV + j) * V::BYTES);
                        V::store(V::lookup::<0, 3>(table, codes), to);
                        V::store(V::lookup::<2, 3>(table, codes), to.add(NV * V::BYTES));
                        V::store(V::lookup::<4, 3>(table, codes), to.add(2 * NV * V::BYTES));
                        V::store(V::lookup::<6, 3>(table, codes), to.add(3 * NV * V::BYTES));
                    }
                }
            }
        }
    }

    /// The rows of one panel whose weights are at `bytes` in `BITS` bits.
    ///
    /// # Safety
    ///
    /// As for `block`.
    #[inline(always)]
    unsafe fn rows_of<V: Int8, const NV: usize, const BITS: u8>(
        &self,
        panel: Panel,
        bytes: *const u8,
        begin: usize,
        end: usize,
    ) {
        let mut cursors = [
            GridCursor::new(self.input_grid, begin),
            GridCursor::new(self.output_grid, begin),
        ];
        let mut inputs = [self.input; MAX_TILE_ROWS];
        let mut sums = Sums([0; MAX_TILE_SUMS]);
        let to = sums.0.as_mut_ptr();
        let mut left = end - begin;
        while left > 0 {
            // Tiles of like height: the last is not much lower than the others.
            let height = left.div_ceil(left.div_ceil(V::TILE_ROWS[NV - 1]));
            left -= height;
            // SAFETY: the caller's promise; rows start inside the input.
            unsafe {
                for input in inputs.iter_mut().take(height) {
                    *input = self.input.add(cursors[0].next());
                }
                macro_rules! tile {
                    ($($rows:literal)*) => {
                        match height {
                            $($rows => self.tile::<V, $rows, NV, BITS>(panel, bytes, &inputs, to),)*
                            _ => {}
                        }
                    };
                }
                tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                for i in 0..height {
                    let output = cursors[1].next() + panel.column;
                    self.finish::<V, NV>(panel, output, to.add(i * NV * V::SUMS));
                }
            }
        }
    }

    /// The sums of `MR` rows of one panel, to `to`.
    ///
    /// # Safety
    ///
    /// As for `rows_of`; rows start at `inputs`, and `to` holds the sums.
    #[inline(always)]
    unsafe fn tile<V: Int8, const MR: usize, const NV: usize, const BITS: u8>(
        &self,
        panel: Panel,
        bytes: *const u8,
        inputs: &[*const u8; MAX_TILE_ROWS],
        to: *mut i32,
    ) {
        if MR > V::TILE_ROWS[NV - 1] || BITS != 8 && MR > MAX_ROWS_DECODED_IN_PLACE {
            return;
        }
        // SAFETY: offsets and weights of the panel's steps exist; the packing
        // put only such groups together as `dot2` takes.
        unsafe {
            // Loops rather than `array::from_fn`, here and below: closures are
            // compiled without the level's instructions unless they are inlined,
            // and the larger ones were not.
            let start = self.requantize.initial().as_ptr().add(panel.column);
            let mut initial = [V::load_sums(start); NV];
            for j in 1..NV {
                initial[j] = V::load_sums(start.add(j * V::SUMS));
            }
            let mut sums = [initial; MR];
            let mut offsets = self.offsets.as_ptr().add(panel.offsets);
            let mut bytes = bytes;
            let table = V::table(self.weights.table().as_ptr());
            // Weights of a step's group `$g`; codes shifted by `$shift`.
            macro_rules! weights {
                ($g:literal, $shift:literal, $mask:literal) => {{
                    let mut w = [table; NV];
                    for j in 0..NV {
                        w[j] = if BITS == 8 {
                            V::load(bytes.add(($g * NV + j) * V::BYTES))
                        } else {
                            V::lookup::<$shift, $mask>(table, V::load(bytes.add(j * V::BYTES)))
                        };
                    }
                    w
                }};
            }
            // One step of all rows. A level that need not sum both groups
            // together takes one after the other: fewer registers.
            macro_rules! step {
                ($together:literal, $s:literal, $t:literal, $mask:literal) => {
                    let (first, second) = (*offsets as usize, *offsets.add(1) as usize);
                    if $together && !V::EXACT {
                        let (w, v) = (weights!(0, $s, $mask), weights!(1, $t, $mask));
                        for i in 0..MR {
                            let a = V::broadcast4(inputs[i].add(first));
                            let b = V::broadcast4(inputs[i].add(second));
                            for j in 0..NV {
                                sums[i][j] = V::dot2(sums[i][j], [a, w[j]], [b, v[j]]);
                            }
                        }
                    } else {
                        let w = weights!(0, $s, $mask);
                        for i in 0..MR {
                            let a = V::broadcast4(inputs[i].add(first));
                            for j in 0..NV {
                                sums[i][j] = V::dot1(sums[i][j], [a, w[j]]);
                            }
                        }
                        let w = weights!(1, $t, $mask);
                        for i in 0..MR {
                            let a = V::broadcast4(inputs[i].add(second));
                            for j in 0..NV {
                                sums[i][j] = V::dot1(sums[i][j], [a, w[j]]);
                            }
                        }
                    }
                    offsets = offsets.add(2);
                };
            }
            match BITS {
                8 => {
                    for _ in 0..panel.joined {
                        step!(true, 0, 0, 15);
                        bytes = bytes.add(2 * NV * V::BYTES);
                    }
                    for _ in 0..panel.apart {
                        step!(false, 0, 0, 15);
                        bytes = bytes.add(2 * NV * V::BYTES);
                    }
                }
                4 => {
                    for _ in 0..panel.joined {
                        step!(true, 0, 4, 15);
                        bytes = bytes.add(NV * V::BYTES);
                    }
                    for _ in 0..panel.apart {
                        step!(false, 0, 4, 15);
                        bytes = bytes.add(NV * V::BYTES);
                    }
                }
                _ => {
                    for _ in 0..panel.joined / 2 {
                        step!(true, 0, 2, 3);
                        step!(true, 4, 6, 3);
                        bytes = bytes.add(NV * V::BYTES);
                    }
                    let mut high = false;
                    if panel.joined % 2 == 1 {
                        step!(true, 0, 2, 3);
                        high = true;
                    }
                    for _ in 0..panel.apart {
                        if high {
                            step!(false, 4, 6, 3);
                            bytes = bytes.add(NV * V::BYTES);
                        } else {
                            step!(false, 0, 2, 3);
                        }
                        high = !high;
                    }
                }
            }
            for i in 0..MR {
                for j in 0..NV {
                    V::store_sums(sums[i][j], to.add((i * NV + j) * V::SUMS));
                }
            }
        }
    }

    /// The results of one row of one panel.
    ///
    /// # Safety
    ///
    /// As for `rows_of`; `output` is where the panel's part of the row starts,
    /// and `sums` holds its sums.
    #[inline(always)]
    unsafe fn finish<V: Int8, const NV: usize>(
        &self,
        panel: Panel,
        output: usize,
        sums: *const i32,
    ) {
        let columns = self.weights.columns() - panel.column;
        // SAFETY: parameters are padded to whole panels; columns below the
        // matrix's are inside the output and the residual.
        unsafe {
            // The value of vector `$j`, whose first `$len` columns there are.
            macro_rules! value {
                ($j:expr, $len:expr) => {{
                    let at = $j * V::SUMS;
                    let parameter = panel.column + at;
                    let multiplier = self.requantize.multiplier().as_ptr().add(parameter);
                    let offset = self.requantize.offset().as_ptr().add(parameter);
                    let value = V::to_floats(V::load_sums(sums.add(at)))
                        .mul(Vector::load(multiplier))
                        .add(Vector::load(offset));
                    match self.residual {
                        Some((residual, factor)) => {
                            let residual = residual.add(output + at);
                            let residual = V::load_first_floats(residual, $len);
                            value.add(residual.mul(Vector::splat(factor)))
                        }
                        None => value,
                    }
                }};
            }
            match self.target {
                Target::Codes(codes) => {
                    let bounds = [
                        V::splat(self.requantize.at_least as u8),
                        V::splat(self.requantize.at_most as u8),
                    ];
                    for j in (0..NV).step_by(2) {
                        let at = j * V::SUMS;
                        let len = columns.saturating_sub(at).min(2 * V::SUMS);
                        let first = value!(j, len.min(V::SUMS));
                        let second = if j + 1 < NV && len > V::SUMS {
                            value!(j + 1, len - V::SUMS)
                        } else {
                            first
                        };
                        let to = codes.get().add(output + at);
                        // The second branch for a length that is known where it is used.
                        if len == 2 * V::SUMS && j + 1 < NV {
                            V::store_pair([first, second], bounds, to, 2 * V::SUMS);
                        } else {
                            V::store_pair([first, second], bounds, to, len.min((NV - j) * V::SUMS));
                        }
                    }
                }
                Target::Floats(floats) => {
                    for j in 0..NV {
                        let at = j * V::SUMS;
                        let len = columns.saturating_sub(at).min(V::SUMS);
                        if len > 0 {
                            value!(j, len)
                                .at_least(Vector::splat(self.requantize.at_least))
                                .at_most(Vector::splat(self.requantize.at_most))
                                .store_first(floats.get().add(output + at), len);
                        }
                    }
                }
            }
        }
    }
}

/// The sums of a tile, `[rows, columns]`.
#[repr(align(64))]
struct Sums([i32; MAX_TILE_SUMS]);

const _: () = assert!(PARAMETER_MULTIPLE.is_multiple_of(MAX_PANEL_VECTORS * MAX_SUMS));
