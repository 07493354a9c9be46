//! Reductions over axes, and what is normalized by them.

use campana_tensor::{ElementType, Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, axis_of, one, tensor};
use super::indexing::strides_of;
use super::shape::{cast, to_f64};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    if reduction(op_type).is_some() {
        return Some(reduce);
    }
    Some(match op_type {
        "ArgMax" | "ArgMin" => arg_extreme,
        "Softmax" | "LogSoftmax" => softmax,
        _ => return None,
    })
}

/// From the values and their number to one.
type Reduction = fn(&mut dyn Iterator<Item = f64>, usize) -> f64;

fn reduction(op_type: &str) -> Option<Reduction> {
    Some(match op_type {
        "ReduceSum" => |values, _| values.sum(),
        "ReduceMean" => |values, count| values.sum::<f64>() / count as f64,
        "ReduceMax" => |values, _| {
            values.fold(
                f64::NEG_INFINITY,
                |m, v| if v > m || v.is_nan() { v } else { m },
            )
        },
        "ReduceMin" => |values, _| {
            values.fold(
                f64::INFINITY,
                |m, v| if v < m || v.is_nan() { v } else { m },
            )
        },
        "ReduceProd" => |values, _| values.product(),
        "ReduceL1" => |values, _| values.map(f64::abs).sum(),
        "ReduceL2" => |values, _| values.map(|v| v * v).sum::<f64>().sqrt(),
        "ReduceSumSquare" => |values, _| values.map(|v| v * v).sum(),
        "ReduceLogSum" => |values, _| values.sum::<f64>().ln(),
        "ReduceLogSumExp" => |values, _| {
            let values: Vec<f64> = values.collect();
            let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if max.is_infinite() {
                return max;
            }
            max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
        },
        _ => return None,
    })
}

fn reduce(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let shape = input.shape();
    let given = match call.optional_ints(1)? {
        Some(axes) => Some(axes),
        None => call.ints("axes")?.map(<[i64]>::to_vec),
    };
    let axes: Vec<usize> = match given.filter(|axes| !axes.is_empty()) {
        Some(axes) => axes
            .iter()
            .map(|&axis| axis_of(axis, shape.len()))
            .collect::<Result<_, _>>()?,
        None if call.int("noop_with_empty_axes", 0)? != 0 => vec![],
        None => (0..shape.len()).collect(),
    };
    let keep = call.int("keepdims", 1)? != 0;
    let function =
        reduction(&call.node.op_type).ok_or_else(|| Fault::unsupported("this reduction"))?;
    let values = to_f64(input.data())?;
    let strides = strides_of(shape);
    let list = |reduced: bool| -> Vec<usize> {
        (0..shape.len())
            .filter(|axis| axes.contains(axis) == reduced)
            .collect()
    };
    let offsets = |axes: &[usize]| -> Vec<usize> {
        axes.iter().fold(vec![0], |offsets, &axis| {
            offsets
                .iter()
                .flat_map(|base| (0..shape[axis]).map(move |i| (base, i)))
                .map(|(base, i)| base + i * strides[axis])
                .collect()
        })
    };
    let inner = offsets(&list(true));
    let results: Vec<f64> = offsets(&list(false))
        .into_iter()
        .map(|base| function(&mut inner.iter().map(|at| values[base + at]), inner.len()))
        .collect();
    let dims = (0..shape.len())
        .filter(|axis| keep || !axes.contains(axis))
        .map(|axis| if axes.contains(&axis) { 1 } else { shape[axis] })
        .collect();
    let kind = input.data().element_type();
    let mut results = results;
    if kind == ElementType::Bool {
        // The least and the greatest of no bools.
        results.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
    }
    let data = cast(&TensorData::F64(results), kind)?;
    Ok(vec![tensor(dims, data)?])
}

fn arg_extreme(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let shape = input.shape();
    let axis = call.axis(0, shape.len())?;
    let keep = call.int("keepdims", 1)? != 0;
    let last = call.int("select_last_index", 0)? != 0;
    let sign = if call.node.op_type == "ArgMax" {
        1.0
    } else {
        -1.0
    };
    let values = to_f64(input.data())?;
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut result = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            let value = |k: usize| sign * values[(o * shape[axis] + k) * inner + i];
            let mut best = 0;
            for k in 1..shape[axis] {
                if value(k) > value(best) || last && value(k) == value(best) {
                    best = k;
                }
            }
            result.push(best as i64);
        }
    }
    let mut dims = shape.to_vec();
    if keep {
        dims[axis] = 1;
    } else {
        dims.remove(axis);
    }
    Ok(vec![tensor(dims, TensorData::I64(result))?])
}

fn softmax(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    // Before opset 13 everything from the axis on was one.
    let old = call.opset < 13;
    let axis = call.axis(if old { 1 } else { -1 }, shape.len())?;
    let inner: usize = if old {
        1
    } else {
        shape[axis + 1..].iter().product()
    };
    let count: usize = if old {
        shape[axis..].iter().product()
    } else {
        shape[axis]
    };
    let log = call.node.op_type == "LogSoftmax";
    let mut result = values.to_vec();
    for outer in result.chunks_exact_mut((count * inner).max(1)) {
        for i in 0..inner {
            let line = || (0..count).map(|k| k * inner + i);
            let max = line().map(|at| outer[at]).fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = line().map(|at| f64::from(outer[at] - max).exp()).sum();
            for at in line() {
                let shifted = f64::from(outer[at] - max);
                outer[at] = if log {
                    shifted - sum.ln()
                } else {
                    shifted.exp() / sum
                } as f32;
            }
        }
    }
    one(shape, result)
}
