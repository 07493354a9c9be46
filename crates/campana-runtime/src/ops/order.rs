//! Sums along an axis, and what depends on the order of elements.

use campana_tensor::{Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, axis_of, for_any_type, ints, one_of, tensor};
use super::indexing::take;
use super::shape::cast;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "CumSum" | "CumProd" => cumulative,
        "TopK" => top_k,
        "Unique" => unique,
        "Hardmax" => hardmax,
        _ => return None,
    })
}

/// Extents before, of and after an axis.
fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    [
        shape[..axis].iter().product(),
        shape[axis],
        shape[axis + 1..].iter().product(),
    ]
}

/// Sums or products of all that came before.
fn cumulative(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let axis = call
        .optional_int(1)?
        .ok_or_else(|| Fault::invalid("the axis is missing"))?;
    let dims = around(input.shape(), axis_of(axis, input.shape().len())?);
    let exclusive = call.int("exclusive", 0)? != 0;
    let reverse = call.int("reverse", 0)? != 0;
    let product = call.node.op_type == "CumProd";
    let kind = input.data().element_type();
    if kind.is_float() {
        let (_, values) = call.reals(0)?;
        let combine = |a: f64, b: f64| if product { a * b } else { a + b };
        let first = if product { 1.0 } else { 0.0 };
        let values = scan(&values, dims, exclusive, reverse, first, combine);
        return one_of(kind, input.shape(), values);
    }
    let combine = |a: i64, b: i64| match product {
        true => a.wrapping_mul(b),
        false => a.wrapping_add(b),
    };
    let values = scan(
        &ints(input)?,
        dims,
        exclusive,
        reverse,
        i64::from(product),
        combine,
    );
    let data = cast(&TensorData::I64(values), kind)?;
    Ok(vec![tensor(input.shape().to_vec(), data)?])
}

fn scan<T: Copy>(
    values: &[T],
    [outer, dim, inner]: [usize; 3],
    exclusive: bool,
    reverse: bool,
    first: T,
    combine: impl Fn(T, T) -> T,
) -> Vec<T> {
    let mut result = values.to_vec();
    for o in 0..outer {
        for i in 0..inner {
            let mut sum = first;
            for step in 0..dim {
                let k = if reverse { dim - 1 - step } else { step };
                let at = (o * dim + k) * inner + i;
                let next = combine(sum, values[at]);
                result[at] = if exclusive { sum } else { next };
                sum = next;
            }
        }
    }
    result
}

fn top_k(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let axis = call.axis(-1, input.shape().len())?;
    let [outer, dim, inner] = around(input.shape(), axis);
    let k = match call.optional_int(1)? {
        Some(k) => k,
        None => call.int("k", 0)?,
    };
    let k = usize::try_from(k)
        .ok()
        .filter(|&k| k <= dim)
        .ok_or_else(|| Fault::invalid(format!("the first {k} of {dim} elements")))?;
    let largest = call.int("largest", 1)? != 0;
    let places = for_any_type!(input.data(), values, _wrap => {
        let mut places = vec![0; outer * k * inner];
        for o in 0..outer {
            for i in 0..inner {
                let at = |k: usize| (o * dim + k) * inner + i;
                let mut order: Vec<usize> = (0..dim).collect();
                // Of equal elements the first comes first.
                order.sort_by(|&a, &b| {
                    let (x, y) = (&values[at(a)], &values[at(b)]);
                    let order = x.partial_cmp(y).unwrap_or(std::cmp::Ordering::Equal);
                    if largest { order.reverse() } else { order }
                });
                for (rank, &index) in order[..k].iter().enumerate() {
                    places[(o * k + rank) * inner + i] = at(index);
                }
            }
        }
        places
    })?;
    let mut shape = input.shape().to_vec();
    shape[axis] = k;
    let indices = places
        .iter()
        .map(|place| (place / inner.max(1) % dim.max(1)) as i64)
        .collect();
    Ok(vec![
        tensor(shape.clone(), take(input.data(), &places)?)?,
        tensor(shape, TensorData::I64(indices))?,
    ])
}

/// Distinct slices along an axis: their first places, where each slice went,
/// and how many there were.
fn unique(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let (shape, axis) = match call.attribute("axis") {
        Some(_) => (input.shape().to_vec(), call.axis(0, input.shape().len())?),
        None => (vec![input.len()], 0),
    };
    let sorted = call.int("sorted", 1)? != 0;
    let [outer, dim, inner] = around(&shape, axis);
    let slice = |index: usize| {
        (0..outer).flat_map(move |o| {
            let start = (o * dim + index) * inner;
            start..start + inner
        })
    };
    let (order, groups) = for_any_type!(input.data(), values, _wrap => {
        let compare = |a: usize, b: usize| {
            slice(a)
                .map(|at| &values[at])
                .partial_cmp(slice(b).map(|at| &values[at]))
                .unwrap_or(std::cmp::Ordering::Equal)
        };
        let mut order: Vec<usize> = (0..dim).collect();
        order.sort_by(|&a, &b| compare(a, b));
        let mut groups: Vec<usize> = Vec::with_capacity(dim);
        for (i, &index) in order.iter().enumerate() {
            let same = i > 0 && compare(order[i - 1], index).is_eq();
            groups.push(groups.last().map_or(0, |&g: &usize| g + usize::from(!same)));
        }
        (order, groups)
    })?;
    let count = groups.last().map_or(0, |last| last + 1);
    let (mut firsts, mut counts) = (vec![usize::MAX; count], vec![0i64; count]);
    let mut inverse = vec![0; dim];
    for (&index, &group) in order.iter().zip(&groups) {
        firsts[group] = firsts[group].min(index);
        counts[group] += 1;
        inverse[index] = group;
    }
    let mut by_rank: Vec<usize> = (0..count).collect();
    if !sorted {
        by_rank.sort_by_key(|&group| firsts[group]);
    }
    let mut rank_of = vec![0i64; count];
    for (rank, &group) in by_rank.iter().enumerate() {
        rank_of[group] = rank as i64;
    }
    let mut places = Vec::with_capacity(outer * count * inner);
    for o in 0..outer {
        for &group in &by_rank {
            let start = (o * dim + firsts[group]) * inner;
            places.extend(start..start + inner);
        }
    }
    let mut dims = shape;
    dims[axis] = count;
    let list = |values: Vec<i64>| tensor(vec![values.len()], TensorData::I64(values));
    let mut outputs = vec![
        tensor(dims, take(input.data(), &places)?)?,
        list(by_rank.iter().map(|&g| firsts[g] as i64).collect())?,
        list(inverse.iter().map(|&g| rank_of[g]).collect())?,
        list(by_rank.iter().map(|&g| counts[g]).collect())?,
    ];
    outputs.truncate(call.node.outputs.len());
    Ok(outputs)
}

/// One where a line's greatest element is, the first of equal ones, zero elsewhere.
fn hardmax(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.reals(0)?;
    let old = call.opset < 13;
    let axis = call.axis(if old { 1 } else { -1 }, shape.len())?;
    let [outer, mut dim, mut inner] = around(shape, axis);
    if old {
        (dim, inner) = (dim * inner, 1);
    }
    let mut result = vec![0.0; values.len()];
    for o in 0..outer {
        for i in 0..inner {
            let at = |k: usize| (o * dim + k) * inner + i;
            let best = (0..dim).reduce(|best, k| match values[at(k)] > values[at(best)] {
                true => k,
                false => best,
            });
            if let Some(best) = best {
                result[at(best)] = 1.0;
            }
        }
    }
    one_of(call.kind(0)?, shape, result)
}
