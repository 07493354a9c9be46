//! Pooling of channels-last images.

use crate::depthwise::Sliding;
use crate::isa::{Isa, Kernel};
use crate::vector::Vector;

/// What a pool makes of the values under its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The greatest of those inside the image; `-∞` where none is.
    Max,
    /// Their sum, divided by the number inside the image (at least 1).
    Average,
    /// Their sum, divided by the whole window's size.
    AverageWithPadding,
}

/// Pools one image `[height, width, channels]` with this window.
///
/// # Panics
///
/// Where a slice is not as long as its shape, or a stride, a dilation or the window is zero.
pub fn pool(
    isa: Isa,
    pooling: Pooling,
    input: &[f32],
    channels: usize,
    window: [usize; 2],
    sliding: Sliding,
    output: &mut [f32],
) {
    let [height, width] = sliding.output;
    assert_eq!(
        input.len(),
        sliding.input[0] * sliding.input[1] * channels,
        "input's length"
    );
    assert_eq!(output.len(), height * width * channels, "output's length");
    let geometry = [sliding.strides, sliding.dilations, window];
    assert!(
        geometry.iter().flatten().all(|&n| n > 0),
        "strides, dilations and window"
    );
    if channels == 0 {
        return;
    }
    for (i, output) in output.chunks_exact_mut(channels).enumerate() {
        let (y, x) = (i / width, i % width);
        let rows = sliding.taps(0, window[0], y);
        let columns = sliding.taps(1, window[1], x);
        output.fill(if pooling == Pooling::Max {
            f32::NEG_INFINITY
        } else {
            0.0
        });
        for ky in rows.clone() {
            let row = y * sliding.strides[0] + ky * sliding.dilations[0] - sliding.pads_begin[0];
            for kx in columns.clone() {
                let column =
                    x * sliding.strides[1] + kx * sliding.dilations[1] - sliding.pads_begin[1];
                let pixel = (row * sliding.input[1] + column) * channels;
                let max = pooling == Pooling::Max;
                gather(isa, max, &input[pixel..pixel + channels], output);
            }
        }
        let count = match pooling {
            Pooling::Max => continue,
            Pooling::Average => (rows.len() * columns.len()).max(1),
            Pooling::AverageWithPadding => window[0] * window[1],
        };
        let scale = 1.0 / count as f32;
        output.iter_mut().for_each(|value| *value *= scale);
    }
}

/// The mean of every channel of an image `[pixels, channels]`.
///
/// # Panics
///
/// Where `output` is empty or the input is no multiple of it.
pub fn global_average(isa: Isa, input: &[f32], output: &mut [f32]) {
    let channels = output.len();
    assert!(input.len().is_multiple_of(channels), "whole pixels");
    output.fill(0.0);
    for pixel in input.chunks_exact(channels) {
        gather(isa, false, pixel, output);
    }
    let scale = 1.0 / (input.len() / channels) as f32;
    output.iter_mut().for_each(|value| *value *= scale);
}

fn gather(isa: Isa, max: bool, input: &[f32], output: &mut [f32]) {
    // SAFETY: the kernel asks for equal lengths, which both callers give.
    unsafe { isa.run(Gather { max, input, output }) }
}

struct Gather<'a> {
    max: bool,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    /// # Safety
    ///
    /// The slices are equally long.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let len = self.output.len();
        let mut at = 0;
        while at < len {
            let lanes = V::LANES.min(len - at);
            // SAFETY: `lanes` elements from `at` are inside both slices.
            unsafe {
                let (from, to) = (
                    self.input.as_ptr().add(at),
                    self.output.as_mut_ptr().add(at),
                );
                let (value, sum) = (V::load_first(from, lanes), V::load_first(to, lanes));
                if self.max {
                    value.at_least(sum)
                } else {
                    sum.add(value)
                }
                .store_first(to, lanes);
            }
            at += V::LANES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_over_the_border_see_only_the_image() {
        let sliding = Sliding {
            input: [2, 3],
            output: [2, 2],
            strides: [1, 2],
            dilations: [1, 1],
            pads_begin: [1, 1],
        };
        for isa in Isa::available() {
            for channels in [1, 8, 11] {
                let input: Vec<f32> = (0..6)
                    .flat_map(|p| (0..channels).map(move |c| (p * 10 + c) as f32))
                    .collect();
                let mut output = vec![0.0; 4 * channels];
                let mut check = |pooling, expected: [f32; 4], scale: f32| {
                    pool(isa, pooling, &input, channels, [2, 2], sliding, &mut output);
                    for (i, value) in output.iter().enumerate() {
                        let expected = expected[i / channels] + (i % channels) as f32 * scale;
                        assert!(
                            (value - expected).abs() < 1e-5,
                            "{pooling:?} {value} {expected}"
                        );
                    }
                };
                check(Pooling::Max, [0.0, 20.0, 30.0, 50.0], 1.0);
                check(Pooling::Average, [0.0, 15.0, 15.0, 30.0], 1.0);
            }
        }
    }

    #[test]
    fn the_global_average_is_each_channels_mean() {
        for isa in Isa::available() {
            let input: Vec<f32> = (0..30).map(|v| v as f32).collect();
            let mut output = [0.0; 10];
            global_average(isa, &input, &mut output);
            assert!(
                output
                    .iter()
                    .enumerate()
                    .all(|(c, &v)| (v - (10 + c) as f32).abs() < 1e-5)
            );
        }
    }
}
