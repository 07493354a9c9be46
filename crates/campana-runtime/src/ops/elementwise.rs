//! Functions of single elements, with broadcasting.

use std::cmp::Ordering;

use campana_kernels::elementwise::{Binary, Unary, map};
use campana_tensor::{ElementType, Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, floats, one, one_of, tensor};
use super::erf::erf;
use super::indexing::{Places, broadcast_shape};
use crate::strided::BroadcastPlan;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    if unary_scalar(op_type).is_some() {
        return Some(|call| {
            let function = unary_scalar(&call.node.op_type)
                .ok_or_else(|| Fault::unsupported("this operator"))?;
            let input = call.input(0)?;
            let data = match input.data() {
                TensorData::F32(v) => {
                    TensorData::F32(v.iter().map(|&x| function(f64::from(x)) as f32).collect())
                }
                TensorData::F64(v) => TensorData::F64(v.iter().map(|&x| function(x)).collect()),
                TensorData::I32(v) => {
                    TensorData::I32(v.iter().map(|&x| function(f64::from(x)) as i32).collect())
                }
                TensorData::I64(v) => {
                    TensorData::I64(v.iter().map(|&x| function(x as f64) as i64).collect())
                }
                TensorData::I16(v) => {
                    TensorData::I16(v.iter().map(|&x| function(f64::from(x)) as i16).collect())
                }
                TensorData::I8(v) => {
                    TensorData::I8(v.iter().map(|&x| function(f64::from(x)) as i8).collect())
                }
                other => {
                    return Err(Fault::unsupported(format!(
                        "elements of {}",
                        other.element_type()
                    )));
                }
            };
            Ok(vec![tensor(input.shape().to_vec(), data)?])
        });
    }
    Some(match op_type {
        "Relu" | "Clip" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Exp" => {
            vectorized
        }
        "Elu" => |call| with_alpha(call, 1.0, |x, a| if x < 0.0 { a * x.exp_m1() } else { x }),
        "Celu" => |call| {
            with_alpha(call, 1.0, |x, a| {
                x.max(0.0) + (a * (x / a).exp_m1()).min(0.0)
            })
        },
        "ThresholdedRelu" => |call| with_alpha(call, 1.0, |x, a| if x > a { x } else { 0.0 }),
        "Selu" => selu,
        "Gelu" => gelu,
        "Swish" => |call| with_alpha(call, 1.0, |x, a| x / (1.0 + (-a * x).exp())),
        "Shrink" => shrink,
        "Not" => not,
        "IsNaN" => is_nan,
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Min" | "Max" | "Sum" | "Mean" => {
            arithmetic
        }
        "PRelu" => prelu,
        "SwiGLU" => swiglu,
        "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" => compare,
        "And" | "Or" | "Xor" => logic,
        "Where" => select,
        _ => return None,
    })
}

/// The operators of the plan's own domain.
pub(super) fn own_operator(op_type: &str) -> Option<Operator> {
    (op_type == "QuantizeDequantize").then_some(vectorized)
}

