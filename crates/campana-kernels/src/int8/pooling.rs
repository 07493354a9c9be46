//! Pools over images of codes.

use super::dense::Output;
use super::requantize::QuantParams;
use super::vector::Int8;
use crate::depthwise::Sliding;
use crate::isa::{Int8Kernel, Isa};
use crate::pool::ThreadPool;
use crate::pooling::Pooling;
use crate::vector::Vector;

/// Windows over one image of codes `[height, width, channels]`.
struct Windows<'a> {
    input: &'a [u8],
    channels: usize,
    window: [usize; 2],
    sliding: Sliding,
}

impl<'a> Windows<'a> {
    /// # Panics
    ///
    /// Where a length is not that of the shape, or a stride, a dilation or the
    /// window is zero.
    fn new(
        input: &'a [u8],
        channels: usize,
        window: [usize; 2],
        sliding: Sliding,
        output_len: usize,
    ) -> Self {
        let [height, width] = sliding.output;
        let input_len = sliding.input[0] * sliding.input[1] * channels;
        assert!(
            sliding.is_sound(window, channels),
            "extents that can be counted"
        );
        assert_eq!(input.len(), input_len, "input's length");
        assert_eq!(output_len, height * width * channels, "output's length");
        let geometry = [sliding.strides, sliding.dilations, window];
        assert!(
            geometry.iter().flatten().all(|&n| n > 0),
            "strides, dilations and window"
        );
        Self {
            input,
            channels,
            window,
            sliding,
        }
    }

    /// The pixels of an axis under the window of an output on it that are
    /// inside the image.
    fn taps(&self, axis: usize, output: usize) -> Taps {
        let sliding = self.sliding;
        let taps = sliding.taps(axis, self.window[axis], output);
        let pixel = [sliding.input[1] * self.channels, self.channels][axis];
        let first = output * sliding.strides[axis] + taps.start * sliding.dilations[axis];
        Taps {
            // Whatever, where none is inside.
            start: (first.wrapping_sub(sliding.pads_begin[axis])).wrapping_mul(pixel),
            count: taps.len(),
            step: sliding.dilations[axis] * pixel,
        }
    }
}

/// Pixels on an axis, as offsets in the image.
#[derive(Clone, Copy)]
struct Taps {
    start: usize,
    count: usize,
    step: usize,
}

/// Operations below which waking another thread costs more than it gives.
const MIN_CODES_PER_THREAD: usize = 1 << 17;

/// Rows of the output that a thread takes at once.
fn rows_at_once(pool: &ThreadPool, windows: &Windows<'_>) -> usize {
    let [height, width] = windows.sliding.output;
    let codes = height * width * windows.channels * windows.window[0] * windows.window[1];
    let threads = pool.threads().min(codes / MIN_CODES_PER_THREAD).max(1);
    height.div_ceil(threads).max(1)
}

/// The maxima of rows of the output, from row `first` on.
struct MaxPool<'a> {
    windows: &'a Windows<'a>,
    first: usize,
    output: &'a mut [u8],
}

impl Int8Kernel for MaxPool<'_> {
    type Output = ();

    /// # Safety
    ///
    /// The windows were checked against the whole output.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let windows = self.windows;
        let (channels, width) = (windows.channels, windows.sliding.output[1]);
        let across: Vec<Taps> = (0..width).map(|x| windows.taps(1, x)).collect();
        let mut down = windows.taps(0, self.first);
        for (i, output) in self.output.chunks_exact_mut(channels).enumerate() {
            if i % width == 0 {
                down = windows.taps(0, self.first + i / width);
            }
            let across = across[i % width];
            let start = down.start.wrapping_add(across.start);
            let mut channel = 0;
            while channel < channels {
                let len = V::BYTES.min(channels - channel);
                let mut max = V::splat(0);
                // SAFETY: `len` channels are left of pixels inside the image.
                unsafe {
                    let start = windows.input.as_ptr().wrapping_add(start + channel);
                    for row in 0..down.count {
                        for column in 0..across.count {
                            let offset = row * down.step + column * across.step;
                            max = V::max(max, V::load_first(start.wrapping_add(offset), len));
                        }
                    }
                    V::store_first(max, output.as_mut_ptr().add(channel), len);
                }
                channel += len;
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
    isa: Isa,
    pool: &ThreadPool,
    input: &[u8],
    channels: usize,
    window: [usize; 2],
    sliding: Sliding,
    output: &mut [u8],
) {
    let windows = Windows::new(input, channels, window, sliding, output.len());
    let row = sliding.output[1] * channels;
    if row == 0 {
        return;
    }
    let rows = rows_at_once(pool, &windows);
    pool.for_chunks(output, rows * row, |i, output| {
        // SAFETY: checked.
        unsafe {
            isa.run_int8(MaxPool {
                windows: &windows,
                first: i * rows,
                output,
            });
        }
    });
}

struct AveragePool<'a> {
    windows: Windows<'a>,
    pooling: Pooling,
    from: QuantParams,
    to: Option<QuantParams>,
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
            let (down, across) = (windows.taps(0, i / width), windows.taps(1, i % width));
            let start = down.start.wrapping_add(across.start);
            let inside = down.count * across.count;
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
                    let start = windows.input.as_ptr().wrapping_add(start + channel);
                    for row in 0..down.count {
                        for column in 0..across.count {
                            let offset = row * down.step + column * across.step;
                            let codes = start.wrapping_add(offset);
                            // Exact: sums of codes below 2^24.
                            sum = sum.add(V::load_first_floats(codes, len));
                        }
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
    isa: Isa,
    pooling: Pooling,
    input: &[u8],
    from: QuantParams,
    channels: usize,
    window: [usize; 2],
    sliding: Sliding,
    to: Option<QuantParams>,
    output: Output<'_>,
) {
    assert_eq!(
        to.is_some(),
        matches!(output, Output::Codes(_)),
        "codes have a scale"
    );
    let windows = Windows::new(input, channels, window, sliding, output.len());
    // SAFETY: checked.
    unsafe {
        isa.run_int8(AveragePool {
            windows,
            pooling,
            from,
            to,
            output,
        });
    }
}
