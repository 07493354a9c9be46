//! From the typed graph to a MIL program, node by node.

mod convolution;
mod dense;
mod elementwise;
mod ends;
mod moves;
mod normalization;
mod pooling;
mod reduce;
mod resize;
#[cfg(test)]
mod tests;
mod unary;
mod window;

use std::collections::{BTreeMap, HashMap, HashSet};

use campana_ir::fixed_inputs::{Unfit, UnfitInput, fixed_inputs};
use campana_ir::graph::{Graph, Value};
use campana_ir::network::Network;
use campana_ir::op::{Op, Unary};
use campana_tensor::ElementType;

use crate::error::{Converted, Error, ErrorKind};
use crate::package::Package;
use crate::parameters::Parameters;
use crate::picture::Options;
use crate::program::{Given, Precision, Program, Var};
use crate::proto::{Function, Model, Program as MilProgram};

/// The operators of iOS 18 and macOS 15, the first with codes of 3 bits and with
/// tables of blocks.
const OPSET: &str = "CoreML8";
const SPECIFICATION_VERSION: i32 = 9;

/// The network as a Core ML package.
///
/// An open batch becomes 1. Outputs are float32 and have the network's names, as
/// far as these are names in Core ML.
///
/// # Errors
///
/// Of kind `Unsupported` where a node, input or output cannot be said in Core
/// ML or does not fit the options, of kind `OpenShape` where an extent other
/// than the batch is open, of kind `InvalidModel` where the network contradicts
/// itself; names the node or value.
pub fn convert(graph: &Graph, options: &Options) -> Result<Package, Error> {
    let graph = fixed_inputs(graph).map_err(unfit_input)?;
    let network = Network::new(&graph).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot analyse the network").with_source(error)
    })?;
    let mut converter = Converter {
        network: &network,
        parameters: Parameters::new(&network)?,
        program: Program::new(options.precision),
        values: HashMap::new(),
        done: HashSet::new(),
    };
    // Before values between them take names.
    let mut names = |values: &[Value]| -> Vec<String> {
        values
            .iter()
            .map(|value| converter.program.name(&value.name))
            .collect()
    };
    let (inputs, outputs) = (names(&graph.inputs), names(&graph.outputs));
    let (inputs, features) = converter.inputs(options, &inputs)?;
    converter.nodes()?;
    let (outputs, description) = converter.outputs(options, outputs, features)?;
    let (block, weights) = converter.program.finish(outputs);
    let function = Function {
        inputs,
        opset: OPSET.to_owned(),
        blocks: BTreeMap::from([(OPSET.to_owned(), block)]),
    };
    let model = Model {
        specification_version: SPECIFICATION_VERSION,
        description: Some(description),
        ml_program: Some(MilProgram {
            version: 1,
            functions: BTreeMap::from([("main".to_owned(), function)]),
        }),
    };
    Ok(Package::new(&model, weights))
}

fn unfit_input(unfit: UnfitInput) -> Error {
    let kind = match unfit.reason {
        Unfit::ElementType(_) => ErrorKind::Unsupported,
        Unfit::Empty => ErrorKind::InvalidModel,
        Unfit::NoShape | Unfit::Open(_) => ErrorKind::OpenShape,
    };
    let message = unfit.message(
        "only float32 is taken",
        "a Core ML package is written with fixed ones",
    );
    Error::new(kind, message)
}

/// A program under way.
struct Converter<'n> {
    network: &'n Network<'n>,
    parameters: Parameters<'n>,
    program: Program,
    /// The activations so far.
    values: HashMap<String, Var>,
    /// Nodes that became part of another.
    done: HashSet<usize>,
}

impl<'n> Converter<'n> {
    fn nodes(&mut self) -> Result<(), Error> {
        let live = self.network.live_nodes();
        for at in 0..self.network.graph().nodes.len() {
            if !live.contains(&at) || self.done.contains(&at) || self.is_no_activation(at) {
                continue;
            }
            let found = self.node(at);
            found.map_err(|reason| {
                let node = self.network.node(at);
                let message = format!("node '{}' ({}) {reason}", node.label(), node.op_type);
                Error::new(ErrorKind::Unsupported, message)
            })?;
        }
        Ok(())
    }

