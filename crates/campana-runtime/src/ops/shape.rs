//! Shapes, types and constants.

use campana_tensor::{ElementType, Tensor, TensorData};
use half::{bf16, f16};

use super::Operator;
use super::call::{Call, Fault, axis_of, floats, ints, tensor};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "Identity" => |call| Ok(vec![call.input(0)?.clone()]),
        "Dropout" => dropout,
        "Constant" => constant,
        "ConstantOfShape" => constant_of_shape,
        "Shape" => shape,
        "Size" => |call| {
            Ok(vec![tensor(
                vec![],
                TensorData::I64(vec![call.input(0)?.len() as i64]),
            )?])
        },
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => |call| {
            let input = call.input(0)?;
            Ok(vec![tensor(
                reshaped(call, input.shape())?,
                input.data().clone(),
            )?])
        },
        "Cast" => |call| {
            let kind = ElementType::from_onnx(call.int("to", 0)? as i32);
            let input = call.input(0)?;
            Ok(vec![tensor(
                input.shape().to_vec(),
                cast(input.data(), kind)?,
            )?])
        },
        "CastLike" => |call| {
            let input = call.input(0)?;
            let kind = call.input(1)?.data().element_type();
            Ok(vec![tensor(
                input.shape().to_vec(),
                cast(input.data(), kind)?,
            )?])
        },
        "Range" => range,
        _ => return None,
    })
}

/// Whole numbers as extents.
pub(super) fn dims(values: &[i64]) -> Result<Vec<usize>, Fault> {
    values
        .iter()
        .map(|&v| usize::try_from(v).map_err(|_| Fault::invalid(format!("an extent of {v}"))))
        .collect()
}

fn dropout(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let training = match call.optional(2).map(Tensor::data) {
        Some(TensorData::Bool(training)) => training.first() == Some(&true),
        _ => false,
    };
    if training {
        return Err(Fault::unsupported("dropout in training mode"));
    }
    let input = call.input(0)?;
    let mut outputs = vec![input.clone()];
    if call.node.outputs.len() > 1 {
        outputs.push(tensor(
            input.shape().to_vec(),
            TensorData::Bool(vec![true; input.len()]),
        )?);
    }
    Ok(outputs)
}

fn constant(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    if let Some(value) = call.tensor("value")? {
        return Ok(vec![value.clone()]);
    }
    let data = if let Some(values) = call.float_list("value_floats")? {
        (vec![values.len()], TensorData::F32(values.to_vec()))
    } else if let Some(values) = call.ints("value_ints")? {
        (vec![values.len()], TensorData::I64(values.to_vec()))
    } else if call.node.attributes.contains_key("value_float") {
        (
            vec![],
            TensorData::F32(vec![call.float("value_float", 0.0)?]),
        )
    } else if call.node.attributes.contains_key("value_int") {
        (vec![], TensorData::I64(vec![call.int("value_int", 0)?]))
    } else {
        return Err(Fault::unsupported("a constant of this kind"));
    };
    Ok(vec![tensor(data.0, data.1)?])
}

fn constant_of_shape(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let shape = dims(&ints(call.input(0)?)?)?;
    let kind = call
        .tensor("value")?
        .map_or(ElementType::F32, |value| value.data().element_type());
    let count = call.count(&shape, kind)?;
    macro_rules! filled {
        ($($variant:ident),*) => {
            match call.tensor("value")?.map(Tensor::data) {
                None => TensorData::F32(vec![0.0; count]),
                $(Some(TensorData::$variant(value)) if !value.is_empty() => TensorData::$variant(vec![value[0]; count]),)*
                Some(_) => return Err(Fault::unsupported("a value of this type")),
            }
        };
    }
    let data = filled!(
        F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64, Bool
    );
    Ok(vec![tensor(shape, data)?])
}

/// What a Shape node gives for this shape.
pub(crate) fn shape_values(call: &Call<'_>, shape: &[usize]) -> Result<Tensor, Fault> {
    let rank = shape.len() as i64;
    let clamp = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize;
    let start = clamp(call.int("start", 0)?);
    let end = clamp(call.int("end", rank)?).max(start);
    let values: Vec<i64> = shape[start..end].iter().map(|&dim| dim as i64).collect();
    tensor(vec![values.len()], TensorData::I64(values))
}

