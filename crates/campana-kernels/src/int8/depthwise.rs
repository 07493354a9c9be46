//! Depthwise convolution of codes: every channel has its own small filter.
//!
//! The taps of a window are taken four by four: four inputs of each channel
//! are interleaved, so that a four-way dot product sums within a
//! channel. Three dot products make a 3x3 window, seven a 5x5 one. Where an
//! image has few channels, a vector holds those of several neighbouring pixels.

use super::requantize::Requantize;
use super::vector::{Int8, MAX_PAIR_SUM, VectorShape, channel_of};
use crate::aligned::AlignedBuffer;
use crate::gemm::Grid;
use crate::level::{Int8Kernel, Level};
use crate::pool::{SendPtr, ThreadPool};
use crate::vector::Vector;

/// Taps of one dot product.
const GROUP: usize = 4;

/// Vectors of sums of as many channels as a vector has bytes.
const VECTORS: usize = 4;

/// Filters `[taps, channels]` in the order in which the kernel reads them, and
/// what is done with the sums.
#[derive(Clone, Debug)]
pub struct PackedTaps {
    level: Level,
    channels: usize,
    /// Offsets in the input of the four taps of each dot product.
    offsets: Vec<[usize; GROUP]>,
    /// For each block, channels of a vector of bytes, and each dot product 4 vectors of weights.
    weights: AlignedBuffer,
    /// For each block its values in the order of the sums.
    initial: Vec<i32>,
    multiplier: AlignedBuffer,
    offset: AlignedBuffer,
    bounds: [u8; 2],
    /// Neighbouring pixels in a vector.
    pixels: usize,
}

