//! Functions of two broadcast operands, and clamps that stand alone.

use campana_ir::op::{BatchNormalization, Binary};

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::layout::{laid_out, native, permuted};
use crate::schema::{Activation, Code, Options};
use crate::values::{Made, Params};

impl<'n> Converter<'n> {
    pub(super) fn binary(&mut self, at: usize, binary: Binary) -> Converted {
        let (code, options): (_, fn(Activation) -> Options) = match binary {
            Binary::Add => (Code::Add, Options::Add),
            Binary::Sub => (Code::Sub, Options::Sub),
            Binary::Mul => (Code::Mul, Options::Mul),
            Binary::Div => (Code::Div, Options::Div),
            Binary::Other => return Err(NO_FORM.to_owned()),
        };
        let node = self.network.node(at);
        let names = [node.inputs[0].as_str(), node.inputs[1].as_str()];
        let epilogue = self.epilogue(&node.outputs[0]);
        let operands = names.map(|name| self.values.params(name));
        let params = match (operands, self.rounded(epilogue.value)) {
            ([Some(left), Some(right)], Some(output)) if binary != Binary::Div => {
                Some([left, right, output])
            }
            _ => None,
        };
        let (shape, order) = self.broadcast(&names)?;
        let mut inputs = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let own = params.map(|params| params[i]);
            inputs.push(self.broadcast_operand(name, own, &order)?);
        }
        let extents = laid_out(&shape, &order);
        let made = Made {
            shape,
            order,
            params: params.map(|[_, _, output]| output),
        };
        self.finish_activated(&epilogue, made, extents, |values, output, activation| {
            values.operator(code, inputs, output, options(activation));
        });
        Ok(())
    }

    /// Extents of a result, and the order of the operand of highest rank.
    pub(super) fn broadcast(&self, names: &[&str]) -> Converted<(Vec<usize>, Vec<usize>)> {
        let mut shape: Vec<usize> = Vec::new();
        let mut order: Vec<usize> = Vec::new();
        for name in names {
            let (own, own_order) = match self.values.shape(name) {
                Ok(shape) => (shape, self.values.order(name)?),
                Err(reason) => {
                    let shape = self.parameters.shape(name).ok_or(reason)?;
                    (shape, Vec::new())
                }
            };
            if own.len() > shape.len() {
                shape.splice(0..0, vec![1; own.len() - shape.len()]);
            }
            let ahead = shape.len() - own.len();
            for (extent, own) in shape[ahead..].iter_mut().zip(&own) {
                *extent = if *extent == 1 { *own } else { *extent };
            }
            if own_order.len() > order.len() {
                order = own_order;
            }
        }
        if order.len() != shape.len() {
            order = native(shape.len());
        }
        Ok((shape, order))
    }

    /// An operand with as many axes as the result, in its order.
    pub(super) fn broadcast_operand(
        &mut self,
        name: &str,
        params: Option<Params>,
        order: &[usize],
    ) -> Converted<usize> {
        let rank = order.len();
        let Ok(own) = self.values.shape(name) else {
            return self.broadcast_constant(name, order);
        };
        if own.len() == rank {
            return self.values.operand(name, params, order);
        }
        let tensor = self.values.operand(name, params, &native(own.len()))?;
        let shape = [vec![1; rank - own.len()], own].concat();
        let raised = self.values.reshaped(tensor, shape.clone());
        let whole = format!("{name}/of rank {rank}");
        self.values.define(&whole, shape, native(rank), raised);
        self.values.operand(&whole, params, order)
    }

    /// A constant with as many axes as the result, in its order.
    fn broadcast_constant(&mut self, name: &str, order: &[usize]) -> Converted<usize> {
        let raised = |shape: &[usize]| {
            let rank = order.len();
            [&vec![1; rank - shape.len()], shape].concat()
        };
        if let Some((shape, flags)) = self.parameters.booleans(name) {
            let shape = raised(&shape);
            let flags = permuted(flags, &shape, order);
            let extents = laid_out(&shape, order);
            return Ok(self.values.constant_booleans(name, extents, &flags));
        }
        let reason = || format!("reads '{name}', which is no constant of float32 or bool");
        let (shape, values) = self.parameters.floats(name).ok_or_else(reason)?;
        let shape = raised(&shape);
        let values = permuted(&values, &shape, order);
        Ok(self.values.floats(name, laid_out(&shape, order), &values))
    }

    /// A clamp that is part of no other operator.
    pub(super) fn clamp(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let (input, output) = (node.inputs[0].as_str(), node.outputs[0].as_str());
        let clamp = self.bounds(at).ok_or("has bounds that are no constants")?;
        let own = self.values.params(input);
        let params = self.rounded(output).filter(|_| own.is_some());
        let order = self.values.order(input)?;
        let shape = self.values.shape(input)?;
        let tensor = self.values.operand(input, params, &order)?;
        let clamped = self.clamped(tensor, clamp, params);
        self.values.define(output, shape, order, clamped);
        Ok(())
    }

    /// A normalization that is part of no layer: a product and a sum.
    pub(super) fn normalization(
        &mut self,
        at: usize,
        normalization: BatchNormalization,
    ) -> Converted {
        let node = self.network.node(at);
        let input = node.inputs[0].as_str();
        let affine = self.affine(at, normalization)?;
        let order = self.values.order(input)?;
        let shape = self.values.shape(input)?;
        let tensor = self.values.operand(input, None, &order)?;
        let mut channels = vec![1; shape.len()];
        if let Some(extent) = channels.get_mut(1) {
            *extent = affine.len();
        }
        let channels = laid_out(&channels, &order);
        let of = |place: usize| -> Vec<f32> { affine.iter().map(|v| v[place] as f32).collect() };
        let name = &node.outputs[0];
        let factors = self
            .values
            .floats(&format!("{name}/factors"), channels.clone(), &of(0));
        let offsets = self
            .values
            .floats(&format!("{name}/offsets"), channels, &of(1));
        let extents = laid_out(&shape, &order);
        let product = self
            .values
            .activation(&format!("{name}/product"), extents.clone(), None);
        let options = Options::Mul(Activation::None);
        self.values
            .operator(Code::Mul, vec![tensor, factors], product, options);
        let epilogue = self.epilogue(name);
        let made = Made {
            shape,
            order,
            params: None,
        };
        self.finish_activated(&epilogue, made, extents, |values, output, activation| {
            let inputs = vec![product, offsets];
            values.operator(Code::Add, inputs, output, Options::Add(activation));
        });
        Ok(())
    }

    /// Functions of two operands that the typed graph does not tell apart.
    pub(super) fn other_binary(&mut self, at: usize) -> Converted {
        match self.network.node(at).op_type.as_str() {
            "PRelu" => self.floats_of(at, Code::Prelu),
            "Pow" => self.floats_of(at, Code::Pow),
            _ => Err(NO_FORM.to_owned()),
        }
    }

    /// A function of any number of operands: of two at a time.
    pub(super) fn variadic(&mut self, at: usize) -> Converted {
        let code = match self.network.node(at).op_type.as_str() {
            "Max" => Code::Maximum,
            "Min" => Code::Minimum,
            _ => Code::Add,
        };
        self.floats_of(at, code)
    }

    /// An operator on floats without options, applied to two operands at a time.
    fn floats_of(&mut self, at: usize, code: Code) -> Converted {
        let node = self.network.node(at);
        let names: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
        let (shape, order) = self.broadcast(&names)?;
        let mut operands = Vec::new();
        for name in &names {
            operands.push(self.broadcast_operand(name, None, &order)?);
        }
        let extents = laid_out(&shape, &order);
        let mut result = operands[0];
        for operand in operands.into_iter().skip(1) {
            let next = self
                .values
                .activation(&node.outputs[0], extents.clone(), None);
            let options = match code {
                Code::Add => Options::Add(Activation::None),
                _ => Options::None,
            };
            self.values
                .operator(code, vec![result, operand], next, options);
            result = next;
        }
        self.values.define(&node.outputs[0], shape, order, result);
        Ok(())
    }
}
