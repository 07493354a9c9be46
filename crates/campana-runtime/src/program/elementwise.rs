//! Steps of functions of single elements, with broadcasting.

use campana_kernels::elementwise::{Binary, Unary};
use campana_tensor::{Tensor, TensorData};

use super::compile::{Compiler, constant};
use super::lower::physical;
use super::step::Action;
use super::{Layout, Place, Val};
use crate::ops::{
    Fault, broadcast_shape, count_of, elementwise_unary, floats, tensor, unary_scalar,
};
use crate::plan::{PlannedNode, UNBOUNDED};
use crate::strided::BroadcastPlan;

pub(super) fn clamp(c: &mut Compiler<'_>, val: Val, [at_least, at_most]: [f32; 2]) -> Val {
    if [at_least, at_most] == UNBOUNDED {
        return val;
    }
    map(c, &val, Action::Unary(Unary::Clamp { at_least, at_most }))
}

fn map(c: &mut Compiler<'_>, val: &Val, action: Action) -> Val {
    let (output, write) = c.new_value(val.shape.clone(), val.layout);
    c.push(vec![val.place.clone()], Some(write), None, true, action);
    output
}

/// A function of one operand; `None` where the node is none, or its parameters
/// are known only while running.
pub(super) fn unary(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
) -> Result<Option<Vec<Val>>, Fault> {
    let mut parameters = planned.node.inputs.iter().skip(1);
    if parameters.any(|name| !name.is_empty() && c.constant(name).is_none()) {
        return Ok(None);
    }
    let action = match elementwise_unary(&c.call(planned))? {
        Some(op) => Some(Action::Unary(op)),
        None => unary_scalar(&planned.node.op_type).map(Action::Function),
    };
    let Some(action) = action else {
        return Ok(None);
    };
    let input = c.operand(planned, 0)?;
    Ok(Some(vec![map(c, &input, action)]))
}

/// A function of two operands, or of any number of them from the left.
pub(super) fn folded(c: &mut Compiler<'_>, planned: &PlannedNode) -> Result<Vec<Val>, Fault> {
    let op = match planned.node.op_type.as_str() {
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        _ => Binary::Add,
    };
    let count = planned.node.inputs.len();
    let mut result = c.operand(planned, 0)?;
    for index in 1..count {
        let right = c.operand(planned, index)?;
        result = binary(c, op, &result, &right)?;
    }
    if planned.node.op_type == "Mean" {
        let count = tensor(vec![], TensorData::F32(vec![count as f32]))?;
        result = binary(c, Binary::Div, &result, &constant(count.into()))?;
    }
    Ok(vec![clamp(c, result, planned.bounds)])
}

/// A slope below zero, where it is known beforehand: the kernel wants it finite.
pub(super) fn prelu(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
) -> Result<Option<Vec<Val>>, Fault> {
    let slope = planned.node.inputs.get(1).and_then(|name| c.constant(name));
    let is_finite = |slope: &Tensor| -> Result<bool, Fault> {
        Ok(floats(slope)?.iter().all(|v| v.is_finite()))
    };
    if !slope.map_or(Ok(false), is_finite)? {
        return Ok(None);
    }
    let (input, slope) = (c.operand(planned, 0)?, c.operand(planned, 1)?);
    Ok(Some(vec![binary(c, Binary::Prelu, &input, &slope)?]))
}

/// A power whose exponent is one number for which there is something faster.
pub(super) fn power(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
) -> Result<Option<Vec<Val>>, Fault> {
    let exponent = planned.node.inputs.get(1).and_then(|name| c.constant(name));
    let Some((rank, exponent)) = exponent.and_then(|e| Some((e.shape().len(), only_number(e)?)))
    else {
        return Ok(None);
    };
    let input = c.operand(planned, 0)?;
    if rank > input.shape.len() {
        return Ok(None);
    }
    let function: fn(f64) -> f64 = match exponent {
        2.0 | 3.0 => {
            let square = binary(c, Binary::Mul, &input, &input)?;
            return Ok(Some(vec![match exponent {
                3.0 => binary(c, Binary::Mul, &square, &input)?,
                _ => square,
            }]));
        }
        // A power of minus infinity is infinite, a root is not.
        0.5 => |x| if x == f64::NEG_INFINITY { -x } else { x.sqrt() },
        -1.0 => f64::recip,
        _ => return Ok(None),
    };
    Ok(Some(vec![map(c, &input, Action::Function(function))]))
}

/// The number of a tensor that holds one.
fn only_number(tensor: &Tensor) -> Option<f64> {
    match *tensor.data() {
        TensorData::F32(ref values) if values.len() == 1 => Some(f64::from(values[0])),
        TensorData::I64(ref values) if values.len() == 1 => Some(values[0] as f64),
        TensorData::I32(ref values) if values.len() == 1 => Some(f64::from(values[0])),
        _ => None,
    }
}

/// The sum of two values, held to bounds.
pub(super) fn sum(
    c: &mut Compiler<'_>,
    left: &Val,
    right: &Val,
    bounds: [f32; 2],
) -> Result<Val, Fault> {
    let sum = binary(c, Binary::Add, left, right)?;
    Ok(clamp(c, sum, bounds))
}

/// A function of two values that are broadcast.
pub(super) fn binary(
    c: &mut Compiler<'_>,
    op: Binary,
    left: &Val,
    right: &Val,
) -> Result<Val, Fault> {
    let shape = broadcast_shape(&[&left.shape, &right.shape])?;
    count_of(&shape)?;
    // The batch must be the first axis of both, or absent.
    for val in [left, right] {
        let lead = val.shape.len() < shape.len() || val.shape.first() == Some(&1);
        let is_constant = matches!(val.place, Place::Constant(_));
        if is_constant && !lead || !is_constant && val.shape.len() < shape.len() {
            c.mixes_batch = true;
        }
    }
    // Channels-last where a larger operand is; a smaller one of the same rank follows.
    let full = |val: &Val| val.shape.len() == shape.len() && val.layout == Layout::Last;
    let layout = if shape.len() > 2 && (full(left) || full(right)) {
        Layout::Last
    } else {
        Layout::First
    };
    let mut operand = |val: &Val| {
        let mut wide = val.clone();
        let mut wide_shape = vec![1; shape.len() - val.shape.len()];
        if !wide_shape.is_empty() {
            wide = c.with_layout(&wide, Layout::First);
        }
        wide_shape.extend_from_slice(&val.shape);
        wide.shape = wide_shape;
        c.with_layout(&wide, layout)
    };
    let (left, right) = (operand(left), operand(right));
    let plan = BroadcastPlan::new(
        &physical(&left.shape, layout),
        &physical(&right.shape, layout),
        &physical(&shape, layout),
    );
    let (output, write) = c.new_value(shape, layout);
    c.push(
        vec![left.place, right.place],
        Some(write),
        None,
        false,
        Action::Binary { op, plan },
    );
    Ok(output)
}
