//! Sampling images at computed places, and boxes on them.

use campana_tensor::{Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, axis_of, count_of, extent, one_of, tensor};
use super::indexing::{strides_of, take_or_default};
use super::windowed::advance;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "GridSample" => grid_sample,
        "AffineGrid" => affine_grid,
        "RoiAlign" => roi_align,
        "MaxRoiPool" => max_roi_pool,
        "NonMaxSuppression" => non_max_suppression,
        "CenterCropPad" => center_crop_pad,
        _ => return None,
    })
}

/// How samples between and beyond the pixels are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// One axis of an image that is sampled.
#[derive(Clone, Copy)]
struct Axis {
    dim: usize,
    low: f64,
    high: f64,
}

impl Axis {
    fn new(dim: usize, align_corners: bool) -> Self {
        let edge = if align_corners { 0.0 } else { 0.5 };
        Self {
            dim,
            low: -edge,
            high: dim as f64 - 1.0 + edge,
        }
    }

    /// A coordinate from -1 to 1 in pixels.
    fn in_pixels(self, x: f64) -> f64 {
        (x + 1.0) / 2.0 * (self.high - self.low) + self.low
    }

    /// A coordinate mirrored at the image's edges until it is inside.
    fn reflect(self, x: f64) -> f64 {
        let range = self.high - self.low;
        if range <= 0.0 {
            return self.low;
        }
        let along = (x - self.low).rem_euclid(2.0 * range);
        self.low
            + if along > range {
                2.0 * range - along
            } else {
                along
            }
    }

    /// The pixel that stands for one at this place, if any.
    fn pixel(self, at: f64, padding: Padding) -> Option<usize> {
        let last = self.dim as f64 - 1.0;
        let at = match padding {
            Padding::Zeros => at,
            Padding::Border => at.clamp(0.0, last),
            Padding::Reflection => self.reflect(at).clamp(0.0, last),
        };
        ((0.0..=last).contains(&at)).then_some(at as usize)
    }

    /// The pixels that a sample at `x` is made of, with their weights.
    fn taps(self, x: f64, mode: Mode, padding: Padding) -> Vec<(Option<usize>, f64)> {
        let x = if mode == Mode::Nearest {
            x.round_ties_even()
        } else {
            x
        };
        let x = match padding {
            _ if (self.low..=self.high).contains(&x) => x,
            Padding::Zeros => x,
            Padding::Border => x.clamp(0.0, self.dim as f64 - 1.0),
            Padding::Reflection => self.reflect(x),
        };
        if !x.is_finite() {
            return Vec::new();
        }
        let first = x.floor();
        let t = x - first;
        let pixel = |offset: f64| self.pixel(first + offset, padding);
        match mode {
            Mode::Nearest => vec![(self.pixel(x, padding), 1.0)],
            Mode::Linear => vec![(pixel(0.0), 1.0 - t), (pixel(1.0), t)],
            Mode::Cubic => [-1.0, 0.0, 1.0, 2.0]
                .iter()
                .map(|&offset| (pixel(offset), cubic(t - offset)))
                .collect(),
        }
    }
}

/// Keys' cubic with a = -0.75, as PyTorch samples.
///
/// # References
///
/// R. Keys, Cubic convolution interpolation for digital image processing,
/// 1981, doi:10.1109/TASSP.1981.1163711, equation 4.
fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let x = distance.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * x * A - 4.0 * A
    } else {
        0.0
    }
}

/// Places and weights of all pixels of a sample: the product of those of the axes.
fn combined(taps: &[Vec<(Option<usize>, f64)>], strides: &[usize]) -> Vec<(usize, f64)> {
    taps.iter()
        .zip(strides)
        .fold(vec![(0, 1.0)], |known, (taps, stride)| {
            known
                .iter()
                .flat_map(|&(place, weight)| {
                    taps.iter().filter_map(move |&(pixel, factor)| {
                        Some((place + pixel? * stride, weight * factor))
                    })
                })
                .collect()
        })
}

