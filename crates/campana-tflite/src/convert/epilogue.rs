//! What follows an operator and is computed in it: a bias, a normalization, a
//! clamp.

use campana_ir::network::Layer;
use campana_ir::op::{BatchNormalization, Op, Unary};

use super::Converter;
use crate::error::Converted;
use crate::layout::laid_out;
use crate::schema::{Activation, Code, Options};
use crate::values::{Made, Params, Values};

/// The clamp behind an operator.
#[derive(Clone, Debug)]
pub(super) struct Epilogue<'n> {
    /// The value behind all.
    pub(super) value: &'n str,
    clamp: [f32; 2],
    clamps: Vec<usize>,
}

/// What is added to and multiplied with the channels of a layer behind it.
#[derive(Clone, Debug)]
pub(super) struct Tail<'n> {
    /// One for each channel.
    pub(super) bias: Vec<f64>,
    /// Factors of the weights; empty where there is no normalization.
    pub(super) factors: Vec<f64>,
    pub(super) epilogue: Epilogue<'n>,
    /// The nodes that add and normalize.
    nodes: Vec<usize>,
}

const NO_CLAMP: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// Clamps that operators have of their own.
const ACTIVATIONS: [(Activation, [f32; 2]); 4] = [
    (Activation::None, NO_CLAMP),
    (Activation::Relu, [0.0, f32::INFINITY]),
    (Activation::Relu6, [0.0, 6.0]),
    (Activation::ReluN1To1, [-1.0, 1.0]),
];

/// The operator's own clamp that does the same to numbers of these parameters.
pub(super) fn activation_of(clamp: [f32; 2], params: Option<Params>) -> Option<Activation> {
    let is_same = |own: [f32; 2]| match params {
        None => own == clamp,
        Some(params) => own.map(|v| params.quantize(v)) == clamp.map(|v| params.quantize(v)),
    };
    let mut activations = ACTIVATIONS.into_iter();
    let (activation, _) = activations.find(|(_, own)| is_same(*own))?;
    Some(activation)
}

impl<'n> Converter<'n> {
    /// The clamps that alone read a value.
    pub(super) fn epilogue(&self, value: &'n str) -> Epilogue<'n> {
        let mut found = Epilogue {
            value,
            clamp: NO_CLAMP,
            clamps: Vec::new(),
        };
        while let Some((node, 0)) = self.network.sole_use(found.value) {
            let Some([low, high]) = self.bounds(node) else {
                break;
            };
            found.value = &self.network.node(node).outputs[0];
            found.clamp = found.clamp.map(|bound| bound.max(low).min(high));
            found.clamps.push(node);
        }
        found
    }

    /// The constant bounds of a clamp.
    pub(super) fn bounds(&self, at: usize) -> Option<[f32; 2]> {
        let node = self.network.node(at);
        let bound = |place: usize, attribute: &str, default: f32| match node
            .inputs
            .get(place)
            .filter(|name| !name.is_empty())
        {
            None => Some(node.float(attribute, default)),
            Some(name) => match &*self.parameters.floats(name)?.1 {
                [bound] => Some(*bound),
                _ => None,
            },
        };
        match self.network.op(at) {
            Op::Unary(Unary::Relu) => Some([0.0, f32::INFINITY]),
            Op::Unary(Unary::Clip) => Some([
                bound(1, "min", f32::NEG_INFINITY)?,
                bound(2, "max", f32::INFINITY)?,
            ]),
            _ => None,
        }
    }

    /// What follows a layer with `channels` outputs; a normalization only where
    /// the weights can be changed.
    pub(super) fn tail(
        &self,
        layer: &Layer<'n>,
        channels: usize,
        normalizes: bool,
    ) -> Converted<Tail<'n>> {
        let mut nodes = Vec::new();
        let mut bias = vec![0.0; channels];
        if let Some(own) = self.network.bias(layer) {
            let floats = self.parameters.floats(own.name);
            let (_, values) = floats.ok_or("adds a bias that is no constant")?;
            if values.len() != channels && values.len() != 1 {
                return Err(format!(
                    "adds {} biases to {channels} channels",
                    values.len()
                ));
            }
            for (i, bias) in bias.iter_mut().enumerate() {
                *bias = f64::from(values[i % values.len()]);
            }
            nodes.extend(own.sum);
        }
        let mut output = self.network.biased_output(layer);
        let mut factors = Vec::new();
        if let Some(at) = self.network.normalization(layer).filter(|_| normalizes)
            && let Op::BatchNormalization(normalization) = self.network.op(at)
        {
            let affine = self.affine(at, *normalization)?;
            if affine.len() == channels {
                for (bias, [factor, offset]) in bias.iter_mut().zip(&affine) {
                    *bias = *bias * factor + offset;
                }
                factors = affine.iter().map(|[factor, _]| *factor).collect();
                output = &self.network.node(at).outputs[0];
                nodes.push(at);
            }
        }
        Ok(Tail {
            bias,
            factors,
            epilogue: self.epilogue(output),
            nodes,
        })
    }