fn shape(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    Ok(vec![shape_values(call, call.input(0)?.shape())?])
}

/// The shape that Reshape, Flatten, Squeeze or Unsqueeze gives to one.
pub(crate) fn reshaped(call: &Call<'_>, shape: &[usize]) -> Result<Vec<usize>, Fault> {
    let axes = || -> Result<Option<Vec<i64>>, Fault> {
        match call.optional_ints(1)? {
            Some(axes) => Ok(Some(axes)),
            None => Ok(call.ints("axes")?.map(<[i64]>::to_vec)),
        }
    };
    match call.node.op_type.as_str() {
        "Flatten" => {
            let axis = call.int("axis", 1)?;
            let axis = match axis == shape.len() as i64 {
                true => shape.len(),
                false => axis_of(axis, shape.len().max(1))?,
            };
            Ok(vec![
                shape[..axis].iter().product(),
                shape[axis..].iter().product(),
            ])
        }
        "Squeeze" => {
            let Some(axes) = axes()? else {
                return Ok(shape.iter().copied().filter(|&dim| dim != 1).collect());
            };
            let axes: Vec<usize> = axes
                .iter()
                .map(|&a| axis_of(a, shape.len()))
                .collect::<Result<_, _>>()?;
            if axes.iter().any(|&axis| shape[axis] != 1) {
                return Err(Fault::invalid(format!(
                    "axes {axes:?} of {shape:?} are not all 1"
                )));
            }
            Ok((0..shape.len())
                .filter(|axis| !axes.contains(axis))
                .map(|axis| shape[axis])
                .collect())
        }
        "Unsqueeze" => {
            let axes = axes()?.ok_or_else(|| Fault::invalid("axes are missing"))?;
            let rank = shape.len() + axes.len();
            let axes: Vec<usize> = axes
                .iter()
                .map(|&a| axis_of(a, rank))
                .collect::<Result<_, _>>()?;
            let mut rest = shape.iter();
            let result: Vec<usize> = (0..rank)
                .map(|axis| {
                    if axes.contains(&axis) {
                        1
                    } else {
                        rest.next().copied().unwrap_or(1)
                    }
                })
                .collect();
            match rest.next() {
                None => Ok(result),
                Some(_) => Err(Fault::invalid("axes repeat")),
            }
        }
        _ => {
            let target = match call.optional_ints(1)? {
                Some(target) => target,
                None => call
                    .ints("shape")?
                    .ok_or_else(|| Fault::invalid("the shape is missing"))?
                    .to_vec(),
            };
            reshape_target(shape, &target, call.int("allowzero", 0)? != 0)
        }
    }
}

fn reshape_target(shape: &[usize], target: &[i64], allow_zero: bool) -> Result<Vec<usize>, Fault> {
    let count: usize = shape.iter().product();
    let failed = || Fault::invalid(format!("shape {shape:?} cannot become {target:?}"));
    let mut result = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &dim) in target.iter().enumerate() {
        result.push(match dim {
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            0 if !allow_zero => *shape.get(axis).ok_or_else(failed)?,
            dim => usize::try_from(dim).map_err(|_| failed())?,
        });
    }
    super::call::count_of(&result)?;
    let known = result
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .ok_or_else(failed)?;
    if let Some(axis) = open {
        result[axis] = count.checked_div(known).ok_or_else(failed)?;
    }
    if result.iter().product::<usize>() != count {
        return Err(failed());
    }
    Ok(result)
}