/// Functions without attributes, on reals.
pub(crate) fn unary_scalar(op_type: &str) -> Option<fn(f64) -> f64> {
    Some(match op_type {
        "Tanh" => f64::tanh,
        "Sqrt" => f64::sqrt,
        "Log" => f64::ln,
        "Neg" => |x| -x,
        "Abs" => f64::abs,
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Round" => f64::round_ties_even,
        "Sign" => |x| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        },
        "Reciprocal" => f64::recip,
        "Sin" => f64::sin,
        "Cos" => f64::cos,
        "Tan" => f64::tan,
        "Asin" => f64::asin,
        "Acos" => f64::acos,
        "Atan" => f64::atan,
        "Sinh" => f64::sinh,
        "Cosh" => f64::cosh,
        "Asinh" => f64::asinh,
        "Acosh" => f64::acosh,
        "Atanh" => f64::atanh,
        "Erf" => erf,
        "Softplus" => softplus,
        "Softsign" => |x| x / (1.0 + x.abs()),
        "Mish" => |x| x * softplus(x).tanh(),
        _ => return None,
    })
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The function of a node, where kernels have it in vector form.
pub(crate) fn unary_of(call: &Call<'_>) -> Result<Option<Unary>, Fault> {
    Ok(Some(match call.node.op_type.as_str() {
        "Relu" => Unary::Clamp {
            at_least: 0.0,
            at_most: f32::INFINITY,
        },
        "Clip" => {
            let bound = |index, name: &str, default| -> Result<f32, Fault> {
                match call.optional(index) {
                    Some(bound) => Ok(*floats(bound)?.first().unwrap_or(&default)),
                    None => call.float(name, default),
                }
            };
            Unary::Clamp {
                at_least: bound(1, "min", f32::NEG_INFINITY)?,
                at_most: bound(2, "max", f32::INFINITY)?,
            }
        }
        "Sigmoid" => Unary::Sigmoid,
        "QuantizeDequantize" => Unary::QuantizeDequantize {
            scale: call.float("scale", 1.0)?,
            zero_point: call.float("zero_point", 0.0)?,
            low: call.float("low", 0.0)?,
            high: call.float("high", 255.0)?,
        },
        "Exp" => Unary::Exp,
        "HardSwish" => Unary::HardSwish,
        "HardSigmoid" => Unary::HardSigmoid {
            alpha: call.float("alpha", 0.2)?,
            beta: call.float("beta", 0.5)?,
        },
        "LeakyRelu" => Unary::LeakyRelu {
            alpha: call.float("alpha", 0.01)?,
        },
        "Elu" => Unary::Elu {
            slope: 1.0,
            alpha: call.float("alpha", 1.0)?,
            rate: 1.0,
        },
        "Selu" => {
            let [alpha, gamma] = selu_parameters(call)?;
            Unary::Elu {
                slope: gamma,
                alpha: gamma * alpha,
                rate: 1.0,
            }
        }
        "Celu" => match call.float("alpha", 1.0)? {
            alpha if alpha > 0.0 && alpha.recip().is_finite() => Unary::Elu {
                slope: 1.0,
                alpha,
                rate: alpha.recip(),
            },
            _ => return Ok(None),
        },
        "Swish" if call.float("alpha", 1.0)? == 1.0 => Unary::Silu,
        "Gelu" => match call.string("approximate", "none")? {
            "tanh" => Unary::GeluTanh,
            _ => Unary::Gelu,
        },
        "Tanh" => Unary::Tanh,
        "Erf" => Unary::Erf,
        "Softplus" => Unary::Softplus,
        "Mish" => Unary::Mish,
        _ => return Ok(None),
    }))
}

fn vectorized(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let TensorData::F32(values) = input.data() else {
        return clip_integers(call, input);
    };
    let op = unary_of(call)?.ok_or_else(|| Fault::unsupported("this operator"))?;
    let mut values = values.clone();
    map(call.isa, op, &mut values);
    one(input.shape(), values)
}

/// Clip and Relu on types other than float32.
fn clip_integers(call: &Call<'_>, input: &Tensor) -> Result<Vec<Tensor>, Fault> {
    macro_rules! clip {
        ($($variant:ident $type:ty),*) => {
            match input.data() {
                $(TensorData::$variant(values) => {
                    let bound = |index| match call.optional(index).map(Tensor::data) {
                        None => Ok(None),
                        Some(TensorData::$variant(bound)) => Ok(bound.first().copied()),
                        Some(_) => Err(Fault::invalid("bounds of another type than the input")),
                    };
                    let relu = call.node.op_type == "Relu";
                    let at_least = if relu { Some(0 as $type) } else { bound(1)? };
                    let at_most = if relu { None } else { bound(2)? };
                    TensorData::$variant(values.iter().map(|&x| {
                        let x = at_least.map_or(x, |b| if x < b { b } else { x });
                        at_most.map_or(x, |b| if x > b { b } else { x })
                    }).collect())
                })*
                other => return Err(Fault::unsupported(format!("elements of {}", other.element_type()))),
            }
        };
    }
    if !matches!(call.node.op_type.as_str(), "Relu" | "Clip") {
        return Err(Fault::unsupported(format!(
            "elements of {}",
            input.data().element_type()
        )));
    }
    let data = clip!(F64 f64, I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64);
    Ok(vec![tensor(input.shape().to_vec(), data)?])
}