fn grid_sample(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let ((shape, values), (grid_shape, grid)) = (call.reals(0)?, call.reals(1)?);
    let mode = match call.string("mode", "linear")? {
        "linear" | "bilinear" => Mode::Linear,
        "nearest" => Mode::Nearest,
        "cubic" | "bicubic" => Mode::Cubic,
        other => return Err(Fault::unsupported(format!("mode {other}"))),
    };
    let padding = match call.string("padding_mode", "zeros")? {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        other => return Err(Fault::unsupported(format!("padding_mode {other}"))),
    };
    let align_corners = call.int("align_corners", 0)? != 0;
    let rank = shape.len().saturating_sub(2);
    let fits = rank > 0
        && grid_shape.len() == shape.len()
        && grid_shape[0] == shape[0]
        && grid_shape[rank + 1] == rank;
    if !fits {
        return Err(Fault::invalid(format!(
            "a grid {grid_shape:?} over {shape:?}"
        )));
    }
    let spatial = &shape[2..];
    let axes: Vec<Axis> = spatial
        .iter()
        .map(|&d| Axis::new(d, align_corners))
        .collect();
    let strides = strides_of(spatial);
    let (plane, points): (usize, usize) = (
        spatial.iter().product(),
        grid_shape[1..=rank].iter().product(),
    );
    let mut dims = shape[..2].to_vec();
    dims.extend_from_slice(&grid_shape[1..=rank]);
    let mut output = vec![0.0; count_of(&dims)?];
    for n in 0..shape[0] {
        call.check_interrupt()?;
        for point in 0..points {
            let at = &grid[(n * points + point) * rank..][..rank];
            // The grid names the last axis first.
            let taps: Vec<_> = axes
                .iter()
                .zip(at.iter().rev())
                .map(|(axis, &x)| axis.taps(axis.in_pixels(x), mode, padding))
                .collect();
            let taps = combined(&taps, &strides);
            for c in 0..shape[1] {
                let image = &values[(n * shape[1] + c) * plane..][..plane];
                output[(n * shape[1] + c) * points + point] = taps
                    .iter()
                    .map(|&(place, weight)| image[place] * weight)
                    .sum();
            }
        }
    }
    one_of(call.kind(0)?, &dims, output)
}

fn affine_grid(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, theta) = call.reals(0)?;
    let size = super::shape::dims(
        &call
            .optional_ints(1)?
            .ok_or_else(|| Fault::invalid("the size is missing"))?,
    )?;
    let align_corners = call.int("align_corners", 0)? != 0;
    let rank = size.len().saturating_sub(2);
    if rank == 0 || shape != [size[0], rank, rank + 1] {
        return Err(Fault::invalid(format!("{shape:?} for an image {size:?}")));
    }
    let spatial = &size[2..];
    let place = |index: usize, dim: usize| match (align_corners, dim) {
        (true, 1) => -1.0,
        (true, _) => -1.0 + 2.0 * index as f64 / (dim as f64 - 1.0),
        (false, _) => (2.0 * index as f64 + 1.0) / dim as f64 - 1.0,
    };
    let mut dims = vec![size[0]];
    dims.extend_from_slice(spatial);
    dims.push(rank);
    let count = call.count(&dims, call.kind(0)?)?;
    let mut output = Vec::with_capacity(count);
    for matrix in theta.chunks_exact(rank * (rank + 1)) {
        if spatial.contains(&0) {
            break;
        }
        let mut index = vec![0; rank];
        loop {
            for row in matrix.chunks_exact(rank + 1) {
                let moved: f64 = (0..rank)
                    .map(|j| {
                        let axis = rank - 1 - j;
                        row[j] * place(index[axis], spatial[axis])
                    })
                    .sum();
                output.push(moved + row[rank]);
            }
            if !advance(&mut index, spatial) {
                break;
            }
        }
    }
    one_of(call.kind(0)?, &dims, output)
}

/// What pools of boxes need to know: their extents and the images'.
struct Regions<'a> {
    shape: [usize; 4],
    values: Vec<f64>,
    boxes: &'a [usize],
    output: [usize; 2],
    scale: f64,
}

/// The bilinear weights of a sample; `None` beyond the image.
fn bilinear([height, width]: [usize; 2], y: f64, x: f64) -> Option<[(usize, f64); 4]> {
    if y < -1.0 || y > height as f64 || x < -1.0 || x > width as f64 {
        return None;
    }
    let axis = |v: f64, dim: usize| {
        let v = v.max(0.0).min(dim as f64 - 1.0);
        let low = v as usize;
        (low, (low + 1).min(dim - 1), v - low as f64)
    };
    let ((y0, y1, ty), (x0, x1, tx)) = (axis(y, height), axis(x, width));
    Some([
        (y0 * width + x0, (1.0 - ty) * (1.0 - tx)),
        (y0 * width + x1, (1.0 - ty) * tx),
        (y1 * width + x0, ty * (1.0 - tx)),
        (y1 * width + x1, ty * tx),
    ])
}

fn regions<'a>(call: &Call<'a>, sizes: [usize; 2]) -> Result<Regions<'a>, Fault> {
    let (shape, values) = call.reals(0)?;
    let shape: [usize; 4] = shape
        .try_into()
        .map_err(|_| Fault::invalid(format!("an image of shape {shape:?}")))?;
    if shape[2] == 0 || shape[3] == 0 || sizes.contains(&0) {
        return Err(Fault::invalid(format!("regions {sizes:?} of {shape:?}")));
    }
    Ok(Regions {
        shape,
        values,
        boxes: call.input(1)?.shape(),
        output: sizes,
        scale: f64::from(call.float("spatial_scale", 1.0)?),
    })
}

