//! Arithmetic on integer values before a run.

use super::contents::{Contents, MAX_LEN, Number};
use super::scope::Scope;
use crate::graph::Node;
use crate::op::{Binary, Op, Reshape, Unary};

/// The contents of a node's first output, where they are known before a run.
pub(super) fn output_contents(scope: &Scope, node: &Node, op: &Op) -> Option<Contents> {
    let input = |index| scope.input_contents(node, index);
    match op {
        Op::Shape { start, end } => {
            let shape = scope.input_shape(node, 0)?;
            let rank = shape.len() as i64;
            let place = |axis: i64| {
                let from_start = if axis < 0 { axis + rank } else { axis };
                from_start.clamp(0, rank) as usize
            };
            let extents = shape.get(place(*start)..end.map_or(shape.len(), place))?;
            Some(Contents::list(
                extents.iter().map(Number::of_extent).collect(),
            ))
        }
        Op::Gather { axis: 0 | -1 } => gather(input(0)?, input(1)?),
        Op::Concat { .. } => {
            let mut numbers = Vec::new();
            for index in 0..node.inputs.len() {
                numbers.extend_from_slice(&input(index)?.numbers);
            }
            (numbers.len() <= MAX_LEN).then(|| Contents::list(numbers))
        }
        Op::Reshape(reshape) => {
            let contents = input(0)?;
            let rank = reshaped_rank(reshape, contents, input(1))?;
            (rank <= 1).then(|| Contents {
                is_scalar: rank == 0,
                ..contents.clone()
            })
        }
        Op::Cast(to) => {
            use campana_tensor::ElementType::{I32, I64};
            input(0).filter(|_| matches!(to, I32 | I64)).cloned()
        }
        Op::Unary(Unary::Identity) => input(0).cloned(),
        Op::Slice => slice(scope, node),
        Op::Binary(binary) => arithmetic(*binary, input(0)?, input(1)?),
        _ => None,
    }
}

/// The rank that a list or scalar has behind a reshaping operator.
fn reshaped_rank(
    reshape: &Reshape,
    contents: &Contents,
    shape: Option<&Contents>,
) -> Option<usize> {
    let rank = usize::from(!contents.is_scalar);
    let axes = |axes: &Option<Vec<i64>>| match (axes, shape) {
        (Some(axes), _) => Some(axes.len()),
        (None, Some(axes)) => Some(axes.numbers.len()),
        (None, None) => None,
    };
    match reshape {
        Reshape::To { .. } => Some(shape?.numbers.len()),
        Reshape::Flatten { .. } => Some(2),
        Reshape::Squeeze(squeezed) => match axes(squeezed) {
            Some(axes) => rank.checked_sub(axes),
            None => Some(usize::from(contents.numbers.len() != 1).min(rank)),
        },
        Reshape::Unsqueeze(added) => Some(rank + axes(added)?),
    }
}

fn gather(values: &Contents, indices: &Contents) -> Option<Contents> {
    let len = values.numbers.len() as i64;
    let numbers = indices.known()?.into_iter().map(|index| {
        let index = if index < 0 { index + len } else { index };
        values.numbers.get(usize::try_from(index).ok()?).cloned()
    });
    Some(Contents {
        numbers: numbers.collect::<Option<_>>()?,
        is_scalar: indices.is_scalar,
    })
}

/// A slice of a list by constant inputs (opset 10) in steps of 1.
fn slice(scope: &Scope, node: &Node) -> Option<Contents> {
    let values = scope.input_contents(node, 0)?;
    let one = |index: usize| match scope.input_contents(node, index)?.known()?[..] {
        [value] => Some(value),
        _ => None,
    };
    if node.inputs.len() > 4 && one(4)? != 1 {
        return None;
    }
    let len = values.numbers.len() as i64;
    let place = |at: i64| (if at < 0 { at + len } else { at }).clamp(0, len) as usize;
    let (start, end) = (place(one(1)?), place(one(2)?));
    Some(Contents::list(
        values.numbers.get(start..end.max(start))?.to_vec(),
    ))
}

fn arithmetic(binary: Binary, left: &Contents, right: &Contents) -> Option<Contents> {
    let len = match (left.numbers.len(), right.numbers.len()) {
        (a, b) if a == b || b == 1 => a,
        (1, b) => b,
        _ => return None,
    };
    let at = |contents: &Contents, i: usize| {
        let last = contents.numbers.len().checked_sub(1)?;
        Some(contents.numbers[i.min(last)].clone())
    };
    let numbers = (0..len).map(|i| Some(combined(binary, at(left, i)?, at(right, i)?)));
    Some(Contents {
        numbers: numbers.collect::<Option<_>>()?,
        is_scalar: left.is_scalar && right.is_scalar,
    })
}

/// One result; an extent stays one where the other operand is neutral.
fn combined(binary: Binary, left: Number, right: Number) -> Number {
    use Number::{Extent, Known};
    let unknown = || Extent(String::new());
    match (binary, left, right) {
        (Binary::Mul | Binary::Div, left, Known(1)) => left,
        (Binary::Mul, Known(1), right) | (Binary::Add, Known(0), right) => right,
        (Binary::Add | Binary::Sub, left, Known(0)) => left,
        (binary, Known(a), Known(b)) => {
            let result = match binary {
                Binary::Add => a.checked_add(b),
                Binary::Sub => a.checked_sub(b),
                Binary::Mul => a.checked_mul(b),
                Binary::Div => a.checked_div(b),
                Binary::Other => None,
            };
            result.map_or_else(unknown, Known)
        }
        _ => unknown(),
    }
}
