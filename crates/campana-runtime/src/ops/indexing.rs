//! Operators that move elements and compute none.

use campana_tensor::{Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, axis_of, count_of, extent, for_any_type, ints, tensor};
pub(crate) use crate::strided::strides_of;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "Slice" => slice,
        "Pad" => pad,
        "Concat" => concat,
        "Split" => split,
        "Transpose" => transpose,
        "Gather" => gather,
        "GatherElements" => gather_elements,
        "Expand" => expand,
        "Tile" => tile,
        "DepthToSpace" => depth_to_space,
        "SpaceToDepth" => space_to_depth,
        _ => return None,
    })
}

/// The shape that tensors of these shapes are broadcast to.
pub(crate) fn broadcast_shape(shapes: &[&[usize]]) -> Result<Vec<usize>, Fault> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut result = vec![1; rank];
    for shape in shapes {
        for (dim, result) in shape.iter().rev().zip(result.iter_mut().rev()) {
            if *result == 1 {
                *result = *dim;
            } else if *dim != 1 && dim != result {
                return Err(Fault::invalid(format!(
                    "shapes {shapes:?} cannot be broadcast"
                )));
            }
        }
    }
    Ok(result)
}

/// The places `offset + sum of index * stride`, row-major over `dims`.
fn places(dims: &[usize], strides: &[isize], offset: isize) -> Vec<usize> {
    let count: usize = dims.iter().product();
    let mut result = Vec::with_capacity(count);
    if count == 0 {
        return result;
    }
    let mut index = vec![0; dims.len()];
    let mut at = offset;
    loop {
        result.push(at as usize);
        let mut axis = dims.len();
        loop {
            if axis == 0 {
                return result;
            }
            axis -= 1;
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= strides[axis] * dims[axis] as isize;
            index[axis] = 0;
        }
    }
}

/// For each element of `to`, the place of its source in a tensor of shape `from`.
pub(super) fn broadcast_indices(from: &[usize], to: &[usize]) -> Vec<usize> {
    let lead = to.len() - from.len();
    let own = strides_of(from);
    let strides: Vec<isize> = (0..to.len())
        .map(|axis| match axis.checked_sub(lead) {
            Some(axis) if from[axis] != 1 => own[axis] as isize,
            _ => 0,
        })
        .collect();
    places(to, &strides, 0)
}

/// Where the source of each element of a broadcast is.
pub(super) enum Places {
    /// At its own place.
    Own,
    /// One element for all.
    One,
    Listed(Vec<usize>),
}

impl Places {
    /// For a tensor of shape `from` that is broadcast to shape `to`.
    pub(super) fn of(from: &[usize], to: &[usize]) -> Self {
        if from.iter().product::<usize>() == 1 {
            return Self::One;
        }
        if from == to {
            return Self::Own;
        }
        Self::Listed(broadcast_indices(from, to))
    }

    #[inline]
    pub(super) fn at(&self, i: usize) -> usize {
        match self {
            Self::Own => i,
            Self::One => 0,
            Self::Listed(places) => places[i],
        }
    }
}

fn pick<T: Clone>(values: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|&i| values[i].clone()).collect()
}

/// The elements at these places.
pub(super) fn take(data: &TensorData, places: &[usize]) -> Result<TensorData, Fault> {
    for_any_type!(data, values, wrap => wrap(pick(values, places)))
}

fn pick_or_default<T: Clone + Default>(values: &[T], places: &[Option<usize>]) -> Vec<T> {
    let value = |place: &Option<usize>| place.map_or_else(T::default, |at| values[at].clone());
    places.iter().map(value).collect()
}

/// The elements at these places, zeros where there is none.
pub(super) fn take_or_default(
    data: &TensorData,
    places: &[Option<usize>],
) -> Result<TensorData, Fault> {
    for_any_type!(data, values, wrap => wrap(pick_or_default(values, places)))
}

/// One axis of a slice: start, step and number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceAxis {
    pub(crate) start: usize,
    pub(crate) step: isize,
    pub(crate) count: usize,
}

