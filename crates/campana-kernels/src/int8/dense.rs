//! Matrix products of codes: dense layers and convolutions.

use std::borrow::Cow;
use std::cell::RefCell;

use super::groups::{Groups, MAX_ROWS};
use super::pack::{GroupOffsets, PackedWeights, Panel};
use super::requantize::{PARAMETER_MULTIPLE, Requantize};
use super::shape::VectorShape;
use super::tile::{Codes, Finish, Results, Target, Tile};
use super::vector::{Int8, MAX_PANEL_VECTORS, MAX_SUMS};
use crate::aligned::AlignedBuffer;
use crate::gemm::{Grid, GridCursor};
use crate::isa::{Int8Kernel, Isa};
use crate::pool::{SendPtr, ThreadPool};

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

/// Most vectors of sums of a tile, at any ISA.
const MAX_TILE_VECTORS: usize = 24;

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
/// Where the weights are laid out for another ISA, the grids differ in
/// length, a row reaches beyond its slice, output rows overlap or lie on more
/// than one line, or `requantize` is for another number of channels.
#[expect(
    clippy::too_many_arguments,
    reason = "a matrix product and where its parts lie"
)]
pub fn multiply(
    isa: Isa,
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
    assert_eq!(weights.isa(), isa, "weights laid out for this isa");
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
    assert_eq!(output_grid.height, 1, "output rows on one line");
    let threads = pool
        .threads()
        .min(rows * columns * weights.rows() / MIN_PRODUCTS_PER_THREAD)
        .max(1);
    let panels = weights.panels().len();
    let (row_jobs, panel_jobs) = split(threads, rows, panels, weights, input_grid.pixel_stride);
    let initial = initial_sums(isa, weights, requantize);
    let finish = Finish {
        requantize,
        initial: &initial,
        residual: residual.map(|(codes, factor)| (SendPtr(codes.as_ptr().cast_mut()), factor)),
        target: match output {
            Output::Codes(codes) => Target::Codes(SendPtr(codes.as_mut_ptr())),
            Output::Floats(floats) => Target::Floats(SendPtr(floats.as_mut_ptr())),
        },
        start: output_grid.start,
        stride: output_grid.pixel_stride,
        columns,
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
            isa.run_int8(Product {
                input: input.as_ptr(),
                input_grid,
                weights,
                offsets: &offsets.offsets,
                panels,
                rows: part(row_jobs, job / panel_jobs, rows),
                finish: &finish,
            });
        }
    });
}

/// What sums start with: the requantization's, and what an ISA's inputs are less by.
fn initial_sums<'a>(
    isa: Isa,
    weights: &PackedWeights,
    requantize: &'a Requantize,
) -> Cow<'a, [i32]> {
    let excess = VectorShape::of(isa).excess;
    if excess == 0 {
        return Cow::Borrowed(requantize.initial());
    }
    let mut initial = requantize.initial().to_vec();
    for (initial, sum) in initial.iter_mut().zip(weights.column_sums()) {
        // Sums may wrap on their way; what comes out is exact.
        *initial = initial.wrapping_add(sum.wrapping_mul(excess));
    }
    Cow::Owned(initial)
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

