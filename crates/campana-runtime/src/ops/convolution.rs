//! Convolutions, and how windows lie over images.

use campana_ir::op::{AutoPad, Convolution, Window};
use campana_kernels::depthwise::Sliding;
use campana_kernels::gemm::{Epilogue, Grid, PackedMatrix, RowRuns, gemm};
use campana_kernels::reference::{ConvShape, reference_conv};
use campana_tensor::{ElementType, Tensor};

use super::Operator;
use super::call::{Call, Fault, count_of, extent, one};
use super::indexing::strides_of;
use super::linear::product;
use super::windowed;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "Conv" => conv,
        "ConvTranspose" => conv_transpose,
        "DeformConv" => super::deform::conv,
        _ => return None,
    })
}

/// A window sliding over images of one or two spatial axes; one axis is seen
/// as the second of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) window: [usize; 2],
    pub(crate) sliding: Sliding,
    pub(crate) pads_end: [usize; 2],
}

/// Extents of the spatial axes of `[batch, channels, ..]`, the first 1 where there is one.
pub(crate) fn spatial(shape: &[usize]) -> Result<[usize; 2], Fault> {
    match *shape {
        [_, _, width] => Ok([1, width]),
        [_, _, height, width] => Ok([height, width]),
        _ => Err(Fault::unsupported(format!(
            "an image of shape {shape:?} (rank 3 or 4 is supported)"
        ))),
    }
}

/// A positive number for each of two axes from an attribute that may be left out.
pub(crate) fn per_axis(call: &Call<'_>, name: &str, rank: usize) -> Result<[usize; 2], Fault> {
    let given = call.ints(name)?.unwrap_or(&[1; 2][..rank]);
    if given.len() != rank || given.iter().any(|&v| v < 1) {
        return Err(Fault::invalid(format!("attribute {name} is {given:?}")));
    }
    Ok(match *given {
        [x] => [1, extent(x)?],
        [y, x, ..] => [extent(y)?, extent(x)?],
        [] => [1, 1],
    })
}

/// Explicit pads, before and after each of two axes.
pub(crate) fn pads(call: &Call<'_>, rank: usize) -> Result<[[usize; 2]; 2], Fault> {
    let given = call.ints("pads")?.unwrap_or(&[0; 4][..2 * rank]);
    if given.len() != 2 * rank {
        return Err(Fault::invalid(format!("attribute pads is {given:?}")));
    }
    if given.iter().any(|&v| v < 0) {
        return Err(Fault::unsupported(format!("negative pads {given:?}")));
    }
    Ok(match *given {
        [a, b] => [[0, extent(a)?], [0, extent(b)?]],
        [a, b, c, d] => [[extent(a)?, extent(b)?], [extent(c)?, extent(d)?]],
        _ => return Err(Fault::invalid(format!("attribute pads is {given:?}"))),
    })
}

