//! Convolutions, and what multiplies and adds to their output by channels.

use campana_ir::op::{Convolution, Op, TransposedPlaces};

use super::Converter;
use super::window::Windows;
use crate::error::Converted;
use crate::program::{Given, Precision, Var};
use crate::weights::{Weights, is_held};

const CUTS_ALL: &str = "cuts off all that it makes";

/// What a layer's output is multiplied by and what is added, for each channel,
/// before it becomes the value of a name.
pub(super) struct Epilogue {
    pub(super) output: String,
    factors: Option<Vec<f64>>,
    terms: Option<Vec<f64>>,
}

impl Converter<'_> {
    /// A layer's output, with the batch normalization that alone reads it.
    pub(super) fn epilogue(
        &mut self,
        at: usize,
        bias: Option<Vec<f32>>,
        channels: usize,
    ) -> Converted<Epilogue> {
        let own = self.network.node(at).outputs[0].clone();
        let terms = bias.map(|bias| bias.into_iter().map(f64::from).collect());
        let plain = Epilogue {
            output: own.clone(),
            factors: None,
            terms,
        };
        let Some((next, 0)) = self.network.sole_use(&own) else {
            return Ok(plain);
        };
        let Op::BatchNormalization(normalization) = self.network.op(next) else {
            return Ok(plain);
        };
        let Ok(affine) = self.affine_of(next, *normalization, channels) else {
            // What is wrong is said of the normalization itself.
            return Ok(plain);
        };
        self.done.insert(next);
        let bias = plain.terms.unwrap_or_else(|| vec![0.0; channels]);
        let terms = affine.iter().zip(bias);
        Ok(Epilogue {
            output: self.network.node(next).outputs[0].clone(),
            factors: Some(affine.iter().map(|[factor, _]| *factor).collect()),
            terms: Some(
                terms
                    .map(|([factor, term], bias)| factor * bias + term)
                    .collect(),
            ),
        })
    }

    /// A layer of weights: its terms are its own bias where nothing is
    /// multiplied, else both stand behind it.
    pub(super) fn layer(
        &mut self,
        kind: &str,
        mut inputs: Vec<(&str, Given)>,
        weights: &Weights,
        epilogue: Epilogue,
        (shape, axis): (&[usize], usize),
    ) -> Converted {
        let Epilogue {
            output,
            factors,
            terms,
        } = epilogue;
        let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        let terms: Option<Vec<f32>> = terms.map(single);
        let factors: Option<Vec<f32>> = match (factors, &weights.factors) {
            (None, None) => None,
            (None, Some(scales)) => Some(scales.clone()),
            (Some(factors), None) => Some(single(factors)),
            (Some(factors), Some(scales)) => {
                let both = factors.iter().zip(scales);
                Some(
                    both.map(|(factor, &scale)| (factor * f64::from(scale)) as f32)
                        .collect(),
                )
            }
        };
        // Before what is multiplied the layer adds its own terms, where they can be
        // undone: one operation less.
        let (before, behind) = match (&factors, terms) {
            (None, terms) => (terms, None),
            (Some(factors), Some(terms)) => {
                match divided(&terms, factors, self.program.precision) {
                    Some(before) => (Some(before), None),
                    None => (None, Some(terms)),
                }
            }
            (Some(_), None) => (None, None),
        };
        if let Some(terms) = before.filter(|terms| terms.iter().any(|&term| term != 0.0)) {
            let bias = self.program.floats(&[terms.len()], &terms)?;
            inputs.push(("bias", bias.into()));
        }
        let product = self.program.operation(kind, inputs, shape)?;
        let var = self.affine(product, axis, factors.as_deref(), behind.as_deref())?;
        self.values.insert(output, var);
        Ok(())
    }

    /// The weights of a node, whose output channels lie along an axis, if they do.
    pub(super) fn weights(&self, name: &str, channel_axis: Option<usize>) -> Converted<Weights> {
        if let Some(tensor) = self.parameters.quantized(name) {
            let precision = self.program.precision;
            return Ok(Weights::coded(tensor, channel_axis, precision));
        }
        match self.parameters.floats(name) {
            Some((shape, values)) => Ok(Weights::dense(shape, values.into_owned())),
            None => Err(format!("has the weights '{name}', which an input decides")),
        }
    }

    pub(super) fn convolution(&mut self, at: usize, convolution: &Convolution) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let mut weights = self.weights(&node.inputs[1], Some(0))?;
        if convolution.window.is_dilated() {
            // Core ML's dilated convolutions take no others.
            weights = weights.into_constant(self.parameters.quantized(&node.inputs[1]));
        }
        let bias = self.constant(at, 2)?.map(|(_, bias)| bias);
        let (Some(&channels), Some(kernel)) = (weights.shape.first(), weights.shape.get(2..))
        else {
            return Err("has weights without spatial axes".to_owned());
        };
        check_channels(&x, &weights.shape, convolution.groups)?;
        let windows = Windows::new(&convolution.window, &x.shape[2..], kernel, false)?;
        let shape = [&[x.shape[0], channels], &windows.outputs[..]].concat();
        let epilogue = self.epilogue(at, bias, channels)?;
        let var = weights.add_to(&mut self.program, &node.inputs[1])?;
        let mut inputs = vec![("x", x.into()), ("weight", var.into())];
        inputs.extend(self.window_inputs(&windows));
        let dilations = self.program.ints(&windows.dilations);
        let groups = self.program.int(convolution.groups as i32);
        inputs.extend([("dilations", dilations.into()), ("groups", groups.into())]);
        self.layer("conv", inputs, &weights, epilogue, (&shape, 1))
    }

    /// Strides and padding.
    pub(super) fn window_inputs(&mut self, windows: &Windows) -> Vec<(&'static str, Given)> {
        let strides = self.program.ints(&windows.strides);
        let kind = if windows.is_padded() {
            "custom"
        } else {
            "valid"
        };
        let kind = self.program.text(kind);
        let mut inputs = vec![("strides", strides.into()), ("pad_type", kind.into())];
        if windows.is_padded() {
            let pad = self.program.ints(&windows.border());
            inputs.push(("pad", pad.into()));
        }
        inputs
    }

    pub(super) fn transposed_convolution(
        &mut self,
        at: usize,
        convolution: &Convolution,
    ) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let groups = convolution.groups;
        let channel_axis = (groups == 1).then_some(1);
        let weights = self.weights(&node.inputs[1], channel_axis)?;
        let bias = self.constant(at, 2)?.map(|(_, bias)| bias);
        let (Some(&per_group), Some(kernel)) = (weights.shape.get(1), weights.shape.get(2..))
        else {
            return Err("has weights without spatial axes".to_owned());
        };
        if x.shape.len() != weights.shape.len() || x.shape[1] != weights.shape[0] {
            return Err("has weights for another input".to_owned());
        }
        let channels = per_group * groups;
        let strides: Vec<usize> = (0..kernel.len())
            .map(|i| convolution.window.stride(i))
            .collect();
        let dilations: Vec<usize> = (0..kernel.len())
            .map(|i| convolution.window.dilation(i))
            .collect();
        let mut cut = Vec::new();
        let mut outputs = vec![x.shape[0], channels];
        let spatial = kernel.len();
        for (i, &kernel) in kernel.iter().enumerate() {
            let input = x.shape[2 + i];
            if kernel == 0 || input == 0 {
                return Err("slides a window over nothing".to_owned());
            }
            let places = convolution.transposed_along((i, spatial), input, kernel);
            let places = places.ok_or(CUTS_ALL)?;
            outputs.push(places.count);
            cut.extend(cut_along(places)?);
        }
        let epilogue = self.epilogue(at, bias, channels)?;
        let var = weights.add_to(&mut self.program, &node.inputs[1])?;
        let kind = if cut.iter().all(|&cut| cut == 0) {
            "valid"
        } else {
            "custom"
        };
        let kind_var = self.program.text(kind);
        let mut inputs: Vec<(&str, Given)> = vec![
            ("x", x.into()),
            ("weight", var.into()),
            ("pad_type", kind_var.into()),
            ("strides", self.program.ints(&strides).into()),
            ("dilations", self.program.ints(&dilations).into()),
            ("groups", self.program.int(groups as i32).into()),
        ];
        if kind == "custom" {
            inputs.push(("pad", self.program.ints(&cut).into()));
        }
        self.layer("conv_transpose", inputs, &weights, epilogue, (&outputs, 1))
    }
}

