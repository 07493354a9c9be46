//! Depthwise convolution of codes: every channel has its own small filter.
//!
//! Rows of the image are interleaved four by four, once for all columns: four
//! codes of a channel, one below the other, lie side by side, and a four-way
//! dot product sums four taps of a column of the window. Where the rows that
//! were interleaved hold the windows of two rows of outputs, each column is
//! multiplied with the weights of both.
//!
//! Images of many channels are taken block by block: as many channels as a
//! vector has bytes, in the order in which interleaving gives them. Of fewer
//! channels whole rows are interleaved, so that a vector holds several pixels.

use std::cell::RefCell;

use super::interleave::{GROUP, InterleaveBlock, InterleaveRows, VECTORS};
use super::pack::Share;
use super::requantize::{Requantize, scaled};
use super::shape::{VectorShape, excess};
use super::vector::{Int8, MAX_BYTES, MAX_PAIR_SUM, QUARTER};
use crate::aligned::AlignedBuffer;
use crate::depthwise::Sliding;
use crate::isa::{Int8Kernel, Isa};
use crate::pool::{SendPtr, ThreadPool};
use crate::vector::Vector;

/// Rows of outputs whose windows share interleaved rows: 2 where the second
/// needs no more groups of rows than the first alone.
fn rows_at_once(window: [usize; 2], sliding: &Sliding) -> usize {
    let shares = sliding.output[0] > 1
        && sliding.dilations[0] == 1
        && sliding.strides[0] + window[0] <= window[0].next_multiple_of(GROUP);
    if shares { 2 } else { 1 }
}

/// Filters `[taps, channels]` in the order in which the kernel reads them, and
/// what is done with the sums.
#[derive(Clone, Debug)]
pub struct PackedTaps {
    isa: Isa,
    window: [usize; 2],
    sliding: Sliding,
    channels: usize,
    /// Rows of outputs that are computed together.
    rows: usize,
    /// Codes from one unit of a row to the next: pixels, or several of them
    /// where they have few channels and lie side by side.
    unit: usize,
    order: Order,
    /// For each dot product the group of rows that it takes and the pixels in it
    /// from the first tap to its own.
    places: Vec<[usize; 2]>,
    /// For each [`VECTORS`] vectors of a unit, each dot product and each row of
    /// outputs as many vectors of weights.
    weights: AlignedBuffer,
    /// For each lane of a unit.
    initial: Vec<i32>,
    multiplier: AlignedBuffer,
    offset: AlignedBuffer,
    is_biased: bool,
    bounds: [u8; 2],
}

/// Which codes' sums are in which of [`VECTORS`] vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Those of a vector follow each other in the row.
    Rows,
    /// Those of all vectors do, four out of each [`QUARTER`] in a vector:
    /// interleaving takes them and packing returns them so without further ado.
    Blocks,
}

/// Where a block of `bytes` channels starts that should start at `at`: the last
/// one ends with the channels and shares some with the one before.
#[inline(always)]
fn first_of(at: usize, channels: usize, bytes: usize) -> usize {
    at.min(channels - bytes)
}

impl Order {
    /// The code whose sum is at a lane, among the `unit` codes of a unit.
    fn code_of(self, lane: usize, unit: usize, shape: VectorShape) -> usize {
        match self {
            Self::Rows => lane,
            Self::Blocks => {
                let (block, lane) = (lane / shape.bytes, lane % shape.bytes);
                let (vector, lane) = (lane / shape.sums, lane % shape.sums);
                first_of(block * shape.bytes, unit, shape.bytes)
                    + lane / GROUP * QUARTER
                    + vector * GROUP
                    + lane % GROUP
            }
        }
    }
}

