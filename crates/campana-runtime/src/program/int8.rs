//! Steps on codes: what calibrated models compute between a quantization of
//! their input and their last layer.

mod action;
mod moves;

use std::sync::Arc;

use campana_kernels::Isa;
use campana_kernels::depthwise::Sliding;
use campana_kernels::gemm::Grid;
use campana_kernels::int8::{PackedTaps, QuantParams, Requantize, largest_sum};
use campana_kernels::pooling::Pooling;

pub(crate) use action::{Int8Action, Int8Conv, Int8Depthwise, PoolExtents};

use super::compile::Compiler;
use super::lower::{pad_region, pool_windows, slice_region, split_regions, transposed_region};
use super::step::{Action, Border};
use super::{Layout, Place, Val};
use crate::ops::{ConvGeometry, Fault, Windows, conv_geometry, count_of};
use crate::plan::{Int8Layer, Int8Weights, Packed, PlannedNode, UNBOUNDED, quant_params_of};
use moves::{concat, copy, view};

/// Bytes behind codes that kernels may read.
const SLACK: usize = 64;

/// Floats of a buffer that holds this many codes.
fn buffer_len(codes: usize) -> usize {
    (codes + SLACK).div_ceil(size_of::<f32>())
}

/// The outputs of a node that works on codes; `None` where it works on floats.
pub(super) fn lower(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
) -> Result<Option<Vec<Val>>, Fault> {
    let node = &planned.node;
    if let Some(params) = quant_params_of(node) {
        let input = c.any_operand(planned, 0)?;
        return Ok(Some(vec![quantized(c, &input, params)]));
    }
    if let Some(Packed::Int8(layer)) = &planned.packed {
        let layer = Arc::clone(layer);
        let val = match node.op_type.as_str() {
            "Conv" => conv(c, planned, &layer)?,
            _ => dense(c, planned, &layer)?,
        };
        return Ok(Some(vec![val]));
    }
    let Some((input, from)) = node
        .inputs
        .first()
        .and_then(|name| c.value(name))
        .and_then(|val| Some((val.clone(), val.codes?)))
    else {
        return Ok(None);
    };
    if node.op_type == "Split" {
        let parts = split_regions(c, planned, &input)?.into_iter();
        let parts = parts.map(|(shape, region)| copy(c, &input, shape, None, region));
        return Ok(Some(parts.collect()));
    }
    if node.outputs.len() > 1 {
        return Ok(None);
    }
    let val = match node.op_type.as_str() {
        "Add" => add(c, planned, &input, from)?,
        "MaxPool" => max_pool(c, planned, &input)?,
        "AveragePool" => average_pool(c, planned, &input, from)?,
        "GlobalAveragePool" => global_average(c, planned, &input, from),
        "Slice" => {
            let (shape, region) = slice_region(c, planned, &input)?;
            Some(copy(c, &input, shape, None, region))
        }
        "Pad" => pad_region(c, planned, &input)?
            .map(|(shape, region, fill)| copy(c, &input, shape, Some(from.code(fill)), region)),
        // Convolutions and pools read codes channels-last.
        "Transpose" => {
            let layout = Layout::Last;
            let (shape, region) = transposed_region(c, planned, &input, layout)?;
            Some(copy(c, &Val { layout, ..input }, shape, None, region))
        }
        "Concat" => concat(c, planned, from)?,
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity" => view(c, planned, &input)?,
        _ => None,
    };
    Ok(val.map(|val| vec![val]))
}

/// The value as codes that stand for this.
pub(super) fn quantized(c: &mut Compiler<'_>, val: &Val, to: QuantParams) -> Val {
    let count: usize = val.shape.iter().product();
    match val.codes {
        Some(from) if from == to => val.clone(),
        Some(from) => {
            let action = Int8Action::Requantize {
                from,
                to,
                bounds: [0, 255],
                len: count,
            };
            push(
                c,
                vec![val.place.clone()],
                val.shape.clone(),
                val.layout,
                to,
                action,
            )
        }
        None => {
            let turns = val.layout == Layout::First && val.shape.len() > 2;
            let turn = turns.then(|| {
                let pixels = val.shape[2..].iter().product();
                [val.shape[0], val.shape[1], pixels]
            });
            let layout = if turns { Layout::Last } else { val.layout };
            let action = Int8Action::Quantize {
                to,
                turn,
                len: count,
            };
            push(
                c,
                vec![val.place.clone()],
                val.shape.clone(),
                layout,
                to,
                action,
            )
        }
    }
}

