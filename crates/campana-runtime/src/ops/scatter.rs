//! Operators that put elements at given places, or take them from there.

use campana_tensor::{Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, axis_of, count_of, for_any_type, ints, tensor};
use super::indexing::{strides_of, take};
use super::shape::{cast, to_f64};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "ScatterElements" | "Scatter" => scatter_elements,
        "ScatterND" => scatter_nd,
        "GatherND" => gather_nd,
        "TensorScatter" => tensor_scatter,
        "OneHot" => one_hot,
        "Compress" => compress,
        "NonZero" => non_zero,
        "ReverseSequence" => reverse_sequence,
        "Trilu" => triangle,
        "EyeLike" => eye_like,
        _ => return None,
    })
}

/// What becomes of an element and an update that meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reduction {
    Replace,
    Add,
    Mul,
    Min,
    Max,
}

impl Reduction {
    fn of(call: &Call<'_>) -> Result<Self, Fault> {
        Ok(match call.string("reduction", "none")? {
            "none" => Self::Replace,
            "add" => Self::Add,
            "mul" => Self::Mul,
            "min" => Self::Min,
            "max" => Self::Max,
            other => return Err(Fault::unsupported(format!("reduction {other}"))),
        })
    }
}

/// The data with each update at its place.
fn scattered(
    data: &TensorData,
    updates: &TensorData,
    places: &[usize],
    reduction: Reduction,
) -> Result<TensorData, Fault> {
    if places.len() != updates.len() {
        return Err(Fault::invalid(format!(
            "{} updates for {} indices",
            updates.len(),
            places.len()
        )));
    }
    if reduction == Reduction::Replace {
        return replaced(data, updates, places);
    }
    // Whole numbers of 64 bits do not survive a float.
    if let (TensorData::I64(values), TensorData::I64(updates)) = (data, updates) {
        let mut values = values.clone();
        for (&place, &update) in places.iter().zip(updates) {
            let value = &mut values[place];
            *value = match reduction {
                Reduction::Add => value.wrapping_add(update),
                Reduction::Mul => value.wrapping_mul(update),
                Reduction::Min => update.min(*value),
                _ => update.max(*value),
            };
        }
        return Ok(TensorData::I64(values));
    }
    let mut values = to_f64(data)?;
    for (&place, update) in places.iter().zip(to_f64(updates)?) {
        let value = &mut values[place];
        *value = match reduction {
            Reduction::Add => *value + update,
            Reduction::Mul => *value * update,
            Reduction::Min => value.min(update),
            _ => value.max(update),
        };
    }
    cast(&TensorData::F64(values), data.element_type())
}

fn replaced(
    data: &TensorData,
    updates: &TensorData,
    places: &[usize],
) -> Result<TensorData, Fault> {
    macro_rules! replace {
        ($($variant:ident),*) => {
            match (data, updates) {
                $((TensorData::$variant(values), TensorData::$variant(updates)) => {
                    let mut values = values.clone();
                    for (&place, update) in places.iter().zip(updates) {
                        values[place].clone_from(update);
                    }
                    Ok(TensorData::$variant(values))
                })*
                _ => Err(Fault::invalid("updates of another type than the data")),
            }
        };
    }
    replace!(
        F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64, Bool, String
    )
}

