//! Comparisons, what is made of booleans, and choices by them.

use campana_tensor::ElementType;

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::layout::laid_out;
use crate::schema::{Code, Options, TensorType};
use crate::values::Made;

/// Most axes along which LiteRT broadcasts the operands of a comparison.
const MAX_COMPARED_AXES: usize = 4;

/// Most axes along which LiteRT broadcasts the operands of a choice.
const MAX_CHOSEN_AXES: usize = 5;

/// The comparison or function of booleans of this name.
fn code(op_type: &str) -> Option<Code> {
    Some(match op_type {
        "Equal" => Code::Equal,
        "Greater" => Code::Greater,
        "GreaterOrEqual" => Code::GreaterEqual,
        "Less" => Code::Less,
        "LessOrEqual" => Code::LessEqual,
        "And" => Code::LogicalAnd,
        "Or" => Code::LogicalOr,
        "Xor" => Code::NotEqual,
        "Not" => Code::LogicalNot,
        _ => return None,
    })
}

impl Converter<'_> {
    /// How many operands a choice, a comparison or a function of booleans has; `None`
    /// for any other operator.
    pub(super) fn operands_of_choice(&self, at: usize) -> Option<usize> {
        let op_type = self.network.node(at).op_type.as_str();
        match code(op_type) {
            _ if op_type == "Where" => Some(3),
            Some(Code::LogicalNot) => Some(1),
            code => code.map(|_| 2),
        }
    }

    /// A comparison of floats, or a function of booleans: each makes booleans.
    pub(super) fn comparison(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let code = code(&node.op_type).ok_or(NO_FORM)?;
        let names: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
        let (shape, order, operands) = self.operands(&names, MAX_COMPARED_AXES)?;
        let extents = laid_out(&shape, &order);
        let made = self.values.booleans(&node.outputs[0], extents);
        self.values.operator(code, operands, made, Options::None);
        self.values.define(&node.outputs[0], shape, order, made);
        Ok(())
    }

    /// Elements of one operand where a condition holds, of another elsewhere.
    pub(super) fn select(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let names: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
        let info = self.network.value(&node.outputs[0]);
        if info.and_then(|info| info.element_type) != Some(ElementType::F32) {
            return Err("chooses among others than float32 values".to_owned());
        }
        let (shape, order, operands) = self.operands(&names, MAX_CHOSEN_AXES)?;
        let made = Made {
            shape,
            order,
            params: None,
        };
        let operator = (Code::SelectV2, Options::None);
        self.values.make(&node.outputs[0], made, operator, operands);
        Ok(())
    }

    /// Operands as floats or booleans in one order, and the shape and order of
    /// what is made of them; operands of other shapes have at most so many axes.
    fn operands(
        &mut self,
        names: &[&str],
        most_axes: usize,
    ) -> Converted<(Vec<usize>, Vec<usize>, Vec<usize>)> {
        let (shape, order) = self.broadcast(names)?;
        let mut operands = Vec::new();
        for name in names {
            operands.push(self.broadcast_operand(name, None, &order)?);
        }
        let extents = laid_out(&shape, &order);
        let is_whole = |&at: &usize| self.values.model.tensors[at].shape == extents;
        if shape.len() > most_axes && !operands.iter().all(is_whole) {
            return Err(format!("broadcasts along {} axes", shape.len()));
        }
        Ok((shape, order, operands))
    }

    /// Booleans as 0 and 1; floats are floats.
    pub(super) fn cast_to_float(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let (input, output) = (node.inputs[0].as_str(), node.outputs[0].as_str());
        if !self.values.is_boolean(input) {
            return self.identity(at);
        }
        let order = self.values.order(input)?;
        let shape = self.values.shape(input)?;
        let tensor = self.values.operand(input, None, &order)?;
        let made = Made {
            shape,
            order,
            params: None,
        };
        let options = Options::Cast([TensorType::Bool, TensorType::Float32]);
        self.values
            .make(output, made, (Code::Cast, options), vec![tensor]);
        Ok(())
    }
}
