//! Which steps a node becomes; operators not named here run by their reference fallback.

use campana_kernels::elementwise::Binary;
use campana_kernels::gemm::Grid;
use campana_kernels::pooling::Pooling;
use campana_tensor::TensorData;
use std::sync::Arc;

use super::compile::Compiler;
use super::elementwise::{self, binary, clamp};
use super::step::{Action, Border, ConvStep};
use super::{Layout, Place, Val};
use crate::ops::{
    Fault, Windows, conv_geometry, count_of, normalize_affine, pad_amounts, permutation, reshaped,
    slice_axes, split_lengths, strides_of, window_geometry,
};
use crate::plan::{Packed, PlannedNode, UNBOUNDED};
use crate::strided::Region;

/// The outputs of a node for which there are steps; `None` where it must run by its reference fallback.
pub(super) fn lower(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
) -> Result<Option<Vec<Val>>, Fault> {
    let node = &planned.node;
    // An optional first input or a second output is nothing for the fast path.
    let inputs_are_floats = node
        .inputs
        .iter()
        .take(match node.op_type.as_str() {
            "Add" | "Sub" | "Mul" | "Div" | "PRelu" => 2,
            "Concat" | "Max" | "Min" | "Sum" | "Mean" => usize::MAX,
            _ => 1,
        })
        .all(|name| c.value(name).is_some_and(|val| val.is_float));
    let is_view = matches!(
        node.op_type.as_str(),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity" | "Dropout"
    );
    if !inputs_are_floats || (node.outputs.len() > 1 && node.op_type != "Split") {
        return Ok(None);
    }
    let may_train = node.op_type == "Dropout" && node.inputs.len() > 2;
    if is_view && !may_train {
        return view(c, planned).map(Some);
    }
    match (node.op_type.as_str(), &planned.packed) {
        ("Conv", Some(packed)) => conv(c, planned, packed).map(Some),
        ("Gemm" | "MatMul", Some(Packed::Dense(matrix))) => {
            let val = dense(c, planned, matrix)?;
            Ok(Some(vec![val]))
        }
        ("Add" | "Sub" | "Mul" | "Div" | "Max" | "Min" | "Sum" | "Mean", _) => {
            elementwise::folded(c, planned).map(Some)
        }
        ("PRelu", _) => elementwise::prelu(c, planned),
        ("Pow", _) => elementwise::power(c, planned),
        ("BatchNormalization", _) => batch_normalization(c, planned),
        ("MaxPool" | "AveragePool", _) => pool(c, planned),
        ("GlobalAveragePool", _) => global_average(c, planned),
        ("ReduceMean", _) if averages_pixels(c, planned)? => {
            let keeps_axes = c.call(planned).int("keepdims", 1)? != 0;
            let mean = global_average(c, planned)?;
            Ok(mean.map(|mean| {
                mean.into_iter()
                    .map(|mut mean| {
                        mean.shape
                            .truncate(if keeps_axes { mean.shape.len() } else { 2 });
                        mean
                    })
                    .collect()
            }))
        }
        ("Slice", _) => slice(c, planned).map(Some),
        ("Split", _) => split(c, planned).map(Some),
        ("Pad", _) => pad(c, planned),
        ("Concat", _) => concat(c, planned).map(Some),
        ("Transpose", _) => transpose(c, planned).map(Some),
        _ => elementwise::unary(c, planned),
    }
}

/// A shape as it lies in memory.
pub(super) fn physical(shape: &[usize], layout: Layout) -> Vec<usize> {
    let mut result = shape.to_vec();
    if layout == Layout::Last && result.len() > 2 {
        result[1..].rotate_left(1);
    }
    result
}

fn view(c: &mut Compiler<'_>, planned: &PlannedNode) -> Result<Vec<Val>, Fault> {
    let val = c.operand(planned, 0)?;
    if matches!(planned.node.op_type.as_str(), "Identity" | "Dropout") {
        return Ok(vec![val]);
    }
    let shape = reshaped(&c.call(planned), &val.shape)?;
    let val = c.with_layout(&val, Layout::First);
    Ok(vec![Val { shape, ..val }])
}