impl PackedTaps {
    /// Lays out the filters: `weight(tap, channel)`, the taps row by row.
    ///
    /// # Panics
    ///
    /// Where `requantize` is for another number of channels, its bounds are
    /// not codes, or a stride, a dilation or the window is zero.
    pub fn pack(
        isa: Isa,
        window: [usize; 2],
        sliding: Sliding,
        channels: usize,
        weight: impl Fn(usize, usize) -> i8,
        requantize: &Requantize,
    ) -> Self {
        assert_eq!(
            requantize.channels(),
            channels,
            "parameters of each channel"
        );
        assert!(
            requantize.at_least >= 0.0 && requantize.at_most <= 255.0,
            "bounds that are codes"
        );
        let geometry = [sliding.strides, sliding.dilations, window];
        assert!(
            geometry.iter().flatten().all(|&n| n > 0) && sliding.is_sound(window, channels),
            "strides, dilations and window"
        );
        let shape = VectorShape::of(isa);
        let [height, width] = window;
        let (order, unit, lanes) = if channels >= shape.bytes {
            let lanes = channels.next_multiple_of(shape.bytes);
            (Order::Blocks, channels, lanes)
        } else {
            let unit = match sliding.strides[1] == 1 && channels > 0 {
                true => least_common_multiple(channels, shape.bytes),
                false => channels,
            };
            (Order::Rows, unit, unit.next_multiple_of(shape.sums))
        };
        let rows = rows_at_once(window, &sliding);
        // The weights of four interleaved rows of a column of the window of output row `r`.
        let four = |group: usize, column: usize, r: usize, channel: usize| -> [i8; GROUP] {
            core::array::from_fn(|i| {
                let row = (group * GROUP + i).checked_sub(r * sliding.strides[0]);
                match row.filter(|&row| row < height) {
                    Some(row) => weight(row * width + column, channel),
                    None => 0,
                }
            })
        };
        let groups = height.div_ceil(GROUP);
        let mut dots: Vec<(usize, usize, Share)> = (0..groups)
            .flat_map(|group| (0..width).map(move |column| (group, column, Share::Whole)))
            .collect();
        let overflows = |&(group, column, _): &(usize, usize, Share)| {
            let channels = (0..channels).flat_map(|channel| (0..rows).map(move |r| (r, channel)));
            let mut pairs = channels.flat_map(|(r, channel)| {
                let [a, b, c, d] = four(group, column, r, channel).map(i32::from);
                [[a, b], [c, d]]
            });
            pairs.any(|[a, b]| (a.max(0) + b.max(0)).max(-a.min(0) - b.min(0)) > MAX_PAIR_SUM)
        };
        if !shape.exact && dots.iter().any(overflows) {
            let halves = [Share::Low, Share::High];
            dots = halves
                .iter()
                .flat_map(|&share| {
                    dots.iter()
                        .map(move |&(group, column, _)| (group, column, share))
                })
                .collect();
        }
        let vectors = lanes / shape.sums;
        let mut weights =
            AlignedBuffer::zeros(vectors * dots.len() * rows * shape.bytes / size_of::<f32>());
        let bytes = weights.as_mut_bytes();
        // The lanes that there are, and their channels.
        let channels_of: Vec<(usize, usize)> = (0..lanes)
            .map(|lane| (lane, order.code_of(lane, unit, shape)))
            .filter(|&(_, code)| code < unit)
            .map(|(lane, code)| (lane, code % channels))
            .collect();
        // Where a lane's weights of the first dot product are, and how far those of the next.
        let weights_at = |lane: usize| {
            let first = lane / (VECTORS * shape.sums) * VECTORS;
            let start = first * dots.len() * rows * shape.bytes;
            let step = VECTORS.min(vectors - first) * shape.bytes;
            (start + (lane - first * shape.sums) * GROUP, step)
        };
        for (d, &(group, column, share)) in dots.iter().enumerate() {
            for r in 0..rows {
                let fours = (0..channels).map(|channel| {
                    four(group, column, r, channel).map(|weight| share.of(weight).cast_unsigned())
                });
                let fours: Vec<[u8; GROUP]> = fours.collect();
                for &(lane, channel) in &channels_of {
                    let (start, step) = weights_at(lane);
                    let at = start + (d * rows + r) * step;
                    bytes[at..at + GROUP].copy_from_slice(&fours[channel]);
                }
            }
        }
        let mut initial = vec![0; lanes];
        let mut multiplier = AlignedBuffer::zeros(lanes);
        let mut offset = AlignedBuffer::zeros(lanes);
        for (lane, channel) in channels_of {
            let taps = (0..height * width).map(|tap| i32::from(weight(tap, channel)));
            initial[lane] =
                requantize.initial()[channel].wrapping_add(shape.excess * taps.sum::<i32>());
            multiplier.as_mut_slice()[lane] = requantize.multiplier()[channel];
            offset.as_mut_slice()[lane] = requantize.offset()[channel];
        }
        let places = dots
            .iter()
            .map(|&(group, column, _)| [group, column * sliding.dilations[1]]);
        Self {
            isa,
            window,
            sliding,
            channels,
            rows,
            unit,
            order,
            is_biased: requantize.is_biased(),
            places: places.collect(),
            weights,
            initial,
            multiplier,
            offset,
            bounds: [requantize.at_least, requantize.at_most].map(|bound| bound as u8),
        }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Bytes in memory.
    pub fn len_bytes(&self) -> usize {
        self.weights.len_bytes()
            + self.multiplier.len_bytes()
            + self.offset.len_bytes()
            + size_of_val(self.initial.as_slice())
    }

    /// Columns of the image with its border that the windows of as many outputs reach over.
    fn columns(&self, outputs: usize) -> usize {
        let last = outputs.saturating_sub(1) * self.sliding.strides[1];
        last + (self.window[1] - 1) * self.sliding.dilations[1] + 1
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a / divisor * b
}

/// Bytes of rows of the image and of what is interleaved of them that stay in
/// the nearest cache from one strip to the next.
const NEAR_BYTES: usize = 40 << 10;

/// Columns of outputs that are not divided any more.
const MIN_TILE: usize = 16;

/// Products below which waking another thread costs more than it gives.
const MIN_PRODUCTS_PER_THREAD: usize = 60_000;

/// The depthwise convolution of an image `[height, width, channels]` with a
/// border of the code `fill`. The output has the same form.
///
/// # Panics
///
/// Where the filters are laid out for another ISA, or a slice is not as long as its shape.
pub fn depthwise(
    isa: Isa,
    pool: &ThreadPool,
    input: &[u8],
    fill: u8,
    filters: &PackedTaps,
    output: &mut [u8],
) {
    let len = |[height, width]: [usize; 2]| height * width * filters.channels;
    let sliding = &filters.sliding;
    assert_eq!(filters.isa, isa, "filters laid out for this isa");
    assert_eq!(input.len(), len(sliding.input), "input's length");
    assert_eq!(output.len(), len(sliding.output), "output's length");
    if output.is_empty() {
        return;
    }
    let products = output.len() * filters.places.len() * GROUP;
    let strips = sliding.output[0].div_ceil(filters.rows);
    let jobs = match pool.threads().min(products / MIN_PRODUCTS_PER_THREAD) {
        0 | 1 => 1,
        threads => (threads * 2).min(strips),
    };
    let start = SendPtr(output.as_mut_ptr());
    pool.run(jobs, |job| {
        // SAFETY: the lengths are checked above; jobs write different rows.
        unsafe {
            isa.run_int8(Strips {
                input: input.as_ptr(),
                fill,
                filters,
                strips: strips * job / jobs..strips * (job + 1) / jobs,
                output: start.get(),
            });
        }
    });
}

thread_local! {
    /// Interleaved rows.
    static INTERLEAVED: RefCell<AlignedBuffer> = RefCell::default();
}

/// Rows of outputs, as many as are computed together in each strip.
struct Strips<'a> {
    input: *const u8,
    fill: u8,
    filters: &'a PackedTaps,
    strips: std::ops::Range<usize>,
    output: *mut u8,
}

impl Int8Kernel for Strips<'_> {
    type Output = ();

