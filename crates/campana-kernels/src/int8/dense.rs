//! Matrix products of codes: dense layers and convolutions.

use std::cell::RefCell;

use super::pack::{GroupOffsets, PackedWeights, Panel};
use super::requantize::{PARAMETER_MULTIPLE, Requantize};
use super::vector::{BYTES, Int8, SUMS};
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

/// Rows that a panel takes at once.
const TILE_ROWS: usize = 4;

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
/// Where the grids differ in length, a row reaches beyond its slice, output
/// rows overlap, or `requantize` is for another number of channels.
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
                // SAFETY: the caller's promise; a panel has one or two vectors.
                unsafe {
                    match panel.vectors {
                        1 => self.block::<V, 1>(panel, begin, end),
                        _ => self.block::<V, 2>(panel, begin, end),
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
            let len = (steps + 1) * 2 * NV * BYTES / size_of::<f32>();
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
                    let codes = V::load(bytes.add((s * NV + j) * BYTES));
                    if BITS == 4 {
                        let to = decoded.add((2 * s * NV + j) * BYTES);
                        V::store(V::lookup::<0, 15>(table, codes), to);
                        V::store(V::lookup::<4, 15>(table, codes), to.add(NV * BYTES));
                    } else {
                        let to = decoded.add((4 * s * NV + j) * BYTES);
                        V::store(V::lookup::<0, 3>(table, codes), to);
                        V::store(V::lookup::<2, 3>(table, codes), to.add(NV * BYTES));
                        V::store(V::lookup::<4, 3>(table, codes), to.add(2 * NV * BYTES));
                        V::store(V::lookup::<6, 3>(table, codes), to.add(3 * NV * BYTES));
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
        let mut left = end - begin;
        while left > 0 {
            let height = left.div_ceil(left.div_ceil(TILE_ROWS));
            left -= height;
            // SAFETY: the caller's promise.
            unsafe {
                match height {
                    1 => self.tile::<V, 1, NV, BITS>(panel, bytes, &mut cursors),
                    2 => self.tile::<V, 2, NV, BITS>(panel, bytes, &mut cursors),
                    3 => self.tile::<V, 3, NV, BITS>(panel, bytes, &mut cursors),
                    _ => self.tile::<V, 4, NV, BITS>(panel, bytes, &mut cursors),
                }
            }
        }
    }

    /// `MR` rows of one panel.
    ///
    /// # Safety
    ///
    /// As for `rows_of`; the cursors have `MR` rows left.
    #[inline(always)]
    unsafe fn tile<V: Int8, const MR: usize, const NV: usize, const BITS: u8>(
        &self,
        panel: Panel,
        bytes: *const u8,
        cursors: &mut [GridCursor; 2],
    ) {
        if BITS != 8 && MR > MAX_ROWS_DECODED_IN_PLACE {
            return;
        }
        let mut inputs = [self.input; MR];
        let mut outputs = [0; MR];
        for i in 0..MR {
            // SAFETY: the row starts inside the input.
            inputs[i] = unsafe { self.input.add(cursors[0].next()) };
            outputs[i] = cursors[1].next() + panel.column;
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
                initial[j] = V::load_sums(start.add(j * SUMS));
            }
            let mut sums = [initial; MR];
            let mut offsets = self.offsets.as_ptr().add(panel.offsets);
            let mut bytes = bytes;
            let table = V::table(self.weights.table().as_ptr());
            // Weights of the two groups of a step, the codes shifted by `$s` and `$t`.
            macro_rules! weights {
                ($s:literal, $t:literal, $mask:literal) => {{
                    let mut w = [table; NV];
                    let mut v = [table; NV];
                    for j in 0..NV {
                        let first = V::load(bytes.add(j * BYTES));
                        if BITS == 8 {
                            w[j] = first;
                            v[j] = V::load(bytes.add((NV + j) * BYTES));
                        } else {
                            w[j] = V::lookup::<$s, $mask>(table, first);
                            v[j] = V::lookup::<$t, $mask>(table, first);
                        }
                    }
                    [w, v]
                }};
            }
            // One step of all rows; `$dot` is `dot2` or `dot2_apart`.
            macro_rules! step {
                ($dot:ident, $s:literal, $t:literal, $mask:literal) => {
                    let [w, v] = weights!($s, $t, $mask);
                    let (first, second) = (*offsets as usize, *offsets.add(1) as usize);
                    for i in 0..MR {
                        let a = V::broadcast4(inputs[i].add(first));
                        let b = V::broadcast4(inputs[i].add(second));
                        for j in 0..NV {
                            sums[i][j] = V::$dot(sums[i][j], [a, w[j]], [b, v[j]]);
                        }
                    }
                    offsets = offsets.add(2);
                };
            }
            match BITS {
                8 => {
                    for _ in 0..panel.joined {
                        step!(dot2, 0, 0, 15);
                        bytes = bytes.add(2 * NV * BYTES);
                    }
                    for _ in 0..panel.apart {
                        step!(dot2_apart, 0, 0, 15);
                        bytes = bytes.add(2 * NV * BYTES);
                    }
                }
                4 => {
                    for _ in 0..panel.joined {
                        step!(dot2, 0, 4, 15);
                        bytes = bytes.add(NV * BYTES);
                    }
                    for _ in 0..panel.apart {
                        step!(dot2_apart, 0, 4, 15);
                        bytes = bytes.add(NV * BYTES);
                    }
                }
                _ => {
                    for _ in 0..panel.joined / 2 {
                        step!(dot2, 0, 2, 3);
                        step!(dot2, 4, 6, 3);
                        bytes = bytes.add(NV * BYTES);
                    }
                    let mut high = false;
                    if panel.joined % 2 == 1 {
                        step!(dot2, 0, 2, 3);
                        high = true;
                    }
                    for _ in 0..panel.apart {
                        if high {
                            step!(dot2_apart, 4, 6, 3);
                            bytes = bytes.add(NV * BYTES);
                        } else {
                            step!(dot2_apart, 0, 2, 3);
                        }
                        high = !high;
                    }
                }
            }
            // Written out, because a loop here would keep the sums in memory
            // throughout the loop above.
            macro_rules! finish_row {
                ($($i:literal)*) => {
                    $(if $i < MR {
                        self.finish::<V, NV>(panel, outputs[$i % MR], sums[$i % MR]);
                    })*
                };
            }
            finish_row!(0 1 2 3);
        }
    }

    /// The results of one row of one panel.
    ///
    /// # Safety
    ///
    /// As for `tile`; `output` is where the panel's part of the row starts.
    #[inline(always)]
    unsafe fn finish<V: Int8, const NV: usize>(
        &self,
        panel: Panel,
        output: usize,
        sums: [V::Sums; NV],
    ) {
        let at_least = <V::Floats as Vector>::splat(self.requantize.at_least);
        let at_most = <V::Floats as Vector>::splat(self.requantize.at_most);
        let columns = self.weights.columns() - panel.column;
        // SAFETY: parameters are padded to whole panels; columns below the
        // matrix's are inside the output and the residual.
        unsafe {
            let multiplier = self.requantize.multiplier().as_ptr().add(panel.column);
            let offset = self.requantize.offset().as_ptr().add(panel.column);
            if NV == 2
                && columns >= NV * SUMS
                && let Target::Codes(codes) = self.target
            {
                let mut values = [at_least; 2];
                for j in 0..2 {
                    let multiplier = <V::Floats as Vector>::load(multiplier.add(j * SUMS));
                    let offset = <V::Floats as Vector>::load(offset.add(j * SUMS));
                    values[j] = V::to_floats(sums[j % NV]).mul(multiplier).add(offset);
                }
                if let Some((residual, factor)) = self.residual {
                    let factor = <V::Floats as Vector>::splat(factor);
                    for j in 0..2 {
                        let residual = V::load_floats(residual.add(output + j * SUMS));
                        values[j] = values[j].add(residual.mul(factor));
                    }
                }
                let bounds = [
                    V::splat(self.requantize.at_least as u8),
                    V::splat(self.requantize.at_most as u8),
                ];
                V::store_pair(values, bounds, codes.get().add(output));
                return;
            }
            for j in 0..NV {
                let len = columns.saturating_sub(j * SUMS).min(SUMS);
                if len == 0 {
                    continue;
                }
                let multiplier = <V::Floats as Vector>::load(multiplier.add(j * SUMS));
                let offset = <V::Floats as Vector>::load(offset.add(j * SUMS));
                let mut value = V::to_floats(sums[j]).mul(multiplier).add(offset);
                let at = output + j * SUMS;
                if let Some((residual, factor)) = self.residual {
                    let factor = <V::Floats as Vector>::splat(factor);
                    let residual = load_codes::<V>(residual.add(at), len);
                    value = value.add(residual.mul(factor));
                }
                let value = value.at_least(at_least).at_most(at_most);
                match self.target {
                    Target::Codes(codes) => store_codes::<V>(value, codes.get().add(at), len),
                    Target::Floats(floats) if len == SUMS => value.store(floats.get().add(at)),
                    Target::Floats(floats) => value.store_first(floats.get().add(at), len),
                }
            }
        }
    }
}

