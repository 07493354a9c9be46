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
const ROW_MULTIPLE: usize = 4;

/// Most rows that a panel takes at once, at any level.
const MAX_TILE_ROWS: usize = 14;

/// Most vectors of sums of a tile, at any level, and what is read behind them.
const MAX_TILE_VECTORS: usize = 24 + MAX_PANEL_VECTORS;

/// Bytes of a panel's weights that stay in the nearest cache while all rows
/// are multiplied with them; deeper panels are taken in parts.
const PART_BYTES: usize = 40 << 10;

/// A line of a cache.
const LINE_BYTES: usize = 64;

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
        && (rows < threads * 4 * ROW_MULTIPLE || heavy_weights && panels.is_multiple_of(threads))
    {
        return (1, (panels / threads / 2).clamp(1, 4) * threads);
    }
    let jobs = (rows / (threads * 8 * ROW_MULTIPLE)).clamp(1, 4) * threads;
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
    /// Weights in 8 bits, and sums of a panel.
    static SCRATCH: RefCell<[AlignedBuffer; 2]> = RefCell::default();
}

/// Floats of memory, at least `len` of them.
fn reserve(buffer: &mut AlignedBuffer, len: usize) -> *mut u8 {
    if buffer.as_slice().len() < len {
        *buffer = AlignedBuffer::zeros(len);
    }
    buffer.as_mut_bytes().as_mut_ptr()
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
        let block = (ROW_BLOCK_BYTES / row_bytes).max(8 * ROW_MULTIPLE);
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
        let step_bytes = 2 * NV * V::BYTES;
        let steps = panel.joined + panel.apart;
        let in_place = bits != 8 && end - begin <= MAX_ROWS_DECODED_IN_PLACE;
        let parts = match in_place {
            true => 1,
            false => (steps * step_bytes).div_ceil(PART_BYTES).max(1),
        };
        // Taken out, because a closure would be compiled without the level's instructions.
        let [mut decoded, mut sums] = SCRATCH.take();
        // One tile's sums, or those of all rows until the last part is added.
        let vectors = match parts {
            1 => MAX_TILE_VECTORS,
            _ => (end - begin) * NV + MAX_TILE_VECTORS,
        };
        let sums_at = reserve(&mut sums, vectors * V::SUMS).cast();
        // Even, so that parts of 2-bit codes start at whole bytes.
        let len = steps.div_ceil(parts).next_multiple_of(2);
        let mut from = 0;
        loop {
            let to = steps.min(from + len);
            let part = Part {
                panel,
                offsets: panel.offsets + 2 * from,
                joined: panel.joined.min(to) - panel.joined.min(from),
                apart: to.max(panel.joined) - from.max(panel.joined),
                is_first: from == 0,
                is_last: to == steps,
                ahead: stored.wrapping_add(to * step_bytes * usize::from(bits) / 8),
                len_ahead: len * step_bytes * usize::from(bits) / 8,
                sums: sums_at,
                sums_stride: if parts == 1 { 0 } else { NV * V::SUMS },
            };
            // SAFETY: the caller's promise; the buffers hold what is written there.
            unsafe {
                let bytes = stored.add(from * step_bytes * usize::from(bits) / 8);
                match (bits, in_place) {
                    (8, _) => self.rows_of::<V, NV, 8>(part, bytes, begin, end),
                    (4, true) => self.rows_of::<V, NV, 4>(part, bytes, begin, end),
                    (_, true) => self.rows_of::<V, NV, 2>(part, bytes, begin, end),
                    _ => {
                        let numbers = (len + 1) * step_bytes / size_of::<f32>();
                        let numbers = reserve(&mut decoded, numbers);
                        if bits == 4 {
                            self.decode::<V, NV, 4>(bytes, to - from, numbers);
                        } else {
                            self.decode::<V, NV, 2>(bytes, to - from, numbers);
                        }
                        self.rows_of::<V, NV, 8>(part, numbers, begin, end);
                    }
                }
            }
            from = to;
            if from == steps {
                break;
            }
        }
        SCRATCH.set([decoded, sums]);
    }

    /// Weights of one panel as 8-bit numbers.
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

    /// The rows `begin..end` of one part, whose weights are at `bytes` in `BITS` bits.
    ///
    /// # Safety
    ///
    /// As for `block`.
    #[inline(always)]
    unsafe fn rows_of<V: Int8, const NV: usize, const BITS: u8>(
        &self,
        part: Part,
        bytes: *const u8,
        begin: usize,
        end: usize,
    ) {
        let mut input = GridCursor::new(self.input_grid, begin);
        let mut output = GridCursor::new(self.output_grid, begin);
        let mut inputs = [self.input; MAX_TILE_ROWS];
        // Tiles of like height: the last are at most one row lower.
        let tiles = (end - begin).div_ceil(V::TILE_ROWS[NV - 1]);
        let (least, higher) = ((end - begin) / tiles, (end - begin) % tiles);
        let mut row = begin;
        for tile in 0..tiles {
            let height = least + usize::from(tile < higher);
            // SAFETY: the caller's promise; rows start inside the input.
            unsafe {
                for start in inputs.iter_mut().take(height) {
                    *start = self.input.add(input.next());
                }
                let to = part.sums.add((row - begin) * part.sums_stride);
                // Each tile has its share of what comes next brought near.
                let lines = (part.joined + part.apart) * LINE_BYTES;
                let (ahead, ahead_stride) = match tile * lines < part.len_ahead {
                    true => (part.ahead.wrapping_add(tile * lines), LINE_BYTES),
                    false => (bytes, 0),
                };
                let initial = self.requantize.initial().as_ptr();
                let (from, from_stride) = match part.is_first {
                    true => (initial.add(part.panel.column), 0),
                    false => (to.cast_const(), NV * V::SUMS),
                };
                macro_rules! tile {
                    ($($rows:literal)*) => {
                        match height {
                            $($rows if $rows <= V::TILE_ROWS[NV - 1]
                                && (BITS == 8 || $rows <= MAX_ROWS_DECODED_IN_PLACE) =>
                            {
                                V::run(Tile::<$rows, NV, BITS> {
                                    inputs: &inputs,
                                    offsets: self.offsets.as_ptr().add(part.offsets),
                                    bytes,
                                    table: self.weights.table().as_ptr(),
                                    joined: part.joined,
                                    apart: part.apart,
                                    ahead,
                                    ahead_stride,
                                    from,
                                    from_stride,
                                    to,
                                });
                            })*
                            _ => {}
                        }
                    };
                }
                tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                if part.is_last {
                    V::run(Finish::<NV> {
                        product: self,
                        panel: part.panel,
                        height,
                        output: &mut output,
                        sums: to,
                    });
                }
            }
            row += height;
        }
    }
}