/// Elements as 64-bit floats.
pub(super) fn to_f64(data: &TensorData) -> Result<Vec<f64>, Fault> {
    Ok(match data {
        TensorData::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::F64(v) => v.clone(),
        TensorData::F16(v) => v.iter().map(|x| x.to_f64()).collect(),
        TensorData::Bf16(v) => v.iter().map(|x| x.to_f64()).collect(),
        TensorData::I8(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::U8(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::I16(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::U16(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::U32(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::I64(v) => v.iter().map(|&x| x as f64).collect(),
        TensorData::U64(v) => v.iter().map(|&x| x as f64).collect(),
        TensorData::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
        other => {
            return Err(Fault::unsupported(format!(
                "numbers of {}",
                other.element_type()
            )));
        }
    })
}

/// Elements as another type; floats lose their fraction on the way to integers.
pub(super) fn cast(data: &TensorData, kind: ElementType) -> Result<TensorData, Fault> {
    if data.element_type() == kind {
        return Ok(data.clone());
    }
    // Whole numbers of 64 bits do not survive a float.
    let whole: Option<Vec<i64>> = match data {
        TensorData::I64(v) => Some(v.clone()),
        TensorData::U64(v) => Some(v.iter().map(|&x| x as i64).collect()),
        TensorData::I32(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
        TensorData::U32(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
        TensorData::U8(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
        TensorData::I8(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
        _ => None,
    };
    macro_rules! to_integer {
        ($variant:ident, $type:ty) => {
            TensorData::$variant(match &whole {
                Some(values) => values.iter().map(|&x| x as $type).collect(),
                // Through i64, so that out-of-range floats wrap as in other runtimes.
                None => to_f64(data)?.iter().map(|&x| x as i64 as $type).collect(),
            })
        };
    }
    let reals = || to_f64(data);
    Ok(match kind {
        ElementType::F32 => TensorData::F32(reals()?.iter().map(|&x| x as f32).collect()),
        ElementType::F64 => TensorData::F64(reals()?),
        ElementType::F16 => TensorData::F16(reals()?.iter().map(|&x| f16::from_f64(x)).collect()),
        ElementType::Bf16 => {
            TensorData::Bf16(reals()?.iter().map(|&x| bf16::from_f64(x)).collect())
        }
        ElementType::Bool => TensorData::Bool(reals()?.iter().map(|&x| x != 0.0).collect()),
        ElementType::I8 => to_integer!(I8, i8),
        ElementType::U8 => to_integer!(U8, u8),
        ElementType::I16 => to_integer!(I16, i16),
        ElementType::U16 => to_integer!(U16, u16),
        ElementType::I32 => to_integer!(I32, i32),
        ElementType::U32 => to_integer!(U32, u32),
        ElementType::I64 => to_integer!(I64, i64),
        ElementType::U64 => to_integer!(U64, u64),
        other => return Err(Fault::unsupported(format!("a cast to {other}"))),
    })
}

fn range(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let start = call.input(0)?;
    let kind = start.data().element_type();
    let count = |start: f64, limit: f64, delta: f64| -> Result<usize, Fault> {
        let count = ((limit - start) / delta).ceil().max(0.0);
        if delta == 0.0 || count.is_nan() {
            return Err(Fault::invalid(format!(
                "a range from {start} to {limit} by {delta}"
            )));
        }
        call.count(&[count as usize], kind)
    };
    if let TensorData::F32(_) = start.data() {
        let value = |index| Ok(floats(call.input(index)?)?.first().copied().unwrap_or(0.0));
        let (start, limit, delta) = (value(0)?, value(1)?, value(2)?);
        let n = count(f64::from(start), f64::from(limit), f64::from(delta))?;
        let values = (0..n).map(|i| start + i as f32 * delta).collect();
        return Ok(vec![tensor(vec![n], TensorData::F32(values))?]);
    }
    if matches!(
        kind,
        ElementType::F16 | ElementType::Bf16 | ElementType::F64
    ) {
        let value = |index| -> Result<f64, Fault> {
            Ok(call.reals(index)?.1.first().copied().unwrap_or(0.0))
        };
        let (start, limit, delta) = (value(0)?, value(1)?, value(2)?);
        let n = count(start, limit, delta)?;
        let values = (0..n).map(|i| start + i as f64 * delta).collect();
        return super::call::one_of(kind, &[n], values);
    }
    let value = |index| Ok(ints(call.input(index)?)?.first().copied().unwrap_or(0));
    let (first, limit, delta) = (value(0)?, value(1)?, value(2)?);
    let n = count(first as f64, limit as f64, delta as f64)?;
    let values = TensorData::I64((0..n as i64).map(|i| first + i * delta).collect());
    Ok(vec![tensor(
        vec![n],
        cast(&values, start.data().element_type())?,
    )?])
}