impl PackedTaps {
    /// Lays out the filters: `weight(tap, channel)`, with the tap's input at
    /// `taps[tap]` behind that of the first.
    ///
    /// Where `dense` says that the windows of neighbouring outputs are
    /// neighbours, vectors may span pixels.
    ///
    /// # Panics
    ///
    /// Where `requantize` is for another number of channels, or its bounds are not codes.
    pub fn pack(
        level: Level,
        taps: &[usize],
        channels: usize,
        weight: impl Fn(usize, usize) -> i8,
        requantize: &Requantize,
        dense: bool,
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
        let VectorShape {
            bytes, sums, exact, ..
        } = VectorShape::of(level);
        let pixels = if dense && channels > 0 && bytes.is_multiple_of(channels) {
            bytes / channels
        } else {
            1
        };
        let lanes = (channels * pixels).next_multiple_of(bytes);
        // The channel in a lane, where there is one.
        let channel_in = |lane: usize| (lane < channels * pixels).then(|| lane % channels);
        let mut groups: Vec<Vec<(usize, Part)>> = (0..taps.len())
            .step_by(GROUP)
            .map(|first| {
                (first..taps.len().min(first + GROUP))
                    .map(|tap| (tap, Part::Whole))
                    .collect()
            })
            .collect();
        let overflows = !exact
            && (0..channels).any(|channel| {
                groups.iter().flat_map(|group| group.chunks(2)).any(|pair| {
                    let sum = |sign: i32| -> i32 {
                        let weights = pair
                            .iter()
                            .map(|&(tap, _)| sign * i32::from(weight(tap, channel)));
                        weights.map(|weight| weight.max(0)).sum()
                    };
                    sum(1).max(sum(-1)) > MAX_PAIR_SUM
                })
            });
        if overflows {
            let half = |part| {
                move |group: &Vec<(usize, Part)>| {
                    group.iter().map(|&(tap, _)| (tap, part)).collect()
                }
            };
            groups = groups
                .iter()
                .map(half(Part::Low))
                .chain(groups.iter().map(half(Part::High)))
                .collect();
        }
        let mut weights = AlignedBuffer::zeros(lanes * GROUP * groups.len() / size_of::<f32>());
        let mut initial = vec![0; lanes];
        let mut multiplier = AlignedBuffer::zeros(lanes);
        let mut offset = AlignedBuffer::zeros(lanes);
        for block in 0..lanes / bytes {
            for vector in 0..VECTORS {
                for lane in 0..sums {
                    let Some(channel) = channel_in(block * bytes + channel_of(vector, lane)) else {
                        continue;
                    };
                    let at = block * bytes + vector * sums + lane;
                    initial[at] = requantize.initial()[channel];
                    multiplier.as_mut_slice()[at] = requantize.multiplier()[channel];
                    offset.as_mut_slice()[at] = requantize.offset()[channel];
                    for (g, group) in groups.iter().enumerate() {
                        let start = ((block * groups.len() + g) * VECTORS + vector) * bytes;
                        for (i, &(tap, part)) in group.iter().enumerate() {
                            weights.as_mut_bytes()[start + lane * GROUP + i] =
                                part.of(weight(tap, channel)).cast_unsigned();
                        }
                    }
                }
            }
        }
        let offsets = groups.iter().map(|group| {
            // Taps that are not there have weights of zero.
            core::array::from_fn(|i| taps[group.get(i).unwrap_or(&group[0]).0])
        });
        Self {
            level,
            channels,
            offsets: offsets.collect(),
            weights,
            initial,
            multiplier,
            offset,
            bounds: [requantize.at_least, requantize.at_most].map(|bound| bound as u8),
            pixels,
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

    /// Bytes that are read behind the start of a window, what is not used included.
    pub fn reach(&self) -> usize {
        let last = self.offsets.iter().flatten().max().copied().unwrap_or(0);
        last + self.initial.len()
    }
}

/// What of a weight a dot product takes; both halves where the whole could overflow.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    Low,
    High,
}

impl Part {
    fn of(self, weight: i8) -> i8 {
        match self {
            Self::Whole => weight,
            Self::Low => weight >> 1,
            Self::High => weight - (weight >> 1),
        }
    }
}

/// Products below which waking another thread costs more than it gives.
const MIN_PRODUCTS_PER_THREAD: usize = 60_000;

/// The depthwise convolution of an image that has its border already: output
/// pixel `i` has its window at the `i`-th place of `input_grid`. The output
/// `[height, width, channels]` has no gaps.
///
/// # Panics
///
/// Where the filters are laid out for another level, or a slice is too short: the input must hold [`PackedTaps::reach`] bytes
/// behind the last window's start.
pub fn depthwise(
    level: Level,
    pool: &ThreadPool,
    input: &[u8],
    input_grid: Grid,
    filters: &PackedTaps,
    output: &mut [u8],
) {
    assert_eq!(filters.level, level, "filters laid out for this level");
    assert!(
        input_grid.fits(filters.reach(), input.len()),
        "input too short"
    );
    assert_eq!(
        output.len(),
        input_grid.len() * filters.channels,
        "output's length"
    );
    if output.is_empty() {
        return;
    }
    let products = output.len() * filters.offsets.len() * GROUP;
    let jobs = match pool.threads().min(products / MIN_PRODUCTS_PER_THREAD) {
        0 | 1 => 1,
        threads => (threads * 2).min(input_grid.height),
    };
    let start = SendPtr(output.as_mut_ptr());
    let height = input_grid.height;
    pool.run(jobs, |job| {
        // SAFETY: the lengths are checked above; jobs write different rows.
        unsafe {
            level.run_int8(Rows {
                input: input.as_ptr(),
                grid: input_grid,
                filters,
                rows: height * job / jobs..height * (job + 1) / jobs,
                output: start.get(),
            });
        }
    });
}

struct Rows<'a> {
    input: *const u8,
    grid: Grid,
    filters: &'a PackedTaps,
    rows: std::ops::Range<usize>,
    output: *mut u8,
}

impl Int8Kernel for Rows<'_> {
    type Output = ();

    /// # Safety
    ///
    /// Input and output are as long as the grid says, and nothing else touches these rows.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let filters = self.filters;
        let span = filters.channels * filters.pixels;
        for y in self.rows.clone() {
            for block in 0..filters.initial.len() / V::BYTES {
                let lanes = V::BYTES.min(span - block * V::BYTES);
                let input = self.grid.start + y * self.grid.row_stride + block * V::BYTES;
                let output = y * self.grid.width * filters.channels + block * V::BYTES;
                // SAFETY: the caller's promise.
                unsafe {
                    let (input, output) = (self.input.add(input), self.output.add(output));
                    match filters.offsets.len() {
                        3 => self.row::<V, 3>(block, lanes, input, output),
                        7 => self.row::<V, 7>(block, lanes, input, output),
                        _ => self.row::<V, 0>(block, lanes, input, output),
                    }
                }
            }
        }
    }
}

