//! Shapes of outputs from shapes of inputs.

use super::arithmetic::output_contents;
use super::contents::Number;
use super::extents::{Shape, broadcast, known, pooled_globally, unknown};
use super::named_shapes::{named_shape, transposed_conv};
use super::scope::Scope;
use crate::graph::{Dim, Node};
use crate::op::{Convolution, Op, Reshape, Window, axis_from_start};

/// Shapes of a node's outputs; what is missing at the end is not known.
pub(super) fn output_shapes(scope: &Scope, node: &Node, op: &Op) -> Vec<Option<Shape>> {
    let input = |index| scope.input_shape(node, index).map(<[Dim]>::to_vec);
    let first = match op {
        Op::Unary(_)
        | Op::Normalization
        | Op::BatchNormalization(_)
        | Op::Cast(_)
        | Op::QuantizeLinear { .. }
        | Op::DequantizeLinear => input(0),
        Op::Binary(_) => broadcast(input(0), input(1)),
        Op::Conv(convolution) => conv(input(0), input(1), convolution),
        Op::MaxPool(pool) | Op::AveragePool(pool) => {
            windows(input(0), None, (&pool.window, pool.ceil), None)
        }
        Op::ConvTranspose(convolution) => transposed_conv(input(0), input(1), convolution),
        Op::GlobalAveragePool | Op::GlobalMaxPool => input(0).map(pooled_globally),
        Op::Gemm(gemm) => {
            product_of_matrices(input(0), input(1), gemm.transpose_a, gemm.transpose_b)
        }
        Op::MatMul => matmul(input(0), input(1)),
        Op::Reduce(reduce) => {
            let axes = reduce.axes.clone().or_else(|| known(scope, node, 1));
            let all = node.inputs.len() < 2 && reduce.axes.is_none();
            reduced(input(0), axes, all, reduce.keep_axes)
        }
        Op::Reshape(reshape) => reshaped(scope, node, reshape),
        Op::Transpose { permutation } => transposed(input(0), permutation),
        Op::Concat { axis } => concatenated(scope, node, *axis),
        Op::Gather { axis } => gathered(input(0), input(1), *axis),
        Op::Split { axis } => return split(scope, node, *axis),
        Op::Pad => padded(scope, node),
        Op::Slice => sliced(scope, node),
        Op::Shape { .. } => output_contents(scope, node, op)
            .map(|contents| vec![Dim::Fixed(contents.numbers.len())]),
        Op::Other(_) => named_shape(scope, node),
        _ => None,
    };
    vec![first]
}

fn conv(input: Option<Shape>, weights: Option<Shape>, conv: &Convolution) -> Option<Shape> {
    let weights = weights?;
    windows(
        input,
        weights.first().cloned(),
        (&conv.window, false),
        weights.get(2..),
    )
}

/// `[batch, channels, ..]`, each spatial extent the number of windows, of which the
/// last may end outside where `ceil`.
fn windows(
    input: Option<Shape>,
    channels: Option<Dim>,
    (window, ceil): (&Window, bool),
    weights: Option<&[Dim]>,
) -> Option<Shape> {
    let input = input?;
    let mut shape = vec![
        input.first()?.clone(),
        channels.or_else(|| input.get(1).cloned())?,
    ];
    for (axis, dim) in input.get(2..)?.iter().enumerate() {
        let kernel = match window.kernel.get(axis) {
            Some(&kernel) => Some(kernel),
            None => match weights.and_then(|weights| weights.get(axis)) {
                Some(Dim::Fixed(extent)) => Some(*extent),
                _ => None,
            },
        };
        shape.push(match (dim, kernel) {
            (Dim::Fixed(extent), Some(kernel)) => window
                .along(axis, *extent, kernel, ceil)
                .map_or_else(unknown, |places| Dim::Fixed(places.count)),
            _ => unknown(),
        });
    }
    Some(shape)
}

fn product_of_matrices(
    left: Option<Shape>,
    right: Option<Shape>,
    transpose_left: bool,
    transpose_right: bool,
) -> Option<Shape> {
    let rows = left?.get(usize::from(transpose_left))?.clone();
    let columns = right?.get(usize::from(!transpose_right))?.clone();
    Some(vec![rows, columns])
}

fn matmul(left: Option<Shape>, right: Option<Shape>) -> Option<Shape> {
    let (mut left, mut right) = (left?, right?);
    let (left_is_vector, right_is_vector) = (left.len() == 1, right.len() == 1);
    if left_is_vector {
        left.insert(0, Dim::Fixed(1));
    }
    if right_is_vector {
        right.push(Dim::Fixed(1));
    }
    let rows = left.get(left.len().checked_sub(2)?)?.clone();
    let columns = right.last()?.clone();
    let outer = |shape: &Shape| shape[..shape.len() - 2].to_vec();
    let mut shape = broadcast(Some(outer(&left)), Some(outer(&right)))?;
    if !left_is_vector {
        shape.push(rows);
    }
    if !right_is_vector {
        shape.push(columns);
    }
    Some(shape)
}