/// The value as floats.
pub(super) fn floats(c: &mut Compiler<'_>, val: &Val, from: QuantParams) -> Val {
    let (output, write) = c.new_value(val.shape.clone(), val.layout);
    let action = Action::Int8(Int8Action::Dequantize(from));
    c.push(vec![val.place.clone()], Some(write), None, false, action);
    output
}

/// A step that makes codes.
fn push(
    c: &mut Compiler<'_>,
    reads: Vec<Place>,
    shape: Vec<usize>,
    layout: Layout,
    codes: QuantParams,
    action: Int8Action,
) -> Val {
    let (val, write) = new_codes(c, shape, layout, codes);
    c.push(reads, Some(write), None, false, Action::Int8(action));
    val
}

fn new_codes(
    c: &mut Compiler<'_>,
    shape: Vec<usize>,
    layout: Layout,
    codes: QuantParams,
) -> (Val, (usize, usize)) {
    let buffer = c.buffer(buffer_len(shape.iter().product()));
    let val = Val {
        shape,
        place: Place::Buffer(buffer.0),
        layout,
        is_float: true,
        codes: Some(codes),
    };
    (val, buffer)
}

/// Bounds of values as codes.
fn code_bounds([at_least, at_most]: [f32; 2], params: QuantParams) -> [u8; 2] {
    [params.code(at_least), params.code(at_most)]
}

/// A residual as codes in the output's shape, where it is that.
fn residual_codes(
    c: &Compiler<'_>,
    planned: &PlannedNode,
    shape: &[usize],
) -> Option<(Place, QuantParams)> {
    let val = c.value(planned.residual.as_ref()?)?;
    let fits = val.shape == shape && val.layout == Layout::Last;
    Some((val.place, val.codes.filter(|_| fits)?))
}

/// How the sums of channels `first..first + count` of a layer become results;
/// of weights that have these sums, of which products sum up to `largest` at most.
fn requantize(
    layer: &Int8Layer,
    first: usize,
    column_sums: &[i32],
    largest: u64,
    residual: Option<QuantParams>,
    bounds: [f32; 2],
    to: Option<QuantParams>,
) -> Requantize {
    let zero = i32::from(layer.input.zero_point);
    let initial: Vec<i32> = column_sums.iter().map(|sum| -zero * sum).collect();
    let channels = first..first + column_sums.len();
    let unit = to.map_or(1.0, |to| to.scale);
    let residual = residual.map_or(0.0, |r| -r.scale * f32::from(r.zero_point) / unit);
    let zero = to.map_or(0.0, |to| f32::from(to.zero_point));
    let multiplier: Vec<f32> = layer.scales[channels.clone()]
        .iter()
        .map(|scale| layer.input.scale * scale / unit)
        .collect();
    let offset: Vec<f32> = layer.bias[channels]
        .iter()
        .map(|bias| bias / unit + zero + residual)
        .collect();
    let bounds = match to {
        Some(to) => code_bounds(bounds, to).map(f32::from),
        None => bounds,
    };
    Requantize::new(&initial, &multiplier, &offset)
        .within(largest)
        .bounded(bounds[0], bounds[1])
}

