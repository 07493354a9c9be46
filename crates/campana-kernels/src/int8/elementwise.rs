//! Operations on codes that keep channels apart: conversions, sums, pools, borders.

use super::dense::Output;
use super::requantize::Affine;
use super::vector::{Int8, MAX_BYTES};
use crate::depthwise::Sliding;
use crate::level::{Int8Kernel, Level};
use crate::pool::ThreadPool;
use crate::pooling::Pooling;
use crate::vector::Vector;

/// Elements below which waking another thread costs more than it gives.
const MIN_LEN_PER_THREAD: usize = 1 << 15;

/// Elements of a chunk for each thread; a multiple of every vector's length.
fn chunk_len(len: usize, pool: &ThreadPool) -> usize {
    len.div_ceil(pool.threads())
        .max(MIN_LEN_PER_THREAD)
        .next_multiple_of(MAX_BYTES)
}

/// `min(max(factor a [+ factor' b] + offset, at_least), at_most)` over codes or floats.
struct Combine<'a> {
    a: Source<'a>,
    b: Option<(&'a [u8], f32)>,
    factor: f32,
    offset: f32,
    bounds: [f32; 2],
    output: Output<'a>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Codes(&'a [u8]),
    Floats(&'a [f32]),
}

impl Int8Kernel for Combine<'_> {
    type Output = ();

    /// # Safety
    ///
    /// All slices have the same length.
    #[inline(always)]
    unsafe fn run<V: Int8>(mut self) {
        let len = match self.a {
            Source::Codes(codes) => codes.len(),
            Source::Floats(floats) => floats.len(),
        };
        let whole = len - len % V::SUMS;
        // SAFETY: what is written ends at the slices' length.
        unsafe {
            for at in (0..whole).step_by(V::SUMS) {
                self.some::<V, true>(at, V::SUMS);
            }
            if whole < len {
                self.some::<V, false>(whole, len - whole);
            }
        }
    }
}

impl Combine<'_> {
    /// `count` elements, a vector of sums where `ALL`.
    ///
    /// # Safety
    ///
    /// `at + count` is within every slice.
    #[inline(always)]
    unsafe fn some<V: Int8, const ALL: bool>(&mut self, at: usize, count: usize) {
        let count = if ALL { V::SUMS } else { count };
        let splat = <V::Floats as Vector>::splat;
        // SAFETY: the caller's promise.
        unsafe {
            let a = match self.a {
                Source::Codes(codes) => V::load_first_floats(codes.as_ptr().add(at), count),
                Source::Floats(floats) if ALL => Vector::load(floats.as_ptr().add(at)),
                Source::Floats(floats) => Vector::load_first(floats.as_ptr().add(at), count),
            };
            let mut value = a.mul(splat(self.factor));
            if let Some((b, factor)) = self.b {
                value =
                    value.add(V::load_first_floats(b.as_ptr().add(at), count).mul(splat(factor)));
            }
            let value = value.add(splat(self.offset));
            let value = value
                .at_least(splat(self.bounds[0]))
                .at_most(splat(self.bounds[1]));
            match &mut self.output {
                Output::Codes(codes) => {
                    V::store_first_floats(value, codes.as_mut_ptr().add(at), count)
                }
                Output::Floats(floats) if ALL => value.store(floats.as_mut_ptr().add(at)),
                Output::Floats(floats) => value.store_first(floats.as_mut_ptr().add(at), count),
            }
        }
    }
}

/// The codes of floats; NaN gives some code.
///
/// # Panics
///
/// Where the slices differ in length.
pub fn quantize(level: Level, pool: &ThreadPool, input: &[f32], to: Affine, output: &mut [u8]) {
    assert_eq!(input.len(), output.len(), "as many codes as floats");
    let chunk = chunk_len(input.len(), pool);
    pool.for_chunks(output, chunk, |i, output| {
        // SAFETY: both have the same length.
        unsafe {
            level.run_int8(Combine {
                a: Source::Floats(&input[i * chunk..][..output.len()]),
                b: None,
                factor: 1.0 / to.scale,
                offset: f32::from(to.zero_point),
                bounds: [0.0, 255.0],
                output: Output::Codes(output),
            });
        }
    });
}

/// Pixels that are turned from channels-first to channels-last at once.
const TURNED: usize = 256;