/// Samples in a region's cell that are no mistake.
const MAX_SAMPLES: f64 = 1e6;

fn roi_align(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let size = |name| extent(call.int(name, 1)?);
    let r = regions(call, [size("output_height")?, size("output_width")?])?;
    let [_, channels, height, width] = r.shape;
    let (_, boxes) = call.reals(1)?;
    let images = call.optional_ints(2)?.unwrap_or_default();
    let half_pixel = call.opset >= 16
        && call.string("coordinate_transformation_mode", "half_pixel")? == "half_pixel";
    let average = call.string("mode", "avg")? == "avg";
    let ratio = call.int("sampling_ratio", 0)?.max(0) as f64;
    if r.boxes != [images.len(), 4] {
        return Err(Fault::invalid(format!(
            "{} images of {:?}",
            images.len(),
            r.boxes
        )));
    }
    let dims = [images.len(), channels, r.output[0], r.output[1]];
    let mut output = vec![0.0; count_of(&dims)?];
    let cells = r.output[0] * r.output[1];
    for (n, &image) in images.iter().enumerate() {
        call.check_interrupt()?;
        let image = axis_of(image, r.shape[0])?;
        let offset = if half_pixel { 0.5 } else { 0.0 };
        let [x1, y1, x2, y2] = std::array::from_fn(|i| boxes[n * 4 + i] * r.scale - offset);
        let least = if half_pixel { f64::NEG_INFINITY } else { 1.0 };
        let cell = [
            (y2 - y1).max(least) / r.output[0] as f64,
            (x2 - x1).max(least) / r.output[1] as f64,
        ];
        let samples = cell.map(|size| {
            if ratio > 0.0 {
                ratio
            } else {
                size.ceil().max(0.0)
            }
        });
        if samples[0] * samples[1] > MAX_SAMPLES || samples[0].is_nan() || samples[1].is_nan() {
            return Err(Fault::invalid(format!("{samples:?} samples in a cell")));
        }
        for at in 0..cells {
            let (row, column) = ((at / r.output[1]) as f64, (at % r.output[1]) as f64);
            let mut taps = Vec::new();
            for iy in 0..samples[0] as usize {
                let y = y1 + (row + (iy as f64 + 0.5) / samples[0]) * cell[0];
                for ix in 0..samples[1] as usize {
                    let x = x1 + (column + (ix as f64 + 0.5) / samples[1]) * cell[1];
                    taps.push(bilinear([height, width], y, x).unwrap_or_default());
                }
            }
            for c in 0..channels {
                let plane = &r.values[(image * channels + c) * height * width..];
                let terms = taps.iter().map(|taps| taps.map(|(i, w)| plane[i] * w));
                output[(n * channels + c) * cells + at] = if average {
                    terms.flatten().sum::<f64>() / taps.len().max(1) as f64
                } else {
                    terms.flatten().reduce(f64::max).unwrap_or(0.0)
                };
            }
        }
    }
    one_of(call.kind(0)?, &dims, output)
}

fn max_roi_pool(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let sizes = match call.ints("pooled_shape")? {
        Some(&[height, width]) => [extent(height)?, extent(width)?],
        other => {
            return Err(Fault::invalid(format!(
                "attribute pooled_shape is {other:?}"
            )));
        }
    };
    let r = regions(call, sizes)?;
    let [_, channels, height, width] = r.shape;
    let (_, boxes) = call.reals(1)?;
    if r.boxes.len() != 2 || r.boxes[1] != 5 {
        return Err(Fault::invalid(format!("regions {:?}", r.boxes)));
    }
    let dims = [r.boxes[0], channels, sizes[0], sizes[1]];
    let mut output = Vec::with_capacity(count_of(&dims)?);
    for region in boxes.chunks_exact(5) {
        call.check_interrupt()?;
        let image = axis_of(region[0] as i64, r.shape[0])?;
        let corner = |i: usize| (region[i] * r.scale).round();
        let (x, y) = (corner(1), corner(2));
        let cell = [
            (corner(4) - y + 1.0).max(1.0) / sizes[0] as f64,
            (corner(3) - x + 1.0).max(1.0) / sizes[1] as f64,
        ];
        let range = |start: f64, cell: f64, at: usize, dim: usize| {
            let clamp = |v: f64| (v + start).clamp(0.0, dim as f64) as usize;
            clamp((at as f64 * cell).floor())..clamp(((at + 1) as f64 * cell).ceil())
        };
        for c in 0..channels {
            let plane = &r.values[(image * channels + c) * height * width..];
            for row in 0..sizes[0] {
                for column in 0..sizes[1] {
                    let columns = range(x, cell[1], column, width);
                    let max = range(y, cell[0], row, height)
                        .flat_map(|i| columns.clone().map(move |j| i * width + j))
                        .map(|at| plane[at])
                        .reduce(f64::max);
                    output.push(max.unwrap_or(0.0));
                }
            }
        }
    }
    one_of(call.kind(0)?, &dims, output)
}