fn conv(c: &mut Compiler<'_>, planned: &PlannedNode, layer: &Arc<Int8Layer>) -> Result<Val, Fault> {
    let input = c.any_operand(planned, 0)?;
    let geometry = conv_geometry(&c.call(planned), &input.shape, &layer.shape)?;
    let shape = geometry.output_shape(input.shape.len());
    // What a dense layer made lies channels-first.
    let input = match input.layout {
        Layout::First if !input.is_in_both_layouts() => c.float_of(&input),
        _ => input,
    };
    let input = quantized(c, &input, layer.input);
    let residual = residual_codes(c, planned, &shape);
    // What cannot be added to the sums comes after them, and so do the bounds.
    let apart = planned.residual.is_some() && residual.is_none();
    let is_depthwise = matches!(layer.weights, Int8Weights::Depthwise(_));
    let to = planned.quantize.filter(|_| !apart);
    if is_depthwise && (to.is_none() || residual.is_some()) {
        return depthwise_apart(c, planned, layer, &input, &geometry);
    }
    let bounds = if apart { UNBOUNDED } else { planned.bounds };
    let (windows, sliding) = (geometry.windows, geometry.windows.sliding);
    let padded: [usize; 2] =
        std::array::from_fn(|a| sliding.pads_begin[a] + sliding.input[a] + windows.pads_end[a]);
    let has_padding = padded != sliding.input;
    let channels = geometry.channels;
    let row = padded[1] * channels;
    let [kh, kw] = windows.window;
    let [dy, dx] = sliding.dilations;
    // Depthwise convolutions put the border around what they read themselves.
    let has_border = has_padding && !is_depthwise;
    let border = has_border.then_some(Border {
        planes: 1,
        size: [sliding.input[0], sliding.input[1], channels],
        before: sliding.pads_begin,
        after: windows.pads_end,
    });
    let scratch = has_border.then(|| c.buffer(buffer_len(padded[0] * row)));
    let input_grid = Grid {
        start: 0,
        height: sliding.output[0],
        width: sliding.output[1],
        row_stride: sliding.strides[0] * row,
        pixel_stride: sliding.strides[1] * channels,
    };
    let input_len = channels * sliding.input[0] * sliding.input[1];
    let output = [sliding.output[0], sliding.output[1], geometry.filters];
    let mut taps: Vec<usize> = Vec::new();
    for ky in 0..kh {
        taps.extend((0..kw).map(|kx| ky * dy * row + kx * dx * channels));
    }
    let action = match &layer.weights {
        Int8Weights::Depthwise(numbers) => {
            let sums: Vec<i32> = numbers
                .chunks_exact(kh * kw)
                .map(|filter| filter.iter().map(|&w| i32::from(w)).sum())
                .collect();
            let filters = numbers.chunks_exact(kh * kw);
            let largest = filters.map(|filter| largest_sum(filter.iter().copied()));
            let largest = largest.max().unwrap_or(0);
            let requantize = requantize(layer, 0, &sums, largest, None, bounds, to);
            let number = |tap: usize, channel: usize| numbers[channel * kh * kw + tap];
            let isa = Isa::detect();
            Int8Action::Depthwise(Box::new(Int8Depthwise {
                geometry,
                layer: Arc::clone(layer),
                batch: geometry.batch,
                filters: PackedTaps::pack(isa, [kh, kw], sliding, channels, number, &requantize),
                taps: kh * kw,
                fill: layer.input.zero_point,
                input_len,
                output_len: output.iter().product(),
                requantize,
            }))
        }
        Int8Weights::Groups { groups, joined } => {
            let runs: Vec<usize> = if *joined {
                taps.into_iter().step_by(kw).collect()
            } else {
                taps
            };
            let per_group = geometry.filters / groups.len();
            let scale = |params: QuantParams| params.scale / to.map_or(1.0, |to| to.scale);
            let params = residual.as_ref().map(|(_, params)| *params);
            let requantizes = groups.iter().enumerate().map(|(g, weights)| {
                requantize(
                    layer,
                    g * per_group,
                    weights.column_sums(),
                    weights.largest_sum(),
                    params,
                    bounds,
                    to,
                )
            });
            Int8Action::Conv(Box::new(Int8Conv {
                geometry,
                batch: geometry.batch,
                layer: Arc::clone(layer),
                requantize: requantizes.collect(),
                offsets: groups
                    .iter()
                    .map(|weights| weights.offsets(&runs))
                    .collect(),
                border,
                input_len,
                input_grid,
                group_stride: channels / groups.len(),
                output,
                residual: params.map(scale),
                gives_codes: to.is_some(),
            }))
        }
    };
    let mut reads = vec![input.place];
    reads.extend(residual.map(|(place, _)| place));
    let (val, write) = match to {
        Some(to) => new_codes(c, shape, Layout::Last, to),
        None => c.new_value(shape, Layout::Last),
    };
    c.push(reads, Some(write), scratch, false, Action::Int8(action));
    if apart {
        let residual = planned.residual.as_ref().and_then(|name| c.value(name));
        let residual = residual.ok_or_else(|| Fault::invalid("a sum with nothing"))?;
        let residual = c.float_of(&residual);
        return super::elementwise::sum(c, &val, &residual, planned.bounds);
    }
    Ok(val)
}