fn conv(c: &mut Compiler<'_>, planned: &PlannedNode, packed: &Packed) -> Result<Vec<Val>, Fault> {
    let input = c.operand(planned, 0)?;
    let weights_shape = match packed {
        Packed::Conv { shape, .. } | Packed::Depthwise { shape, .. } => shape,
        Packed::Dense(_) | Packed::Int8(_) => {
            return Err(Fault::invalid("weights of another operator"));
        }
    };
    let geometry = conv_geometry(&c.call(planned), &input.shape, weights_shape)?;
    let output_shape = geometry.output_shape(input.shape.len());
    let (windows, sliding) = (geometry.windows, geometry.windows.sliding);
    let residual = match &planned.residual {
        Some(name) => {
            let val = c.value(name);
            let val = val.ok_or_else(|| Fault::invalid("a sum with nothing"))?;
            Some(c.float_of(&val))
        }
        None => None,
    };
    // A sum that broadcasts comes after the convolution, and so do the bounds.
    let (fused, apart) = match residual {
        Some(val) if val.shape == output_shape && val.is_float => {
            (Some(c.with_layout(&val, Layout::Last)), None)
        }
        other => (None, other),
    };
    let bounds = if apart.is_some() {
        UNBOUNDED
    } else {
        planned.bounds
    };
    let planar = matches!(packed, Packed::Conv { planar: true, .. });
    let input = c.with_layout(&input, if planar { Layout::First } else { Layout::Last });
    let (output, write) = c.new_value(output_shape, Layout::Last);
    let [height, width] = sliding.input;
    match packed {
        Packed::Conv { groups, .. } => {
            let has_padding = (windows.pads_end, sliding.pads_begin) != ([0; 2], [0; 2]);
            let padded: [usize; 2] = std::array::from_fn(|a| {
                sliding.pads_begin[a] + sliding.input[a] + windows.pads_end[a]
            });
            let pixel = if planar { 1 } else { geometry.channels };
            let row = padded[1] * pixel;
            let [kh, kw] = windows.window;
            let group_channels = geometry.channels / geometry.groups;
            let [dy, dx] = sliding.dilations;
            let mut offsets = Vec::new();
            let planes = if planar { geometry.channels } else { 1 };
            // Taps that follow each other in memory are one run.
            let (taps_in_run, run_len) = match (planar, dx == 1, geometry.groups) {
                (true, true, _) => (kw, kw),
                (true, false, _) => (1, 1),
                (false, true, 1) => (kw, kw * geometry.channels),
                _ => (1, group_channels),
            };
            for plane in 0..planes {
                for ky in 0..kh {
                    for kx in (0..kw).step_by(taps_in_run) {
                        offsets.push(plane * padded[0] * row + ky * dy * row + kx * dx * pixel);
                    }
                }
            }
            let border = has_padding.then_some(Border {
                planes,
                size: [height, width, pixel],
                before: sliding.pads_begin,
                after: windows.pads_end,
            });
            let scratch = has_padding.then(|| c.buffer(planes * padded[0] * row));
            let step = ConvStep {
                batch: geometry.batch,
                groups: Arc::clone(groups),
                border,
                input_len: geometry.channels * height * width,
                input_grid: Grid {
                    start: 0,
                    height: sliding.output[0],
                    width: sliding.output[1],
                    row_stride: sliding.strides[0] * row,
                    pixel_stride: sliding.strides[1] * pixel,
                },
                group_stride: group_channels,
                offsets,
                run_len,
                output: [sliding.output[0], sliding.output[1], geometry.filters],
                has_residual: fused.is_some(),
                bounds,
            };
            let mut reads = vec![input.place];
            reads.extend(fused.map(|val| val.place));
            c.push(
                reads,
                Some(write),
                scratch,
                false,
                Action::Conv(Box::new(step)),
            );
        }
        Packed::Depthwise { filters, .. } => {
            let action = Action::Depthwise {
                batch: geometry.batch,
                filters: Arc::clone(filters),
                sliding,
                bounds: if fused.is_some() { UNBOUNDED } else { bounds },
            };
            c.push(vec![input.place], Some(write), None, false, action);
            if let Some(residual) = fused {
                let sum = binary(c, Binary::Add, &output, &residual)?;
                return Ok(vec![clamp(c, sum, bounds)]);
            }
        }
        Packed::Dense(_) | Packed::Int8(_) => {}
    }
    match apart {
        Some(residual) => {
            let sum = binary(c, Binary::Add, &output, &residual)?;
            Ok(vec![clamp(c, sum, planned.bounds)])
        }
        None => Ok(vec![output]),
    }
}

