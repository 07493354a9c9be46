//! Plain loops that say what the kernels compute: the oracle of the tests,
//! here and in the crates above.

/// `output[i][j] = sum over k of a[i][k] b[k][j]`, summed in `f64`; `a` is
/// `[rows, depth]` and `b` `[depth, columns]`.
///
/// # Panics
///
/// Where a slice is shorter than its shape.
pub fn reference_matmul(
    a: &[f32],
    b: &[f32],
    rows: usize,
    depth: usize,
    columns: usize,
) -> Vec<f32> {
    let mut output = Vec::with_capacity(rows * columns);
    for i in 0..rows {
        for j in 0..columns {
            let sum: f64 = (0..depth)
                .map(|k| f64::from(a[i * depth + k]) * f64::from(b[k * columns + j]))
                .sum();
            output.push(sum as f32);
        }
    }
    output
}

/// The extents of a two-dimensional convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Channels of the output.
    pub filters: usize,
    /// Height and width of the window.
    pub window: [usize; 2],
    /// Step of the window.
    pub strides: [usize; 2],
    /// Distance of the window's taps.
    pub dilations: [usize; 2],
    /// Zeros before each axis.
    pub pads_begin: [usize; 2],
    /// Zeros after each axis.
    pub pads_end: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl ConvShape {
    /// Height and width of the output; zero where the window does not fit.
    pub fn output(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let padded = self.pads_begin[axis] + self.input[axis] + self.pads_end[axis];
            let reach = (self.window[axis] - 1) * self.dilations[axis] + 1;
            if padded < reach {
                0
            } else {
                (padded - reach) / self.strides[axis] + 1
            }
        })
    }
}

/// A convolution over `[batch, channels, height, width]` with weights
/// `[filters, channels / groups, height, width]`, summed in `f64`.
///
/// # Panics
///
/// Where a slice is shorter than its shape.
pub fn reference_conv(shape: &ConvShape, input: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
    let [height, width] = shape.input;
    let [out_height, out_width] = shape.output();
    let [kh, kw] = shape.window;
    let group_channels = shape.channels / shape.groups;
    let group_filters = shape.filters / shape.groups;
    let mut output = Vec::with_capacity(shape.batch * shape.filters * out_height * out_width);
    for n in 0..shape.batch {
        for f in 0..shape.filters {
            let first_channel = f / group_filters * group_channels;
            for oy in 0..out_height {
                for ox in 0..out_width {
                    let mut sum = bias.get(f).copied().map_or(0.0, f64::from);
                    for c in 0..group_channels {
                        for ky in 0..kh {
                            for kx in 0..kw {
                                let y = oy * shape.strides[0] + ky * shape.dilations[0];
                                let x = ox * shape.strides[1] + kx * shape.dilations[1];
                                let (Some(y), Some(x)) = (
                                    y.checked_sub(shape.pads_begin[0]).filter(|&y| y < height),
                                    x.checked_sub(shape.pads_begin[1]).filter(|&x| x < width),
                                ) else {
                                    continue;
                                };
                                let plane = n * shape.channels + first_channel + c;
                                let value = input[(plane * height + y) * width + x];
                                let weight =
                                    weights[((f * group_channels + c) * kh + ky) * kw + kx];
                                sum += f64::from(value) * f64::from(weight);
                            }
                        }
                    }
                    output.push(sum as f32);
                }
            }
        }
    }
    output
}
