//! Expand: BROADCAST_TO, or nothing where what reads it broadcasts anyway.

use campana_ir::infer::ValueInfo;
use campana_ir::network::Use;
use campana_ir::op::{Binary, Op};

use super::Converter;
use crate::error::Converted;
use crate::layout::{channels_last, laid_out, lie_alike, native};
use crate::schema::{Code, Options};
use crate::values::Made;

impl Converter<'_> {
    pub(super) fn expand(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let (input, output) = (node.inputs[0].as_str(), node.outputs[0].as_str());
        let own = self.values.shape(input)?;
        let info = self.network.value(output);
        let shape = info.and_then(ValueInfo::fixed_shape);
        let shape = shape.ok_or("makes a shape that only a run knows")?;
        if shape == own || self.is_broadcast_by_readers(output, &shape) {
            return self.identity(at);
        }
        if self.values.is_boolean(input) {
            return Err("expands booleans".to_owned());
        }
        let params = self.values.params(input);
        let order = self.expanded_order(input, shape.len())?;
        let tensor = self.broadcast_operand(input, params, &order)?;
        let extents = laid_out(&shape, &order);
        let asked: Vec<i32> = extents.iter().map(|&extent| extent as i32).collect();
        let asked = self.values.integers("shape", &asked);
        let made = Made {
            shape,
            order,
            params,
        };
        let operator = (Code::BroadcastTo, Options::None);
        self.values
            .make(output, made, operator, vec![tensor, asked]);
        Ok(())
    }

    /// Whether all that read a value of this shape have another operand of it.
    fn is_broadcast_by_readers(&self, name: &str, shape: &[usize]) -> bool {
        let uses = self.network.uses(name);
        let is_whole = |other: &String| {
            let held = self.values.shape(other).ok();
            held.or_else(|| self.parameters.shape(other)).as_deref() == Some(shape)
        };
        let has_whole_operand = |usage: &Use| {
            let mut inputs = self.network.node(usage.node).inputs.iter();
            let is_arithmetic = match self.network.op(usage.node) {
                Op::Binary(binary) => *binary != Binary::Other,
                _ => false,
            };
            is_arithmetic && inputs.any(|other| other != name && is_whole(other))
        };
        !self.network.is_output(name) && !uses.is_empty() && uses.iter().all(has_whole_operand)
    }

    /// The order in which an expanded value of this rank lies: images have their
    /// channels last where nothing need be moved for it.
    fn expanded_order(&self, input: &str, rank: usize) -> Converted<Vec<usize>> {
        let own = self.values.shape(input)?;
        let order = self.values.order(input)?;
        if own.len() < rank {
            return Ok(native(rank));
        }
        let images = channels_last(rank);
        Ok(match rank == 4 && lie_alike(&own, &order, &images) {
            true => images,
            false => order,
        })
    }
}