impl Rows<'_> {
    /// One row of a block, of `GROUPS` dot products or any number where that is 0.
    ///
    /// # Safety
    ///
    /// As for `run`; `input` and `output` are where the row starts.
    #[inline(always)]
    unsafe fn row<V: Int8, const GROUPS: usize>(
        &self,
        block: usize,
        lanes: usize,
        input: *const u8,
        output: *mut u8,
    ) {
        let (pixels, channels) = (self.filters.pixels, self.filters.channels);
        let (width, stride) = (self.grid.width, self.grid.pixel_stride);
        let mut x = 0;
        // SAFETY: the caller's promise; a lane more than a row has is not stored.
        unsafe {
            while x + 2 * pixels <= width {
                let [first, second] = self.outputs::<V, GROUPS, 2>(block, input.add(x * stride));
                V::store_first(first, output.add(x * channels), lanes);
                V::store_first(second, output.add((x + pixels) * channels), lanes);
                x += 2 * pixels;
            }
            while x < width {
                let [result] = self.outputs::<V, GROUPS, 1>(block, input.add(x * stride));
                let lanes = lanes.min((width - x) * channels);
                V::store_first(result, output.add(x * channels), lanes);
                x += pixels;
            }
        }
    }

    /// `TX` neighbouring vectors of outputs.
    ///
    /// # Safety
    ///
    /// As for `row`.
    #[inline(always)]
    unsafe fn outputs<V: Int8, const GROUPS: usize, const TX: usize>(
        &self,
        block: usize,
        input: *const u8,
    ) -> [V::Bytes; TX] {
        let filters = self.filters;
        let groups = if GROUPS == 0 {
            filters.offsets.len()
        } else {
            GROUPS
        };
        let step = filters.pixels * self.grid.pixel_stride;
        // SAFETY: taps and parameters of the block exist; the packing put only
        // such taps together as `dot1` takes.
        unsafe {
            let start = filters.initial.as_ptr().add(block * V::BYTES);
            let mut initial = [V::load_sums(start); VECTORS];
            for j in 1..VECTORS {
                initial[j] = V::load_sums(start.add(j * V::SUMS));
            }
            let mut sums = [initial; TX];
            let mut weights = filters
                .weights
                .as_bytes()
                .as_ptr()
                .add(block * groups * VECTORS * V::BYTES);
            for g in 0..groups {
                let offsets = filters.offsets.get_unchecked(g);
                for t in 0..TX {
                    let input = input.add(t * step);
                    // Not `map`: its closure would be compiled without the level's instructions.
                    let taps = V::interleave([
                        V::load(input.add(offsets[0])),
                        V::load(input.add(offsets[1])),
                        V::load(input.add(offsets[2])),
                        V::load(input.add(offsets[3])),
                    ]);
                    for j in 0..VECTORS {
                        sums[t][j] =
                            V::dot1(sums[t][j], [taps[j], V::load(weights.add(j * V::BYTES))]);
                    }
                }
                weights = weights.add(VECTORS * V::BYTES);
            }
            let multiplier = filters.multiplier.as_slice().as_ptr().add(block * V::BYTES);
            let offset = filters.offset.as_slice().as_ptr().add(block * V::BYTES);
            let (at_least, at_most) = (V::splat(filters.bounds[0]), V::splat(filters.bounds[1]));
            let mut results = [at_least; TX];
            for t in 0..TX {
                let mut values = [<V::Floats as Vector>::splat(0.0); VECTORS];
                for j in 0..VECTORS {
                    let multiplier = <V::Floats as Vector>::load(multiplier.add(j * V::SUMS));
                    let offset = <V::Floats as Vector>::load(offset.add(j * V::SUMS));
                    values[j] = V::to_floats(sums[t][j]).mul(multiplier).add(offset);
                }
                results[t] = V::min(V::max(V::pack(values), at_least), at_most);
            }
            results
        }
    }
}
