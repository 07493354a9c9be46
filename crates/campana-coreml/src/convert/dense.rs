//! Products of matrices.

use campana_ir::op::Gemm;

use super::convolution::Epilogue;
use super::{Converter, broadcast};
use crate::error::Converted;
use crate::program::{Given, Var};
use crate::weights::Weights;

/// Axes that the input of Core ML's `linear` has at most.
const MAX_LINEAR_RANK: usize = 3;

impl Converter<'_> {
    pub(super) fn gemm(&mut self, at: usize, gemm: Gemm) -> Converted {
        let node = self.network.node(at);
        let mut a = self.activation(&node.inputs[0])?;
        if a.shape.len() != 2 {
            return Err("multiplies what is no matrix".to_owned());
        }
        if gemm.transpose_a {
            let shape = [a.shape[1], a.shape[0]];
            let perm = self.program.ints(&[1, 0]);
            let inputs = vec![("x", a.into()), ("perm", perm.into())];
            a = self.program.operation("transpose", inputs, &shape)?;
        }
        if self.network.is_activation(&node.inputs[1]) {
            return self.gemm_of_activations(at, gemm, &a);
        }
        let channel_axis = usize::from(!gemm.transpose_b);
        let mut weights = self.weights(&node.inputs[1], Some(channel_axis))?;
        if weights.shape.len() != 2 {
            return Err("multiplies by what is no matrix".to_owned());
        }
        if !gemm.transpose_b {
            weights = weights.transposed();
        }
        let channels = weights.shape[0];
        if weights.shape[1] != a.shape[1] {
            return Err("has weights for another input".to_owned());
        }
        if gemm.alpha != 1.0 {
            let ones = || vec![1.0; channels];
            let mut factors = weights.factors.take().unwrap_or_else(ones);
            factors.iter_mut().for_each(|factor| *factor *= gemm.alpha);
            weights.factors = Some(factors);
        }
        let bias = self.gemm_bias(at, gemm.beta, channels)?;
        let shape = [a.shape[0], channels];
        let epilogue = self.epilogue(at, bias, channels)?;
        self.linear(&node.inputs[1], a, &weights, epilogue, &shape)
    }

    /// The term of each channel; nothing else is added to constants' products.
    fn gemm_bias(&self, at: usize, beta: f32, channels: usize) -> Converted<Option<Vec<f32>>> {
        let Some((shape, values)) = self.constant(at, 2)? else {
            return Ok(None);
        };
        let is_row = shape.iter().rev().skip(1).all(|&extent| extent == 1);
        let values: Vec<f32> = match values.len() {
            1 => vec![values[0]; channels],
            count if count == channels && is_row => values,
            _ => return Err(format!("adds constants of {shape:?}, which are no bias")),
        };
        Ok(Some(values.iter().map(|value| beta * value).collect()))
    }

    fn gemm_of_activations(&mut self, at: usize, gemm: Gemm, a: &Var) -> Converted {
        let node = self.network.node(at);
        let b = self.activation(&node.inputs[1])?;
        if b.shape.len() != 2 {
            return Err("multiplies by what is no matrix".to_owned());
        }
        let columns = b.shape[usize::from(!gemm.transpose_b)];
        let shape = [a.shape[0], columns];
        let flag = self.program.flag(gemm.transpose_b);
        let inputs = vec![
            ("x", a.into()),
            ("y", (&b).into()),
            ("transpose_y", flag.into()),
        ];
        let mut product = self.program.operation("matmul", inputs, &shape)?;
        if gemm.alpha != 1.0 {
            let alpha = self.program.float(gemm.alpha)?;
            product = self.two("mul", &product, &alpha)?;
        }
        if let Some(c) = node.inputs.get(2).filter(|name| !name.is_empty()) {
            let mut c = self.operand(c)?;
            if gemm.beta != 1.0 {
                let beta = self.program.float(gemm.beta)?;
                c = self.two("mul", &c, &beta)?;
            }
            product = self.two("add", &product, &c)?;
        }
        self.define(at, product);
        Ok(())
    }

    /// A product with constant weights `[out, in]`.
    fn linear(
        &mut self,
        like: &str,
        x: Var,
        weights: &Weights,
        epilogue: Epilogue,
        shape: &[usize],
    ) -> Converted {
        let var = weights.add_to(&mut self.program, like)?;
        let inputs: Vec<(&str, Given)> = vec![("x", x.into()), ("weight", var.into())];
        self.layer(
            "linear",
            inputs,
            weights,
            epilogue,
            (shape, shape.len() - 1),
        )
    }

    pub(super) fn matmul(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let [left, right] = [&node.inputs[0], &node.inputs[1]];
        let is_matrix = self
            .parameters
            .shape(right)
            .is_some_and(|shape| shape.len() == 2);
        if !self.values.contains_key(right.as_str()) && is_matrix {
            let x = self.activation(left)?;
            if (2..=MAX_LINEAR_RANK).contains(&x.shape.len()) {
                let weights = self.weights(right, Some(1))?.transposed();
                let mut shape = x.shape.clone();
                let last = shape.len() - 1;
                if shape[last] != weights.shape[1] {
                    return Err("has weights for another input".to_owned());
                }
                shape[last] = weights.shape[0];
                // Only in a matrix the last axis is the channels' for a normalization.
                let epilogue = match last {
                    1 => self.epilogue(at, None, shape[last])?,
                    _ => Epilogue::plain(&node.outputs[0]),
                };
                return self.linear(right, x, &weights, epilogue, &shape);
            }
        }
        let [x, y] = [self.factor(left)?, self.factor(right)?];
        let (rows, columns) = match (x.shape.as_slice(), y.shape.as_slice()) {
            ([.., rows, _], [.., _, columns]) => (*rows, *columns),
            _ => return Err("multiplies by a vector".to_owned()),
        };
        let batch = |var: &Var| var.shape[..var.shape.len() - 2].to_vec();
        let mut shape = broadcast(&batch(&x), &batch(&y))?;
        shape.extend([rows, columns]);
        self.make(at, "matmul", vec![("x", x.into()), ("y", y.into())], &shape)
    }

    /// An operand of a product: an activation, or weights that are complete.
    fn factor(&mut self, name: &str) -> Converted<Var> {
        match self.values.contains_key(name) {
            true => self.activation(name),
            false => self.weights(name, None)?.add_to(&mut self.program, name),
        }
    }
}