fn reduced(
    input: Option<Shape>,
    axes: Option<Vec<i64>>,
    all: bool,
    keep_axes: bool,
) -> Option<Shape> {
    let input = input?;
    let axes: Vec<usize> = match axes {
        Some(axes) if !axes.is_empty() => axes
            .into_iter()
            .map(|axis| axis_from_start(axis, input.len()))
            .collect::<Option<_>>()?,
        _ if all => (0..input.len()).collect(),
        _ => return None,
    };
    let places = input.into_iter().enumerate();
    let kept = places.filter_map(|(axis, dim)| match (axes.contains(&axis), keep_axes) {
        (false, _) => Some(dim),
        (true, true) => Some(Dim::Fixed(1)),
        (true, false) => None,
    });
    Some(kept.collect())
}

fn reshaped(scope: &Scope, node: &Node, reshape: &Reshape) -> Option<Shape> {
    let input = scope.input_shape(node, 0).map(<[Dim]>::to_vec);
    match reshape {
        Reshape::To { allow_zero } => {
            let asked = scope.input_contents(node, 1)?;
            reshaped_to(input.as_deref(), &asked.numbers, *allow_zero)
        }
        Reshape::Flatten { axis } => {
            let input = input?;
            let axis = if *axis == input.len() as i64 {
                input.len()
            } else {
                axis_from_start(*axis, input.len())?
            };
            let (outer, inner) = input.split_at(axis);
            Some(vec![product(outer), product(inner)])
        }
        Reshape::Squeeze(axes) => {
            let input = input?;
            let axes: Vec<usize> = match axes.clone().or_else(|| known(scope, node, 1)) {
                Some(axes) => {
                    let axes = axes.into_iter();
                    axes.map(|axis| axis_from_start(axis, input.len()))
                        .collect::<Option<_>>()?
                }
                None if node.inputs.len() < 2
                    && input.iter().all(|d| matches!(d, Dim::Fixed(_))) =>
                {
                    (0..input.len())
                        .filter(|&axis| input[axis] == Dim::Fixed(1))
                        .collect()
                }
                None => return None,
            };
            let places = input.into_iter().enumerate();
            Some(
                places
                    .filter(|(axis, _)| !axes.contains(axis))
                    .map(|(_, dim)| dim)
                    .collect(),
            )
        }
        Reshape::Unsqueeze(axes) => {
            let axes = axes.clone().or_else(|| known(scope, node, 1))?;
            let input = input?;
            let rank = input.len() + axes.len();
            let axes: Vec<usize> = axes
                .into_iter()
                .map(|axis| axis_from_start(axis, rank))
                .collect::<Option<_>>()?;
            let mut old = input.into_iter();
            (0..rank)
                .map(|axis| match axes.contains(&axis) {
                    true => Some(Dim::Fixed(1)),
                    false => old.next(),
                })
                .collect()
        }
    }
}

/// The product of extents; a symbol alone stays itself.
fn product(dims: &[Dim]) -> Dim {
    let mut fixed = 1usize;
    let mut symbol = None;
    for dim in dims {
        match dim {
            Dim::Fixed(extent) => fixed = fixed.saturating_mul(*extent),
            Dim::Symbol(name) if symbol.is_none() => symbol = Some(name.clone()),
            Dim::Symbol(_) => return unknown(),
        }
    }
    match (symbol, fixed) {
        (None, fixed) => Dim::Fixed(fixed),
        (Some(name), 1) => Dim::Symbol(name),
        (Some(_), _) => unknown(),
    }
}

fn reshaped_to(input: Option<&[Dim]>, asked: &[Number], allow_zero: bool) -> Option<Shape> {
    let mut shape = Vec::with_capacity(asked.len());
    let mut inferred = None;
    for (i, number) in asked.iter().enumerate() {
        shape.push(match number {
            Number::Known(0) if !allow_zero => input?.get(i)?.clone(),
            Number::Known(-1) => {
                inferred = Some(i);
                unknown()
            }
            Number::Known(extent) => Dim::Fixed(usize::try_from(*extent).ok()?),
            Number::Extent(name) => Dim::Symbol(name.clone()),
        });
    }
    if let (Some(at), Some(input)) = (inferred, input) {
        shape[at] = quotient(input, &shape, at);
    }
    Some(shape)
}

/// What an inferred extent is, where equal symbols cancel.
fn quotient(input: &[Dim], shape: &[Dim], at: usize) -> Dim {
    let mut symbols: Vec<&String> = Vec::new();
    let mut dividend = 1usize;
    for dim in input {
        match dim {
            Dim::Fixed(extent) => dividend = dividend.saturating_mul(*extent),
            Dim::Symbol(name) => symbols.push(name),
        }
    }
    let mut divisor = 1usize;
    for (_, dim) in shape.iter().enumerate().filter(|(i, _)| *i != at) {
        match dim {
            Dim::Fixed(extent) => divisor = divisor.saturating_mul(*extent),
            Dim::Symbol(name) => match symbols.iter().position(|own| *own == name) {
                Some(found) if !name.is_empty() => {
                    symbols.swap_remove(found);
                }
                _ => return unknown(),
            },
        }
    }
    match (symbols.as_slice(), dividend.checked_div(divisor)) {
        ([], Some(extent)) if dividend.is_multiple_of(divisor) => Dim::Fixed(extent),
        ([name], Some(1)) if dividend == divisor => Dim::Symbol((*name).clone()),
        _ => unknown(),
    }
}

