//! From the typed graph to a TFLite model, node by node.

mod comparison;
mod convolution;
mod dense;
mod elementwise;
mod epilogue;
mod expand;
mod moves;
mod pooling;
mod reduce;
mod resize;
mod rounded;
#[cfg(test)]
mod tests;
mod transposed;
mod unary;
mod window;

use std::collections::{HashMap, HashSet};

use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_ir::op::{Binary, Op, Unary};
use campana_tensor::ElementType;

use crate::decode::encode_weights;
use crate::error::{Converted, Error, ErrorKind};
use crate::folding;
use crate::inputs;
use crate::layout::{channels_last, native};
use crate::parameters::Parameters;
use crate::schema::{Code, Model, Options, Tensor};
use crate::values::{Params, Values};

/// Constants of more bytes leave too little of what distances of a FlatBuffer
/// reach.
const MAX_CONSTANT_BYTES: usize = i32::MAX as usize / 2;

/// The interpreter that a model is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interpreter {
    /// TFLite (LiteRT), on phones and computers.
    #[default]
    TfLite,
    /// TFLite Micro, on microcontrollers. Weights of at most 128 values, or
    /// 128 a channel, are codes of 1 to 7 bits that its DECODE operator looks
    /// up in tables before each layer.
    Micro,
}

/// The network as a TFLite model.
///
/// An open batch becomes 1. Inputs that convolutions read have their channels
/// last (`[1, height, width, channels]`), other inputs and all outputs are as
/// in the graph; all of them are float32.
///
/// # Errors
///
/// Of kind `Unsupported` where a node or input cannot be said in TFLite or its
/// interpreter lacks the operator, of kind
/// `OpenShape` where an extent other than the batch is open, of kind
/// `InvalidModel` where the network contradicts itself; names the node or
/// input.
pub fn convert(graph: &Graph, interpreter: Interpreter) -> Result<Vec<u8>, Error> {
    let mut model = model(graph, interpreter)?;
    if interpreter == Interpreter::Micro {
        encode_weights(&mut model);
    }
    let data = model.tensors.iter().flat_map(|tensor| &tensor.data);
    let bytes: usize = data.map(Vec::len).sum();
    if bytes > MAX_CONSTANT_BYTES {
        let message = format!("the constants take {bytes} bytes, more than a TFLite file holds");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(model.into_bytes())
}

fn model(graph: &Graph, interpreter: Interpreter) -> Result<Model, Error> {
    let graph = folding::folded(inputs::fixed(graph)?)?;
    let network = folding::analysed(&graph)?;
    let mut converter = Converter {
        interpreter,
        network: &network,
        parameters: Parameters::new(&network)?,
        values: Values::default(),
        rounded: rounded::rounded(&network),
        done: HashSet::new(),
    };
    converter.inputs()?;
    converter.nodes()?;
    converter.outputs()?;
    let mut model = converter.values.model;
    model.name.clone_from(&graph.name);
    check_extents(&model)?;
    Ok(model)
}

/// Refuses tensors that are larger than TFLite counts.
fn check_extents(model: &Model) -> Result<(), Error> {
    let counts = |tensor: &&Tensor| {
        let mut extents = tensor.shape.iter();
        let count = extents.try_fold(1usize, |count, &extent| count.checked_mul(extent));
        count.is_none_or(|count| i32::try_from(count).is_err())
    };
    match model.tensors.iter().find(counts) {
        None => Ok(()),
        Some(tensor) => {
            let Tensor { name, shape, .. } = tensor;
            let message = format!("'{name}' of {shape:?} has more elements than TFLite counts");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

/// A model under way.
struct Converter<'n> {
    interpreter: Interpreter,
    network: &'n Network<'n>,
    parameters: Parameters<'n>,
    values: Values,
    /// Values that only a quantizer to 8 bits reads, with its parameters.
    rounded: HashMap<&'n str, Params>,
    /// Nodes that became part of another.
    done: HashSet<usize>,
}

impl<'n> Converter<'n> {
    /// Inputs that convolutions read have their channels last.
    fn inputs(&mut self) -> Result<(), Error> {
        for input in &self.network.graph().inputs {
            let name = input.name.as_str();
            let info = self.network.value(name);
            let shape = info.and_then(campana_ir::infer::ValueInfo::fixed_shape);
            let shape = shape.unwrap_or_default();
            let order = match self.is_read_by_window(name) {
                true => channels_last(shape.len()),
                false => native(shape.len()),
            };
            let extents = crate::layout::laid_out(&shape, &order);
            let tensor = self.values.activation(name, extents, None);
            self.values.model.inputs.push(tensor);
            self.values.define(name, shape, order, tensor);
        }
        Ok(())
    }

    /// Whether a value reaches an operator that wants channels last, unmoved.
    fn is_read_by_window(&self, name: &str) -> bool {
        let mut waiting = vec![name];
        let mut seen = HashSet::new();
        while let Some(name) = waiting.pop() {
            for usage in self.network.uses(name) {
                let op = self.network.op(usage.node);
                if wants_channels_last(op) && usage.input == Some(0) {
                    return true;
                }
                let keeps_axes = matches!(
                    op,
                    Op::QuantizeLinear { .. }
                        | Op::DequantizeLinear
                        | Op::Unary(_)
                        | Op::Binary(_)
                        | Op::BatchNormalization(_)
                        | Op::Pad
                        | Op::Slice
                        | Op::Concat { .. }
                );
                let output = self.network.node(usage.node).outputs.first();
                if let Some(output) = output.filter(|_| keeps_axes)
                    && seen.insert(output.as_str())
                {
                    waiting.push(output);
                }
            }
        }
        false
    }

    fn nodes(&mut self) -> Result<(), Error> {
        let live = self.network.live_nodes();
        for at in 0..self.network.graph().nodes.len() {
            if !live.contains(&at) || self.done.contains(&at) || self.is_no_activation(at) {
                continue;
            }
            let before = self.values.model.operators.len();
            let found = self.node(at).and_then(|()| self.check_operators(before));
            found.map_err(|reason| {
                let node = self.network.node(at);
                let message = format!("node '{}' ({}) {reason}", node.label(), node.op_type);
                Error::new(ErrorKind::Unsupported, message)
            })?;
        }
        Ok(())
    }

    /// Refuses what the interpreter lacks of the operators from a place on.
    fn check_operators(&self, from: usize) -> Converted {
        let mut operators = self.values.model.operators[from..].iter();
        match operators.find(|operator| !operator.code.is_in_micro()) {
            Some(_) if self.interpreter == Interpreter::Micro => {
                Err("has no form in TFLite Micro".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether a node makes parameters, or integers that say how others compute.
    fn is_no_activation(&self, at: usize) -> bool {
        let Some(output) = self.network.node(at).outputs.first() else {
            return true;
        };
        let is_integer = || {
            let element_type = self
                .network
                .value(output)
                .and_then(|info| info.element_type);
            match element_type {
                Some(ElementType::I64 | ElementType::I32) => true,
                // Those of extents say how others compute.
                Some(ElementType::Bool) => {
                    let mut inputs = self.network.node(at).inputs.iter();
                    inputs.all(|name| self.values.shape(name).is_err())
                }
                _ => false,
            }
        };
        self.network.is_parameter(output) || is_integer()
    }

    fn node(&mut self, at: usize) -> Converted {
        let op = self.network.op(at).clone();
        let inputs = &self.network.node(at).inputs;
        let is_there = |place: usize| inputs.get(place).is_some_and(|name| !name.is_empty());
        let needed = match op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul | Op::Binary(_) => 2,
            Op::Other(_) => self.operands_of_choice(at).unwrap_or(1),
            _ => 1,
        };
        if !(0..needed).all(is_there) {
            return Err("lacks an input".to_owned());
        }
        let mut reads = inputs.iter();
        if reads.any(|name| self.values.is_boolean(name)) && !takes_booleans(&op) {
            return Err("has no form in TFLite for booleans".to_owned());
        }
        match &op {
            Op::Conv(convolution) => self.convolution(at, convolution),
            Op::ConvTranspose(convolution) => self.transposed_convolution(at, convolution),
            Op::Gemm(gemm) => self.gemm(at, *gemm),
            Op::MatMul => self.matmul(at),
            Op::BatchNormalization(normalization) => self.normalization(at, *normalization),
            Op::Unary(Unary::Relu | Unary::Clip) => self.clamp(at),
            Op::Unary(Unary::Identity) => self.identity(at),
            Op::Unary(Unary::Other) => self.unary(at),
            Op::Binary(Binary::Other) => self.other_binary(at),
            Op::Binary(binary) => self.binary(at, *binary),
            Op::Normalization => self.normalized(at),
            Op::MaxPool(pool) => self.max_pool(at, pool),
            Op::AveragePool(pool) => self.average_pool(at, pool),
            Op::GlobalAveragePool => self.global_average_pool(at),
            Op::GlobalMaxPool => self.global_max_pool(at),
            Op::Reduce(reduce) => self.reduce(at, reduce),
            Op::Reshape(_) => self.reshape(at),
            Op::Transpose { permutation } => self.transpose(at, permutation),
            Op::Concat { axis } => self.concat(at, *axis),
            Op::Slice => self.slice(at),
            Op::Pad => self.pad(at),
            Op::Split { axis } => self.split(at, *axis),
            Op::Gather { axis } => self.gather(at, *axis),
            Op::Cast(ElementType::F32) => self.cast_to_float(at),
            Op::QuantizeLinear { .. } => self.quantize(at),
            Op::DequantizeLinear => self.dequantize(at),
            Op::Other(_) => self.other(at),
            _ => Err(NO_FORM.to_owned()),
        }
    }

    /// Operators that the typed graph does not tell apart.
    fn other(&mut self, at: usize) -> Converted {
        match self.network.node(at).op_type.as_str() {
            "Max" | "Min" | "Sum" => self.variadic(at),
            "Resize" => self.resize(at),
            "DepthToSpace" | "SpaceToDepth" => self.space_and_depth(at),
            "Expand" => self.expand(at),
            "Where" => self.select(at),
            _ => self.comparison(at),
        }
    }

    fn identity(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let rank = self.values.shape(&node.inputs[0])?.len();
        self.values
            .define_permuted(&node.outputs[0], &node.inputs[0], &native(rank))
    }

    fn quantize(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let params = rounded::quantizer(self.network, at)?;
        let input = node.inputs[0].as_str();
        let order = self.values.order(input)?;
        let shape = self.values.shape(input)?;
        let tensor = self.values.operand(input, Some(params), &order)?;
        self.values.define(&node.outputs[0], shape, order, tensor);
        Ok(())
    }

    /// The floats that numbers stand for are the numbers, until something wants
    /// them as floats.
    fn dequantize(&mut self, at: usize) -> Converted {
        let params = rounded::quantizer(self.network, at)?;
        let input = self.network.node(at).inputs[0].as_str();
        if self.values.params(input) != Some(params) {
            return Err("decodes with other parameters than its input was rounded with".to_owned());
        }
        self.identity(at)
    }

    /// Each output as floats in ONNX's order, in a tensor of its own.
    fn outputs(&mut self) -> Result<(), Error> {
        let refused = |reason: String| Error::new(ErrorKind::Unsupported, reason);
        for output in &self.network.graph().outputs {
            let name = output.name.as_str();
            let shape = self.values.shape(name).ok();
            let shape = shape.filter(|_| !self.values.is_boolean(name));
            let shape = shape.ok_or_else(|| {
                refused(format!(
                    "the output '{name}' is an integer, a truth or a constant, and outputs can be float32 values alone"
                ))
            })?;
            let order = native(shape.len());
            let mut tensor = self.values.operand(name, None, &order).map_err(refused)?;
            let model = &self.values.model;
            if model.inputs.contains(&tensor) || model.outputs.contains(&tensor) {
                let copy = self.values.activation(name, shape.clone(), None);
                let extents: Vec<i32> = shape.iter().map(|&extent| extent as i32).collect();
                let extents = self.values.integers("shape", &extents);
                let options = Options::Reshape(shape);
                self.values
                    .operator(Code::Reshape, vec![tensor, extents], copy, options);
                tensor = copy;
            }
            name.clone_into(&mut self.values.model.tensors[tensor].name);
            self.values.model.outputs.push(tensor);
        }
        Ok(())
    }

    /// The parameters of a value that is rounded to 8 bits.
    fn rounded(&self, name: &str) -> Option<Params> {
        self.rounded.get(name).copied()
    }
}

/// What is said of an operator without one of TFLite's.
const NO_FORM: &str = "has no form in TFLite";

/// Whether an operator that reads booleans may be converted.
fn takes_booleans(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(Unary::Identity)
            | Op::Reshape(_)
            | Op::Transpose { .. }
            | Op::Slice
            | Op::Cast(_)
            | Op::Other(_)
    )
}

fn wants_channels_last(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::MaxPool(_)
            | Op::AveragePool(_)
            | Op::GlobalAveragePool
    )
}