/// What a Slice node takes of each axis.
pub(crate) fn slice_axes(call: &Call<'_>, shape: &[usize]) -> Result<Vec<SliceAxis>, Fault> {
    let list = |index: usize, name: &str| -> Result<Option<Vec<i64>>, Fault> {
        match call.optional_ints(index)? {
            Some(values) => Ok(Some(values)),
            None => Ok(call.ints(name)?.map(<[i64]>::to_vec)),
        }
    };
    let missing = || Fault::invalid("starts or ends are missing");
    let starts = list(1, "starts")?.ok_or_else(missing)?;
    let ends = list(2, "ends")?.ok_or_else(missing)?;
    let axes = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(Fault::invalid(
            "starts, ends, axes and steps differ in length",
        ));
    }
    let mut result: Vec<SliceAxis> = shape
        .iter()
        .map(|&count| SliceAxis {
            start: 0,
            step: 1,
            count,
        })
        .collect();
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = axis_of(*axis, shape.len())?;
        let (dim, step) = (shape[axis] as i128, *step as i128);
        if step == 0 {
            return Err(Fault::invalid("a step of 0"));
        }
        let absolute = |v: i64| {
            if v < 0 {
                i128::from(v) + dim
            } else {
                i128::from(v)
            }
        };
        let (low, high) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
        let start = absolute(*start).clamp(low.max(0), high.max(0));
        let end = absolute(*end).clamp(low, high);
        let count = if dim == 0 {
            0
        } else {
            ((end - start + step - step.signum()) / step).max(0)
        };
        result[axis] = SliceAxis {
            start: start as usize,
            step: step as isize,
            count: count as usize,
        };
    }
    Ok(result)
}

fn slice(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let axes = slice_axes(call, input.shape())?;
    let strides = strides_of(input.shape());
    let dims: Vec<usize> = axes.iter().map(|axis| axis.count).collect();
    let offset: usize = axes.iter().zip(&strides).map(|(a, s)| a.start * s).sum();
    let strides: Vec<isize> = axes
        .iter()
        .zip(&strides)
        .map(|(a, &s)| a.step * s as isize)
        .collect();
    let data = take(input.data(), &places(&dims, &strides, offset as isize))?;
    Ok(vec![tensor(dims, data)?])
}

/// Greatest pad that is no mistake.
const MAX_PAD: u64 = 1 << 24;

/// What a Pad node adds (or, negative, cuts) before and after each axis.
pub(crate) fn pad_amounts(call: &Call<'_>, rank: usize) -> Result<Vec<[i64; 2]>, Fault> {
    let pads = match call.optional_ints(1)? {
        Some(pads) => pads,
        None => call
            .ints("pads")?
            .or(call.ints("paddings")?)
            .ok_or_else(|| Fault::invalid("pads are missing"))?
            .to_vec(),
    };
    let axes = match call.optional(3) {
        Some(axes) => ints(axes)?,
        None => (0..rank as i64).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Fault::invalid(format!(
            "{} pads for {} axes",
            pads.len(),
            axes.len()
        )));
    }
    if let Some(pad) = pads.iter().find(|pad| pad.unsigned_abs() > MAX_PAD) {
        return Err(Fault::invalid(format!("a pad of {pad}")));
    }
    let mut result = vec![[0; 2]; rank];
    for (i, axis) in axes.iter().enumerate() {
        result[axis_of(*axis, rank)?] = [pads[i], pads[axes.len() + i]];
    }
    Ok(result)
}