/// A depthwise convolution whose results are not simply codes: through codes
/// as fine as the accumulators allow there is no way, so through floats.
fn depthwise_apart(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    layer: &Int8Layer,
    input: &Val,
    geometry: &crate::ops::ConvGeometry,
) -> Result<Val, Fault> {
    let Int8Weights::Depthwise(numbers) = &layer.weights else {
        return Err(Fault::invalid("weights of another operator"));
    };
    let input = c.float_of(input);
    let input = c.with_layout(&input, Layout::Last);
    let [kh, kw] = geometry.windows.window;
    let filters = campana_kernels::depthwise::PackedFilters::pack(
        [kh, kw],
        geometry.channels,
        |ky, kx, channel| f32::from(numbers[(channel * kh + ky) * kw + kx]) * layer.scales[channel],
        |channel| layer.bias[channel],
    );
    let (val, write) = c.new_value(geometry.output_shape(input.shape.len()), Layout::Last);
    let apart = planned.residual.is_some();
    let action = Action::Depthwise {
        batch: geometry.batch,
        filters: Arc::new(filters),
        sliding: geometry.windows.sliding,
        bounds: if apart { UNBOUNDED } else { planned.bounds },
    };
    c.push(vec![input.place], Some(write), None, false, action);
    let Some(residual) = planned.residual.as_ref().and_then(|name| c.value(name)) else {
        return Ok(val);
    };
    let residual = c.float_of(&residual);
    super::elementwise::sum(c, &val, &residual, planned.bounds)
}

fn dense(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    layer: &Arc<Int8Layer>,
) -> Result<Val, Fault> {
    let Int8Weights::Groups { groups, .. } = &layer.weights else {
        return Err(Fault::invalid("weights of another operator"));
    };
    let weights = &groups[0];
    let mut input = c.any_operand(planned, 0)?;
    if input.codes.is_none() || !is_plain(&input) {
        input = c.float_of(&input);
        input = c.with_layout(&input, Layout::First);
    }
    let (depth, outer) = match input.shape.split_last() {
        Some((&depth, outer)) => (depth, outer.to_vec()),
        None => return Err(Fault::invalid("a matrix product of a scalar")),
    };
    if depth != weights.rows() || planned.node.op_type == "Gemm" && outer.len() != 1 {
        let (rows, columns) = (weights.rows(), weights.columns());
        return Err(Fault::invalid(format!(
            "an input {:?} for weights [{rows}, {columns}]",
            input.shape
        )));
    }
    if input.codes.is_none() {
        // Rows of more than two axes must not be turned around.
        let rows = outer.iter().product();
        input.shape = vec![rows, depth];
    }
    let rows: usize = outer.iter().product();
    let mut shape = outer.clone();
    shape.push(weights.columns());
    count_of(&shape)?;
    if outer.is_empty() {
        c.mixes_batch = true;
    }
    let input = quantized(c, &input, layer.input);
    let to = planned.quantize;
    let action = Int8Action::Conv(Box::new(Int8Conv {
        geometry: dense_geometry(rows, depth, weights.columns()),
        batch: 1,
        layer: Arc::clone(layer),
        requantize: vec![requantize(
            layer,
            0,
            weights.column_sums(),
            weights.largest_sum(),
            None,
            planned.bounds,
            to,
        )],
        offsets: vec![weights.offsets(&[0])],
        border: None,
        input_len: rows * depth,
        input_grid: Grid::rows(rows, depth),
        group_stride: 0,
        output: [1, rows, weights.columns()],
        residual: None,
        gives_codes: to.is_some(),
    }));
    let (val, write) = match to {
        Some(to) => new_codes(c, shape, Layout::First, to),
        None => c.new_value(shape, Layout::First),
    };
    c.push(
        vec![input.place],
        Some(write),
        None,
        false,
        Action::Int8(action),
    );
    Ok(val)
}