/// A box as its least and greatest coordinates.
fn corners(of: &[f64], centered: bool) -> [f64; 4] {
    let [a, b, c, d] = [of[0], of[1], of[2], of[3]];
    if centered {
        [b - d / 2.0, a - c / 2.0, b + d / 2.0, a + c / 2.0]
    } else {
        [a.min(c), b.min(d), a.max(c), b.max(d)]
    }
}

/// What two boxes have in common, as a part of what they cover together.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let area = |[y0, x0, y1, x1]: [f64; 4]| (y1 - y0).max(0.0) * (x1 - x0).max(0.0);
    let both = area([
        a[0].max(b[0]),
        a[1].max(b[1]),
        a[2].min(b[2]),
        a[3].min(b[3]),
    ]);
    let union = area(*a) + area(*b) - both;
    if both > 0.0 && union > 0.0 {
        both / union
    } else {
        0.0
    }
}

fn non_max_suppression(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let ((boxes_shape, boxes), (scores_shape, scores)) = (call.reals(0)?, call.reals(1)?);
    let (&[images, count, 4], &[score_images, classes, scored]) = (boxes_shape, scores_shape)
    else {
        return Err(Fault::invalid(format!(
            "boxes {boxes_shape:?}, scores {scores_shape:?}"
        )));
    };
    if images != score_images || count != scored {
        return Err(Fault::invalid(format!(
            "boxes {boxes_shape:?}, scores {scores_shape:?}"
        )));
    }
    let threshold = |index| -> Result<Option<f64>, Fault> {
        let values = call.optional_reals(index)?;
        Ok(values.and_then(|values| values.first().copied()))
    };
    let most = threshold(2)?.unwrap_or(0.0).max(0.0) as usize;
    let (iou, least) = (threshold(3)?.unwrap_or(0.0), threshold(4)?);
    let centered = call.int("center_point_box", 0)? != 0;
    let mut selected = Vec::new();
    for image in 0..images {
        let own = &boxes[image * count * 4..][..count * 4];
        let own: Vec<[f64; 4]> = own.chunks_exact(4).map(|b| corners(b, centered)).collect();
        for class in 0..classes {
            call.check_interrupt()?;
            let scores = &scores[(image * classes + class) * count..][..count];
            let mut order: Vec<usize> = (0..count)
                .filter(|&i| least.is_none_or(|least| scores[i] > least))
                .collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let mut chosen: Vec<usize> = Vec::new();
            for index in order {
                if chosen.len() >= most {
                    break;
                }
                if chosen
                    .iter()
                    .all(|&other| overlap(&own[index], &own[other]) <= iou)
                {
                    chosen.push(index);
                    selected.extend([image as i64, class as i64, index as i64]);
                }
            }
        }
    }
    Ok(vec![tensor(
        vec![selected.len() / 3, 3],
        TensorData::I64(selected),
    )?])
}

fn center_crop_pad(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let shape = input.shape();
    let sizes = call
        .optional_ints(1)?
        .ok_or_else(|| Fault::invalid("the shape is missing"))?;
    let sizes = super::shape::dims(&sizes)?;
    let axes: Vec<usize> = match call.ints("axes")? {
        Some(axes) => axes
            .iter()
            .map(|&axis| axis_of(axis, shape.len()))
            .collect::<Result<_, _>>()?,
        None => (0..shape.len()).collect(),
    };
    if axes.len() != sizes.len() {
        return Err(Fault::invalid(format!("{sizes:?} for axes {axes:?}")));
    }
    let mut dims = shape.to_vec();
    for (&axis, &size) in axes.iter().zip(&sizes) {
        dims[axis] = size;
    }
    let count = call.count(&dims, call.kind(0)?)?;
    let (from, to) = (strides_of(shape), strides_of(&dims));
    let source = |at: usize| -> Option<usize> {
        (0..dims.len()).try_fold(0, |place, a| {
            let index = at / to[a] % dims[a];
            let index = if dims[a] < shape[a] {
                index + (shape[a] - dims[a]) / 2
            } else {
                index.checked_sub((dims[a] - shape[a]) / 2)?
            };
            (index < shape[a]).then_some(place + index * from[a])
        })
    };
    let places: Vec<Option<usize>> = (0..count).map(source).collect();
    let data = take_or_default(input.data(), &places)?;
    Ok(vec![tensor(dims, data)?])
}