    /// # Safety
    ///
    /// Input and output are as long as the windows say, and nothing else
    /// touches these rows of the output.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let (filters, channels) = (self.filters, self.filters.channels);
        let sliding = &filters.sliding;
        let groups = filters.window[0].div_ceil(GROUP);
        let pixel = match filters.order {
            Order::Rows => channels * GROUP,
            Order::Blocks => V::BYTES * GROUP,
        };
        let tile = match filters.order {
            Order::Rows => sliding.output[1],
            Order::Blocks => {
                let near = NEAR_BYTES / (groups * (GROUP * channels + pixel));
                let tiles = filters.columns(sliding.output[1]).div_ceil(near.max(1));
                sliding.output[1].div_ceil(tiles).max(MIN_TILE)
            }
        };
        let columns = filters.columns(tile);
        // Vectors of lanes that are not stored reach over the end.
        let group_len = columns * pixel + (filters.unit + V::BYTES) * GROUP;
        // Taken out, because a closure would be compiled without the ISA's instructions.
        let mut interleaved = INTERLEAVED.take();
        let len = groups * group_len + MAX_BYTES + columns * channels;
        if interleaved.as_bytes().len() < len {
            interleaved = AlignedBuffer::zeros(len.div_ceil(size_of::<f32>()));
        }
        let scratch = interleaved.as_mut_bytes().as_mut_ptr();
        // SAFETY: the buffer ends with a row of the border.
        let border = unsafe {
            let border = scratch.add(groups * group_len + MAX_BYTES);
            border.write_bytes(self.fill, columns * channels);
            border.cast_const()
        };
        for x in (0..sliding.output[1]).step_by(tile) {
            let width = tile.min(sliding.output[1] - x);
            for strip in self.strips.clone() {
                // SAFETY: the caller's promise.
                unsafe {
                    self.strip::<V>(Area {
                        y: strip * filters.rows,
                        x,
                        width,
                        border,
                        interleaved: scratch,
                        pixel,
                        group_len,
                    });
                }
            }
        }
        INTERLEAVED.set(interleaved);
    }
}

