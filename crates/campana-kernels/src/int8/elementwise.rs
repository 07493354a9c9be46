//! Operations on codes that keep channels apart: conversions, sums, borders.

use super::dense::Output;
use super::requantize::QuantParams;
use super::vector::{Int8, MAX_BYTES};
use crate::isa::{Int8Kernel, Isa};
use crate::pool::ThreadPool;
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
                    V::store_first_floats(value, codes.as_mut_ptr().add(at), count);
                }
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
pub fn quantize(isa: Isa, pool: &ThreadPool, input: &[f32], to: QuantParams, output: &mut [u8]) {
    assert_eq!(input.len(), output.len(), "as many codes as floats");
    let chunk = chunk_len(input.len(), pool);
    pool.for_chunks(output, chunk, |i, output| {
        // SAFETY: both have the same length.
        unsafe {
            isa.run_int8(Combine {
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
    isa: Isa,
    pool: &ThreadPool,
    input: &[f32],
    channels: usize,
    to: QuantParams,
    output: &mut [u8],
) {
    assert_eq!(input.len(), output.len(), "as many codes as floats");
    let Some(pixels) = input.len().checked_div(channels) else {
        return;
    };
    assert_eq!(pixels * channels, input.len(), "whole pixels");
    if channels == 3 {
        let chunk = 3 * chunk_len(pixels, pool);
        pool.for_chunks(output, chunk, |i, output| {
            let (first, count) = (i * chunk / 3, output.len() / 3);
            let plane = |channel: usize| &input[channel * pixels + first..][..count];
            // SAFETY: a byte of output for each float.
            unsafe {
                isa.run_int8(QuantizePictures {
                    planes: [plane(0), plane(1), plane(2)],
                    to,
                    output,
                });
            }
        });
        return;
    }
    let chunk = TURNED * channels;
    pool.for_chunks(output, chunk, |i, output| {
        let count = output.len() / channels;
        for channel in 0..channels {
            let start = channel * pixels + i * TURNED;
            let (floats, mut codes) = (&input[start..start + count], [0; TURNED]);
            let codes = &mut codes[..count];
            quantize(isa, &ThreadPool::serial(), floats, to, codes);
            let places = output[channel..].iter_mut().step_by(channels);
            for (place, code) in places.zip(codes) {
                *place = *code;
            }
        }
    });
}

/// The codes of three planes, a pixel's after those of the pixel before.
struct QuantizePictures<'a> {
    planes: [&'a [f32]; 3],
    to: QuantParams,
    output: &'a mut [u8],
}

impl Int8Kernel for QuantizePictures<'_> {
    type Output = ();

    /// # Safety
    ///
    /// Planes are of one length, and the output is as long as the three.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let splat = <V::Floats as Vector>::splat;
        let (factor, offset) = (1.0 / self.to.scale, f32::from(self.to.zero_point));
        let pixels = self.planes[0].len();
        let mut at = 0;
        while at < pixels {
            let count = V::SUMS.min(pixels - at);
            let mut values = [splat(0.0); 4];
            // SAFETY: `count` pixels are left.
            unsafe {
                for channel in 0..3 {
                    let from = self.planes[channel].as_ptr().add(at);
                    let floats: V::Floats = Vector::load_first(from, count);
                    values[channel] = floats
                        .mul(splat(factor))
                        .add(splat(offset))
                        .at_least(splat(0.0))
                        .at_most(splat(255.0));
                }
                let bytes = V::triples(V::pack(values));
                V::store_first(bytes, self.output.as_mut_ptr().add(3 * at), 3 * count);
            }
            at += count;
        }
    }
}

/// The values of codes.
///
/// # Panics
///
/// Where the slices differ in length.
pub fn dequantize(
    isa: Isa,
    pool: &ThreadPool,
    input: &[u8],
    from: QuantParams,
    output: &mut [f32],
) {
    assert_eq!(input.len(), output.len(), "as many floats as codes");
    let chunk = chunk_len(input.len(), pool);
    pool.for_chunks(output, chunk, |i, output| {
        // SAFETY: both have the same length.
        unsafe {
            isa.run_int8(Combine {
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
    isa: Isa,
    pool: &ThreadPool,
    input: &[u8],
    from: QuantParams,
    to: QuantParams,
    bounds: [u8; 2],
    output: &mut [u8],
) {
    let factor = from.scale / to.scale;
    let offset = f32::from(to.zero_point) - factor * f32::from(from.zero_point);
    combine(isa, pool, (input, factor), None, offset, bounds, output);
}

/// The codes of the sum of two tensors of codes, held to `bounds`.
///
/// # Panics
///
/// Where the slices differ in length.
pub fn add(
    isa: Isa,
    pool: &ThreadPool,
    (a, a_scale): (&[u8], QuantParams),
    (b, b_scale): (&[u8], QuantParams),
    to: QuantParams,
    bounds: [u8; 2],
    output: &mut [u8],
) {
    let factors = [a_scale, b_scale].map(|params| params.scale / to.scale);
    let offset = f32::from(to.zero_point)
        - factors[0] * f32::from(a_scale.zero_point)
        - factors[1] * f32::from(b_scale.zero_point);
    combine(
        isa,
        pool,
        (a, factors[0]),
        Some((b, factors[1])),
        offset,
        bounds,
        output,
    );
}

fn combine(
    isa: Isa,
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
            isa.run_int8(Combine {
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