fn with_alpha(call: &Call<'_>, default: f32, f: fn(f32, f32) -> f32) -> Result<Vec<Tensor>, Fault> {
    let alpha = call.float("alpha", default)?;
    let (shape, values) = call.floats(0)?;
    one(shape, values.iter().map(|&x| f(x, alpha)).collect())
}

/// The `alpha` and `gamma` of a Selu.
fn selu_parameters(call: &Call<'_>) -> Result<[f32; 2], Fault> {
    Ok([
        call.float("alpha", 1.673_263_2)?,
        call.float("gamma", 1.050_701)?,
    ])
}

fn selu(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let [alpha, gamma] = selu_parameters(call)?;
    let (shape, values) = call.floats(0)?;
    let selu = |&x: &f32| gamma * if x > 0.0 { x } else { alpha * x.exp_m1() };
    one(shape, values.iter().map(selu).collect())
}

fn shrink(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let bias = f64::from(call.float("bias", 0.0)?);
    let lambda = f64::from(call.float("lambd", 0.5)?);
    let (shape, values) = call.reals(0)?;
    let shrink = |&x: &f64| {
        if x < -lambda {
            x + bias
        } else if x > lambda {
            x - bias
        } else {
            0.0
        }
    };
    one_of(call.kind(0)?, shape, values.iter().map(shrink).collect())
}

fn gelu(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let gelu: fn(f64) -> f64 = match call.string("approximate", "none")? {
        "tanh" => |x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        },
        _ => |x| 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
    };
    one(
        shape,
        values.iter().map(|&x| gelu(f64::from(x)) as f32).collect(),
    )
}

fn bools(tensor: &Tensor) -> Result<&[bool], Fault> {
    match tensor.data() {
        TensorData::Bool(values) => Ok(values),
        other => Err(Fault::invalid(format!(
            "bool expected, found {}",
            other.element_type()
        ))),
    }
}

fn not(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let data = TensorData::Bool(bools(input)?.iter().map(|v| !v).collect());
    Ok(vec![tensor(input.shape().to_vec(), data)?])
}

fn is_nan(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.reals(0)?;
    let data = TensorData::Bool(values.iter().map(|v| v.is_nan()).collect());
    Ok(vec![tensor(shape.to_vec(), data)?])
}

/// Two operands broadcast to a common shape.
struct Pairing {
    shape: Vec<usize>,
    count: usize,
    left: Places,
    right: Places,
}

impl Pairing {
    fn of(call: &Call<'_>, a: &Tensor, b: &Tensor) -> Result<Self, Fault> {
        let shape = broadcast_shape(&[a.shape(), b.shape()])?;
        Ok(Self {
            count: call.count(&shape, a.data().element_type())?,
            left: Places::of(a.shape(), &shape),
            right: Places::of(b.shape(), &shape),
            shape,
        })
    }

    /// A function of all pairs.
    fn map<A, B, R, C: FromIterator<R>>(&self, x: &[A], y: &[B], f: impl Fn(&A, &B) -> R) -> C {
        let at = |i| f(&x[self.left.at(i)], &y[self.right.at(i)]);
        (0..self.count).map(at).collect()
    }
}

/// A function of two numbers, where it has a result.
type NumberFunction<T> = fn(T, T) -> Option<T>;

/// An operator of two numbers, in each of the types that numbers have here.
trait Number: Copy + PartialOrd {
    fn function(op: &str, fmod: bool) -> Option<NumberFunction<Self>>;
}

macro_rules! integer {
    ($($type:ty),*) => {
        $(impl Number for $type {
            fn function(op: &str, fmod: bool) -> Option<NumberFunction<Self>> {
                Some(match op {
                    "Add" | "Sum" => |a, b| Some(a.wrapping_add(b)),
                    "Sub" => |a, b| Some(a.wrapping_sub(b)),
                    "Mul" => |a, b| Some(a.wrapping_mul(b)),
                    "Div" => |a, b| a.checked_div(b),
                    "Pow" => |a, b| Some((a as f64).powf(b as f64) as Self),
                    "Mod" if fmod => |a, b| a.checked_rem(b),
                    "Mod" => |a, b| {
                        let rest = a.checked_rem(b)?;
                        #[allow(unused_comparisons, reason = "one body for signed and unsigned")]
                        let other_sign = rest != 0 && (rest < 0) != (b < 0);
                        Some(if other_sign { rest.wrapping_add(b) } else { rest })
                    },
                    "Min" => |a, b| Some(a.min(b)),
                    "Max" => |a, b| Some(a.max(b)),
                    _ => return None,
                })
            }
        })*
    };
}
integer!(i8, u8, i16, u16, i32, u32, i64, u64);