/// Where a window of this size lies over images of this shape, by the node's attributes.
pub(crate) fn windows(
    call: &Call<'_>,
    shape: &[usize],
    window: [usize; 2],
    ceil: bool,
) -> Result<Windows, Fault> {
    let input = spatial(shape)?;
    let rank = shape.len() - 2;
    let strides = per_axis(call, "strides", rank)?;
    let dilations = per_axis(call, "dilations", rank)?;
    let reach: [usize; 2] = std::array::from_fn(|a| (window[a] - 1) * dilations[a] + 1);
    let mode = call.string("auto_pad", "NOTSET")?;
    let [pads_begin, pads_end] = match mode {
        "NOTSET" => pads(call, rank)?,
        "VALID" => [[0; 2]; 2],
        "SAME_UPPER" | "SAME_LOWER" => {
            let total: [usize; 2] = std::array::from_fn(|a| {
                let output = input[a].div_ceil(strides[a]);
                (output.saturating_sub(1) * strides[a] + reach[a]).saturating_sub(input[a])
            });
            let less = total.map(|t| t / 2);
            let more = total.map(|t| t.div_ceil(2));
            if mode == "SAME_UPPER" {
                [less, more]
            } else {
                [more, less]
            }
        }
        other => return Err(Fault::invalid(format!("auto_pad {other}"))),
    };
    let mut output = [0; 2];
    for a in 0..2 {
        let padded = pads_begin[a] + input[a] + pads_end[a];
        let Some(last) = padded.checked_sub(reach[a]) else {
            return Err(Fault::invalid(format!(
                "a window of {} over {padded} pixels",
                reach[a]
            )));
        };
        output[a] = if ceil {
            last.div_ceil(strides[a])
        } else {
            last / strides[a]
        } + 1;
        // A window that starts beyond the image and its padding before it does not count.
        if ceil && (output[a] - 1) * strides[a] >= input[a] + pads_begin[a] {
            output[a] -= 1;
        }
    }
    count_of(&[shape[0], shape[1], output[0], output[1]])?;
    Ok(Windows {
        window,
        sliding: Sliding {
            input,
            output,
            strides,
            dilations,
            pads_begin,
        },
        pads_end,
    })
}

/// A convolution's extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvGeometry {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) filters: usize,
    pub(crate) groups: usize,
    pub(crate) windows: Windows,
}

impl ConvGeometry {
    /// The output's shape, with as many spatial axes as the input has.
    pub(crate) fn output_shape(&self, rank: usize) -> Vec<usize> {
        let mut shape = vec![self.batch, self.filters];
        shape.extend_from_slice(&self.windows.sliding.output[4 - rank..]);
        shape
    }
}

/// The extents of a Conv node over these inputs.
pub(crate) fn conv_geometry(
    call: &Call<'_>,
    input: &[usize],
    weights: &[usize],
) -> Result<ConvGeometry, Fault> {
    spatial(input)?;
    let groups = group_count(call, input)?;
    let (channels, filters) = (input[1], weights.first().copied().unwrap_or(0));
    let fits = weights.len() == input.len()
        && filters.is_multiple_of(groups)
        && weights[1].checked_mul(groups) == Some(channels)
        && weights[2..].iter().all(|&dim| dim > 0);
    if !fits {
        return Err(misfit(weights, groups, input));
    }
    let window = spatial(weights)?;
    if let Some(declared) = call.ints("kernel_shape")?
        && !declared
            .iter()
            .map(|&v| v as usize)
            .eq(weights[2..].iter().copied())
    {
        return Err(Fault::invalid(format!(
            "kernel_shape {declared:?} for weights {weights:?}"
        )));
    }
    let windows = windows(call, input, window, false)?;
    let [height, width] = windows.sliding.output;
    count_of(&[input[0], filters, height, width])?;
    let padded: [usize; 2] = std::array::from_fn(|a| {
        windows.sliding.pads_begin[a] + windows.sliding.input[a] + windows.pads_end[a]
    });
    count_of(&[channels, padded[0], padded[1]])?;
    Ok(ConvGeometry {
        batch: input[0],
        channels,
        filters,
        groups,
        windows,
    })
}

/// Extents of a convolution over any number of axes.
pub(super) struct ConvExtents {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) filters: usize,
    pub(super) groups: usize,
    pub(super) windows: windowed::Windows,
}

impl ConvExtents {
    /// Of a node over an input and weights of these shapes.
    pub(super) fn of(call: &Call<'_>, input: &[usize], weights: &[usize]) -> Result<Self, Fault> {
        let groups = group_count(call, input)?;
        let fits = input.len() >= 3
            && weights.len() == input.len()
            && weights[0].is_multiple_of(groups)
            && weights[1].checked_mul(groups) == Some(input[1])
            && weights[2..].iter().all(|&dim| dim > 0);
        if !fits {
            return Err(misfit(weights, groups, input));
        }
        let windows = windowed::Windows::of(call, &input[2..], weights[2..].to_vec(), false)?;
        Ok(Self {
            batch: input[0],
            channels: input[1],
            filters: weights[0],
            groups,
            windows,
        })
    }