fn dense(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    matrix: &Arc<campana_kernels::gemm::PackedMatrix>,
) -> Result<Val, Fault> {
    let input = c.operand(planned, 0)?;
    let input = c.with_layout(&input, Layout::First);
    let (&depth, outer) = input
        .shape
        .split_last()
        .ok_or_else(|| Fault::invalid("a matrix product of a scalar"))?;
    if depth != matrix.rows() || planned.node.op_type == "Gemm" && input.shape.len() != 2 {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        return Err(Fault::invalid(format!(
            "an input {:?} for weights [{rows}, {columns}]",
            input.shape
        )));
    }
    let mut shape = outer.to_vec();
    shape.push(matrix.columns());
    count_of(&shape)?;
    let rows = outer.iter().product();
    if outer.is_empty() {
        c.mixes_batch = true;
    }
    let (output, write) = c.new_value(shape, Layout::First);
    let action = Action::Dense {
        rows,
        matrix: Arc::clone(matrix),
        bounds: planned.bounds,
    };
    c.push(vec![input.place], Some(write), None, false, action);
    Ok(output)
}

fn batch_normalization(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
) -> Result<Option<Vec<Val>>, Fault> {
    if planned.node.inputs.len() < 5 {
        return Err(Fault::invalid("parameters are missing"));
    }
    if planned.node.inputs[1..]
        .iter()
        .any(|name| c.constant(name).is_none())
    {
        return Ok(None);
    }
    let (scale, offset) = normalize_affine(&c.call(planned))?;
    let input = c.operand(planned, 0)?;
    let rank = input.shape.len();
    if rank < 2 || input.shape[1] != scale.len() {
        return Err(Fault::invalid(format!(
            "{} channels of parameters for {:?}",
            scale.len(),
            input.shape
        )));
    }
    let mut shape = vec![1; rank];
    shape[1] = scale.len();
    let constant = |values| -> Result<Val, Fault> {
        let tensor = crate::ops::tensor(shape.clone(), TensorData::F32(values))?;
        Ok(super::compile::constant(Arc::new(tensor)))
    };
    let (scale, offset) = (constant(scale)?, constant(offset)?);
    let scaled = binary(c, Binary::Mul, &input, &scale)?;
    Ok(Some(vec![binary(c, Binary::Add, &scaled, &offset)?]))
}

/// What a pool does, where kernels have it: over one or two axes.
pub(super) fn pool_windows(
    c: &Compiler<'_>,
    planned: &PlannedNode,
    shape: &[usize],
) -> Result<Option<(Pooling, Windows)>, Fault> {
    match matches!(shape.len(), 3 | 4) {
        true => window_geometry(&c.call(planned), shape).map(Some),
        false => Ok(None),
    }
}

