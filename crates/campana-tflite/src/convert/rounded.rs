//! Which values are rounded to 8 bits, by what reads them.

use std::collections::HashMap;

use campana_ir::network::Network;
use campana_ir::op::Op;
use campana_tensor::{Tensor, TensorData};

use crate::error::Converted;
use crate::values::Params;

/// Zero points of uint8 less this are those of int8.
const UNSIGNED_OFFSET: i16 = 128;

/// The parameters of a QuantizeLinear or DequantizeLinear of activations.
pub(super) fn quantizer(network: &Network<'_>, at: usize) -> Converted<Params> {
    let node = network.node(at);
    let constant = |place: usize| {
        let name = node.inputs.get(place).filter(|name| !name.is_empty());
        name.and_then(|name| network.graph().constants.get(name))
    };
    let scale = match constant(1).map(Tensor::data) {
        Some(TensorData::F32(scales)) if scales.len() == 1 => scales[0],
        _ => return Err("rounds by other scales than one constant".to_owned()),
    };
    let zero_point = match constant(2).map(Tensor::data) {
        None if node.inputs.len() < 3 => -UNSIGNED_OFFSET,
        Some(TensorData::U8(zeros)) if zeros.len() == 1 => i16::from(zeros[0]) - UNSIGNED_OFFSET,
        Some(TensorData::I8(zeros)) if zeros.len() == 1 => zeros[0].into(),
        _ => return Err("rounds to another type than uint8 or int8".to_owned()),
    };
    if !(scale.is_normal() && scale > 0.0) {
        return Err(format!("rounds by a scale of {scale}"));
    }
    Ok(Params {
        scale,
        zero_point: zero_point as i8,
    })
}

/// The values that only a quantizer reads, with its parameters. Rounding behind
/// an operator that only moves or clamps elements is the same before it.
pub(super) fn rounded<'n>(network: &Network<'n>) -> HashMap<&'n str, Params> {
    let mut rounded: HashMap<&str, Params> = HashMap::new();
    for at in (0..network.graph().nodes.len()).rev() {
        let node = network.node(at);
        let Some(output) = node.outputs.first() else {
            continue;
        };
        let params = match network.op(at) {
            Op::QuantizeLinear { .. } => quantizer(network, at).ok(),
            Op::Concat { .. } | Op::Gather { .. } => rounded.get(output.as_str()).copied(),
            // Zeros, or whatever a border holds, are rounded alike.
            op if op.moves_elements() => {
                let mut parts = node.outputs[..op.moved_outputs().min(node.outputs.len())].iter();
                let params = rounded.get(output.as_str()).copied();
                params.filter(|params| parts.all(|part| rounded.get(part.as_str()) == Some(params)))
            }
            _ if network.is_clamp(at) => rounded.get(output.as_str()).copied(),
            _ => None,
        };
        let Some(params) = params else { continue };
        let is_concat = matches!(network.op(at), Op::Concat { .. });
        let read = if is_concat { node.inputs.len() } else { 1 };
        for name in node.inputs.iter().take(read) {
            if network.sole_use(name).is_some() && !network.is_parameter(name) {
                rounded.insert(name, params);
            }
        }
    }
    rounded
}