    /// Whether a node makes parameters, or integers that say how others compute.
    fn is_no_activation(&self, at: usize) -> bool {
        let Some(output) = self.network.node(at).outputs.first() else {
            return true;
        };
        let is_known = || {
            let info = self.network.value(output);
            info.is_some_and(|info| info.integers.is_some())
        };
        let reads_shape = || matches!(self.network.op(at), Op::Shape { .. });
        self.network.is_parameter(output) || is_known() || reads_shape()
    }

    fn node(&mut self, at: usize) -> Converted {
        let op = self.network.op(at).clone();
        let inputs = &self.network.node(at).inputs;
        let is_there = |place: usize| inputs.get(place).is_some_and(|name| !name.is_empty());
        let needed = match op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul | Op::Binary(_) => 2,
            _ => 1,
        };
        if !(0..needed).all(is_there) {
            return Err("lacks an input".to_owned());
        }
        match &op {
            Op::Conv(convolution) => self.convolution(at, convolution),
            Op::ConvTranspose(convolution) => self.transposed_convolution(at, convolution),
            Op::Gemm(gemm) => self.gemm(at, *gemm),
            Op::MatMul => self.matmul(at),
            Op::BatchNormalization(normalization) => self.batch_norm(at, *normalization),
            Op::Unary(Unary::Relu) => self.plain(at, "relu"),
            Op::Unary(Unary::Clip) => self.clip(at),
            Op::Unary(Unary::Identity) | Op::Cast(ElementType::F32) => self.identity(at),
            Op::Unary(Unary::Other) => self.unary(at),
            Op::Binary(binary) => self.binary(at, *binary),
            Op::Normalization => self.normalization(at),
            Op::MaxPool(pool) => self.max_pool(at, pool),
            Op::AveragePool(pool) => self.average_pool(at, pool),
            Op::GlobalAveragePool => self.over_spatial_axes(at, "reduce_mean"),
            Op::GlobalMaxPool => self.over_spatial_axes(at, "reduce_max"),
            Op::Reduce(reduce) => self.reduce(at, reduce),
            Op::Reshape(_) => self.reshape(at),
            Op::Transpose { permutation } => self.transpose(at, permutation),
            Op::Concat { axis } => self.concat(at, *axis),
            Op::Slice => self.slice(at),
            Op::Pad => self.pad(at),
            Op::Split { axis } => self.split(at, *axis),
            Op::Gather { axis } => self.gather(at, *axis),
            Op::Other(_) => self.other(at),
            _ => Err(NO_FORM.to_owned()),
        }
    }

    /// Operators that the typed graph does not tell apart.
    fn other(&mut self, at: usize) -> Converted {
        match self.network.node(at).op_type.as_str() {
            "Max" => self.variadic(at, "maximum"),
            "Min" => self.variadic(at, "minimum"),
            "Sum" => self.variadic(at, "add"),
            "Mean" => self.mean(at),
            "Resize" | "Upsample" => self.resize(at),
            "DepthToSpace" | "SpaceToDepth" => self.space_and_depth(at),
            "Expand" => self.expand(at),
            "Tile" => self.tile(at),
            "LayerNormalization" => self.layer_norm(at),
            _ => Err(NO_FORM.to_owned()),
        }
    }

    fn identity(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let var = self.activation(&node.inputs[0])?;
        self.values.insert(node.outputs[0].clone(), var);
        Ok(())
    }

    /// A value that depends on the network's inputs.
    fn activation(&self, name: &str) -> Converted<Var> {
        let found = self.values.get(name).cloned();
        found.ok_or_else(|| format!("reads '{name}', which is no float32 activation"))
    }

    /// A value, which may be a constant.
    fn operand(&mut self, name: &str) -> Converted<Var> {
        if self.values.contains_key(name) {
            return self.activation(name);
        }
        let Some((shape, values)) = self.parameters.floats(name) else {
            return self.activation(name);
        };
        self.program.floats(&shape, &values)
    }

    /// The constant of floats that a node has for an input.
    fn constant(&self, at: usize, place: usize) -> Converted<Option<(Vec<usize>, Vec<f32>)>> {
        let name = self.network.node(at).inputs.get(place);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        match self.parameters.floats(name) {
            Some((shape, values)) => Ok(Some((shape, values.into_owned()))),
            None => Err(format!(
                "computes '{name}' from its inputs, and Core ML wants a constant"
            )),
        }
    }

    /// The constant list of integers that a node has for an input.
    fn list(&self, at: usize, place: usize) -> Converted<Option<Vec<i64>>> {
        let name = self.network.node(at).inputs.get(place);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        match self.parameters.integers(name) {
            Some(list) => Ok(Some(list)),
            None => Err(format!(
                "computes '{name}' from its inputs, and Core ML wants a constant"
            )),
        }
    }

    /// The extents of a node's output.
    fn output_shape(&self, at: usize, place: usize) -> Converted<Vec<usize>> {
        let name = &self.network.node(at).outputs[place];
        let info = self.network.value(name);
        let shape = info.and_then(campana_ir::infer::ValueInfo::fixed_shape);
        shape.ok_or_else(|| format!("makes '{name}', whose extents are not known before a run"))
    }

    /// An operation whose result is a node's output.
    fn make(
        &mut self,
        at: usize,
        kind: &str,
        inputs: Vec<(&str, Given)>,
        shape: &[usize],
    ) -> Converted {
        let var = self.program.operation(kind, inputs, shape)?;
        self.define(at, var);
        Ok(())
    }

    /// A node's output is this value.
    fn define(&mut self, at: usize, var: Var) {
        let name = self.network.node(at).outputs[0].clone();
        self.values.insert(name, var);
    }

    /// A function of one value, with no other input.
    fn plain(&mut self, at: usize, kind: &str) -> Converted {
        let x = self.activation(&self.network.node(at).inputs[0])?;
        let shape = x.shape.clone();
        self.make(at, kind, vec![("x", x.into())], &shape)
    }

    /// `kind` of two values of the same shape, or one of which is broadcast.
    fn two(&mut self, kind: &str, x: &Var, y: &Var) -> Converted<Var> {
        let shape = broadcast(&x.shape, &y.shape)?;
        self.program
            .operation(kind, vec![("x", x.into()), ("y", y.into())], &shape)
    }

    /// A factor and a term for each index along an axis; either is left out where
    /// it changes nothing.
    fn affine(
        &mut self,
        x: Var,
        axis: usize,
        factors: Option<&[f32]>,
        terms: Option<&[f32]>,
    ) -> Converted<Var> {
        let mut shape = vec![1; x.shape.len() - axis];
        shape[0] = x.shape[axis];
        let mut x = x;
        if let Some(factors) = factors.filter(|all| all.iter().any(|&factor| factor != 1.0)) {
            let factors = self.program.floats(&shape, factors)?;
            x = self.two("mul", &x, &factors)?;
        }
        if let Some(terms) = terms.filter(|all| all.iter().any(|&term| term != 0.0)) {
            let terms = self.program.floats(&shape, terms)?;
            x = self.two("add", &x, &terms)?;
        }
        Ok(x)
    }

    /// A small positive number that is not rounded to zero.
    fn epsilon(&mut self, epsilon: f32) -> Converted<Var> {
        let least = match self.program.precision {
            Precision::Float16 => half::f16::from_bits(1).to_f32(),
            Precision::Float32 => f32::from_bits(1),
        };
        self.program.float(epsilon.max(least))
    }
}

/// The shape of what two operands of these shapes give.
fn broadcast(x: &[usize], y: &[usize]) -> Converted<Vec<usize>> {
    let rank = x.len().max(y.len());
    let extent = |shape: &[usize], place: usize| {
        let at = (place + shape.len()).checked_sub(rank);
        at.map_or(1, |at| shape[at])
    };
    let extents = (0..rank).map(|place| match (extent(x, place), extent(y, place)) {
        (1, other) | (other, 1) => Some(other),
        (x, y) => (x == y).then_some(x),
    });
    let shape: Option<Vec<usize>> = extents.collect();
    shape.ok_or_else(|| format!("has operands of {x:?} and {y:?}, which do not fit together"))
}

/// What is said of an operator without one of Core ML's.
const NO_FORM: &str = "has no form in Core ML";