/// Steps of a panel that are taken at once.
#[derive(Clone, Copy)]
struct Part {
    panel: Panel,
    /// Where its groups start.
    offsets: usize,
    joined: usize,
    apart: usize,
    is_first: bool,
    is_last: bool,
    /// The weights that come next, as they are stored, and about how many bytes
    /// they are.
    ahead: *const u8,
    len_ahead: usize,
    /// The rows' sums.
    sums: *mut i32,
    /// From one row's sums to the next; 0 where each tile's take the place of the last's.
    sums_stride: usize,
}

/// The sums of `MR` rows and `NV` vectors of columns, over some steps.
struct Tile<'a, const MR: usize, const NV: usize, const BITS: u8> {
    /// Where rows start.
    inputs: &'a [*const u8; MAX_TILE_ROWS],
    /// Of the steps' groups.
    offsets: *const u32,
    bytes: *const u8,
    table: *const u8,
    joined: usize,
    apart: usize,
    /// What is brought near, and from one step's line to the next.
    ahead: *const u8,
    ahead_stride: usize,
    /// What the sums start with, and from one row's to the next.
    from: *const i32,
    from_stride: usize,
    to: *mut i32,
}

impl<const MR: usize, const NV: usize, const BITS: u8> Int8Kernel for Tile<'_, MR, NV, BITS> {
    type Output = ();

    /// # Safety
    ///
    /// Offsets from `inputs`, weights and sums are where the fields say; the
    /// packing put only such groups together as `dot2` takes.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let inputs = self.inputs;
        // SAFETY: the caller's promise.
        unsafe {
            let table = V::table(self.table);
            // Loops rather than `array::from_fn`, here and below: closures are
            // compiled without the level's instructions unless they are inlined,
            // and the larger ones were not.
            let mut sums = [[V::load_sums(self.from); NV]; MR];
            for i in 0..MR {
                for j in 0..NV {
                    let from = self.from.add(i * self.from_stride + j * V::SUMS);
                    sums[i][j] = V::load_sums(from);
                }
            }
            let (mut offsets, mut bytes) = (self.offsets, self.bytes);
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
            // One group of all rows.
            macro_rules! group {
                ($offset:ident, $weights:expr) => {
                    let w = $weights;
                    for i in 0..MR {
                        let a = V::broadcast4(inputs[i].add($offset));
                        for j in 0..NV {
                            sums[i][j] = V::dot1(sums[i][j], [a, w[j]]);
                        }
                        V::hold_loads();
                    }
                };
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
                        group!(first, weights!(0, $s, $mask));
                        group!(second, weights!(1, $t, $mask));
                    }
                    offsets = offsets.add(2);
                };
            }
            match BITS {
                8 => {
                    let mut ahead = self.ahead;
                    for _ in 0..self.joined {
                        V::prefetch(ahead);
                        ahead = ahead.wrapping_add(self.ahead_stride);
                        step!(true, 0, 0, 15);
                        bytes = bytes.add(2 * NV * V::BYTES);
                    }
                    for _ in 0..self.apart {
                        V::prefetch(ahead);
                        ahead = ahead.wrapping_add(self.ahead_stride);
                        step!(false, 0, 0, 15);
                        bytes = bytes.add(2 * NV * V::BYTES);
                    }
                }
                4 => {
                    for _ in 0..self.joined {
                        step!(true, 0, 4, 15);
                        bytes = bytes.add(NV * V::BYTES);
                    }
                    for _ in 0..self.apart {
                        step!(false, 0, 4, 15);
                        bytes = bytes.add(NV * V::BYTES);
                    }
                }
                _ => {
                    for _ in 0..self.joined / 2 {
                        step!(true, 0, 2, 3);
                        step!(true, 4, 6, 3);
                        bytes = bytes.add(NV * V::BYTES);
                    }
                    let mut high = false;
                    if self.joined % 2 == 1 {
                        step!(true, 0, 2, 3);
                        high = true;
                    }
                    for _ in 0..self.apart {
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
                    V::store_sums(sums[i][j], self.to.add((i * NV + j) * V::SUMS));
                }
            }
        }
    }
}

