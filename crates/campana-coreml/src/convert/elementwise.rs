//! Functions of two operands or more, and bounds.

use campana_ir::op::Binary;

use super::{Converter, NO_FORM};
use crate::error::Converted;

impl Converter<'_> {
    pub(super) fn binary(&mut self, at: usize, binary: Binary) -> Converted {
        let node = self.network.node(at);
        let kind = match binary {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "real_div",
            Binary::Other => match node.op_type.as_str() {
                "Pow" => "pow",
                "PRelu" => return self.prelu(at),
                _ => return Err(NO_FORM.to_owned()),
            },
        };
        let [x, y] = [
            self.operand(&node.inputs[0])?,
            self.operand(&node.inputs[1])?,
        ];
        let var = self.two(kind, &x, &y)?;
        self.define(at, var);
        Ok(())
    }

    /// A slope for each channel is Core ML's own; any other is the difference of
    /// what is above and below zero.
    fn prelu(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let (shape, slopes) = self.constant(at, 1)?.ok_or(NO_FORM)?;
        let rank = x.shape.len();
        let channels = x.shape.get(1).copied().unwrap_or(0);
        let place = (shape.len() + 1).checked_sub(rank);
        let is_by_channel = (3..=5).contains(&rank)
            && slopes.len() == channels
            && place.is_some_and(|place| shape.get(place) == Some(&channels));
        let slopes = match slopes.as_slice() {
            &[slope] if (3..=5).contains(&rank) => vec![slope; channels],
            _ if is_by_channel => slopes,
            _ => return self.prelu_by_parts(at),
        };
        let alpha = self.program.floats(&[channels], &slopes)?;
        let shape = x.shape.clone();
        self.make(
            at,
            "prelu",
            vec![("x", x.into()), ("alpha", alpha.into())],
            &shape,
        )
    }

    fn prelu_by_parts(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let slopes = self.operand(&node.inputs[1])?;
        let zero = self.program.float(0.0)?;
        let above = self.two("maximum", &x, &zero)?;
        let below = self.two("minimum", &x, &zero)?;
        let below = self.two("mul", &below, &slopes)?;
        let sum = self.two("add", &above, &below)?;
        self.define(at, sum);
        Ok(())
    }

    /// The same function of two operands, over all inputs.
    pub(super) fn variadic(&mut self, at: usize, kind: &str) -> Converted {
        let node = self.network.node(at);
        let mut result = self.operand(&node.inputs[0])?;
        for name in &node.inputs[1..] {
            let next = self.operand(name)?;
            result = self.two(kind, &result, &next)?;
        }
        self.define(at, result);
        Ok(())
    }

    pub(super) fn mean(&mut self, at: usize) -> Converted {
        self.variadic(at, "add")?;
        let node = self.network.node(at);
        let sum = self.activation(&node.outputs[0])?;
        let share = self.program.float(1.0 / node.inputs.len() as f32)?;
        let mean = self.two("mul", &sum, &share)?;
        self.define(at, mean);
        Ok(())
    }

    /// Bounds of inputs or attributes, each of which may be absent.
    pub(super) fn clip(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let mut x = self.activation(&node.inputs[0])?;
        let bound = |place: usize, name: &str| -> Converted<Option<f32>> {
            if let Some((_, values)) = self.constant(at, place)? {
                return Ok(values.first().copied());
            }
            Ok(match node.attributes.get(name) {
                Some(campana_ir::graph::Attribute::Float(value)) => Some(*value),
                _ => None,
            })
        };
        // What no float of the precision exceeds is no bound.
        let precision = self.program.precision;
        let holds = |value: &f32| precision.round(*value).is_finite();
        let (low, high) = (bound(1, "min")?, bound(2, "max")?);
        let (low, high) = (low.filter(holds), high.filter(holds));
        match (low, high) {
            (Some(0.0), Some(6.0)) => return self.plain(at, "relu6"),
            (Some(low), Some(high)) if low < high => {
                let (alpha, beta) = (self.program.float(low)?, self.program.float(high)?);
                let shape = x.shape.clone();
                let inputs = vec![
                    ("x", x.into()),
                    ("alpha", alpha.into()),
                    ("beta", beta.into()),
                ];
                return self.make(at, "clip", inputs, &shape);
            }
            bounds => {
                for (kind, bound) in [("maximum", bounds.0), ("minimum", bounds.1)] {
                    if let Some(bound) = bound {
                        let bound = self.program.float(bound)?;
                        x = self.two(kind, &x, &bound)?;
                    }
                }
            }
        }
        self.define(at, x);
        Ok(())
    }
}
