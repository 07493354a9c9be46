//! Plain loops that say what the integer kernels compute: the oracle of their tests.

use super::Requantize;
use crate::reference::ConvShape;

/// The sums of a convolution of codes `[batch, height, width, channels]`, the
/// border filled with `border`, with weights `[filters, channels / groups,
/// height, width]`; `[batch, height, width, filters]`.
///
/// # Panics
///
/// Where a slice is shorter than its shape.
pub fn reference_conv_sums(
    shape: &ConvShape,
    input: &[u8],
    weights: &[i8],
    border: u8,
) -> Vec<i32> {
    let [out_height, out_width] = shape.output();
    let [kh, kw] = shape.window;
    let (inputs, outputs) = (shape.channels / shape.groups, shape.filters / shape.groups);
    let mut sums = Vec::new();
    for n in 0..shape.batch {
        for (y, x, f) in triples(out_height, out_width, shape.filters) {
            let mut sum = 0;
            for (c, ky, kx) in triples(inputs, kh, kw) {
                let place = |axis: usize, out: usize, k: usize| {
                    (out * shape.strides[axis] + k * shape.dilations[axis])
                        .checked_sub(shape.pads_begin[axis])
                        .filter(|&at| at < shape.input[axis])
                };
                let channel = f / outputs * inputs + c;
                let code = match (place(0, y, ky), place(1, x, kx)) {
                    (Some(row), Some(column)) => {
                        input[((n * shape.input[0] + row) * shape.input[1] + column)
                            * shape.channels
                            + channel]
                    }
                    _ => border,
                };
                let weight = weights[((f * inputs + c) * kh + ky) * kw + kx];
                sum += i32::from(code) * i32::from(weight);
            }
            sums.push(sum);
        }
    }
    sums
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

/// The codes of sums `[.., channels]`, with a residual of codes times a factor.
///
/// # Panics
///
/// Where a slice is shorter than the sums.
pub fn reference_codes(
    sums: &[i32],
    requantize: &Requantize,
    residual: Option<(&[u8], f32)>,
) -> Vec<u8> {
    let channels = requantize.channels();
    let results = sums.iter().enumerate().map(|(i, &sum)| {
        let residual = residual.map(|(codes, factor)| (codes[i], factor));
        requantize
            .apply(i % channels, sum, residual)
            .round_ties_even() as u8
    });
    results.collect()
}