/// The results of a tile of `NV` vectors of columns.
struct Finish<'a, const NV: usize> {
    product: &'a Product<'a>,
    panel: Panel,
    height: usize,
    /// Where the rows go.
    output: &'a mut GridCursor,
    sums: *const i32,
}

/// Vectors of sums whose results make one vector of bytes.
const QUAD: usize = 4;

impl<const NV: usize> Int8Kernel for Finish<'_, NV> {
    type Output = ();

    /// # Safety
    ///
    /// Parameters are padded to whole panels; the panel's columns below the
    /// matrix's are inside the output and the residual, and `sums` holds the
    /// rows' sums and may be read three vectors beyond them.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let Product {
            requantize,
            weights,
            residual,
            target,
            output_grid,
            ..
        } = self.product;
        let column = self.panel.column;
        let columns = (weights.columns() - column).min(NV * V::SUMS);
        // SAFETY: the caller's promise.
        unsafe {
            let splat = <V::Floats as Vector>::splat;
            let mut multiplier = [splat(0.0); QUAD];
            let mut offset = [splat(0.0); QUAD];
            for j in 0..QUAD {
                let at = column + j % NV * V::SUMS;
                multiplier[j] = Vector::load(requantize.multiplier().as_ptr().add(at));
                offset[j] = Vector::load(requantize.offset().as_ptr().add(at));
            }
            // The values of `$vectors` vectors of sums at `$sums` that go to `$output`.
            macro_rules! values {
                ($vectors:expr, $sums:expr, $output:expr, $len:expr) => {{
                    let mut values = [splat(0.0); QUAD];
                    for j in 0..$vectors {
                        let sums = V::load_sums($sums.add(j * V::SUMS));
                        values[j] = V::to_floats(sums).mul(multiplier[j]).add(offset[j]);
                    }
                    if let Some((residual, factor)) = *residual {
                        for j in 0..$vectors {
                            let at = j * V::SUMS;
                            let len = V::SUMS.min($len.saturating_sub(at));
                            let codes = V::load_first_floats(residual.add($output + at), len);
                            values[j] = values[j].add(codes.mul(splat(factor)));
                        }
                    }
                    values
                }};
            }
            let codes = match target {
                Target::Codes(codes) => codes.get(),
                Target::Floats(floats) => {
                    for i in 0..self.height {
                        let output = self.output.next() + column;
                        let values = values!(NV, self.sums.add(i * NV * V::SUMS), output, columns);
                        for j in 0..NV {
                            let at = j * V::SUMS;
                            values[j]
                                .at_least(splat(requantize.at_least))
                                .at_most(splat(requantize.at_most))
                                .store_first(
                                    floats.get().add(output + at),
                                    V::SUMS.min(columns.saturating_sub(at)),
                                );
                        }
                    }
                    return;
                }
            };
            let at_least = V::splat(requantize.at_least as u8);
            let at_most = V::splat(requantize.at_most as u8);
            let is_bounded = requantize.at_least > 0.0 || requantize.at_most < 255.0;
            macro_rules! store {
                ($values:expr, $output:expr, $len:expr) => {
                    let mut bytes = V::in_order(V::pack($values));
                    if is_bounded {
                        bytes = V::min(V::max(bytes, at_least), at_most);
                    }
                    V::store_first(bytes, codes.add($output), $len);
                };
            }
            let is_one_line = output_grid.height == 1 && output_grid.pixel_stride == columns;
            if QUAD.is_multiple_of(NV) && columns == NV * V::SUMS && is_one_line {
                // Rows follow each other without gaps.
                let output = output_grid.start + self.output.skip(self.height) * columns;
                let vectors = self.height * NV;
                let whole = vectors - vectors % QUAD;
                for i in (0..whole).step_by(QUAD) {
                    let output = output + i * V::SUMS;
                    let values = values!(QUAD, self.sums.add(i * V::SUMS), output, V::BYTES);
                    store!(values, output, V::BYTES);
                }
                if whole < vectors {
                    let (output, len) = (output + whole * V::SUMS, (vectors - whole) * V::SUMS);
                    let values = values!(QUAD, self.sums.add(whole * V::SUMS), output, len);
                    store!(values, output, len);
                }
                return;
            }
            for i in 0..self.height {
                let output = self.output.next() + column;
                let mut values = values!(NV, self.sums.add(i * NV * V::SUMS), output, columns);
                for j in NV..QUAD {
                    values[j] = values[0];
                }
                store!(values, output, columns);
            }
        }
    }
}

const _: () = assert!(PARAMETER_MULTIPLE.is_multiple_of(MAX_PANEL_VECTORS * MAX_SUMS));