    pub(super) fn output_shape(&self) -> Vec<usize> {
        let mut shape = vec![self.batch, self.filters];
        shape.extend_from_slice(&self.windows.output);
        shape
    }
}

pub(super) fn misfit(weights: &[usize], groups: usize, input: &[usize]) -> Fault {
    Fault::invalid(format!(
        "weights {weights:?} in {groups} groups do not fit an input {input:?}"
    ))
}

/// The attribute `group`, from 1 to the number of channels.
pub(super) fn group_count(call: &Call<'_>, input: &[usize]) -> Result<usize, Fault> {
    let given = call.int("group", 1)?;
    let channels = input.get(1).copied().unwrap_or(0).max(1);
    usize::try_from(given)
        .ok()
        .filter(|groups| (1..=channels).contains(groups))
        .ok_or_else(|| {
            Fault::invalid(format!(
                "attribute group is {given} for {channels} channels"
            ))
        })
}

/// The products of a convolution without its bias, as matrix products over
/// columns of windows. `add` gets a place in `[batch, filters, ..]` and what
/// is to be added there, once for every `depth_at_once` products.
pub(super) fn convolve(
    call: &Call<'_>,
    extents: &ConvExtents,
    input: &[f32],
    weights: &[f32],
    depth_at_once: usize,
    mut add: impl FnMut(usize, f32),
) -> Result<(), Fault> {
    let windows = &extents.windows;
    let pixels: usize = windows.output.iter().product();
    let plane: usize = windows.input.iter().product();
    let channels = extents.channels / extents.groups;
    let filters = extents.filters / extents.groups;
    let taps: usize = windows.window.iter().product();
    let depth = channels * taps;
    if count_of(&extents.output_shape())? == 0 {
        return Ok(());
    }
    let rows_at_once = (COLUMN_ELEMENTS / depth.max(1)).clamp(1, pixels);
    let mut columns = vec![0.0f32; rows_at_once * depth];
    let mut sums = vec![0.0f32; rows_at_once * filters];
    for group in 0..extents.groups {
        let own = &weights[group * filters * depth..][..filters * depth];
        let parts: Vec<(usize, PackedMatrix)> = (0..depth)
            .step_by(depth_at_once.max(1))
            .map(|start| {
                let len = depth_at_once.min(depth - start);
                let weight = |r: usize, c: usize| own[c * depth + start + r];
                (start, PackedMatrix::pack(len, filters, weight))
            })
            .collect();
        for n in 0..extents.batch {
            let first = (n * extents.channels + group * channels) * plane;
            let images = &input[first..][..channels * plane];
            let mut position = vec![0; windows.output.len()];
            let mut done = 0;
            while done < pixels {
                call.check_interrupt()?;
                let rows = rows_at_once.min(pixels - done);
                for row in columns.chunks_exact_mut(depth.max(1)).take(rows) {
                    fill_column(windows, &position, images, plane, taps, row);
                    windowed::advance(&mut position, &windows.output);
                }
                let sums = &mut sums[..rows * filters];
                for (start, packed) in &parts {
                    product_of_columns(call, &columns[*start..], depth, packed, rows, sums);
                    for (r, line) in sums.chunks_exact(filters).enumerate() {
                        for (f, &sum) in line.iter().enumerate() {
                            let filter = n * extents.filters + group * filters + f;
                            add(filter * pixels + done + r, sum);
                        }
                    }
                }
                done += rows;
            }
        }
    }
    Ok(())
}

/// As [`product`], of rows that lie `stride` apart.
fn product_of_columns(
    call: &Call<'_>,
    columns: &[f32],
    stride: usize,
    matrix: &PackedMatrix,
    rows: usize,
    output: &mut [f32],
) {
    gemm(
        call.isa,
        call.pool,
        columns,
        Grid::rows(rows, stride),
        RowRuns::contiguous(matrix.rows()),
        matrix,
        Epilogue::NONE,
        output,
        Grid::rows(rows, matrix.columns()),
    );
}