/// The codes of one image of floats `[channels, pixels]`, as `[pixels, channels]`.
///
/// # Panics
///
/// Where the slices differ in length or are no multiple of `channels`.
pub fn quantize_channels_last(
    level: Level,
    pool: &ThreadPool,
    input: &[f32],
    channels: usize,
    to: Affine,
    output: &mut [u8],
) {
    assert_eq!(input.len(), output.len(), "as many codes as floats");
    let Some(pixels) = input.len().checked_div(channels) else {
        return;
    };
    assert_eq!(pixels * channels, input.len(), "whole pixels");
    let chunk = TURNED * channels;
    pool.for_chunks(output, chunk, |i, output| {
        let count = output.len() / channels;
        let plane = |channel: usize| {
            let start = channel * pixels + i * TURNED;
            let mut codes = [0; TURNED];
            let floats = &input[start..start + count];
            quantize(
                level,
                &ThreadPool::serial(),
                floats,
                to,
                &mut codes[..count],
            );
            codes
        };
        if channels == 3 {
            // Pictures: one pass over the output instead of three.
            let (first, second, third) = (plane(0), plane(1), plane(2));
            let codes = first.iter().zip(&second).zip(&third);
            for (pixel, ((a, b), c)) in output.chunks_exact_mut(3).zip(codes) {
                pixel[0] = *a;
                pixel[1] = *b;
                pixel[2] = *c;
            }
            return;
        }
        for channel in 0..channels {
            let places = output[channel..].iter_mut().step_by(channels);
            for (place, code) in places.zip(plane(channel)) {
                *place = code;
            }
        }
    });
}

/// The values of codes.
///
/// # Panics
///
/// Where the slices differ in length.
pub fn dequantize(level: Level, pool: &ThreadPool, input: &[u8], from: Affine, output: &mut [f32]) {
    assert_eq!(input.len(), output.len(), "as many floats as codes");
    let chunk = chunk_len(input.len(), pool);
    pool.for_chunks(output, chunk, |i, output| {
        // SAFETY: both have the same length.
        unsafe {
            level.run_int8(Combine {
                a: Source::Codes(&input[i * chunk..][..output.len()]),
                b: None,
                factor: from.scale,
                offset: -from.scale * f32::from(from.zero_point),
                bounds: [f32::NEG_INFINITY, f32::INFINITY],
                output: Output::Floats(output),
            });
        }
    });
}

/// Codes of the same values in another scale, held to `bounds`.
///
/// # Panics
///
/// Where the slices differ in length.
pub fn requantize(
    level: Level,
    pool: &ThreadPool,
    input: &[u8],
    from: Affine,
    to: Affine,
    bounds: [u8; 2],
    output: &mut [u8],
) {
    let factor = from.scale / to.scale;
    let offset = f32::from(to.zero_point) - factor * f32::from(from.zero_point);
    combine(level, pool, (input, factor), None, offset, bounds, output);
}

/// The codes of the sum of two tensors of codes, held to `bounds`.
///
/// # Panics
///
/// Where the slices differ in length.
pub fn add(
    level: Level,
    pool: &ThreadPool,
    (a, a_scale): (&[u8], Affine),
    (b, b_scale): (&[u8], Affine),
    to: Affine,
    bounds: [u8; 2],
    output: &mut [u8],
) {
    let factors = [a_scale, b_scale].map(|affine| affine.scale / to.scale);
    let offset = f32::from(to.zero_point)
        - factors[0] * f32::from(a_scale.zero_point)
        - factors[1] * f32::from(b_scale.zero_point);
    combine(
        level,
        pool,
        (a, factors[0]),
        Some((b, factors[1])),
        offset,
        bounds,
        output,
    );
}

fn combine(
    level: Level,
    pool: &ThreadPool,
    (a, factor): (&[u8], f32),
    b: Option<(&[u8], f32)>,
    offset: f32,
    bounds: [u8; 2],
    output: &mut [u8],
) {
    assert_eq!(a.len(), output.len(), "as many codes out as in");
    assert!(
        b.is_none_or(|(b, _)| b.len() == a.len()),
        "operands of one length"
    );
    let chunk = chunk_len(output.len(), pool);
    pool.for_chunks(output, chunk, |i, output| {
        let range = i * chunk..i * chunk + output.len();
        // SAFETY: all have the same length.
        unsafe {
            level.run_int8(Combine {
                a: Source::Codes(&a[range.clone()]),
                b: b.map(|(b, factor)| (&b[range], factor)),
                factor,
                offset,
                bounds: bounds.map(f32::from),
                output: Output::Codes(output),
            });
        }
    });
}