macro_rules! float {
    ($($type:ty),*) => {
        $(impl Number for $type {
            fn function(op: &str, fmod: bool) -> Option<NumberFunction<Self>> {
                Some(match op {
                    "Add" | "Sum" | "Mean" => |a, b| Some(a + b),
                    "Sub" => |a, b| Some(a - b),
                    "Mul" => |a, b| Some(a * b),
                    "Div" => |a, b| Some(a / b),
                    "Pow" => |a, b| Some(a.powf(b)),
                    "Mod" if fmod => |a, b| Some(a % b),
                    "Mod" => |a, b| {
                        let rest = a % b;
                        // The sign is that of the divisor.
                        Some(if rest == 0.0 { rest.copysign(b) }
                        else if (rest < 0.0) != (b < 0.0) { rest + b } else { rest })
                    },
                    "Min" => |a, b| Some(if a < b || a.is_nan() { a } else { b }),
                    "Max" => |a, b| Some(if a > b || a.is_nan() { a } else { b }),
                    _ => return None,
                })
            }
        })*
    };
}
float!(f32, f64);

fn arithmetic(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let mut result = call.input(0)?.clone();
    for index in 1..call.inputs.len() {
        result = combine(call, &result, call.input(index)?)?;
    }
    if call.node.op_type == "Mean" {
        let scale = call.inputs.len() as f32;
        let values = floats(&result)?.iter().map(|v| v / scale).collect();
        return one(result.shape(), values);
    }
    Ok(vec![result])
}

/// The sums, differences, products or quotients of floats, without a list of
/// places: weights are decoded with them, millions at a time.
fn combine_floats(call: &Call<'_>, a: &Tensor, b: &Tensor) -> Option<Result<Tensor, Fault>> {
    let op = match call.node.op_type.as_str() {
        "Add" | "Sum" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        _ => return None,
    };
    let (TensorData::F32(x), TensorData::F32(y)) = (a.data(), b.data()) else {
        return None;
    };
    let run = || {
        let shape = broadcast_shape(&[a.shape(), b.shape()])?;
        let wide = |tensor: &Tensor| {
            let mut wide = vec![1; shape.len() - tensor.shape().len()];
            wide.extend_from_slice(tensor.shape());
            wide
        };
        let mut output = vec![0.0; call.count(&shape, ElementType::F32)?];
        BroadcastPlan::new(&wide(a), &wide(b), &shape).run(call.isa, op, x, y, &mut output);
        tensor(shape, TensorData::F32(output))
    };
    Some(run())
}