/// Elements of the columns that are multiplied at once.
const COLUMN_ELEMENTS: usize = 1 << 18;

/// What one window sees, `[channels, taps]`.
fn fill_column(
    windows: &windowed::Windows,
    position: &[usize],
    images: &[f32],
    plane: usize,
    taps: usize,
    column: &mut [f32],
) {
    let mut tap = 0;
    windows.taps(position, |at| {
        for (c, values) in column.chunks_exact_mut(taps).enumerate() {
            values[tap] = at.map_or(0.0, |at| images[c * plane + at]);
        }
        tap += 1;
    });
}

/// Multiplications from which matrix products are worth their preparation.
const MIN_PRODUCTS: usize = 1 << 16;

fn conv(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let ((shape, input), (weights_shape, weights)) = (call.floats(0)?, call.floats(1)?);
    let extents = ConvExtents::of(call, shape, weights_shape)?;
    let filters = extents.filters;
    let bias = call.optional_floats(2)?.unwrap_or(&[]);
    if !bias.is_empty() && bias.len() != filters {
        return Err(Fault::invalid(format!(
            "{} biases for {filters} filters",
            bias.len()
        )));
    }
    let output_shape = extents.output_shape();
    let products = count_of(&output_shape)?.saturating_mul(weights.len() / filters.max(1));
    if shape.len() <= 4 && products < MIN_PRODUCTS {
        let geometry = conv_geometry(call, shape, weights_shape)?;
        let sliding = geometry.windows.sliding;
        let reference = ConvShape {
            batch: geometry.batch,
            channels: geometry.channels,
            input: sliding.input,
            filters: geometry.filters,
            window: geometry.windows.window,
            strides: sliding.strides,
            dilations: sliding.dilations,
            pads_begin: sliding.pads_begin,
            pads_end: geometry.windows.pads_end,
            groups: geometry.groups,
        };
        return one(
            &output_shape,
            reference_conv(&reference, input, weights, bias),
        );
    }
    let mut output = vec![0.0; call.count(&output_shape, ElementType::F32)?];
    let depth = weights.len() / filters.max(1);
    convolve(call, &extents, input, weights, depth, |at, sum| {
        output[at] += sum;
    })?;
    let pixels: usize = extents.windows.output.iter().product();
    if !bias.is_empty() && pixels > 0 {
        for (i, plane) in output.chunks_exact_mut(pixels).enumerate() {
            let bias = bias[i % filters];
            plane.iter_mut().for_each(|v| *v += bias);
        }
    }
    one(&output_shape, output)
}

/// Where the results of a transposed convolution lie: elements cut off before
/// each axis, and the output's extents.
fn transposed_extents(
    call: &Call<'_>,
    input: &[usize],
    window: &[usize],
    strides: &[usize],
    dilations: &[usize],
) -> Result<[Vec<usize>; 2], Fault> {
    let rank = input.len();
    let list = |name: &str| -> Result<Option<Vec<usize>>, Fault> {
        let Some(given) = call.ints(name)?.filter(|given| !given.is_empty()) else {
            return Ok(None);
        };
        // An output shape may name batch and channels too.
        let given = &given[given.len().saturating_sub(rank)..];
        if given.len() != rank {
            return Err(Fault::invalid(format!("attribute {name} is {given:?}")));
        }
        given
            .iter()
            .map(|&v| extent(v))
            .collect::<Result<_, _>>()
            .map(Some)
    };
    let padding = match call.string("auto_pad", "NOTSET")? {
        "NOTSET" => AutoPad::Explicit(windowed::pads(call, rank)?.concat()),
        "SAME_UPPER" => AutoPad::SameUpper,
        "SAME_LOWER" => AutoPad::SameLower,
        _ => AutoPad::Explicit(Vec::new()),
    };
    let convolution = Convolution {
        window: Window {
            kernel: window.to_vec(),
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            padding,
        },
        groups: 1,
        output_padding: list("output_padding")?.unwrap_or_default(),
        output_shape: list("output_shape")?.unwrap_or_default(),
    };
    // What padding cuts off whole leaves nothing.
    let places = (0..rank).map(|axis| {
        let places = convolution.transposed_along((axis, rank), input[axis], window[axis]);
        places.map_or((0, 0), |places| (places.before, places.count))
    });
    let (begin, output) = places.unzip();
    Ok([begin, output])
}