/// Windows over one image of codes `[height, width, channels]`.
struct Windows<'a> {
    input: &'a [u8],
    channels: usize,
    window: [usize; 2],
    sliding: Sliding,
}

impl Windows<'_> {
    fn check(&self, output_len: usize) {
        let [height, width] = self.sliding.output;
        let input_len = self.sliding.input[0] * self.sliding.input[1] * self.channels;
        assert!(
            self.sliding.is_sound(self.window, self.channels),
            "extents that can be counted"
        );
        assert_eq!(self.input.len(), input_len, "input's length");
        assert_eq!(
            output_len,
            height * width * self.channels,
            "output's length"
        );
        let geometry = [self.sliding.strides, self.sliding.dilations, self.window];
        assert!(
            geometry.iter().flatten().all(|&n| n > 0),
            "strides, dilations and window"
        );
    }

    /// Where the pixels under the window of output `(y, x)` start that are inside the image.
    #[inline(always)]
    fn pixels(&self, y: usize, x: usize) -> impl Iterator<Item = usize> + Clone {
        let sliding = self.sliding;
        let (window, channels) = (self.window, self.channels);
        sliding.taps(0, window[0], y).flat_map(move |ky| {
            let row = y * sliding.strides[0] + ky * sliding.dilations[0] - sliding.pads_begin[0];
            sliding.taps(1, window[1], x).map(move |kx| {
                let column =
                    x * sliding.strides[1] + kx * sliding.dilations[1] - sliding.pads_begin[1];
                (row * sliding.input[1] + column) * channels
            })
        })
    }
}

struct MaxPool<'a>(Windows<'a>, &'a mut [u8]);

impl Int8Kernel for MaxPool<'_> {
    type Output = ();

    /// # Safety
    ///
    /// The windows were checked against the output.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let Self(windows, output) = self;
        let (channels, width) = (windows.channels, windows.sliding.output[1]);
        for (i, output) in output.chunks_exact_mut(channels).enumerate() {
            let pixels = windows.pixels(i / width, i % width);
            let mut channel = 0;
            while channel + V::BYTES <= channels {
                let mut max = V::splat(0);
                for pixel in pixels.clone() {
                    let codes = &windows.input[pixel + channel..][..V::BYTES];
                    // SAFETY: a vector of codes.
                    max = V::max(max, unsafe { V::load(codes.as_ptr()) });
                }
                // SAFETY: as many channels are left.
                unsafe { V::store(max, output[channel..][..V::BYTES].as_mut_ptr()) };
                channel += V::BYTES;
            }
            output[channel..].fill(0);
            for pixel in pixels {
                for c in channel..channels {
                    output[c] = output[c].max(windows.input[pixel + c]);
                }
            }
        }
    }
}

/// The greatest code under each window of one image; 0 where none is.
///
/// # Panics
///
/// Where a slice is not as long as its shape, or a stride, a dilation or the window is zero.
pub fn max_pool(
    level: Level,
    input: &[u8],
    channels: usize,
    window: [usize; 2],
    sliding: Sliding,
    output: &mut [u8],
) {
    let windows = Windows {
        input,
        channels,
        window,
        sliding,
    };
    windows.check(output.len());
    if channels > 0 {
        // SAFETY: checked.
        unsafe { level.run_int8(MaxPool(windows, output)) };
    }
}

struct AveragePool<'a> {
    windows: Windows<'a>,
    pooling: Pooling,
    from: Affine,
    to: Option<Affine>,
    output: Output<'a>,
}

