//! Convolutions, and how windows lie over images.

use campana_kernels::depthwise::Sliding;
use campana_kernels::reference::{ConvShape, reference_conv};
use campana_tensor::Tensor;

use super::Operator;
use super::call::{Call, Fault, count_of, extent, one};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "Conv" => conv,
        "ConvTranspose" => conv_transpose,
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
    let groups = usize::try_from(call.int("group", 1)?).unwrap_or(0);
    let (channels, filters) = (input[1], weights.first().copied().unwrap_or(0));
    let fits = weights.len() == input.len()
        && (1..=channels.max(1)).contains(&groups)
        && filters.is_multiple_of(groups)
        && weights[1] * groups == channels
        && weights[2..].iter().all(|&dim| dim > 0);
    if !fits {
        return Err(Fault::invalid(format!(
            "weights {weights:?} in {groups} groups do not fit an input {input:?}"
        )));
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

fn conv(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let ((shape, input), (weights_shape, weights)) = (call.floats(0)?, call.floats(1)?);
    let geometry = conv_geometry(call, shape, weights_shape)?;
    let bias = call.optional_floats(2)?.unwrap_or(&[]);
    if !bias.is_empty() && bias.len() != geometry.filters {
        return Err(Fault::invalid(format!(
            "{} biases for {} filters",
            bias.len(),
            geometry.filters
        )));
    }
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
    let output = reference_conv(&reference, input, weights, bias);
    one(&geometry.output_shape(shape.len()), output)
}

fn conv_transpose(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let ((shape, input), (weights_shape, weights)) = (call.floats(0)?, call.floats(1)?);
    let [height, width] = spatial(shape)?;
    let rank = shape.len() - 2;
    let groups = usize::try_from(call.int("group", 1)?).unwrap_or(0);
    if weights_shape.len() != shape.len()
        || !(1..=shape[1].max(1)).contains(&groups)
        || weights_shape[2..].contains(&0)
        || weights_shape[0] != shape[1]
        || !shape[1].is_multiple_of(groups)
    {
        return Err(Fault::invalid(format!(
            "weights {weights_shape:?} in {groups} groups do not fit an input {shape:?}"
        )));
    }
    let (batch, channels) = (shape[0], shape[1]);
    let group_filters = weights_shape[1];
    let filters = group_filters * groups;
    let [kh, kw] = spatial(weights_shape)?;
    let strides = per_axis(call, "strides", rank)?;
    let dilations = per_axis(call, "dilations", rank)?;
    let lead = |values: Option<&[i64]>| -> [usize; 2] {
        match values {
            Some(&[x]) => [0, x.clamp(0, 1 << 24) as usize],
            Some(&[y, x]) => [y.clamp(0, 1 << 24) as usize, x.clamp(0, 1 << 24) as usize],
            _ => [0, 0],
        }
    };
    let extra = lead(call.ints("output_padding")?);
    let full: [usize; 2] = std::array::from_fn(|a| {
        ([height, width][a].max(1) - 1) * strides[a]
            + ([kh, kw][a] - 1) * dilations[a]
            + 1
            + extra[a]
    });
    let mode = call.string("auto_pad", "NOTSET")?;
    let wanted = call.ints("output_shape")?.map(|shape| {
        let mut wanted = lead(Some(&shape[shape.len().saturating_sub(rank)..]));
        if rank == 1 {
            wanted[0] = 1;
        }
        wanted
    });
    let wanted = match mode {
        "SAME_UPPER" | "SAME_LOWER" if wanted.is_none() => {
            Some([height * strides[0], width * strides[1]])
        }
        _ => wanted,
    };
    let (begin, output) = match wanted {
        Some(output) => {
            let begin = std::array::from_fn(|a| {
                let total = full[a].saturating_sub(output[a]);
                if mode == "SAME_UPPER" {
                    total / 2
                } else {
                    total.div_ceil(2)
                }
            });
            (begin, output)
        }
        None => {
            let [begin, end] = if mode == "NOTSET" {
                pads(call, rank)?
            } else {
                [[0; 2]; 2]
            };
            (
                begin,
                std::array::from_fn(|a| full[a].saturating_sub(begin[a] + end[a])),
            )
        }
    };
    count_of(&[batch, filters, output[0], output[1]])?;
    let bias = call.optional_floats(2)?;
    let [out_height, out_width] = output;
    let mut result = Vec::with_capacity(batch * filters * out_height * out_width);
    for _ in 0..batch {
        for filter in 0..filters {
            let bias = bias.map_or(0.0, |bias| bias.get(filter).copied().unwrap_or(0.0));
            result.extend(std::iter::repeat_n(bias, out_height * out_width));
        }
    }
    let group_channels = channels / groups;
    for n in 0..batch {
        for c in 0..channels {
            let group = c / group_channels;
            for f in 0..group_filters {
                let plane = (n * filters + group * group_filters + f) * out_height * out_width;
                for y in 0..height {
                    for x in 0..width {
                        let value = input[((n * channels + c) * height + y) * width + x];
                        for ky in 0..kh {
                            let Some(oy) = (y * strides[0] + ky * dilations[0])
                                .checked_sub(begin[0])
                                .filter(|&v| v < out_height)
                            else {
                                continue;
                            };
                            for kx in 0..kw {
                                let Some(ox) = (x * strides[1] + kx * dilations[1])
                                    .checked_sub(begin[1])
                                    .filter(|&v| v < out_width)
                                else {
                                    continue;
                                };
                                result[plane + oy * out_width + ox] +=
                                    value * weights[((c * group_filters + f) * kh + ky) * kw + kx];
                            }
                        }
                    }
                }
            }
        }
    }
    let mut out_shape = vec![batch, filters];
    out_shape.extend_from_slice(&output[2 - rank..]);
    one(&out_shape, result)
}
