//! Steps that only move codes: views, copies of parts, and codes one after another.

use campana_kernels::int8::QuantParams;

use super::super::compile::Compiler;
use super::super::lower::joined;
use super::super::{Layout, Val};
use super::{Int8Action, is_plain, push};
use crate::ops::{Fault, reshaped};
use crate::plan::PlannedNode;
use crate::strided::Region;

pub(super) fn view(
    c: &Compiler<'_>,
    planned: &PlannedNode,
    input: &Val,
) -> Result<Option<Val>, Fault> {
    if planned.node.op_type == "Identity" {
        return Ok(Some(input.clone()));
    }
    let shape = reshaped(&c.call(planned), &input.shape)?;
    // Images among the results would be read channels-last.
    let flat = shape.len() < 3 || shape[2..].iter().product::<usize>() == 1;
    Ok((is_plain(input) && flat).then(|| Val {
        shape,
        layout: Layout::First,
        ..input.clone()
    }))
}

pub(super) fn copy(
    c: &mut Compiler<'_>,
    input: &Val,
    shape: Vec<usize>,
    fill: Option<u8>,
    region: Region,
) -> Val {
    let codes = input.codes.unwrap_or(QuantParams {
        scale: 1.0,
        zero_point: 0,
    });
    let action = Int8Action::Copy {
        fill,
        regions: vec![region],
        len: shape.iter().product(),
    };
    push(
        c,
        vec![input.place.clone()],
        shape,
        input.layout,
        codes,
        action,
    )
}

/// Codes one after another; `None` where not all stand for the same.
pub(super) fn concat(
    c: &mut Compiler<'_>,
    planned: &PlannedNode,
    codes: QuantParams,
) -> Result<Option<Val>, Fault> {
    let parts = (0..planned.node.inputs.len()).map(|index| c.any_operand(planned, index));
    let parts = parts.collect::<Result<Vec<Val>, Fault>>()?;
    let is_last = |part: &Val| part.layout == Layout::Last;
    let has_last = parts.iter().any(is_last);
    let fits = |part: &Val| {
        part.codes == Some(codes) && (is_last(part) == has_last || part.is_in_both_layouts())
    };
    if !parts.iter().all(fits) {
        return Ok(None);
    }
    let joined = joined(c, planned, &parts)?;
    let action = Int8Action::Copy {
        fill: None,
        regions: joined.regions,
        len: joined.shape.iter().product(),
    };
    let (shape, layout) = (joined.shape, joined.layout);
    Ok(Some(push(c, joined.reads, shape, layout, codes, action)))
}