/// The first `len` codes as floats, zeros beyond them.
///
/// # Safety
///
/// `from` is valid for reading `len` bytes, at most eight.
#[inline(always)]
pub(crate) unsafe fn load_codes<V: Int8>(from: *const u8, len: usize) -> V::Floats {
    let mut lanes = [0u8; SUMS];
    // SAFETY: the caller's promise; `lanes` holds eight.
    unsafe {
        if len == SUMS {
            return V::load_floats(from);
        }
        core::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
        V::load_floats(lanes.as_ptr())
    }
}

/// Writes the first `len` of eight floats as codes.
///
/// # Safety
///
/// `to` is valid for writing `len` bytes, at most eight.
#[inline(always)]
pub(crate) unsafe fn store_codes<V: Int8>(values: V::Floats, to: *mut u8, len: usize) {
    let mut lanes = [0u8; SUMS];
    // SAFETY: the caller's promise; `lanes` holds eight.
    unsafe {
        if len == SUMS {
            return V::store_floats(values, to);
        }
        V::store_floats(values, lanes.as_mut_ptr());
        core::ptr::copy_nonoverlapping(lanes.as_ptr(), to, len);
    }
}

const _: () = assert!(PARAMETER_MULTIPLE.is_multiple_of(super::pack::MAX_PANEL_VECTORS * SUMS));
