//! Convolutions whose taps are moved by offsets that the network computes.

use campana_tensor::{ElementType, Tensor};

use super::call::{Call, Fault, one_of};
use super::convolution::{ConvExtents, misfit};

/// The extents of a deformable convolution: those of a plain one, the groups
/// of channels that share offsets, and its offsets and weights.
struct Deformed {
    extents: ConvExtents,
    offset_groups: usize,
    taps: usize,
    pixels: usize,
}

impl Deformed {
    fn of(call: &Call<'_>) -> Result<Self, Fault> {
        let (input, weights) = (call.input(0)?.shape(), call.input(1)?.shape());
        if input.len() != 4 {
            return Err(Fault::unsupported(format!(
                "a deformable convolution of {input:?} (rank 4 is supported)"
            )));
        }
        let extents = ConvExtents::of(call, input, weights)?;
        let offset_groups = usize::try_from(call.int("offset_group", 1)?).unwrap_or(0);
        let taps: usize = extents.windows.window.iter().product();
        let [height, width] = [extents.windows.output[0], extents.windows.output[1]];
        let offsets = call.input(2)?.shape();
        let fits = offset_groups > 0
            && extents.channels.is_multiple_of(offset_groups)
            && offsets == [extents.batch, offset_groups * taps * 2, height, width];
        let mask = call.optional(4).map(Tensor::shape);
        if !fits || mask.is_some_and(|m| m != [extents.batch, offset_groups * taps, height, width])
        {
            return Err(Fault::invalid(format!(
                "offsets {offsets:?} and a mask {mask:?} for {offset_groups} groups of {taps} taps"
            )));
        }
        Ok(Self {
            extents,
            offset_groups,
            taps,
            pixels: height * width,
        })
    }

    /// Where each tap of a window looks, by group of channels: row, column and weight.
    fn places(&self, n: usize, pixel: usize, offsets: &[f64], mask: &[f64]) -> Vec<[f64; 3]> {
        let windows = &self.extents.windows;
        let position = [pixel / windows.output[1], pixel % windows.output[1]];
        (0..self.offset_groups * self.taps)
            .map(|at| {
                let tap = at % self.taps;
                let tap = [tap / windows.window[1], tap % windows.window[1]];
                let place = |axis: usize| {
                    let plain = position[axis] * windows.strides[axis]
                        + tap[axis] * windows.dilations[axis];
                    let row = (n * self.offset_groups * self.taps + at) * 2 + axis;
                    plain as f64 - windows.begin[axis] as f64 + offsets[row * self.pixels + pixel]
                };
                let row = n * self.offset_groups * self.taps + at;
                let weight = mask.get(row * self.pixels + pixel).copied().unwrap_or(1.0);
                [place(0), place(1), weight]
            })
            .collect()
    }
}

/// A value between pixels; zero beyond the image.
fn sample(plane: &[f64], [height, width]: [usize; 2], y: f64, x: f64) -> f64 {
    let (top, left) = (y.floor(), x.floor());
    let mut sum = 0.0;
    for (row, wy) in [(top, 1.0 - (y - top)), (top + 1.0, y - top)] {
        for (column, wx) in [(left, 1.0 - (x - left)), (left + 1.0, x - left)] {
            let inside =
                (0.0..height as f64).contains(&row) && (0.0..width as f64).contains(&column);
            if inside {
                sum += wy * wx * plane[row as usize * width + column as usize];
            }
        }
    }
    sum
}

/// A deformable convolution over images.
///
/// # References
///
/// X. Zhu, H. Hu, S. Lin, J. Dai, Deformable ConvNets v2: more deformable,
/// better results, 2019, doi:10.1109/CVPR.2019.00953.
pub(super) fn conv(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let deformed = Deformed::of(call)?;
    let extents = &deformed.extents;
    let ((_, input), (shape, weights)) = (call.reals(0)?, call.reals(1)?);
    let (_, offsets) = call.reals(2)?;
    let bias = call.optional_reals(3)?.unwrap_or_default();
    let mask = call.optional_reals(4)?.unwrap_or_default();
    if !bias.is_empty() && bias.len() != extents.filters {
        return Err(misfit(shape, extents.groups, call.input(0)?.shape()));
    }
    let size = [extents.windows.input[0], extents.windows.input[1]];
    let (taps, pixels) = (deformed.taps, deformed.pixels);
    let channels = extents.channels / extents.groups;
    let filters = extents.filters / extents.groups;
    let dims = extents.output_shape();
    let mut output = vec![0.0; call.count(&dims, ElementType::F64)?];
    let mut column = vec![0.0; extents.channels * taps];
    let per_offset_group = extents.channels / deformed.offset_groups;
    for n in 0..extents.batch {
        for pixel in 0..pixels {
            call.check_interrupt()?;
            let places = deformed.places(n, pixel, &offsets, &mask);
            for (at, value) in column.iter_mut().enumerate() {
                let (channel, tap) = (at / taps, at % taps);
                let len = size[0] * size[1];
                let plane = &input[(n * extents.channels + channel) * len..][..len];
                let [y, x, weight] = places[channel / per_offset_group * taps + tap];
                *value = weight * sample(plane, size, y, x);
            }
            for f in 0..extents.filters {
                let own = &weights[f * channels * taps..][..channels * taps];
                let seen = &column[f / filters * channels * taps..][..channels * taps];
                let sum: f64 = own.iter().zip(seen).map(|(a, b)| a * b).sum();
                output[(n * extents.filters + f) * pixels + pixel] =
                    sum + bias.get(f).copied().unwrap_or(0.0);
            }
        }
    }
    one_of(call.kind(0)?, &dims, output)
}