/// Outputs of a strip, and what their windows need.
#[derive(Clone, Copy)]
struct Area {
    y: usize,
    x: usize,
    width: usize,
    /// A row of the border.
    border: *const u8,
    /// Where interleaved rows go.
    interleaved: *mut u8,
    /// Bytes from one interleaved pixel to the next.
    pixel: usize,
    /// From one group of interleaved rows to the next.
    group_len: usize,
}

impl Strips<'_> {
    /// # Safety
    ///
    /// As for `run`; the area's memory is as long as its columns need.
    #[inline(always)]
    unsafe fn strip<V: Int8>(&self, area: Area) {
        let (filters, channels) = (self.filters, self.filters.channels);
        let sliding = &filters.sliding;
        let pixel = area.pixel;
        // What lies left of the image, in it, and right of it.
        let columns = filters.columns(area.width);
        let begin = area.x * sliding.strides[1];
        let left = sliding.pads_begin[1].saturating_sub(begin).min(columns);
        let column = (begin + left).saturating_sub(sliding.pads_begin[1]);
        let inside = sliding.input[1].saturating_sub(column).min(columns - left);
        let right = columns - left - inside;
        let vectors = filters.initial.len() / V::SUMS;
        let in_blocks = filters.order == Order::Blocks;
        for first in (0..vectors).step_by(VECTORS) {
            let lane = match filters.order {
                Order::Rows => first * V::SUMS,
                Order::Blocks => first_of(first * V::SUMS, channels, V::BYTES),
            };
            let groups = match first == 0 || in_blocks {
                true => filters.window[0].div_ceil(GROUP),
                false => 0,
            };
            // SAFETY: the caller's promise; rows that no window takes have
            // weights of zero, or those of outputs that are not there.
            unsafe {
                for group in 0..groups {
                    let mut rows = [area.border; GROUP];
                    for i in 0..GROUP {
                        let tap = (group * GROUP + i) * sliding.dilations[0];
                        let row = (area.y * sliding.strides[0] + tap)
                            .checked_sub(sliding.pads_begin[0])
                            .filter(|&row| row < sliding.input[0] && inside > 0);
                        if let Some(row) = row {
                            let at = (row * sliding.input[1] + column) * channels;
                            rows[i] = self.input.add(at);
                        }
                    }
                    let to = area.interleaved.add(group * area.group_len);
                    let image = to.add(left * pixel);
                    // Less 128, in a byte.
                    let fill = self.fill.wrapping_sub(excess::<V>() as u8);
                    to.write_bytes(fill, left * pixel);
                    if in_blocks {
                        V::run(InterleaveBlock {
                            rows,
                            first: lane,
                            channels,
                            pixels: inside,
                            to: image,
                        });
                    } else {
                        V::run(InterleaveRows {
                            rows,
                            len: inside * channels,
                            to: image,
                        });
                    }
                    image.add(inside * pixel).write_bytes(fill, right * pixel);
                }
                let (count, biased) = (VECTORS.min(vectors - first), filters.is_biased);
                macro_rules! outputs {
                    ($($rows:literal $vectors:literal $exact:literal $units:literal;)*) => {
                        $(if const { V::EXACT == $exact } && (filters.rows, count) == ($rows, $vectors) {
                            outputs!($rows $vectors $units true);
                            outputs!($rows $vectors $units false);
                        })*
                    };
                    ($rows:literal $vectors:literal $units:literal $biased:literal) => {
                        if biased == $biased {
                            V::run(Outputs::<$rows, $vectors, $units, $biased> {
                                filters,
                                first,
                                lane,
                                area,
                                output: self.output,
                            });
                        }
                    };
                }
                outputs!(
                    1 1 true 4; 1 2 true 4; 1 3 true 4; 1 4 true 4;
                    2 1 true 3; 2 2 true 3; 2 3 true 3; 2 4 true 3;
                    1 1 false 2; 1 2 false 2; 1 3 false 2; 1 4 false 2;
                    2 1 false 1; 2 2 false 1; 2 3 false 1; 2 4 false 1;
                );
            }
        }
    }
}

/// `NV` vectors of each unit of `R` rows of outputs, up to `U` units at a time;
/// `BIASED` as the parameters are.
struct Outputs<'a, const R: usize, const NV: usize, const U: usize, const BIASED: bool> {
    filters: &'a PackedTaps,
    /// The first of the vectors, and what of each unit comes before it.
    first: usize,
    lane: usize,
    area: Area,
    output: *mut u8,
}