struct Product<'a> {
    input: *const u8,
    input_grid: Grid,
    weights: &'a PackedWeights,
    offsets: &'a [u32],
    panels: &'a [Panel],
    rows: std::ops::Range<usize>,
    finish: &'a Finish<'a>,
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
        if const { V::TILE_ROWS[NV - 1] == 0 } {
            unreachable!("packing makes no panels that the ISA has no tiles for");
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
        // Taken out, because a closure would be compiled without the ISA's instructions.
        let [mut decoded, mut sums] = SCRATCH.take();
        // One tile's sums, or those of all rows until the last part is added.
        let vectors = if parts == 1 {
            MAX_TILE_VECTORS
        } else {
            (end - begin) * NV
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
        const { assert!(V::TILE_ROWS[NV - 1] * NV <= MAX_TILE_VECTORS) };
        let mut input = GridCursor::new(self.input_grid, begin);
        let mut inputs = [self.input; MAX_ROWS];
        let column = part.panel.column;
        let initial = self.finish.initial[column..].as_ptr();
        // Where the groups of a tile are, of `$height` rows from the cursor's place on.
        let mut tile = 0;
        macro_rules! groups {
            ($height:expr) => {{
                match input.next_on_line($height) {
                    Some(first) => {
                        let first = self.input.add(first);
                        for i in 0..MAX_ROWS {
                            inputs[i] = first.wrapping_add(i * self.input_grid.pixel_stride);
                        }
                    }
                    None => {
                        for start in inputs.iter_mut().take($height) {
                            *start = self.input.add(input.next());
                        }
                    }
                }
                // Each tile has its share of what comes next brought near.
                let lines = tile * (part.joined + part.apart) * LINE_BYTES;
                tile += 1;
                let (ahead, ahead_stride) = match lines < part.len_ahead {
                    true => (part.ahead.wrapping_add(lines), LINE_BYTES),
                    false => (bytes, 0),
                };
                Groups {
                    inputs: &inputs,
                    offsets: self.offsets.as_ptr().add(part.offsets),
                    bytes,
                    table: self.weights.table().as_ptr(),
                    joined: part.joined,
                    apart: part.apart,
                    ahead,
                    ahead_stride,
                }
            }};
        }
        let mut row = begin;
        if const { BITS == 8 }
            && let Some(codes) = self.finish.codes().filter(|_| part.is_whole())
        {
            let height = V::TILE_ROWS[NV - 1];
            let is_biased = self.finish.requantize.is_biased();
            let adds = self.finish.residual.is_some();
            while row + height <= end {
                // SAFETY: the caller's promise; rows start inside the input.
                unsafe {
                    let groups = groups!(height);
                    // Constants of their own, so that tiles of other levels are not compiled.
                    macro_rules! codes {
                        ($($rows:literal)*) => {
                            const { assert!(V::TILE_ROWS[NV - 1] == 0 $(|| V::TILE_ROWS[NV - 1] == $rows)*) };
                            $(if const { $rows == V::TILE_ROWS[NV - 1] } {
                                codes!($rows: true true, true false, false true, false false);
                            })*
                        };
                        ($rows:literal: $($biased:literal $adds:literal),*) => {
                            $(if (is_biased, adds) == ($biased, $adds) {
                                V::run(Codes::<$rows, NV, $biased, $adds> {
                                    groups,
                                    finish: self.finish,
                                    codes,
                                    row,
                                    column,
                                });
                            })*
                        };
                    }
                    codes!(4 5 6 8 12 14);
                }
                row += height;
            }
        }
        // Tiles of like height: the last are at most one row lower.
        let tiles = (end - row).div_ceil(V::TILE_ROWS[NV - 1]);
        for left in (1..=tiles).rev() {
            let height = (end - row).div_ceil(left);
            // SAFETY: the caller's promise; rows start inside the input.
            unsafe {
                let to = match part.is_whole() {
                    true => part.sums,
                    false => part.sums.add((row - begin) * NV * V::SUMS),
                };
                let (from, from_stride) = match part.is_first {
                    true => (initial, 0),
                    false => (to.cast_const(), NV * V::SUMS),
                };
                let groups = groups!(height);
                macro_rules! tile {
                    ($($rows:literal)*) => {
                        const { assert!(V::TILE_ROWS[NV - 1] == 0 $(|| V::TILE_ROWS[NV - 1] == $rows)*) };
                        $(if const { is_tile::<V>(NV, BITS, $rows) } && height == $rows {
                            V::run(Tile::<$rows, NV, BITS> { groups, from, from_stride, to });
                        } else)* {
                            unreachable!("tiles no higher than the ISA's");
                        }
                    };
                }
                tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                if part.is_last {
                    V::run(Results::<NV> {
                        finish: self.finish,
                        row,
                        column,
                        height,
                        sums: to,
                    });
                }
            }
            row += height;
        }
    }
}

/// Whether there are tiles of so many rows.
const fn is_tile<V: Int8>(vectors: usize, bits: u8, rows: usize) -> bool {
    rows <= V::TILE_ROWS[vectors - 1] && (bits == 8 || rows <= MAX_ROWS_DECODED_IN_PLACE)
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
    /// The rows' sums until the last part is added.
    sums: *mut i32,
}

impl Part {
    /// Whether it is the only one.
    fn is_whole(&self) -> bool {
        self.is_first && self.is_last
    }
}

const _: () = assert!(PARAMETER_MULTIPLE.is_multiple_of(MAX_PANEL_VECTORS * MAX_SUMS));