fn pad(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let shape = input.shape();
    let amounts = pad_amounts(call, shape.len())?;
    let mode = call.string("mode", "constant")?;
    let mut dims = Vec::new();
    // For each axis, the source index of each output index.
    let mut sources: Vec<Vec<Option<usize>>> = Vec::new();
    for (&dim, &[before, after]) in shape.iter().zip(&amounts) {
        let size = (dim as i64)
            .checked_add(before)
            .and_then(|sum| usize::try_from(sum.checked_add(after)?).ok())
            .ok_or_else(|| Fault::invalid(format!("pads {before} and {after} of {dim}")))?;
        count_of(&[size])?;
        dims.push(size);
        let source = |i: usize| -> Option<usize> {
            let at = i as i64 - before;
            let dim = dim as i64;
            let at = match mode {
                "edge" => at.clamp(0, dim - 1),
                "wrap" => at.rem_euclid(dim.max(1)),
                "reflect" if dim > 1 => {
                    let period = 2 * (dim - 1);
                    let at = at.rem_euclid(period);
                    if at < dim { at } else { period - at }
                }
                "reflect" => 0,
                _ => at,
            };
            usize::try_from(at).ok().filter(|&at| (at as i64) < dim)
        };
        sources.push((0..size).map(source).collect());
    }
    let count = call.count(&dims, input.data().element_type())?;
    if !matches!(mode, "constant" | "edge" | "wrap" | "reflect") {
        return Err(Fault::unsupported(format!("pad mode {mode}")));
    }
    let own = strides_of(shape);
    let mut sources_of: Vec<Option<usize>> = Vec::with_capacity(count);
    for at in 0..count {
        let (mut rest, mut place) = (at, Some(0));
        for axis in (0..dims.len()).rev() {
            let source = sources[axis][rest % dims[axis]];
            place = place
                .zip(source)
                .map(|(place, source)| place + source * own[axis]);
            rest /= dims[axis];
        }
        sources_of.push(place);
    }
    let fill = call.optional(2).filter(|fill| !fill.is_empty());
    macro_rules! pad {
        ($($variant:ident $default:expr),*) => {
            match input.data() {
                $(TensorData::$variant(values) => {
                    let fill = match fill.map(Tensor::data) {
                        Some(TensorData::$variant(fill)) => fill[0],
                        Some(_) => return Err(Fault::invalid("the pad value is of another type")),
                        None => $default,
                    };
                    TensorData::$variant(sources_of.iter().map(|at| at.map_or(fill, |at| values[at])).collect())
                })*
                other => return Err(Fault::unsupported(format!("elements of {}", other.element_type()))),
            }
        };
    }
    let value = call.float("value", 0.0)?;
    let data = pad!(F32 value, F64 f64::from(value), I8 0, U8 0, I16 0, U16 0, I32 0, U32 0, I64 0, U64 0, Bool false);
    Ok(vec![tensor(dims, data)?])
}

fn concat(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let first = call.input(0)?;
    let axis = call.axis(1, first.shape().len())?;
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    let mut parts = Vec::new();
    for index in 0..call.inputs.len() {
        let part = call.input(index)?;
        let fits = part.shape().len() == shape.len()
            && (0..shape.len()).all(|i| i == axis || part.shape()[i] == shape[i]);
        if !fits {
            return Err(Fault::invalid(format!(
                "shape {:?} beside {:?}",
                part.shape(),
                first.shape()
            )));
        }
        shape[axis] += part.shape()[axis];
        parts.push(part);
    }
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    macro_rules! concat {
        ($($variant:ident),*) => {
            match first.data() {
                $(TensorData::$variant(_) => {
                    let mut values = Vec::with_capacity(outer * inner * shape[axis]);
                    for i in 0..outer {
                        for part in &parts {
                            let TensorData::$variant(from) = part.data() else {
                                return Err(Fault::invalid("parts of different types"));
                            };
                            let run = part.shape()[axis] * inner;
                            values.extend_from_slice(&from[i * run..(i + 1) * run]);
                        }
                    }
                    TensorData::$variant(values)
                })*
                other => return Err(Fault::unsupported(format!("elements of {}", other.element_type()))),
            }
        };
    }
    let data = concat!(
        F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64, Bool, String
    );
    Ok(vec![tensor(shape, data)?])
}