/// Terms that give these when they are multiplied by the factors; `None` where
/// there are none that are held as well.
fn divided(terms: &[f32], factors: &[f32], to: Precision) -> Option<Vec<f32>> {
    let divided = terms.iter().zip(factors).map(|(&term, &factor)| {
        let divided = if term == 0.0 { 0.0 } else { term / factor };
        (divided.is_finite() && is_held(divided, to)).then_some(divided)
    });
    divided.collect()
}

/// What is cut off of a transposed convolution's results along an axis, before
/// and after.
fn cut_along(places: TransposedPlaces) -> Converted<[usize; 2]> {
    let TransposedPlaces {
        reached,
        before,
        count,
    } = places;
    match reached.checked_sub(before + count) {
        None => Err("makes more than its windows reach (output_padding)".to_owned()),
        Some(_) if count == 0 => Err(CUTS_ALL.to_owned()),
        Some(after) => Ok([before, after]),
    }
}

/// Refuses weights that are for another input.
fn check_channels(x: &Var, weights: &[usize], groups: usize) -> Converted {
    let fits = x.shape.len() == weights.len()
        && weights[1].checked_mul(groups) == Some(x.shape[1])
        && weights[0].is_multiple_of(groups);
    match fits {
        true => Ok(()),
        false => Err(format!(
            "has weights of {weights:?} for an input of {:?} in {groups} groups",
            x.shape
        )),
    }
}

impl Epilogue {
    /// Nothing is multiplied or added.
    pub(super) fn plain(output: &str) -> Self {
        Self {
            output: output.to_owned(),
            factors: None,
            terms: None,
        }
    }
}