fn pool(c: &mut Compiler<'_>, planned: &PlannedNode) -> Result<Option<Vec<Val>>, Fault> {
    let input = c.operand(planned, 0)?;
    let Some((pooling, windows)) = pool_windows(c, planned, &input.shape)? else {
        return Ok(None);
    };
    let ceil = c.call(planned).int("ceil_mode", 0)? != 0;
    if ceil && pooling == Pooling::AverageWithPadding {
        return Ok(None);
    }
    let mut shape = input.shape[..2].to_vec();
    shape.extend_from_slice(&windows.sliding.output[4 - input.shape.len()..]);
    let input = c.with_layout(&input, Layout::Last);
    let action = Action::Pool {
        batch: shape[0],
        channels: shape[1],
        pooling,
        window: windows.window,
        sliding: windows.sliding,
    };
    let (output, write) = c.new_value(shape, Layout::Last);
    c.push(vec![input.place], Some(write), None, false, action);
    Ok(Some(vec![output]))
}

fn global_average(c: &mut Compiler<'_>, planned: &PlannedNode) -> Result<Option<Vec<Val>>, Fault> {
    let input = c.operand(planned, 0)?;
    if input.shape.len() < 3 || input.shape.contains(&0) {
        return Ok(None);
    }
    let input = c.with_layout(&input, Layout::Last);
    let mut shape = vec![1; input.shape.len()];
    shape[..2].copy_from_slice(&input.shape[..2]);
    let action = Action::GlobalAverage {
        channels: shape[1],
        pixels: input.shape[2..].iter().product(),
    };
    let (output, write) = c.new_value(shape, Layout::Last);
    c.push(vec![input.place], Some(write), None, false, action);
    Ok(Some(vec![output]))
}

/// Whether a mean goes over all pixels of images, and nothing else: how some
/// exporters write a global pool.
fn averages_pixels(c: &Compiler<'_>, planned: &PlannedNode) -> Result<bool, Fault> {
    let call = c.call(planned);
    let rank = planned.node.inputs.first().and_then(|name| c.value(name));
    let rank = rank.map_or(0, |val| val.shape.len());
    let axes = match call.optional_ints(1)? {
        Some(axes) => axes,
        None => call.ints("axes")?.unwrap_or(&[]).to_vec(),
    };
    let mut axes: Vec<i64> = axes
        .iter()
        .map(|&axis| if axis < 0 { axis + rank as i64 } else { axis })
        .collect();
    axes.sort_unstable();
    Ok(rank > 2 && axes.into_iter().eq(2..rank as i64))
}

/// Turns lists over axes into those of a channels-last tensor.
fn permute<T: Clone>(mut axes: Vec<T>, layout: Layout) -> Vec<T> {
    if layout == Layout::Last && axes.len() > 2 {
        axes[1..].rotate_left(1);
    }
    axes
}

fn signed(strides: Vec<usize>) -> Vec<isize> {
    strides.into_iter().map(|stride| stride as isize).collect()
}

fn slice(c: &mut Compiler<'_>, planned: &PlannedNode) -> Result<Vec<Val>, Fault> {
    let input = c.operand(planned, 0)?;
    let (shape, region) = slice_region(c, planned, &input)?;
    Ok(vec![copy(
        c,
        shape,
        input.layout,
        vec![input.place],
        None,
        vec![region],
    )])
}

/// The shape of a slice, and what it copies.
pub(super) fn slice_region(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
) -> Result<(Vec<usize>, Region), Fault> {
    let axes = slice_axes(&c.call(planned), &input.shape)?;
    if let Some(first) = axes.first()
        && (first.start, first.step, first.count) != (0, 1, input.shape[0])
    {
        c.mixes_batch = true;
    }
    let shape: Vec<usize> = axes.iter().map(|axis| axis.count).collect();
    let dims = physical(&shape, input.layout);
    let strides = strides_of(&physical(&input.shape, input.layout));
    let axes = permute(axes, input.layout);
    let region = Region {
        from: axes
            .iter()
            .zip(&strides)
            .map(|(axis, stride)| axis.start * stride)
            .sum(),
        from_strides: axes
            .iter()
            .zip(&strides)
            .map(|(axis, &s)| axis.step * s as isize)
            .collect(),
        to: 0,
        to_strides: strides_of(&dims),
        dims,
    };
    Ok((shape, region))
}