fn scatter_elements(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (data, indices, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let axis = call.axis(0, data.shape().len())?;
    if indices.shape().len() != data.shape().len() || indices.shape() != updates.shape() {
        return Err(Fault::invalid(format!(
            "indices {:?} and updates {:?} of data {:?}",
            indices.shape(),
            updates.shape(),
            data.shape()
        )));
    }
    let strides = strides_of(data.shape());
    let own = strides_of(indices.shape());
    let mut places = Vec::with_capacity(indices.len());
    for (at, index) in ints(indices)?.into_iter().enumerate() {
        let mut place = axis_of(index, data.shape()[axis])? * strides[axis];
        for other in (0..own.len()).filter(|&other| other != axis) {
            let coordinate = at / own[other] % indices.shape()[other];
            if coordinate >= data.shape()[other] {
                return Err(Fault::invalid("indices larger than the data"));
            }
            place += coordinate * strides[other];
        }
        places.push(place);
    }
    let result = scattered(data.data(), updates.data(), &places, Reduction::of(call)?)?;
    Ok(vec![tensor(data.shape().to_vec(), result)?])
}

/// Where the slices start that `indices` name after `batch` leading axes, and
/// their length.
fn slices(shape: &[usize], indices: &Tensor, batch: usize) -> Result<(Vec<usize>, usize), Fault> {
    let Some((&depth, outer)) = indices.shape().split_last() else {
        return Err(Fault::invalid("indices without an axis"));
    };
    if batch + depth > shape.len() || outer.len() < batch || shape[..batch] != outer[..batch] {
        return Err(Fault::invalid(format!(
            "indices {:?} of data {shape:?}",
            indices.shape()
        )));
    }
    let strides = strides_of(shape);
    let per_batch = outer[batch..].iter().product::<usize>().max(1);
    let batch_len: usize = shape[batch..].iter().product();
    let numbers = ints(indices)?;
    let count: usize = outer.iter().product();
    let starts = (0..count)
        .map(|i| {
            let mut start = i / per_batch * batch_len;
            for k in 0..depth {
                let index = axis_of(numbers[i * depth + k], shape[batch + k])?;
                start += index * strides[batch + k];
            }
            Ok(start)
        })
        .collect::<Result<_, Fault>>()?;
    Ok((starts, shape[batch + depth..].iter().product()))
}

fn scatter_nd(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (data, updates) = (call.input(0)?, call.input(2)?);
    let (starts, len) = slices(data.shape(), call.input(1)?, 0)?;
    let places: Vec<usize> = starts
        .iter()
        .flat_map(|&start| start..start + len)
        .collect();
    let result = scattered(data.data(), updates.data(), &places, Reduction::of(call)?)?;
    Ok(vec![tensor(data.shape().to_vec(), result)?])
}

fn gather_nd(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (data, indices) = (call.input(0)?, call.input(1)?);
    let batch = usize::try_from(call.int("batch_dims", 0)?)
        .map_err(|_| Fault::invalid("negative batch_dims"))?;
    let (starts, len) = slices(data.shape(), indices, batch)?;
    let depth = indices.shape().last().copied().unwrap_or(0);
    let mut shape = indices.shape()[..indices.shape().len() - 1].to_vec();
    shape.extend_from_slice(&data.shape()[batch + depth..]);
    let places: Vec<usize> = starts
        .iter()
        .flat_map(|&start| start..start + len)
        .collect();
    Ok(vec![tensor(shape, take(data.data(), &places)?)?])
}

/// The update of a cache of keys or values, from an index for each sequence on.
fn tensor_scatter(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (cache, update) = (call.input(0)?, call.input(1)?);
    let (shape, part) = (cache.shape(), update.shape());
    let axis = call.axis(-2, shape.len())?;
    let circular = call.string("mode", "linear")? == "circular";
    let fits = part.len() == shape.len()
        && axis > 0
        && (0..shape.len()).all(|a| a == axis || part[a] == shape[a]);
    if !fits {
        return Err(Fault::invalid(format!("an update {part:?} of {shape:?}")));
    }
    let writes = match call.optional_ints(2)? {
        Some(writes) if writes.len() == shape[0] => super::shape::dims(&writes)?,
        Some(writes) => return Err(Fault::invalid(format!("{} write indices", writes.len()))),
        None => vec![0; shape[0]],
    };
    let (strides, own) = (strides_of(shape), strides_of(part));
    let mut places = Vec::with_capacity(update.len());
    for at in 0..update.len() {
        let mut place = 0;
        for a in 0..shape.len() {
            let mut index = at / own[a] % part[a];
            if a == axis {
                index += writes[at / own[0] % part[0]];
                if circular {
                    index %= shape[a].max(1);
                }
                if index >= shape[a] {
                    return Err(Fault::invalid("an update beyond the cache"));
                }
            }
            place += index * strides[a];
        }
        places.push(place);
    }
    let data = scattered(cache.data(), update.data(), &places, Reduction::Replace)?;
    Ok(vec![tensor(shape.to_vec(), data)?])
}

fn one_hot(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (indices, values) = (call.input(0)?, call.input(2)?);
    let depth = to_f64(call.input(1)?.data())?;
    let (&[depth], 2) = (depth.as_slice(), values.len()) else {
        return Err(Fault::invalid("one depth and two values are expected"));
    };
    let depth = usize::try_from(depth as i64).map_err(|_| Fault::invalid("a negative depth"))?;
    let rank = indices.shape().len() + 1;
    let axis = call.axis(-1, rank)?;
    let mut shape = indices.shape().to_vec();
    shape.insert(axis, depth);
    call.count(&shape, values.data().element_type())?;
    let inner: usize = indices.shape()[axis..].iter().product();
    let numbers = to_f64(indices.data())?;
    let mut places = Vec::with_capacity(count_of(&shape)?);
    for outer in numbers.chunks(inner.max(1)) {
        for d in 0..depth {
            places.extend(outer.iter().map(|&index| {
                let index = if index < 0.0 {
                    index + depth as f64
                } else {
                    index
                };
                usize::from(index == d as f64)
            }));
        }
    }
    Ok(vec![tensor(shape, take(values.data(), &places)?)?])
}

fn bools(tensor: &Tensor) -> Result<Vec<bool>, Fault> {
    Ok(to_f64(tensor.data())?.iter().map(|&v| v != 0.0).collect())
}

fn compress(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let chosen: Vec<usize> = bools(call.input(1)?)?
        .iter()
        .enumerate()
        .filter_map(|(i, &chosen)| chosen.then_some(i))
        .collect();
    let (shape, axis) = match call.attribute("axis") {
        Some(_) => (input.shape().to_vec(), call.axis(0, input.shape().len())?),
        None => (vec![input.len()], 0),
    };
    if chosen.last().is_some_and(|&last| last >= shape[axis]) {
        return Err(Fault::invalid("a condition longer than the axis"));
    }
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let mut places = Vec::with_capacity(outer * chosen.len() * inner);
    for o in 0..outer {
        for &index in &chosen {
            let start = (o * shape[axis] + index) * inner;
            places.extend(start..start + inner);
        }
    }
    let mut dims = shape;
    dims[axis] = chosen.len();
    Ok(vec![tensor(dims, take(input.data(), &places)?)?])
}

fn non_zero(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let places: Vec<usize> = bools(input)?
        .iter()
        .enumerate()
        .filter_map(|(i, &chosen)| chosen.then_some(i))
        .collect();
    let strides = strides_of(input.shape());
    let mut result = Vec::with_capacity(places.len() * strides.len());
    for (axis, &stride) in strides.iter().enumerate() {
        let dim = input.shape()[axis];
        result.extend(places.iter().map(|place| (place / stride % dim) as i64));
    }
    Ok(vec![tensor(
        vec![strides.len(), places.len()],
        TensorData::I64(result),
    )?])
}

fn reverse_sequence(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let shape = input.shape();
    let time = axis_of(call.int("time_axis", 0)?, shape.len())?;
    let batch = axis_of(call.int("batch_axis", 1)?, shape.len())?;
    let lengths = super::shape::dims(&ints(call.input(1)?)?)?;
    if lengths.len() != shape[batch] || lengths.iter().any(|&len| len > shape[time]) {
        return Err(Fault::invalid(format!("sequence lengths {lengths:?}")));
    }
    let strides = strides_of(shape);
    let places: Vec<usize> = (0..input.len())
        .map(|at| {
            let step = at / strides[time] % shape[time];
            let len = lengths[at / strides[batch] % shape[batch]];
            if step < len {
                at - step * strides[time] + (len - 1 - step) * strides[time]
            } else {
                at
            }
        })
        .collect();
    Ok(vec![tensor(shape.to_vec(), take(input.data(), &places)?)?])
}

fn triangle(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let &[.., rows, columns] = input.shape() else {
        return Err(Fault::invalid("a matrix is expected"));
    };
    let k = call.optional_int(1)?.unwrap_or(0);
    let upper = call.int("upper", 1)? != 0;
    let kept = |at: usize| {
        let (row, column) = (at / columns % rows, at % columns);
        let beside = (column as i64 - row as i64).saturating_sub(k);
        if upper { beside >= 0 } else { beside <= 0 }
    };
    let data = for_any_type!(input.data(), values, wrap => {
        let mut values = values.clone();
        for (at, value) in values.iter_mut().enumerate() {
            if !kept(at) {
                *value = Default::default();
            }
        }
        wrap(values)
    })?;
    Ok(vec![tensor(input.shape().to_vec(), data)?])
}

fn eye_like(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let &[rows, columns] = input.shape() else {
        return Err(Fault::invalid("a matrix is expected"));
    };
    let k = call.int("k", 0)?;
    let kind = match call.int("dtype", 0)? {
        0 => input.data().element_type(),
        number => campana_tensor::ElementType::from_onnx(number as i32),
    };
    let values = (0..rows * columns)
        .map(|at| {
            let beside = (at % columns) as i64 - (at / columns) as i64;
            f64::from(u8::from(beside == k))
        })
        .collect();
    super::call::one_of(kind, input.shape(), values)
}