    /// Factor and offset of each channel of a normalization.
    pub(super) fn affine(
        &self,
        at: usize,
        normalization: BatchNormalization,
    ) -> Converted<Vec<[f64; 2]>> {
        let node = self.network.node(at);
        if normalization.training {
            return Err("is in training form".to_owned());
        }
        let of = |place: usize| {
            let values = node.inputs.get(place);
            let values = values.and_then(|name| self.parameters.floats(name));
            values.ok_or("has statistics that are no constants")
        };
        let [scale, bias, mean, variance] = [of(1)?.1, of(2)?.1, of(3)?.1, of(4)?.1];
        let affine = normalization.affine([&scale, &bias, &mean, &variance]);
        affine.ok_or_else(|| "has statistics of different lengths".to_owned())
    }

    /// Nodes behind a layer have become part of it.
    pub(super) fn take_tail(&mut self, tail: &Tail<'n>) {
        self.done.extend(&tail.nodes);
    }

    /// Defines the value behind an operator that has a clamp of its own: `emit`
    /// adds the operator that makes a tensor of these extents.
    pub(super) fn finish_activated(
        &mut self,
        epilogue: &Epilogue<'n>,
        made: Made,
        extents: Vec<usize>,
        emit: impl FnOnce(&mut Values, usize, Activation),
    ) {
        let own = activation_of(epilogue.clamp, made.params);
        let left = match own {
            Some(_) => NO_CLAMP,
            None => epilogue.clamp,
        };
        let epilogue = Epilogue {
            clamp: left,
            ..epilogue.clone()
        };
        self.finish(&epilogue, made, extents, |values, output| {
            emit(values, output, own.unwrap_or(Activation::None));
        });
    }

    /// Defines the value behind an operator: `emit` adds the operator that makes
    /// a tensor of these extents.
    pub(super) fn finish(
        &mut self,
        epilogue: &Epilogue<'n>,
        made: Made,
        extents: Vec<usize>,
        emit: impl FnOnce(&mut Values, usize),
    ) {
        self.done.extend(&epilogue.clamps);
        let Made {
            shape,
            order,
            params,
        } = made;
        let tensor = self.values.activation(epilogue.value, extents, params);
        emit(&mut self.values, tensor);
        let tensor = self.clamped(tensor, epilogue.clamp, params);
        let tensor = self.values.reshaped(tensor, laid_out(&shape, &order));
        self.values.define(epilogue.value, shape, order, tensor);
    }

    /// The elements of a tensor held to bounds.
    pub(super) fn clamped(
        &mut self,
        tensor: usize,
        clamp: [f32; 2],
        params: Option<Params>,
    ) -> usize {
        let name = self.values.model.tensors[tensor].name.clone();
        let extents = self.values.model.tensors[tensor].shape.clone();
        if let Some(activation) = activation_of(clamp, params) {
            let code = match activation {
                Activation::None => return tensor,
                Activation::Relu => Code::Relu,
                Activation::Relu6 => Code::Relu6,
                Activation::ReluN1To1 => Code::ReluN1To1,
            };
            let clamped = self.values.activation(&name, extents, params);
            self.values
                .operator(code, vec![tensor], clamped, Options::None);
            return clamped;
        }
        let mut tensor = tensor;
        for (code, bound) in [(Code::Maximum, clamp[0]), (Code::Minimum, clamp[1])] {
            if bound.is_finite() {
                let bound = self.values.scalar(bound, params);
                let clamped = self.values.activation(&name, extents.clone(), params);
                self.values
                    .operator(code, vec![tensor, bound], clamped, Options::None);
                tensor = clamped;
            }
        }
        tensor
    }
}