fn split(c: &mut Compiler<'_>, planned: &PlannedNode) -> Result<Vec<Val>, Fault> {
    let input = c.operand(planned, 0)?;
    let parts = split_regions(c, planned, &input)?;
    let copies = parts.into_iter().map(|(shape, region)| {
        let reads = vec![input.place.clone()];
        copy(c, shape, input.layout, reads, None, vec![region])
    });
    Ok(copies.collect())
}

/// The shape of each part of a split, and what it copies.
pub(super) fn split_regions(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
) -> Result<Vec<(Vec<usize>, Region)>, Fault> {
    let call = c.call(planned);
    let axis = call.axis(0, input.shape.len())?;
    let lengths = split_lengths(&call, input.shape[axis])?;
    if axis == 0 && lengths.len() > 1 {
        c.mixes_batch = true;
    }
    let strides = strides_of(&physical(&input.shape, input.layout));
    let stride = strides_by_axis(&input.shape, input.layout)[axis];
    let mut start = 0;
    let parts = lengths.into_iter().map(|length| {
        let mut shape = input.shape.clone();
        shape[axis] = length;
        let dims = physical(&shape, input.layout);
        let region = Region {
            from: start * stride,
            from_strides: signed(strides.clone()),
            to: 0,
            to_strides: strides_of(&dims),
            dims,
        };
        start += length;
        (shape, region)
    });
    Ok(parts.collect())
}

fn copy(
    c: &mut Compiler<'_>,
    shape: Vec<usize>,
    layout: Layout,
    reads: Vec<Place>,
    fill: Option<f32>,
    regions: Vec<Region>,
) -> Val {
    let (output, write) = c.new_value(shape, layout);
    c.push(
        reads,
        Some(write),
        None,
        false,
        Action::Copy { fill, regions },
    );
    output
}

fn pad(c: &mut Compiler<'_>, planned: &PlannedNode) -> Result<Option<Vec<Val>>, Fault> {
    let input = c.operand(planned, 0)?;
    let Some((shape, region, fill)) = pad_region(c, planned, &input)? else {
        return Ok(None);
    };
    let reads = vec![input.place];
    let val = copy(c, shape, input.layout, reads, Some(fill), vec![region]);
    Ok(Some(vec![val]))
}

/// The shape of a padded value, where the value goes, and what is around it.
pub(super) fn pad_region(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
) -> Result<Option<(Vec<usize>, Region, f32)>, Fault> {
    let call = c.call(planned);
    let amounts = pad_amounts(&call, input.shape.len())?;
    let fill = match planned.node.inputs.get(2).filter(|name| !name.is_empty()) {
        Some(name) => match c.constant(name).map(campana_tensor::Tensor::data) {
            Some(TensorData::F32(fill)) if !fill.is_empty() => fill[0],
            Some(_) => return Ok(None),
            None => return Ok(None),
        },
        None => call.float("value", 0.0)?,
    };
    if call.string("mode", "constant")? != "constant" || amounts.iter().flatten().any(|&v| v < 0) {
        return Ok(None);
    }
    if amounts.first().is_some_and(|first| *first != [0, 0]) {
        c.mixes_batch = true;
    }
    let shape: Vec<usize> = input
        .shape
        .iter()
        .zip(&amounts)
        .map(|(&dim, [before, after])| dim + *before as usize + *after as usize)
        .collect();
    count_of(&shape)?;
    let dims = physical(&input.shape, input.layout);
    let to_strides = strides_of(&physical(&shape, input.layout));
    let before = permute(amounts, input.layout);
    let region = Region {
        from: 0,
        from_strides: signed(strides_of(&dims)),
        to: before
            .iter()
            .zip(&to_strides)
            .map(|([before, _], stride)| *before as usize * stride)
            .sum(),
        to_strides,
        dims,
    };
    Ok(Some((shape, region, fill)))
}