fn combine(call: &Call<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor, Fault> {
    if let Some(result) = combine_floats(call, a, b) {
        return result;
    }
    let op = call.node.op_type.as_str();
    let fmod = call.int("fmod", 0)? != 0;
    let pairs = Pairing::of(call, a, b)?;
    let failed = || Fault::invalid(format!("{op} of these elements (division by zero?)"));
    macro_rules! combine {
        ($($variant:ident),*) => {
            match (a.data(), b.data()) {
                $((TensorData::$variant(x), TensorData::$variant(y)) => {
                    let function = Number::function(op, fmod).ok_or_else(failed)?;
                    let values: Option<Vec<_>> = pairs.map(x, y, |&a, &b| function(a, b));
                    TensorData::$variant(values.ok_or_else(failed)?)
                })*
                // Pow alone takes an exponent of another type.
                (TensorData::F32(x), y) if op == "Pow" => {
                    let y = super::shape::to_f64(y)?;
                    TensorData::F32(pairs.map(x, &y, |&a, &b| f64::from(a).powf(b) as f32))
                }
                (x, y) if op == "Pow" => {
                    let kind = x.element_type();
                    let (x, y) = (super::shape::to_f64(x)?, super::shape::to_f64(y)?);
                    let values = pairs.map(&x, &y, |a, &b| a.powf(b));
                    super::shape::cast(&TensorData::F64(values), kind)?
                }
                (x, y) => {
                    return Err(Fault::unsupported(format!("elements of {} and {}", x.element_type(), y.element_type())));
                }
            }
        };
    }
    let data = combine!(F32, F64, I8, U8, I16, U16, I32, U32, I64, U64);
    tensor(pairs.shape, data)
}

fn prelu(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let pairs = Pairing::of(call, a, b)?;
    let prelu = |&x: &f32, &slope: &f32| if x < 0.0 { x * slope } else { x };
    let values = pairs.map(floats(a)?, floats(b)?, prelu);
    one(&pairs.shape, values)
}

fn swiglu(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let alpha = call.float("alpha", 1.0)?;
    let ((shape, a), (other, b)) = (call.floats(0)?, call.floats(1)?);
    if shape != other {
        return Err(Fault::invalid(format!("shapes {shape:?} and {other:?}")));
    }
    let gated = |(&a, &b): (&f32, &f32)| a / (1.0 + (-alpha * a).exp()) * b;
    one(shape, a.iter().zip(b).map(gated).collect())
}

fn compare(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let pairs = Pairing::of(call, a, b)?;
    let test: fn(Option<Ordering>) -> bool = match call.node.op_type.as_str() {
        "Equal" => |order| order == Some(Ordering::Equal),
        "Greater" => |order| order == Some(Ordering::Greater),
        "Less" => |order| order == Some(Ordering::Less),
        "GreaterOrEqual" => |order| order.is_some_and(Ordering::is_ge),
        _ => |order| order.is_some_and(Ordering::is_le),
    };
    macro_rules! compare {
        ($($variant:ident),*) => {
            match (a.data(), b.data()) {
                $((TensorData::$variant(x), TensorData::$variant(y)) => {
                    pairs.map(x, y, |x, y| test(x.partial_cmp(y)))
                })*
                (x, y) => {
                    return Err(Fault::unsupported(format!("elements of {} and {}", x.element_type(), y.element_type())));
                }
            }
        };
    }
    let values = compare!(F32, F64, I8, U8, I16, U16, I32, U32, I64, U64, Bool, String);
    Ok(vec![tensor(pairs.shape, TensorData::Bool(values))?])
}

fn logic(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let pairs = Pairing::of(call, a, b)?;
    let function: fn(bool, bool) -> bool = match call.node.op_type.as_str() {
        "And" => |x, y| x && y,
        "Or" => |x, y| x || y,
        _ => |x, y| x != y,
    };
    let values = pairs.map(bools(a)?, bools(b)?, |&x, &y| function(x, y));
    Ok(vec![tensor(pairs.shape, TensorData::Bool(values))?])
}

fn select(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (condition, a, b) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let shape = broadcast_shape(&[condition.shape(), a.shape(), b.shape()])?;
    let chosen = bools(condition)?;
    let count = call.count(&shape, a.data().element_type())?;
    // One condition for all, as that of a switch.
    if let [is_first] = *chosen
        && a.data().element_type() == b.data().element_type()
    {
        let whole = if is_first { a } else { b };
        if *whole.shape() == *shape {
            return Ok(vec![whole.clone()]);
        }
    }
    let places = Places::of(condition.shape(), &shape);
    let left = Places::of(a.shape(), &shape);
    let right = Places::of(b.shape(), &shape);
    macro_rules! select {
        ($($variant:ident),*) => {
            match (a.data(), b.data()) {
                $((TensorData::$variant(x), TensorData::$variant(y)) => TensorData::$variant(
                    (0..count)
                        .map(|i| match chosen[places.at(i)] {
                            true => x[left.at(i)].clone(),
                            false => y[right.at(i)].clone(),
                        })
                        .collect(),
                ),)*
                _ => return Err(Fault::invalid("branches of different types")),
            }
        };
    }
    let data = select!(
        F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64, Bool, String
    );
    Ok(vec![tensor(shape, data)?])
}
