//! Running steps on codes.

use campana_kernels::gemm::Grid;
use campana_kernels::int8::{self, Output};
use campana_kernels::{bytes_of, bytes_of_mut};

use super::execute::Machine;
use super::int8::{Int8Action, Int8Conv, Int8Depthwise, PoolExtents};
use super::step::Border;
use crate::ops::Fault;
use crate::plan::Int8Weights;

/// Runs a step; `operand(i)` is what it reads, as floats or as the memory of codes.
pub(super) fn act<'a>(
    action: &Int8Action,
    operand: impl Fn(usize) -> Result<&'a [f32], Fault>,
    output: &mut [f32],
    scratch: &mut [f32],
    machine: &Machine<'_>,
) -> Result<(), Fault> {
    let (isa, pool) = (machine.isa, machine.pool);
    match action {
        Int8Action::Quantize { to, turn, len } => {
            let input = &operand(0)?[..*len];
            let output = &mut bytes_of_mut(output)[..*len];
            match turn {
                None => int8::quantize(isa, pool, input, *to, output),
                Some([batch, channels, pixels]) => {
                    let image = (channels * pixels).max(1);
                    let images = input
                        .chunks_exact(image)
                        .zip(output.chunks_exact_mut(image));
                    for (input, output) in images.take(*batch) {
                        int8::quantize_channels_last(isa, pool, input, *channels, *to, output);
                    }
                }
            }
        }
        Int8Action::Dequantize(from) => {
            let codes = &bytes_of(operand(0)?)[..output.len()];
            int8::dequantize(isa, pool, codes, *from, output);
        }
        Int8Action::Requantize {
            from,
            to,
            bounds,
            len,
        } => {
            let codes = &bytes_of(operand(0)?)[..*len];
            let output = &mut bytes_of_mut(output)[..*len];
            int8::requantize(isa, pool, codes, *from, *to, *bounds, output);
        }
        Int8Action::Add {
            scales: [left, right],
            to,
            bounds,
            len,
        } => {
            let (a, b) = (
                &bytes_of(operand(0)?)[..*len],
                &bytes_of(operand(1)?)[..*len],
            );
            let output = &mut bytes_of_mut(output)[..*len];
            int8::add(isa, pool, (a, *left), (b, *right), *to, *bounds, output);
        }
        Int8Action::Conv(conv) => {
            let residual = match conv.residual {
                Some(factor) => Some((bytes_of(operand(1)?), factor)),
                None => None,
            };
            let input = bytes_of(operand(0)?);
            run_conv(
                conv,
                input,
                residual,
                output,
                bytes_of_mut(scratch),
                machine,
            );
        }
        Int8Action::Depthwise(conv) => {
            let input = bytes_of(operand(0)?);
            run_depthwise(conv, input, bytes_of_mut(output), machine);
        }
        Int8Action::MaxPool(extents) => {
            let input = bytes_of(operand(0)?);
            let [input_len, output_len] = lens(extents);
            let output = &mut bytes_of_mut(output)[..extents.batch * output_len];
            for (n, output) in output.chunks_exact_mut(output_len.max(1)).enumerate() {
                let image = &input[n * input_len..(n + 1) * input_len];
                int8::max_pool(
                    isa,
                    pool,
                    image,
                    extents.channels,
                    extents.window,
                    extents.sliding,
                    output,
                );
            }
        }
        Int8Action::AveragePool {
            extents,
            pooling,
            from,
            to,
        } => {
            let input = bytes_of(operand(0)?);
            let [input_len, output_len] = lens(extents);
            for n in 0..extents.batch {
                let range = n * output_len..(n + 1) * output_len;
                let output = match to {
                    Some(_) => Output::Codes(&mut bytes_of_mut(output)[range]),
                    None => Output::Floats(&mut output[range]),
                };
                int8::average_pool(
                    isa,
                    *pooling,
                    &input[n * input_len..(n + 1) * input_len],
                    *from,
                    extents.channels,
                    extents.window,
                    extents.sliding,
                    *to,
                    output,
                );
            }
        }
        Int8Action::Copy { fill, regions, len } => {
            let output = &mut bytes_of_mut(output)[..*len];
            if let Some(fill) = fill {
                output.fill(*fill);
            }
            for (i, region) in regions.iter().enumerate() {
                region.copy(bytes_of(operand(i)?), output);
            }
        }
    }
    Ok(())
}

/// Codes of an input and of an output image of a pool.
fn lens(extents: &PoolExtents) -> [usize; 2] {
    [extents.sliding.input, extents.sliding.output].map(|[h, w]| h * w * extents.channels)
}

/// The image with its border, where it gets one, and what may be read behind it.
fn bordered<'a>(
    border: Option<Border>,
    fill: u8,
    image: &'a [u8],
    len: usize,
    scratch: &'a mut [u8],
    machine: &Machine<'_>,
) -> &'a [u8] {
    let Some(Border {
        size,
        before,
        after,
        ..
    }) = border
    else {
        return image;
    };
    let rows = before[0] + size[0] + after[0];
    let padded = rows * (before[1] + size[1] + after[1]) * size[2];
    let to = &mut scratch[..padded];
    int8::pad(machine.pool, &image[..len], size, before, after, fill, to);
    scratch
}

fn run_conv(
    conv: &Int8Conv,
    input: &[u8],
    residual: Option<(&[u8], f32)>,
    output: &mut [f32],
    scratch: &mut [u8],
    machine: &Machine<'_>,
) {
    let Int8Weights::Groups { groups, .. } = &conv.layer.weights else {
        return;
    };
    let [height, width, filters] = conv.output;
    let output_len = height * width * filters;
    let group_filters = filters / groups.len().max(1);
    for n in 0..conv.batch {
        let image = bordered(
            conv.border,
            conv.layer.input.zero_point,
            &input[n * conv.input_len..],
            conv.input_len,
            scratch,
            machine,
        );
        let range = n * output_len..(n + 1) * output_len;
        let residual = residual.map(|(codes, factor)| (&codes[range.clone()], factor));
        for (g, weights) in groups.iter().enumerate() {
            let output = if conv.gives_codes {
                Output::Codes(&mut bytes_of_mut(output)[range.clone()])
            } else {
                Output::Floats(&mut output[range.clone()])
            };
            int8::multiply(
                machine.isa,
                machine.pool,
                image,
                Grid {
                    start: g * conv.group_stride,
                    ..conv.input_grid
                },
                weights,
                &conv.offsets[g],
                &conv.requantize[g],
                residual,
                output,
                Grid {
                    start: g * group_filters,
                    ..Grid::image(height, width, filters)
                },
            );
        }
    }
}

fn run_depthwise(conv: &Int8Depthwise, input: &[u8], output: &mut [u8], machine: &Machine<'_>) {
    let (isa, pool) = (machine.isa, machine.pool);
    for n in 0..conv.batch {
        let image = &input[n * conv.input_len..(n + 1) * conv.input_len];
        let output = &mut output[n * conv.output_len..(n + 1) * conv.output_len];
        int8::depthwise(isa, pool, image, conv.fill, &conv.filters, output);
    }
}