/// A dense layer as a convolution over a line of pixels, a row each.
fn dense_geometry(rows: usize, depth: usize, columns: usize) -> ConvGeometry {
    let sliding = Sliding {
        input: [1, rows],
        output: [1, rows],
        strides: [1, 1],
        dilations: [1, 1],
        pads_begin: [0, 0],
    };
    ConvGeometry {
        batch: 1,
        channels: depth,
        filters: columns,
        groups: 1,
        windows: Windows {
            window: [1, 1],
            sliding,
            pads_end: [0, 0],
        },
    }
}

/// Whether the elements lie as the shape says, channels before pixels.
fn is_plain(val: &Val) -> bool {
    val.layout == Layout::First || val.is_in_both_layouts()
}

fn add(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    left: &Val,
    left_scale: QuantParams,
) -> Result<Option<Val>, Fault> {
    let right = c.any_operand(planned, 1)?;
    let (Some(to), Some(right_scale)) = (planned.quantize, right.codes) else {
        return Ok(None);
    };
    if right.shape != left.shape || right.layout != left.layout {
        return Ok(None);
    }
    let action = Int8Action::Add {
        scales: [left_scale, right_scale],
        to,
        bounds: code_bounds(planned.bounds, to),
        len: left.shape.iter().product(),
    };
    let reads = vec![left.place.clone(), right.place];
    Ok(Some(push(
        c,
        reads,
        left.shape.clone(),
        left.layout,
        to,
        action,
    )))
}

fn max_pool(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
) -> Result<Option<Val>, Fault> {
    let (Some(codes), Layout::Last) = (input.codes, input.layout) else {
        return Ok(None);
    };
    let Some((shape, _, extents)) = pool_extents(c, planned, input)? else {
        return Ok(None);
    };
    let reads = vec![input.place.clone()];
    Ok(Some(push(
        c,
        reads,
        shape,
        Layout::Last,
        codes,
        Int8Action::MaxPool(extents),
    )))
}

/// The windows of a pool that kernels have; `None` where the reference fallback computes it.
fn pool_extents(
    c: &Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
) -> Result<Option<(Vec<usize>, Pooling, PoolExtents)>, Fault> {
    let Some((pooling, windows)) = pool_windows(c, planned, &input.shape)? else {
        return Ok(None);
    };
    let mut shape = input.shape[..2].to_vec();
    shape.extend_from_slice(&windows.sliding.output[4 - input.shape.len()..]);
    let extents = PoolExtents {
        batch: shape[0],
        channels: shape[1],
        window: windows.window,
        sliding: windows.sliding,
    };
    Ok(Some((shape, pooling, extents)))
}

fn average_pool(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
    from: QuantParams,
) -> Result<Option<Val>, Fault> {
    if input.layout != Layout::Last || c.call(planned).int("ceil_mode", 0)? != 0 {
        return Ok(None);
    }
    let Some((shape, pooling, extents)) = pool_extents(c, planned, input)? else {
        return Ok(None);
    };
    Ok(Some(average(
        c, planned, input, shape, extents, pooling, from,
    )))
}

fn global_average(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
    from: QuantParams,
) -> Option<Val> {
    if input.shape.len() != 4 || input.shape.contains(&0) || input.layout != Layout::Last {
        return None;
    }
    let window = [input.shape[2], input.shape[3]];
    let extents = PoolExtents {
        batch: input.shape[0],
        channels: input.shape[1],
        window,
        sliding: Sliding {
            input: window,
            output: [1, 1],
            strides: [1, 1],
            dilations: [1, 1],
            pads_begin: [0, 0],
        },
    };
    let shape = vec![input.shape[0], input.shape[1], 1, 1];
    Some(average(
        c,
        planned,
        input,
        shape,
        extents,
        Pooling::Average,
        from,
    ))
}

fn average(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
    shape: Vec<usize>,
    extents: PoolExtents,
    pooling: Pooling,
    from: QuantParams,
) -> Val {
    let to = planned.quantize;
    let action = Action::Int8(Int8Action::AveragePool {
        extents,
        pooling,
        from,
        to,
    });
    let (val, write) = match to {
        Some(to) => new_codes(c, shape, Layout::Last, to),
        None => c.new_value(shape, Layout::Last),
    };
    c.push(vec![input.place.clone()], Some(write), None, false, action);
    val
}