fn conv_transpose(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let ((shape, input), (weights_shape, weights)) = (call.floats(0)?, call.floats(1)?);
    let groups = group_count(call, shape)?;
    if shape.len() < 3
        || weights_shape.len() != shape.len()
        || weights_shape[2..].contains(&0)
        || weights_shape[0] != shape[1]
        || !shape[1].is_multiple_of(groups)
    {
        return Err(misfit(weights_shape, groups, shape));
    }
    let (spatial, window) = (&shape[2..], &weights_shape[2..]);
    let rank = spatial.len();
    let strides = windowed::per_axis(call, "strides", rank)?;
    let dilations = windowed::per_axis(call, "dilations", rank)?;
    let [begin, output] = transposed_extents(call, spatial, window, &strides, &dilations)?;
    let (batch, channels) = (shape[0], shape[1]);
    let filters = weights_shape[1];
    let mut out_shape = vec![batch, filters * groups];
    out_shape.extend_from_slice(&output);
    let mut result = vec![0.0; call.count(&out_shape, ElementType::F32)?];
    let bias = call.optional_floats(2)?.unwrap_or(&[]);
    if !bias.is_empty() && bias.len() != filters * groups {
        return Err(Fault::invalid(format!(
            "{} biases for {} filters",
            bias.len(),
            filters * groups
        )));
    }
    let out_len: usize = output.iter().product();
    if result.is_empty() || out_len == 0 {
        return one(&out_shape, result);
    }
    for (i, plane) in result.chunks_exact_mut(out_len).enumerate() {
        plane.fill(bias.get(i % (filters * groups)).copied().unwrap_or(0.0));
    }
    let (pixels, taps): (usize, usize) = (spatial.iter().product(), window.iter().product());
    let group_channels = channels / groups;
    let columns = filters * taps;
    let mut turned = vec![0.0; count_of(&[pixels, group_channels])?];
    let mut products = vec![0.0; count_of(&[pixels, columns])?];
    let to_strides = strides_of(&output);
    for group in 0..groups {
        let own = &weights[group * group_channels * columns..][..group_channels * columns];
        let packed = PackedMatrix::pack(group_channels, columns, |r, c| own[r * columns + c]);
        for n in 0..batch {
            call.check_interrupt()?;
            let first = (n * channels + group * group_channels) * pixels;
            let image = &input[first..][..group_channels * pixels];
            campana_kernels::layout::transpose(image, group_channels, pixels, &mut turned);
            product(call, &turned, &packed, pixels, &mut products);
            let first = (n * groups + group) * filters * out_len;
            let target = &mut result[first..][..filters * out_len];
            let mut position = vec![0; rank];
            for line in products.chunks_exact(columns.max(1)) {
                let mut tap = vec![0; rank];
                for t in 0..taps {
                    let place = (0..rank).try_fold(0, |place, a| {
                        let at = position[a] * strides[a] + tap[a] * dilations[a];
                        let at = at.checked_sub(begin[a]).filter(|&at| at < output[a])?;
                        Some(place + at * to_strides[a])
                    });
                    if let Some(place) = place {
                        for f in 0..filters {
                            target[f * out_len + place] += line[f * taps + t];
                        }
                    }
                    windowed::advance(&mut tap, window);
                }
                windowed::advance(&mut position, spatial);
            }
        }
    }
    one(&out_shape, result)
}