impl Int8Kernel for AveragePool<'_> {
    type Output = ();

    /// # Safety
    ///
    /// The windows were checked against the output.
    #[inline(always)]
    unsafe fn run<V: Int8>(mut self) {
        let windows = &self.windows;
        let channels = windows.channels;
        let [height, width] = windows.sliding.output;
        let splat = <V::Floats as Vector>::splat;
        let to_scale = self.to.map_or(1.0, |to| to.scale);
        let offset = splat(self.to.map_or(0.0, |to| f32::from(to.zero_point)));
        for i in 0..height * width {
            let pixels = windows.pixels(i / width, i % width);
            let inside = pixels.clone().count();
            let count = match self.pooling {
                Pooling::AverageWithPadding => windows.window[0] * windows.window[1],
                _ => inside.max(1),
            };
            let factor = splat(self.from.scale / (count as f32 * to_scale));
            let zeros = splat(inside as f32 * f32::from(self.from.zero_point));
            let mut channel = 0;
            while channel < channels {
                let len = V::SUMS.min(channels - channel);
                let mut sum = splat(0.0);
                // SAFETY: `len` channels of a pixel inside the image; the
                // output holds as many of this pixel.
                unsafe {
                    for pixel in pixels.clone() {
                        let codes = &windows.input[pixel + channel..][..len];
                        // Exact: sums of codes below 2^24.
                        sum = sum.add(V::load_first_floats(codes.as_ptr(), len));
                    }
                    let value = sum.sub(zeros).mul(factor).add(offset);
                    let at = i * channels + channel;
                    match &mut self.output {
                        Output::Codes(codes) => {
                            let value = value.at_least(splat(0.0)).at_most(splat(255.0));
                            V::store_first_floats(value, codes.as_mut_ptr().add(at), len);
                        }
                        Output::Floats(floats) => {
                            value.store_first(floats.as_mut_ptr().add(at), len);
                        }
                    }
                }
                channel += len;
            }
        }
    }
}

/// The mean under each window of one image, as floats or, where `to` is given, as codes.
///
/// # Panics
///
/// Where a slice is not as long as its shape, a stride, a dilation or the
/// window is zero, or the output is not of the kind that `to` says.
#[expect(
    clippy::too_many_arguments,
    reason = "a pool and the scales on both sides"
)]
pub fn average_pool(
    level: Level,
    pooling: Pooling,
    input: &[u8],
    from: Affine,
    channels: usize,
    window: [usize; 2],
    sliding: Sliding,
    to: Option<Affine>,
    output: Output<'_>,
) {
    assert_eq!(
        to.is_some(),
        matches!(output, Output::Codes(_)),
        "codes have a scale"
    );
    let windows = Windows {
        input,
        channels,
        window,
        sliding,
    };
    windows.check(output.len());
    // SAFETY: checked.
    unsafe {
        level.run_int8(AveragePool {
            windows,
            pooling,
            from,
            to,
            output,
        });
    }
}

/// Bytes below which copying on another thread costs more than it gives.
const MIN_PAD_BYTES_PER_THREAD: usize = 128 << 10;

/// Copies an image `[height, width * pixel]` into a larger one with a border of `fill`.
///
/// # Panics
///
/// Where a slice is not as long as its shape.
pub fn pad(
    pool: &ThreadPool,
    input: &[u8],
    [height, width, pixel]: [usize; 3],
    before: [usize; 2],
    after: [usize; 2],
    fill: u8,
    output: &mut [u8],
) {
    let (row, padded_row) = (width * pixel, (before[1] + width + after[1]) * pixel);
    assert_eq!(input.len(), height * row, "input's length");
    assert_eq!(
        output.len(),
        (before[0] + height + after[0]) * padded_row,
        "output's length"
    );
    if padded_row == 0 {
        return;
    }
    let rows = before[0] + height + after[0];
    let threads = pool
        .threads()
        .min(output.len() / MIN_PAD_BYTES_PER_THREAD)
        .max(1);
    let chunk = rows.div_ceil(threads) * padded_row;
    pool.for_chunks(output, chunk, |i, output| {
        let first = i * (chunk / padded_row);
        for (j, output) in output.chunks_exact_mut(padded_row).enumerate() {
            match (first + j).checked_sub(before[0]).filter(|&y| y < height) {
                Some(y) => {
                    let (left, rest) = output.split_at_mut(before[1] * pixel);
                    let (middle, right) = rest.split_at_mut(row);
                    left.fill(fill);
                    middle.copy_from_slice(&input[y * row..(y + 1) * row]);
                    right.fill(fill);
                }
                None => output.fill(fill),
            }
        }
    });
}
