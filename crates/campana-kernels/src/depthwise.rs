//! Depthwise convolution: every channel has its own small filter.
//!
//! Channels-last, so a vector is some channels of one pixel and nothing ever
//! crosses lanes. Up to seven neighbouring outputs are summed at once, one or
//! two vectors each: a row of the filter stays in registers, and a loaded value
//! serves every output whose window covers it. All rows are done for as many
//! channels as keep their filters in the first cache before the next channels.

use std::ops::Range;

use crate::aligned::AlignedBuffer;
use crate::codes::{CodedMatrix, Decoding, give_back, take_buffer};
use crate::isa::{Isa, Kernel};
use crate::pool::{SendPtr, ThreadPool};
use crate::vector::{MAX_LANES, MIN_LANES, Vector};

/// Filters `[window height, window width, channels]` and a bias for each channel.
#[derive(Clone, Debug)]
pub struct PackedFilters {
    window: [usize; 2],
    channels: usize,
    values: Values,
    bias: AlignedBuffer,
}

/// Weights of all taps, channels padded to whole vectors.
#[derive(Clone, Debug)]
enum Values {
    Floats(AlignedBuffer),
    Codes(CodedMatrix),
}

impl PackedFilters {
    /// Lays out the filters; `value(ky, kx, channel)` gives the weights and
    /// `bias(channel)` the biases.
    ///
    /// # Panics
    ///
    /// Where there are more weights than can be counted.
    pub fn pack(
        window: [usize; 2],
        channels: usize,
        value: impl Fn(usize, usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let padded = channels.next_multiple_of(MIN_LANES);
        let len = window[0]
            .checked_mul(window[1])
            .and_then(|taps| taps.checked_mul(padded))
            .expect("filters that fit in memory");
        let mut values = AlignedBuffer::zeros(len);
        for ky in 0..window[0] {
            for kx in 0..window[1] {
                let row = &mut values.as_mut_slice()[(ky * window[1] + kx) * padded..];
                for channel in 0..channels {
                    row[channel] = value(ky, kx, channel);
                }
            }
        }
        Self {
            window,
            channels,
            values: Values::Floats(values),
            bias: packed_bias(channels, bias),
        }
    }

    /// Lays out filters of the codes `code(ky, kx, channel)`; to the decoding
    /// they are a matrix of a row for each tap and a column for each channel.
    /// Each channel's weights are then multiplied with `factors`, unless that
    /// is empty.
    ///
    /// # Panics
    ///
    /// Where a list of the decoding is not as long as said there, names a block
    /// or table that is not there, a code has no level, or there are more
    /// weights than can be counted.
    pub fn pack_codes(
        window: [usize; 2],
        channels: usize,
        decoding: Decoding,
        factors: &[f32],
        code: impl Fn(usize, usize, usize) -> u8,
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let taps = window[0].checked_mul(window[1]);
        let taps = taps.expect("filters that fit in memory");
        let mut codes = CodedMatrix::pack(taps, channels, decoding, |tap, channel| {
            code(tap / window[1], tap % window[1], channel)
        });
        if !factors.is_empty() {
            codes.scale_columns(factors);
        }
        Self {
            window,
            channels,
            values: Values::Codes(codes),
            bias: packed_bias(channels, bias),
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.window[0] * self.window[1] * self.channels
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Bytes in memory.
    pub fn len_bytes(&self) -> usize {
        let values = match &self.values {
            Values::Floats(values) => values.len_bytes(),
            Values::Codes(codes) => codes.len_bytes(),
        };
        values + self.bias.len_bytes()
    }
}

fn packed_bias(channels: usize, bias: impl Fn(usize) -> f32) -> AlignedBuffer {
    let mut packed = AlignedBuffer::zeros(channels.next_multiple_of(MIN_LANES));
    for channel in 0..channels {
        packed.as_mut_slice()[channel] = bias(channel);
    }
    packed
}

/// How the windows lie over one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliding {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Step of the window.
    pub strides: [usize; 2],
    /// Distance of the window's taps.
    pub dilations: [usize; 2],
    /// Pixels outside the image before each axis.
    pub pads_begin: [usize; 2],
}

impl Sliding {
    /// Whether positions and lengths can be computed without overflow.
    pub(crate) fn is_sound(&self, window: [usize; 2], channels: usize) -> bool {
        let product = |[a, b]: [usize; 2]| a.checked_mul(b)?.checked_mul(channels);
        let reaches = (0..2).all(|axis| {
            let reach = || {
                let start = self.output[axis].checked_mul(self.strides[axis])?;
                let span = window[axis].checked_mul(self.dilations[axis])?;
                let pad = self.pads_begin[axis].checked_add(self.input[axis])?;
                start.checked_add(span)?.checked_add(pad)
            };
            reach().is_some()
        });
        reaches && product(self.input).is_some() && product(self.output).is_some()
    }

    /// The window's taps that fall inside the image, for one output position on an axis.
    pub(crate) fn taps(&self, axis: usize, window: usize, output: usize) -> Range<usize> {
        let start = output * self.strides[axis];
        let (pad, dilation) = (self.pads_begin[axis], self.dilations[axis]);
        let first = pad.saturating_sub(start).div_ceil(dilation).min(window);
        let end = (self.input[axis] + pad)
            .saturating_sub(start)
            .div_ceil(dilation)
            .min(window);
        first..end.max(first)
    }
}

/// Bytes of weights that stay in the first cache beside the rows they meet.
const WEIGHT_BLOCK_BYTES: usize = 8 << 10;

/// Channels of a block are a multiple of this, four of the widest vectors.
const CHANNEL_STEP: usize = 4 * MAX_LANES;

/// Products below which waking another thread costs more than it gives.
const MIN_PRODUCTS_PER_THREAD: usize = 30_000;

/// The depthwise convolution of one image `[height, width, channels]`;
/// the result is raised to `at_least` and lowered to `at_most` (NaN stays NaN).
///
/// # Panics
///
/// Where a slice is not as long as its shape, or a stride, a dilation or the window is zero.
#[expect(clippy::too_many_arguments, reason = "a convolution and its bounds")]
pub fn depthwise(
    isa: Isa,
    pool: &ThreadPool,
    input: &[f32],
    filters: &PackedFilters,
    sliding: Sliding,
    at_least: f32,
    at_most: f32,
    output: &mut [f32],
) {
    let channels = filters.channels;
    let [out_height, out_width] = sliding.output;
    assert!(
        sliding.is_sound(filters.window, channels),
        "extents that can be counted"
    );
    assert_eq!(
        input.len(),
        sliding.input[0] * sliding.input[1] * channels,
        "input's length"
    );
    assert_eq!(
        output.len(),
        out_height * out_width * channels,
        "output's length"
    );
    let geometry = [sliding.strides, sliding.dilations, filters.window];
    assert!(
        geometry.iter().flatten().all(|&n| n > 0),
        "strides, dilations and window"
    );
    if output.is_empty() {
        return;
    }
    let taps = filters.window[0] * filters.window[1];
    let block = (WEIGHT_BLOCK_BYTES / (taps * size_of::<f32>()) / CHANNEL_STEP).max(1);
    let block = block * CHANNEL_STEP;
    let blocks = channels.div_ceil(block);
    let threads = pool.threads();
    let threads = threads.min(output.len() * taps / MIN_PRODUCTS_PER_THREAD);
    // Few rows are too uneven parts.
    let (row_jobs, channel_jobs) = match threads {
        0 | 1 => (1, 1),
        _ if out_height < 4 * threads && blocks >= threads => (1, (2 * threads).min(blocks)),
        _ => ((2 * threads).min(out_height), 1),
    };
    let start = SendPtr(output.as_mut_ptr());
    let mut decoded = None;
    let weights = match &filters.values {
        Values::Floats(values) => values.as_slice(),
        Values::Codes(codes) => {
            let len = filters.window[0] * filters.window[1] * filters.bias.as_slice().len();
            let buffer = decoded.insert(take_buffer(len));
            codes.decode_rows(isa, buffer.as_mut_slice());
            buffer.as_slice()
        }
    };
    pool.run(row_jobs * channel_jobs, |job| {
        let (row_job, channel_job) = (job / channel_jobs, job % channel_jobs);
        let first_block = blocks * channel_job / channel_jobs;
        let end_block = blocks * (channel_job + 1) / channel_jobs;
        // SAFETY: the lengths are checked above; jobs write different rows or channels.
        unsafe {
            isa.run(Rows {
                input: input.as_ptr(),
                filters,
                weights,
                sliding: &sliding,
                rows: out_height * row_job / row_jobs..out_height * (row_job + 1) / row_jobs,
                channels: first_block * block..channels.min(end_block * block),
                block,
                at_least,
                at_most,
                output: start.get(),
            });
        }
    });
    if let Some(buffer) = decoded {
        give_back(buffer);
    }
}

struct Rows<'a> {
    input: *const f32,
    filters: &'a PackedFilters,
    /// The filters' values, decoded.
    weights: &'a [f32],
    sliding: &'a Sliding,
    rows: Range<usize>,
    channels: Range<usize>,
    /// Channels that all rows are done for before the next.
    block: usize,
    at_least: f32,
    at_most: f32,
    output: *mut f32,
}

impl Kernel for Rows<'_> {
    type Output = ();