fn transposed(input: Option<Shape>, permutation: &[usize]) -> Option<Shape> {
    let input = input?;
    if permutation.is_empty() {
        return Some(input.into_iter().rev().collect());
    }
    let axes = permutation.iter().map(|&axis| input.get(axis).cloned());
    axes.collect()
}

fn concatenated(scope: &Scope, node: &Node, axis: i64) -> Option<Shape> {
    let mut shape = scope.input_shape(node, 0)?.to_vec();
    let axis = axis_from_start(axis, shape.len())?;
    let mut sum = Some(0usize);
    for index in 0..node.inputs.len() {
        let input = scope.input_shape(node, index)?;
        sum = match (sum, input.get(axis)?) {
            (Some(sum), Dim::Fixed(extent)) => sum.checked_add(*extent),
            _ => None,
        };
        for (own, dim) in shape.iter_mut().zip(input) {
            if matches!((&*own, dim), (Dim::Symbol(_), Dim::Fixed(_))) {
                *own = dim.clone();
            }
        }
    }
    shape[axis] = sum.map_or_else(unknown, Dim::Fixed);
    Some(shape)
}

fn gathered(input: Option<Shape>, indices: Option<Shape>, axis: i64) -> Option<Shape> {
    let (mut input, indices) = (input?, indices?);
    let axis = axis_from_start(axis, input.len())?;
    input.splice(axis..=axis, indices);
    Some(input)
}

fn split(scope: &Scope, node: &Node, axis: i64) -> Vec<Option<Shape>> {
    let count = node.outputs.len();
    let lengths = known(scope, node, 1);
    let part = |i: usize| -> Option<Shape> {
        let mut shape = scope.input_shape(node, 0)?.to_vec();
        let axis = axis_from_start(axis, shape.len())?;
        shape[axis] = match (&lengths, &shape[axis]) {
            (Some(lengths), _) => Dim::Fixed(usize::try_from(*lengths.get(i)?).ok()?),
            (None, Dim::Fixed(extent)) if node.inputs.len() < 2 && extent % count == 0 => {
                Dim::Fixed(extent / count)
            }
            _ => unknown(),
        };
        Some(shape)
    };
    (0..count).map(part).collect()
}

fn padded(scope: &Scope, node: &Node) -> Option<Shape> {
    let input = scope.input_shape(node, 0)?;
    let rank = input.len();
    let pads = known(scope, node, 1).filter(|pads| pads.len() == 2 * rank && node.inputs.len() < 4);
    let places = input.iter().enumerate();
    let extents = places.map(|(axis, dim)| match (dim, &pads) {
        (Dim::Fixed(extent), Some(pads)) => {
            let padded = *extent as i64 + pads[axis] + pads[axis + rank];
            usize::try_from(padded).map_or_else(|_| unknown(), Dim::Fixed)
        }
        (dim, Some(pads)) if pads[axis] == 0 && pads[axis + rank] == 0 => dim.clone(),
        _ => unknown(),
    });
    Some(extents.collect())
}

/// Slices by inputs (opset 10); other axes keep their extents.
fn sliced(scope: &Scope, node: &Node) -> Option<Shape> {
    let mut shape = scope.input_shape(node, 0)?.to_vec();
    let starts = known(scope, node, 1);
    let axes = match node.inputs.get(3).is_some_and(|name| !name.is_empty()) {
        true => known(scope, node, 3)?,
        false => (0..starts.as_ref()?.len() as i64).collect(),
    };
    let ends = known(scope, node, 2);
    let steps = match node.inputs.get(4).is_some_and(|name| !name.is_empty()) {
        true => known(scope, node, 4),
        false => Some(vec![1; axes.len()]),
    };
    for (i, axis) in axes.into_iter().enumerate() {
        let axis = axis_from_start(axis, shape.len())?;
        let bounds = starts.as_ref().zip(ends.as_ref());
        let bounds = bounds.and_then(|(starts, ends)| Some((*starts.get(i)?, *ends.get(i)?)));
        let step = steps.as_ref().and_then(|steps| steps.get(i).copied());
        shape[axis] = match (&shape[axis], bounds.zip(step.filter(|step| *step > 0))) {
            (Dim::Fixed(extent), Some(((start, end), step))) => {
                let extent = *extent as i64;
                let at = |at: i64| {
                    (if at < 0 {
                        at.saturating_add(extent)
                    } else {
                        at
                    })
                    .clamp(0, extent)
                };
                let taken = (at(end) - at(start)).max(0) as usize;
                Dim::Fixed(taken.div_ceil(step as usize))
            }
            _ => unknown(),
        };
    }
    Some(shape)
}