impl<const R: usize, const NV: usize, const U: usize, const BIASED: bool> Int8Kernel
    for Outputs<'_, R, NV, U, BIASED>
{
    type Output = ();

    /// # Safety
    ///
    /// The interleaved rows hold the windows of these outputs.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let filters = self.filters;
        let (channels, unit) = (filters.channels, filters.unit);
        let (width, lane) = (self.area.width, self.lane);
        let pixels = unit / channels;
        let (whole, units) = (width / pixels, width.div_ceil(pixels));
        let len = (NV * V::SUMS).min(unit - lane);
        let mut x = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while x + U <= whole {
                self.units::<V, U>(x, len);
                x += U;
            }
            if U > 2 && x + 2 <= whole {
                self.units::<V, 2>(x, len);
                x += 2;
            }
            while x < units {
                let left = width * channels - x * unit;
                if left > lane {
                    self.units::<V, 1>(x, len.min(left - lane));
                }
                x += 1;
            }
        }
    }
}

impl<const R: usize, const NV: usize, const U: usize, const BIASED: bool>
    Outputs<'_, R, NV, U, BIASED>
{
    /// `N` units from unit `x` on, `len` lanes of each.
    ///
    /// # Safety
    ///
    /// As for `run`.
    #[inline(always)]
    unsafe fn units<V: Int8, const N: usize>(&self, x: usize, len: usize) {
        let filters = self.filters;
        let (channels, unit, sliding) = (filters.channels, filters.unit, &filters.sliding);
        // Bytes of the interleaved rows from one unit to the next.
        let step = unit / channels * sliding.strides[1] * self.area.pixel;
        // SAFETY: the caller's promise; parameters are padded to whole vectors.
        unsafe {
            let parameters = self.first * V::SUMS;
            let initial = filters.initial.as_ptr().add(parameters);
            let mut sums = [[[V::load_sums(initial); NV]; N]; R];
            for r in 0..R {
                for i in 0..N {
                    for j in 0..NV {
                        sums[r][i][j] = V::load_sums(initial.add(j * V::SUMS));
                    }
                }
            }
            let vectors = self.first * filters.places.len() * R;
            let weights = filters.weights.as_bytes().as_ptr();
            let mut weights = weights.add(vectors * V::BYTES);
            let start = self.area.interleaved.cast_const().add(x * step);
            let start = match filters.order {
                Order::Rows => start.add(GROUP * self.lane),
                Order::Blocks => start,
            };
            for &[group, column] in &filters.places {
                let taps = start.add(group * self.area.group_len + column * self.area.pixel);
                for j in 0..NV {
                    for i in 0..N {
                        let taps = V::load(taps.add(i * step + j * V::BYTES));
                        for r in 0..R {
                            let weights = V::load(weights.add((r * NV + j) * V::BYTES));
                            sums[r][i][j] = V::dot1(sums[r][i][j], [taps, weights]);
                        }
                    }
                }
                weights = weights.add(R * NV * V::BYTES);
            }
            let multiplier = filters.multiplier.as_slice().as_ptr().add(parameters);
            let offset = filters.offset.as_slice().as_ptr().add(parameters);
            let (at_least, at_most) = (V::splat(filters.bounds[0]), V::splat(filters.bounds[1]));
            // Written out, not looped over: else compilers keep the sums in memory.
            macro_rules! finish {
                ($($r:literal $i:literal,)*) => {
                    $(if $r < R && $i < N && self.area.y + $r < sliding.output[0] {
                        let mut values = [<V::Floats as Vector>::splat(0.0); VECTORS];
                        for j in 0..NV {
                            let multiplier = Vector::load(multiplier.add(j * V::SUMS));
                            let offset = Vector::load(offset.add(j * V::SUMS));
                            values[j] = scaled::<V>(sums[$r][$i][j], BIASED, multiplier, offset);
                        }
                        for j in NV..VECTORS {
                            values[j] = values[0];
                        }
                        let mut bytes = V::pack(values);
                        if NV < VECTORS || filters.order == Order::Rows {
                            bytes = V::in_order(bytes);
                        }
                        bytes = V::min(V::max(bytes, at_least), at_most);
                        let row = (self.area.y + $r) * sliding.output[1] + self.area.x;
                        let output = row * channels + (x + $i) * unit + self.lane;
                        V::store_first(bytes, self.output.add(output), len);
                    })*
                };
            }
            finish!(0 0, 0 1, 0 2, 0 3, 1 0, 1 1, 1 2, 1 3,);
        }
    }
}