    /// # Safety
    ///
    /// Input, weights and output are as long as their shapes, and nothing else
    /// touches these channels of these rows.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let dense = self.sliding.dilations[1] == 1;
        // SAFETY: the caller's promise.
        unsafe {
            match (self.filters.window[1], self.sliding.strides[1]) {
                (3, 1) if dense => self.rows::<V, 3, 1>(),
                (3, 2) if dense => self.rows::<V, 3, 2>(),
                (5, 1) if dense => self.rows::<V, 5, 1>(),
                (5, 2) if dense => self.rows::<V, 5, 2>(),
                _ => self.rows::<V, 0, 1>(),
            }
        }
    }
}

/// Outputs in a row that are summed at once: most networks' images have sides
/// of a multiple of 7.
const WIDE_TILE: usize = 7;

/// The same where fewer are left. Shorter rows are summed output by output.
const TILE: usize = 4;

impl Rows<'_> {
    /// All rows; `KW` is the window's width and `SX` its step, or `KW` is 0
    /// where only the slow path knows them.
    ///
    /// # Safety
    ///
    /// As for `run`.
    #[inline(always)]
    unsafe fn rows<V: Vector, const KW: usize, const SX: usize>(&self) {
        let width = self.sliding.output[1];
        for first in self.channels.clone().step_by(self.block) {
            let block = first..self.channels.end.min(first + self.block);
            for y in self.rows.clone() {
                let mut x = 0;
                while x < width {
                    let block = block.clone();
                    // SAFETY: the caller's promise; tiles end inside the row.
                    unsafe {
                        if KW == 0 || width < TILE {
                            self.pixel::<V>(y, x, block);
                            x += 1;
                            continue;
                        }
                        let left = width - x;
                        if left == WIDE_TILE || left > 2 * TILE {
                            self.tile::<V, KW, SX, WIDE_TILE>(y, x, block);
                            x += WIDE_TILE;
                        } else {
                            // The last tile may begin before the end of the one before.
                            x = x.min(width - TILE);
                            self.tile::<V, KW, SX, TILE>(y, x, block);
                            x += TILE;
                        }
                    }
                }
            }
        }
    }

    /// Where the input row under tap `ky` of output row `y` starts.
    #[inline(always)]
    fn row_start(&self, y: usize, ky: usize) -> usize {
        let [stride, dilation] = [self.sliding.strides[0], self.sliding.dilations[0]];
        (y * stride + ky * dilation - self.sliding.pads_begin[0])
            * self.sliding.input[1]
            * self.filters.channels
    }

    /// `TX` neighbouring outputs.
    ///
    /// # Safety
    ///
    /// As for `run`.
    #[inline(always)]
    unsafe fn tile<V: Vector, const KW: usize, const SX: usize, const TX: usize>(
        &self,
        y: usize,
        x: usize,
        channels: Range<usize>,
    ) {
        let Range {
            start: mut channel,
            end: channels,
        } = channels;
        // SAFETY: as for the caller.
        unsafe {
            // Sums and a row of weights fill the registers.
            while V::REGISTERS >= 32 && channel + 2 * V::LANES <= channels {
                self.tile_channels::<V, KW, SX, TX, 2>(y, x, channel);
                channel += 2 * V::LANES;
            }
            while channel + V::LANES <= channels {
                self.tile_channels::<V, KW, SX, TX, 1>(y, x, channel);
                channel += V::LANES;
            }
            while channel + MIN_LANES <= channels {
                self.tile_channels::<V::Narrow, KW, SX, TX, 1>(y, x, channel);
                channel += MIN_LANES;
            }
            if channel < channels {
                for x in x..x + TX {
                    self.pixel_channels::<V::Narrow, 1>(y, x, channel, channels - channel);
                }
            }
        }
    }

    /// `NV` vectors of channels of a tile.
    ///
    /// # Safety
    ///
    /// As for `tile`; the channels exist.
    #[inline(always)]
    unsafe fn tile_channels<
        V: Vector,
        const KW: usize,
        const SX: usize,
        const TX: usize,
        const NV: usize,
    >(
        &self,
        y: usize,
        x: usize,
        channel: usize,
    ) {
        static OUTSIDE: [f32; 2 * MAX_LANES] = [0.0; 2 * MAX_LANES];
        let channels = self.filters.channels;
        let padded = channels.next_multiple_of(MIN_LANES);
        // Before the row, where the window begins there.
        let first_column = (x * SX).wrapping_sub(self.sliding.pads_begin[1]);
        // SAFETY: as for `tile`; columns outside the row are read from zeros.
        unsafe {
            let mut bias = [V::splat(0.0); NV];
            for j in 0..NV {
                let from = self.filters.bias.as_slice().as_ptr();
                bias[j] = V::load(from.add(channel + j * V::LANES));
            }
            let mut sums = [bias; TX];
            for ky in self.sliding.taps(0, self.filters.window[0], y) {
                let row = self.input.add(self.row_start(y, ky) + channel);
                let from = self.weights.as_ptr().add(ky * KW * padded + channel);
                let mut weights = [bias; KW];
                for kx in 0..KW {
                    for j in 0..NV {
                        weights[kx][j] = V::load(from.add(kx * padded + j * V::LANES));
                    }
                }
                // Written out, here and below, so that the sums stay in registers.
                macro_rules! add_columns {
                    ($($column:literal)*) => {
                        $(if $column < (TX - 1) * SX + KW {
                            let column = first_column.wrapping_add($column);
                            let from = if column < self.sliding.input[1] {
                                row.add(column * channels)
                            } else {
                                OUTSIDE.as_ptr()
                            };
                            for j in 0..NV {
                                let value = V::load(from.add(j * V::LANES));
                                for kx in 0..KW {
                                    // The output whose tap this is, if there is one.
                                    if $column >= kx
                                        && ($column - kx) % SX == 0
                                        && ($column - kx) / SX < TX
                                    {
                                        let sum = &mut sums[($column - kx) / SX][j];
                                        *sum = value.mul_add(weights[kx][j], *sum);
                                    }
                                }
                            }
                        })*
                    };
                }
                add_columns!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
            }
            let at = (y * self.sliding.output[1] + x) * channels + channel;
            macro_rules! store {
                ($($t:literal)*) => {
                    $(if $t < TX {
                        for j in 0..NV {
                            self.bounded(sums[$t % TX][j])
                                .store(self.output.add(at + $t * channels + j * V::LANES));
                        }
                    })*
                };
            }
            store!(0 1 2 3 4 5 6);
        }
    }

    #[inline(always)]
    fn bounded<V: Vector>(&self, value: V) -> V {
        value
            .at_least(V::splat(self.at_least))
            .at_most(V::splat(self.at_most))
    }

    /// One output, whatever its window.
    ///
    /// # Safety
    ///
    /// As for `run`.
    #[inline(always)]
    unsafe fn pixel<V: Vector>(&self, y: usize, x: usize, channels: Range<usize>) {
        let Range {
            start: mut channel,
            end: channels,
        } = channels;
        // SAFETY: as for the caller.
        unsafe {
            while channel + 4 * V::LANES <= channels {
                self.pixel_channels::<V, 4>(y, x, channel, V::LANES);
                channel += 4 * V::LANES;
            }
            while channel + V::LANES <= channels {
                self.pixel_channels::<V, 1>(y, x, channel, V::LANES);
                channel += V::LANES;
            }
            while channel < channels {
                let lanes = MIN_LANES.min(channels - channel);
                self.pixel_channels::<V::Narrow, 1>(y, x, channel, lanes);
                channel += MIN_LANES;
            }
        }
    }

    /// `NV` vectors of channels of one output; the last has `lanes` of them.
    ///
    /// # Safety
    ///
    /// As for `pixel`; the channels exist, and `lanes` is less than a vector's only
    /// where `NV` is 1 and the vector of [`MIN_LANES`].
    #[inline(always)]
    unsafe fn pixel_channels<V: Vector, const NV: usize>(
        &self,
        y: usize,
        x: usize,
        channel: usize,
        lanes: usize,
    ) {
        let channels = self.filters.channels;
        let padded = channels.next_multiple_of(MIN_LANES);
        let [kh, kw] = self.filters.window;
        let columns = self.sliding.taps(1, kw, x);
        // SAFETY: `taps` gives only taps inside the image.
        unsafe {
            let bias = self.filters.bias.as_slice().as_ptr().add(channel);
            let mut sums = [V::splat(0.0); NV];
            for j in 0..NV {
                sums[j] = V::load(bias.add(j * V::LANES));
            }
            for ky in self.sliding.taps(0, kh, y) {
                let row = self.row_start(y, ky) + channel;
                let weights = self.weights.as_ptr().add(ky * kw * padded + channel);
                for kx in columns.clone() {
                    let column = x * self.sliding.strides[1] + kx * self.sliding.dilations[1]
                        - self.sliding.pads_begin[1];
                    let input = self.input.add(row + column * channels);
                    for j in 0..NV {
                        let value = V::load_first(input.add(j * V::LANES), lanes);
                        let weight = V::load(weights.add(kx * padded + j * V::LANES));
                        sums[j] = value.mul_add(weight, sums[j]);
                    }
                }
            }
            let to = self
                .output
                .add((y * self.sliding.output[1] + x) * channels + channel);
            for j in 0..NV {
                self.bounded(sums[j])
                    .store_first(to.add(j * V::LANES), lanes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{channels_first, channels_last};
    use crate::reference::{ConvShape, reference_conv};

    /// Sums of at most 25 products of size 1.
    const MAX_ERROR: f32 = 5e-6;

    fn noise(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn every_geometry_equals_the_reference_at_every_level() {
        let geometries = [
            ([3, 3], [1, 1], [1, 1], [1, 1], [1, 1]),
            ([3, 3], [2, 2], [1, 1], [0, 0], [1, 1]),
            ([3, 3], [2, 2], [1, 1], [1, 1], [1, 1]),
            ([5, 5], [1, 1], [1, 1], [2, 2], [2, 2]),
            ([5, 5], [2, 2], [1, 1], [1, 2], [2, 2]),
            ([3, 3], [1, 1], [2, 3], [2, 3], [2, 3]),
            ([2, 4], [3, 1], [1, 1], [0, 3], [1, 0]),
            ([1, 3], [1, 2], [1, 1], [0, 4], [0, 5]),
        ];
        let pools = [ThreadPool::serial(), ThreadPool::new(2)];
        for (window, strides, dilations, pads_begin, pads_end) in geometries {
            for input in [[7, 7], [1, 1], [9, 14], [3, 5], [2, 19]] {
                for channels in [1, 7, 8, 16, 24, 35, 40, 72] {
                    let shape = ConvShape {
                        batch: 1,
                        channels,
                        input,
                        filters: channels,
                        window,
                        strides,
                        dilations,
                        pads_begin,
                        pads_end,
                        groups: channels,
                    };
                    let [height, width] = shape.output();
                    let image = noise(input[0] * input[1] * channels, 1);
                    let weights = noise(window[0] * window[1] * channels, 2);
                    let bias = noise(channels, 3);
                    let expected = reference_conv(&shape, &image, &weights, &bias);
                    let expected: Vec<f32> = expected.iter().map(|v| v.clamp(-1.0, 1.5)).collect();
                    let filters = PackedFilters::pack(
                        window,
                        channels,
                        |ky, kx, c| weights[(c * window[0] + ky) * window[1] + kx],
                        |c| bias[c],
                    );
                    let sliding = Sliding {
                        input,
                        output: [height, width],
                        strides,
                        dilations,
                        pads_begin,
                    };
                    let mut last = vec![0.0; image.len()];
                    channels_last(&image, channels, &mut last);
                    for (isa, pool) in Isa::available()
                        .into_iter()
                        .flat_map(|l| pools.iter().map(move |p| (l, p)))
                    {
                        let mut output = vec![f32::NAN; expected.len()];
                        depthwise(isa, pool, &last, &filters, sliding, -1.0, 1.5, &mut output);
                        let mut first = vec![0.0; output.len()];
                        channels_first(&output, channels, &mut first);
                        for (a, e) in first.iter().zip(&expected) {
                            assert!((a - e).abs() < MAX_ERROR, "{a} for {e}: {shape:?}");
                        }
                    }
                }
            }
        }
    }
}
