//! Normalizations, and softmax.

use campana_ir::op::{BatchNormalization, axis_from_start};

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::program::Given;

/// What normalizations add to the variance where they do not say.
const DEFAULT_EPSILON: f32 = 1e-5;

impl Converter<'_> {
    /// Factor and term of each channel of a normalization.
    pub(super) fn affine_of(
        &self,
        at: usize,
        normalization: BatchNormalization,
        channels: usize,
    ) -> Converted<Vec<[f64; 2]>> {
        if normalization.training {
            return Err("normalizes by the statistics of a batch".to_owned());
        }
        let mut parameters = Vec::new();
        for place in 1..5 {
            let (_, values) = self.constant(at, place)?.ok_or("lacks an input")?;
            parameters.push(values);
        }
        let [scale, bias, mean, variance] = parameters.as_slice() else {
            return Err(NO_FORM.to_owned());
        };
        let affine = normalization.affine([scale, bias, mean, variance]);
        affine
            .filter(|affine| affine.len() == channels)
            .ok_or_else(|| format!("has parameters for other than {channels} channels"))
    }

    pub(super) fn batch_norm(&mut self, at: usize, normalization: BatchNormalization) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let channels = *x.shape.get(1).ok_or("has no channels")?;
        let affine = self.affine_of(at, normalization, channels)?;
        let part = |i: usize| {
            affine
                .iter()
                .map(|both| both[i] as f32)
                .collect::<Vec<f32>>()
        };
        let (factors, terms) = (part(0), part(1));
        let var = self.affine(x, 1, Some(&factors), Some(&terms))?;
        self.define(at, var);
        Ok(())
    }

    pub(super) fn normalization(&mut self, at: usize) -> Converted {
        match self.network.node(at).op_type.as_str() {
            "Softmax" => self.softmax(at, false),
            "LogSoftmax" => self.softmax(at, true),
            "LayerNormalization" => self.layer_norm(at),
            "InstanceNormalization" => self.instance_norm(at),
            "LRN" => self.response_norm(at),
            _ => Err(NO_FORM.to_owned()),
        }
    }

    /// Before opset 13 softmax was over all axes from one on.
    fn softmax(&mut self, at: usize, is_logarithm: bool) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let rank = x.shape.len();
        let is_old = self.network.graph().opset() < 13;
        let axis = node.int("axis", if is_old { 1 } else { -1 });
        let axis = axis_from_start(axis, rank).ok_or("has no such axis")?;
        if is_old && x.shape[axis + 1..].iter().any(|&extent| extent > 1) {
            return Err("is over several axes at once".to_owned());
        }
        let axis_var = self.program.int(axis as i32);
        if !is_logarithm {
            let shape = x.shape.clone();
            let inputs = vec![("x", x.into()), ("axis", axis_var.into())];
            return self.make(at, "softmax", inputs, &shape);
        }
        // The logarithm of a softmax that was rounded to zero would be none.
        let mut shape = x.shape.clone();
        shape[axis] = 1;
        let axes = self.program.ints(&[axis]);
        let keeps = self.program.flag(true);
        let inputs = vec![
            ("x", (&x).into()),
            ("axes", axes.into()),
            ("keep_dims", keeps.into()),
        ];
        let sum = self
            .program
            .operation("reduce_log_sum_exp", inputs, &shape)?;
        let var = self.two("sub", &x, &sum)?;
        self.define(at, var);
        Ok(())
    }

    pub(super) fn layer_norm(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        if node.outputs.iter().skip(1).any(|name| !name.is_empty()) {
            return Err("gives its statistics".to_owned());
        }
        let x = self.activation(&node.inputs[0])?;
        let rank = x.shape.len();
        let first = axis_from_start(node.int("axis", -1), rank).ok_or("has no such axis")?;
        let axes: Vec<usize> = (first..rank).collect();
        let mut inputs: Vec<(&str, Given)> = vec![
            ("x", (&x).into()),
            ("axes", self.program.ints(&axes).into()),
            (
                "epsilon",
                self.epsilon(node.float("epsilon", DEFAULT_EPSILON))?.into(),
            ),
        ];
        for (place, name) in [(1, "gamma"), (2, "beta")] {
            if let Some((shape, values)) = self.constant(at, place)? {
                if shape != x.shape[first..] {
                    return Err(format!(
                        "has parameters of {shape:?}, which are not its axes'"
                    ));
                }
                inputs.push((name, self.program.floats(&shape, &values)?.into()));
            }
        }
        self.make(at, "layer_norm", inputs, &x.shape)
    }

    fn instance_norm(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        if !(3..=4).contains(&x.shape.len()) {
            return Err("normalizes other than signals and images".to_owned());
        }
        let mut inputs: Vec<(&str, Given)> = vec![("x", (&x).into())];
        for (place, name) in [(1, "gamma"), (2, "beta")] {
            let (shape, values) = self.constant(at, place)?.ok_or("lacks an input")?;
            inputs.push((name, self.program.floats(&shape, &values)?.into()));
        }
        let epsilon = self.epsilon(node.float("epsilon", DEFAULT_EPSILON))?;
        inputs.push(("epsilon", epsilon.into()));
        self.make(at, "instance_norm", inputs, &x.shape)
    }

    /// Local response normalization over neighbouring channels.
    fn response_norm(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let size = node.int("size", 0);
        if size % 2 != 1 || !(3..=4).contains(&x.shape.len()) {
            return Err("has an even number of neighbours, or is over no image".to_owned());
        }
        let inputs: Vec<(&str, Given)> = vec![
            ("x", (&x).into()),
            ("size", self.program.int(size as i32).into()),
            (
                "alpha",
                self.program.float(node.float("alpha", 1e-4))?.into(),
            ),
            ("beta", self.program.float(node.float("beta", 0.75))?.into()),
            ("k", self.program.float(node.float("bias", 1.0))?.into()),
        ];
        self.make(at, "local_response_norm", inputs, &x.shape)
    }
}