/// The lengths that a Split node cuts an axis of this length into.
/// The extents of a split's outputs along its axis, of which the input has `dim`.
pub(crate) fn split_lengths(call: &Call<'_>, dim: usize) -> Result<Vec<usize>, Fault> {
    let given = match call.optional_ints(1)? {
        Some(lengths) => Some(lengths),
        None => call.ints("split")?.map(<[i64]>::to_vec),
    };
    let Some(lengths) = given else {
        let count = call.node.outputs.len().max(1);
        if call.int("num_outputs", count as i64)? != count as i64 {
            return Err(Fault::invalid(
                "as many outputs as num_outputs says are expected",
            ));
        }
        let each = dim.div_ceil(count);
        return Ok((0..count)
            .map(|i| each.min(dim.saturating_sub(i * each)))
            .collect());
    };
    let lengths = super::shape::dims(&lengths)?;
    let sum = lengths
        .iter()
        .try_fold(0usize, |sum, &length| sum.checked_add(length));
    if sum != Some(dim) || lengths.len() != call.node.outputs.len() {
        return Err(Fault::invalid(format!("{lengths:?} does not split {dim}")));
    }
    Ok(lengths)
}

fn split(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let axis = call.axis(0, input.shape().len())?;
    let strides = strides_of(input.shape());
    let signed: Vec<isize> = strides.iter().map(|&s| s as isize).collect();
    let mut start = 0;
    let mut parts = Vec::new();
    for length in split_lengths(call, input.shape()[axis])? {
        let mut dims = input.shape().to_vec();
        dims[axis] = length;
        let data = take(
            input.data(),
            &places(&dims, &signed, (start * strides[axis]) as isize),
        )?;
        parts.push(tensor(dims, data)?);
        start += length;
    }
    Ok(parts)
}

/// The order of axes that a Transpose node asks for.
pub(crate) fn permutation(call: &Call<'_>, rank: usize) -> Result<Vec<usize>, Fault> {
    let Some(perm) = call.ints("perm")? else {
        return Ok((0..rank).rev().collect());
    };
    let axes: Vec<usize> = perm
        .iter()
        .map(|&axis| axis_of(axis, rank))
        .collect::<Result<_, _>>()?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(Fault::invalid(format!(
            "{perm:?} is no order of {rank} axes"
        )));
    }
    Ok(axes)
}

fn permuted(input: &Tensor, perm: &[usize]) -> Result<Tensor, Fault> {
    let strides = strides_of(input.shape());
    let dims: Vec<usize> = perm.iter().map(|&axis| input.shape()[axis]).collect();
    let strides: Vec<isize> = perm.iter().map(|&axis| strides[axis] as isize).collect();
    let data = take(input.data(), &places(&dims, &strides, 0))?;
    tensor(dims, data)
}

fn transpose(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let perm = permutation(call, input.shape().len())?;
    Ok(vec![permuted(input, &perm)?])
}