fn concat(c: &mut Compiler<'_>, planned: &PlannedNode) -> Result<Vec<Val>, Fault> {
    let parts = (0..planned.node.inputs.len())
        .map(|index| c.operand(planned, index))
        .collect::<Result<Vec<_>, _>>()?;
    let Joined {
        shape,
        layout,
        reads,
        regions,
    } = joined(c, planned, &parts)?;
    Ok(vec![copy(c, shape, layout, reads, None, regions)])
}

/// A concatenation: what it makes, and what it copies.
pub(super) struct Joined {
    pub(super) shape: Vec<usize>,
    pub(super) layout: Layout,
    pub(super) reads: Vec<Place>,
    /// One a place that is read.
    pub(super) regions: Vec<Region>,
}

/// The parts of a concatenation one after another.
pub(super) fn joined(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    parts: &[Val],
) -> Result<Joined, Fault> {
    let rank = parts.first().map_or(0, |part| part.shape.len());
    let axis = c.call(planned).axis(1, rank)?;
    if axis == 0 {
        c.mixes_batch = true;
    }
    let mut shape = parts[0].shape.clone();
    shape[axis] = 0;
    for part in parts {
        let fits =
            part.shape.len() == rank && (0..rank).all(|a| a == axis || part.shape[a] == shape[a]);
        if !fits {
            return Err(Fault::invalid(format!(
                "shape {:?} beside {:?}",
                part.shape, parts[0].shape
            )));
        }
        shape[axis] += part.shape[axis];
    }
    let is_last = |part: &Val| part.layout == Layout::Last;
    let layout = if rank > 2 && parts.iter().any(is_last) {
        Layout::Last
    } else {
        Layout::First
    };
    let to_strides = strides_of(&physical(&shape, layout));
    let stride = strides_by_axis(&shape, layout)[axis];
    let (mut regions, mut reads, mut start) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        let part = c.with_layout(part, layout);
        let dims = physical(&part.shape, layout);
        regions.push(Region {
            from: 0,
            from_strides: signed(strides_of(&dims)),
            to: start * stride,
            to_strides: to_strides.clone(),
            dims,
        });
        start += part.shape[axis];
        reads.push(part.place);
    }
    Ok(Joined {
        shape,
        layout,
        reads,
        regions,
    })
}

fn transpose(c: &mut Compiler<'_>, planned: &PlannedNode) -> Result<Vec<Val>, Fault> {
    let input = c.operand(planned, 0)?;
    let (shape, region) = transposed_region(c, planned, &input, Layout::First)?;
    let reads = vec![input.place];
    let copied = copy(c, shape, Layout::First, reads, None, vec![region]);
    Ok(vec![copied])
}

/// The shape of a transposition, and what it copies into this layout.
pub(super) fn transposed_region(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
    layout: Layout,
) -> Result<(Vec<usize>, Region), Fault> {
    let perm = permutation(&c.call(planned), input.shape.len())?;
    if perm.first().is_some_and(|&axis| axis != 0) {
        c.mixes_batch = true;
    }
    let shape: Vec<usize> = perm.iter().map(|&axis| input.shape[axis]).collect();
    let strides = strides_by_axis(&input.shape, input.layout);
    let region = Region {
        from: 0,
        from_strides: perm.iter().map(|&axis| strides[axis] as isize).collect(),
        to: 0,
        to_strides: strides_by_axis(&shape, layout),
        dims: shape.clone(),
    };
    Ok((shape, region))
}

/// Strides of a value's axes as it lies in memory, in the order that ONNX names them.
fn strides_by_axis(shape: &[usize], layout: Layout) -> Vec<usize> {
    let order = permute((0..shape.len()).collect(), layout);
    let mut strides = vec![0; shape.len()];
    for (&axis, stride) in order.iter().zip(strides_of(&physical(shape, layout))) {
        strides[axis] = stride;
    }
    strides
}