fn gather(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (input, indices) = (call.input(0)?, call.input(1)?);
    let axis = call.axis(0, input.shape().len())?;
    let dim = input.shape()[axis];
    let rows = ints(indices)?
        .into_iter()
        .map(|index| {
            axis_of(index, dim).map_err(|_| Fault::invalid(format!("index {index} of {dim}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let outer: usize = input.shape()[..axis].iter().product();
    let inner: usize = input.shape()[axis + 1..].iter().product();
    let mut shape = input.shape()[..axis].to_vec();
    shape.extend_from_slice(indices.shape());
    shape.extend_from_slice(&input.shape()[axis + 1..]);
    call.count(&shape, input.data().element_type())?;
    let data = for_any_type!(input.data(), values, wrap => {
        let mut result = Vec::with_capacity(outer * rows.len() * inner);
        for o in 0..outer {
            for row in &rows {
                result.extend_from_slice(&values[(o * dim + row) * inner..][..inner]);
            }
        }
        wrap(result)
    })?;
    Ok(vec![tensor(shape, data)?])
}

fn gather_elements(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (input, indices) = (call.input(0)?, call.input(1)?);
    let axis = call.axis(0, input.shape().len())?;
    if indices.shape().len() != input.shape().len() {
        return Err(Fault::invalid("indices of another rank than the data"));
    }
    let strides = strides_of(input.shape());
    let own = strides_of(indices.shape());
    let mut sources = Vec::new();
    for (at, index) in ints(indices)?.into_iter().enumerate() {
        let mut place = axis_of(index, input.shape()[axis])? * strides[axis];
        for other in (0..own.len()).filter(|&other| other != axis) {
            let coordinate = at / own[other] % indices.shape()[other];
            if coordinate >= input.shape()[other] {
                return Err(Fault::invalid("indices larger than the data"));
            }
            place += coordinate * strides[other];
        }
        sources.push(place);
    }
    Ok(vec![tensor(
        indices.shape().to_vec(),
        take(input.data(), &sources)?,
    )?])
}

fn expand(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let target = super::shape::dims(&ints(call.input(1)?)?)?;
    let shape = broadcast_shape(&[input.shape(), &target])?;
    call.count(&shape, input.data().element_type())?;
    let data = take(input.data(), &broadcast_indices(input.shape(), &shape))?;
    Ok(vec![tensor(shape, data)?])
}

fn tile(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let repeats = super::shape::dims(&ints(call.input(1)?)?)?;
    if repeats.len() != input.shape().len() {
        return Err(Fault::invalid(format!(
            "{} repeats for {} axes",
            repeats.len(),
            input.shape().len()
        )));
    }
    let shape: Vec<usize> = input
        .shape()
        .iter()
        .zip(&repeats)
        .map(|(d, r)| d.saturating_mul(*r))
        .collect();
    let count = call.count(&shape, input.data().element_type())?;
    let strides = strides_of(input.shape());
    let own = strides_of(&shape);
    let sources: Vec<usize> = (0..count)
        .map(|at| {
            (0..shape.len())
                .map(|axis| at / own[axis] % shape[axis] % input.shape()[axis] * strides[axis])
                .sum()
        })
        .collect();
    Ok(vec![tensor(shape, take(input.data(), &sources)?)?])
}

fn blocks(call: &Call<'_>) -> Result<(usize, [usize; 4]), Fault> {
    let size = extent(call.int("blocksize", 0)?)?;
    let shape: [usize; 4] = call
        .input(0)?
        .shape()
        .try_into()
        .map_err(|_| Fault::invalid("an input of rank 4 is expected"))?;
    if size == 0 {
        return Err(Fault::invalid("a block size of 0"));
    }
    Ok((size, shape))
}

fn reshaped(input: &Tensor, shape: &[usize]) -> Result<Tensor, Fault> {
    tensor(shape.to_vec(), input.data().clone())
}

fn depth_to_space(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (b, [n, c, h, w]) = blocks(call)?;
    if !c.is_multiple_of(b * b) {
        return Err(Fault::invalid(format!("{c} channels for blocks of {b}")));
    }
    let depth = c / (b * b);
    let (shape, perm) = match call.string("mode", "DCR")? {
        "CRD" => ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        _ => ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2]),
    };
    let result = permuted(&reshaped(call.input(0)?, &shape)?, &perm)?;
    Ok(vec![reshaped(&result, &[n, depth, h * b, w * b])?])
}

fn space_to_depth(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (b, [n, c, h, w]) = blocks(call)?;
    if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
        return Err(Fault::invalid(format!("{h}x{w} pixels for blocks of {b}")));
    }
    let split = reshaped(call.input(0)?, &[n, c, h / b, b, w / b, b])?;
    let perm = match call.string("mode", "DCR")? {
        "CRD" => [0, 1, 3, 5, 2, 4],
        _ => [0, 3, 5, 1, 2, 4],
    };
    let result = permuted(&split, &perm)?;
    Ok(vec![reshaped(&result, &[n, c * b * b, h / b, w / b])?])
}
