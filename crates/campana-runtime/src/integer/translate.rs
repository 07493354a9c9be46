//! From a program to the steps of an integer network.

use std::collections::HashMap;

use campana_kernels::elementwise::{Binary, Unary};
use campana_kernels::int8::{self, QuantParams, Requantize};
use campana_kernels::pooling::Pooling;
use campana_kernels::{Isa, ThreadPool};
use campana_tensor::TensorData;

use super::float::{Floats, PairOf, Table, all_codes};
use super::operation::{
    Averages, Block, Combination, Extents, Operation, Pair, Product, Rounding, Sum,
};
use super::{IntegerNetwork, Step, Value};
use crate::error::PlanError;
use crate::ops::ConvGeometry;
use crate::plan::{Int8Layer, Plan, UNBOUNDED};
use crate::program::int8::{Int8Action, PoolExtents};
use crate::program::step::{self, Action};
use crate::program::{InputShape, Place, Program};
use crate::strided::{BroadcastPlan, Region, strides_of};

/// Why a step has no form on codes: half a sentence, said behind the node's name.
type Refusal = String;

pub(super) fn translate(
    plan: &Plan,
    inputs: &[InputShape],
    program: &Program,
) -> Result<IntegerNetwork, PlanError> {
    let mut translation = Translation {
        plan,
        inputs,
        shapes: &program.shapes,
        network: IntegerNetwork {
            values: Vec::new(),
            inputs: vec![usize::MAX; inputs.len()],
            outputs: Vec::new(),
            steps: Vec::new(),
        },
        buffers: HashMap::new(),
        node: 0,
    };
    for step in &program.steps {
        translation.node = step.node;
        translation.step(step).map_err(|reason| {
            let node = &plan.nodes[step.node].node;
            PlanError::unsupported(node, reason)
        })?;
    }
    translation.outputs(program)?;
    if let Some(unread) = translation
        .network
        .inputs
        .iter()
        .position(|&at| at == usize::MAX)
    {
        let name = &plan.inputs[unread].name;
        let message = format!("the input {name:?} is not rounded to 8 bits");
        return Err(PlanError::graph(message));
    }
    Ok(translation.network)
}

/// What a buffer of the program holds.
#[derive(Clone, Debug)]
enum Held {
    /// The codes of a value.
    Codes(usize),
    Floats(Floats),
}

struct Translation<'p> {
    plan: &'p Plan,
    inputs: &'p [InputShape],
    /// Shapes of what the plan's nodes make, by name.
    shapes: &'p HashMap<String, Vec<usize>>,
    network: IntegerNetwork,
    buffers: HashMap<usize, Held>,
    node: usize,
}

impl Translation<'_> {
    fn step(&mut self, step: &step::Step) -> Result<(), Refusal> {
        let Some((buffer, _)) = step.write else {
            return Err(IN_FLOATS.to_owned());
        };
        let held = match &step.action {
            Action::Int8(action) => self.on_codes(step, action)?,
            Action::Unary(op) => {
                let input = self.floats(step, 0)?;
                Held::Floats(unary(input, *op)?)
            }
            Action::Function(function) => match self.floats(step, 0)? {
                Floats::Table(table) => Held::Floats(Floats::Table(table.function(*function))),
                other => return Err(no_table(&other)),
            },
            Action::Binary { op, plan } => Held::Floats(self.binary(step, *op, plan)?),
            Action::Copy { fill, regions } => {
                Held::Floats(self.joined(step, fill.unwrap_or(0.0), regions)?)
            }
            Action::Transpose {
                batch,
                rows,
                columns,
            } => Held::Floats(self.transposed(step, [*batch, *rows, *columns])?),
            _ => return Err(IN_FLOATS.to_owned()),
        };
        self.buffers.insert(buffer, held);
        Ok(())
    }

    fn on_codes(&mut self, step: &step::Step, action: &Int8Action) -> Result<Held, Refusal> {
        if let Int8Action::Quantize { to, turn, .. } = action {
            return self.quantized(step, *to, *turn).map(Held::Codes);
        }
        let source = self.codes(step, 0)?;
        let from = self.network.values[source].codes;
        Ok(match action {
            Int8Action::Quantize { .. } => return Err(IN_FLOATS.to_owned()),
            Int8Action::Dequantize(from) => {
                Held::Floats(Floats::Table(Table::of_codes(source, *from)))
            }
            Int8Action::Requantize {
                from, to, bounds, ..
            } => {
                let mut table = Box::new([0; 256]);
                let pool = ThreadPool::serial();
                let (isa, codes) = (Isa::detect(), all_codes());
                int8::requantize(isa, &pool, &codes, *from, *to, *bounds, &mut table[..]);
                Held::Codes(self.push_like(source, *to, Operation::Map(table)))
            }
            Int8Action::Add {
                scales, to, bounds, ..
            } => {
                let right = self.codes(step, 1)?;
                self.sum([source, right], *scales, *to, *bounds)
            }
            Int8Action::Conv(conv) => {
                let to = self.result_of(conv.gives_codes);
                let rounding = rounding(&conv.requantize);
                let factor = conv.residual;
                self.product(
                    step,
                    source,
                    &conv.geometry,
                    &conv.layer,
                    rounding,
                    factor,
                    to,
                )?
            }
            Int8Action::Depthwise(conv) => {
                let to = self.result_of(true);
                let rounding = rounding(std::slice::from_ref(&conv.requantize));
                self.product(
                    step,
                    source,
                    &conv.geometry,
                    &conv.layer,
                    rounding,
                    None,
                    to,
                )?
            }
            Int8Action::MaxPool(extents) => {
                let extents = pool_extents(extents);
                let value = value_of(extents.output_shape(extents.channels), from);
                let operation = Operation::MaxPool(extents);
                Held::Codes(self.push(vec![source], value, operation))
            }
            Int8Action::AveragePool {
                extents,
                pooling,
                from,
                to,
            } => {
                let averages = Averages {
                    extents: pool_extents(extents),
                    counts_padding: *pooling == Pooling::AverageWithPadding,
                    from: *from,
                    to: *to,
                };
                self.average(source, averages)
            }
            Int8Action::Copy { fill, regions, .. } => {
                let operation = Operation::Copy {
                    fill: fill.unwrap_or(0),
                    blocks: regions.iter().map(block).collect(),
                };
                let is_part = self.plan.nodes[self.node].node.outputs.len() > 1;
                let value = match regions.as_slice() {
                    [part] if is_part => value_of(part.dims.clone(), from),
                    _ => self.output(from),
                };
                let sources = (0..regions.len()).map(|i| self.codes(step, i));
                let sources = sources.collect::<Result<Vec<_>, Refusal>>()?;
                Held::Codes(self.push(sources, value, operation))
            }
        })
    }

    fn sum(
        &mut self,
        operands: [usize; 2],
        scales: [QuantParams; 2],
        to: QuantParams,
        bounds: [u8; 2],
    ) -> Held {
        let factors = scales.map(|params| params.scale / to.scale);
        let zeros = scales.map(|params| f32::from(params.zero_point));
        let offset = f32::from(to.zero_point) - factors[0] * zeros[0] - factors[1] * zeros[1];
        let sum = Operation::Sum(Sum {
            factors,
            offset,
            bounds,
        });
        let shape = self.network.values[operands[0]].shape.clone();
        let value = value_of(shape, Some(to));
        Held::Codes(self.push(operands.to_vec(), value, sum))
    }

    fn average(&mut self, source: usize, averages: Averages) -> Held {
        let extents = averages.extents;
        let value = value_of(extents.output_shape(extents.channels), averages.to);
        let value = self.push(vec![source], value, Operation::Average(averages));
        held(value, averages.to.is_some())
    }

    /// What the node's results are rounded to, where they are.
    fn result_of(&self, gives_codes: bool) -> Option<QuantParams> {
        self.plan.nodes[self.node].quantize.filter(|_| gives_codes)
    }

    #[expect(clippy::too_many_arguments, reason = "a layer and where it lies")]
    fn product(
        &mut self,
        step: &step::Step,
        source: usize,
        geometry: &ConvGeometry,
        layer: &Int8Layer,
        rounding: Rounding,
        residual: Option<f32>,
        to: Option<QuantParams>,
    ) -> Result<Held, Refusal> {
        let sliding = geometry.windows.sliding;
        let mut reads = vec![source];
        if residual.is_some() {
            reads.push(self.codes(step, 1)?);
        }
        let product = Product {
            extents: Extents {
                batch: geometry.batch,
                channels: geometry.channels,
                input: sliding.input,
                output: sliding.output,
                window: geometry.windows.window,
                strides: sliding.strides,
                dilations: sliding.dilations,
                pads_begin: sliding.pads_begin,
            },
            filters: geometry.filters,
            groups: geometry.groups,
            weights: layer.numbers.clone(),
            input: layer.input,
            rounding,
            residual,
            encoding: None,
        };
        let value = value_of(product.extents.output_shape(product.filters), to);
        let value = self.push(reads, value, Operation::Product(Box::new(product)));
        Ok(held(value, to.is_some()))
    }

    /// Codes of what a buffer or an input of the graph holds.
    fn quantized(
        &mut self,
        step: &step::Step,
        to: QuantParams,
        turn: Option<[usize; 3]>,
    ) -> Result<usize, Refusal> {
        if let Some(Place::Input(input)) = step.reads.first() {
            return self.input(*input, to);
        }
        let floats = self.floats(step, 0)?;
        let value = match floats {
            Floats::Joined { parts, fill } => {
                let (mut reads, mut blocks) = (Vec::new(), Vec::new());
                for (floats, block) in parts {
                    reads.push(self.encoded(&floats, to)?);
                    blocks.push(block);
                }
                let fill = to.code(fill);
                let value = self.output(Some(to));
                self.push(reads, value, Operation::Copy { fill, blocks })
            }
            Floats::Pair(pair) => self.combined(*pair, to),
            other => self.encoded(&other, to)?,
        };
        let Some([batch, channels, pixels]) = turn else {
            return Ok(value);
        };
        let turned = turned_block(batch, channels, pixels);
        let operation = Operation::Copy {
            fill: 0,
            blocks: vec![turned],
        };
        let output = Value {
            channels_last: true,
            ..self.network.values[value].clone()
        };
        Ok(self.push(vec![value], output, operation))
    }

    /// Codes of what lies element by element as it is wanted.
    fn encoded(&mut self, floats: &Floats, to: QuantParams) -> Result<usize, Refusal> {
        let value = match floats {
            Floats::Table(table) => {
                let codes = table.codes(to);
                return Ok(self.mapped(table.source, codes, to));
            }
            Floats::Result(value) => *value,
            other => return Err(no_table(other)),
        };
        let maker = self
            .network
            .steps
            .iter_mut()
            .find(|step| step.writes == value);
        let Some(Operation::Product(product)) = maker.map(|step| &mut step.operation) else {
            return Err(IN_FLOATS.to_owned());
        };
        let encoding = to.into();
        match product.encoding {
            None => {
                product.encoding = Some(encoding);
                let bounds = &mut product.rounding.bounds;
                *bounds = bounds.map(|bound| f32::from(to.code(bound)));
                self.network.values[value].codes = Some(to);
                Ok(value)
            }
            Some(own) if own == encoding => Ok(value),
            Some(_) => Err("reads floats that others round in another way".to_owned()),
        }
    }

    /// The value of an input of the graph.
    fn input(&mut self, input: usize, to: QuantParams) -> Result<usize, Refusal> {
        let shape = &self.inputs[input].shape;
        let value = Value {
            name: self.plan.inputs[input].name.clone(),
            shape: shape.clone(),
            channels_last: shape.len() > 2,
            codes: Some(to),
        };
        let known = self.network.inputs[input];
        if known == usize::MAX {
            self.network.inputs[input] = self.network.values.len();
            self.network.values.push(value);
        } else if self.network.values[known] != value {
            let name = &value.name;
            return Err(format!(
                "rounds the input {name:?} in another way than others do"
            ));
        }
        Ok(self.network.inputs[input])
    }

    /// A value through a table; the value itself where that changes nothing.
    fn mapped(&mut self, source: usize, codes: Box<[u8; 256]>, to: QuantParams) -> usize {
        if *codes == all_codes() && self.network.values[source].codes == Some(to) {
            return source;
        }
        self.push_like(source, to, Operation::Map(codes))
    }

    fn combined(&mut self, pair: PairOf, to: QuantParams) -> usize {
        let [left, right] = pair.tables;
        let reads = vec![left.source, right.source];
        let operation = Operation::Combine(Box::new(Combination {
            function: pair.function,
            tables: [left.floats, right.floats],
            dims: pair.dims,
            strides: pair.strides,
            encoding: to.into(),
            bounds: pair.bounds.map(|bound| to.code(bound)),
        }));
        let value = self.output(Some(to));
        self.push(reads, value, operation)
    }

    fn binary(
        &mut self,
        step: &step::Step,
        op: Binary,
        plan: &BroadcastPlan,
    ) -> Result<Floats, Refusal> {
        if let Some(result) = self.with_scalar(step, op)? {
            return Ok(result);
        }
        let (left, right) = (self.table(step, 0)?, self.table(step, 1)?);
        if left.source == right.source && plan.left == plan.right {
            let floats = left.floats.clone();
            return Ok(Floats::Table(left.binary(op, &floats, &right.floats)));
        }
        let function = match op {
            Binary::Add => Pair::Add,
            Binary::Sub => Pair::Sub,
            Binary::Mul => Pair::Mul,
            Binary::Div => return Err("divides two activations".to_owned()),
            Binary::Max | Binary::Min => return Err("compares two activations".to_owned()),
            Binary::Prelu => return Err("has slopes that are activations".to_owned()),
        };
        Ok(Floats::Pair(Box::new(PairOf {
            function,
            tables: [left, right],
            dims: plan.dims.clone(),
            strides: [plan.left.clone(), plan.right.clone()],
            bounds: UNBOUNDED,
        })))
    }

    /// A function of a value and one constant number.
    fn with_scalar(&self, step: &step::Step, op: Binary) -> Result<Option<Floats>, Refusal> {
        let scalar = |place: &Place| match place {
            Place::Constant(tensor) => match tensor.data() {
                TensorData::F32(values) if values.len() == 1 => Ok(Some([values[0]; 256])),
                _ => Err("has a constant operand of more than one number".to_owned()),
            },
            _ => Ok(None),
        };
        let [left, right] = &step.reads[..] else {
            return Ok(None);
        };
        Ok(match (scalar(left)?, scalar(right)?) {
            (Some(constant), None) => {
                let table = self.table(step, 1)?;
                let floats = table.floats.clone();
                Some(Floats::Table(table.binary(op, &constant, &floats)))
            }
            (None, Some(constant)) => {
                let table = self.table(step, 0)?;
                let floats = table.floats.clone();
                Some(Floats::Table(table.binary(op, &floats, &constant)))
            }
            _ => None,
        })
    }

    fn joined(
        &mut self,
        step: &step::Step,
        fill: f32,
        regions: &[Region],
    ) -> Result<Floats, Refusal> {
        let parts = regions
            .iter()
            .enumerate()
            .map(|(i, region)| match self.floats(step, i)? {
                floats @ (Floats::Table(_) | Floats::Result(_)) => Ok((floats, block(region))),
                other => Err(no_table(&other)),
            });
        let parts: Vec<(Floats, Block)> = parts.collect::<Result<_, Refusal>>()?;
        Ok(Floats::Joined { parts, fill })
    }

    /// Matrices turned around; results of the network stay as they lie.
    fn transposed(&mut self, step: &step::Step, extents: [usize; 3]) -> Result<Floats, Refusal> {
        let floats = self.floats(step, 0)?;
        if let Floats::Result(value) = floats {
            self.network.values[value].channels_last = true;
            return Ok(floats);
        }
        let [batch, rows, columns] = extents;
        let table = self.table(step, 0)?;
        let value = Value {
            channels_last: false,
            ..self.network.values[table.source].clone()
        };
        let operation = Operation::Copy {
            fill: 0,
            blocks: vec![turned_block(batch, rows, columns)],
        };
        let source = self.push(vec![table.source], value, operation);
        Ok(Floats::Table(Table { source, ..table }))
    }

    /// The outputs, as codes where they are the values of codes.
    fn outputs(&mut self, program: &Program) -> Result<(), PlanError> {
        for (output, val) in self.plan.outputs.iter().zip(&program.outputs) {
            let refused =
                |why: &str| PlanError::graph(format!("the output {:?} {why}", output.name));
            let Place::Buffer(buffer) = val.place else {
                return Err(refused("is no result of a layer on 8 bits"));
            };
            let value = match self.buffers.get(&buffer) {
                Some(Held::Floats(Floats::Result(value)))
                    if self.network.values[*value].codes.is_some() =>
                {
                    return Err(refused("is also rounded for others"));
                }
                Some(Held::Codes(value) | Held::Floats(Floats::Result(value))) => *value,
                Some(Held::Floats(Floats::Table(table))) if table.is_plain => table.source,
                Some(Held::Floats(Floats::Table(table))) => {
                    let operation = Operation::Decode(table.floats.clone());
                    let like = self.network.values[table.source].clone();
                    self.push(
                        vec![table.source],
                        Value {
                            codes: None,
                            ..like
                        },
                        operation,
                    )
                }
                _ => return Err(refused(IN_FLOATS)),
            };
            let found = &mut self.network.values[value];
            // Codes lie as the graph says by now.
            found.channels_last &= found.codes.is_none();
            found.name.clone_from(&output.name);
            found.shape.clone_from(&val.shape);
            self.network.outputs.push(value);
        }
        Ok(())
    }

    fn held(&self, step: &step::Step, operand: usize) -> Result<Held, Refusal> {
        match step.reads.get(operand) {
            Some(Place::Buffer(buffer)) => {
                let held = self.buffers.get(buffer).cloned();
                held.ok_or_else(|| IN_FLOATS.to_owned())
            }
            Some(Place::Input(input)) => {
                let name = &self.plan.inputs[*input].name;
                Err(format!(
                    "reads the input {name:?} before it is rounded to 8 bits"
                ))
            }
            _ => Err(IN_FLOATS.to_owned()),
        }
    }

    fn codes(&self, step: &step::Step, operand: usize) -> Result<usize, Refusal> {
        match self.held(step, operand)? {
            Held::Codes(value) => Ok(value),
            Held::Floats(_) => Err(IN_FLOATS.to_owned()),
        }
    }

    fn floats(&self, step: &step::Step, operand: usize) -> Result<Floats, Refusal> {
        match self.held(step, operand)? {
            Held::Floats(floats) => Ok(floats),
            Held::Codes(_) => Err(IN_FLOATS.to_owned()),
        }
    }

    fn table(&self, step: &step::Step, operand: usize) -> Result<Table, Refusal> {
        match self.floats(step, operand)? {
            Floats::Table(table) => Ok(table),
            other => Err(no_table(&other)),
        }
    }

    /// A value of the shape of the output of the node that steps are made for.
    fn output(&self, codes: Option<QuantParams>) -> Value {
        let name = self.plan.nodes[self.node].node.outputs.first();
        let shape = name.and_then(|name| self.shapes.get(name)).cloned();
        value_of(shape.unwrap_or_default(), codes)
    }

    fn push_like(&mut self, source: usize, codes: QuantParams, operation: Operation) -> usize {
        let value = Value {
            name: String::new(),
            codes: Some(codes),
            ..self.network.values[source].clone()
        };
        self.push(vec![source], value, operation)
    }

    fn push(&mut self, reads: Vec<usize>, value: Value, operation: Operation) -> usize {
        let node = &self.plan.nodes[self.node].node;
        let writes = self.network.values.len();
        self.network.values.push(value);
        self.network.steps.push(Step {
            node: node.label().to_owned(),
            op_type: node.op_type.clone(),
            reads,
            writes,
            operation,
        });
        writes
    }
}

/// Why floats have no form on codes.
const IN_FLOATS: &str = "computes in floats, for want of an activation that is rounded to 8 bits \
                         (int8 rounds more of them than w4a8) or of an operator on codes";

/// Why a function of floats has no table.
fn no_table(floats: &Floats) -> Refusal {
    match floats {
        Floats::Result(_) => "reads what a layer gives in floats: int8 (with --bits 4 for weights of 4 bits) rounds more of \
                              these than w4a8, as far as that costs the outputs little",
        _ => "computes in floats, on more than one rounded activation",
    }
    .to_owned()
}

fn value_of(shape: Vec<usize>, codes: Option<QuantParams>) -> Value {
    Value {
        name: String::new(),
        shape,
        channels_last: false,
        codes,
    }
}

fn held(value: usize, is_codes: bool) -> Held {
    match is_codes {
        true => Held::Codes(value),
        false => Held::Floats(Floats::Result(value)),
    }
}

/// A function of floats.
fn unary(input: Floats, op: Unary) -> Result<Floats, Refusal> {
    match (input, op) {
        (Floats::Table(table), op) => Ok(Floats::Table(table.unary(op))),
        (Floats::Pair(mut pair), Unary::Clamp { at_least, at_most }) => {
            let clamp = |bound: f32| bound.max(at_least).min(at_most);
            pair.bounds = pair.bounds.map(clamp);
            Ok(Floats::Pair(pair))
        }
        (other, _) => Err(no_table(&other)),
    }
}

/// What becomes of the sums of all groups, one after another.
fn rounding(groups: &[Requantize]) -> Rounding {
    let channels = groups
        .iter()
        .flat_map(|group| (0..group.channels()).map(|channel| group.channel(channel)));
    let first = groups.first();
    Rounding {
        channels: channels.collect(),
        bounds: first.map_or(UNBOUNDED, |first| [first.at_least, first.at_most]),
    }
}

fn pool_extents(pool: &PoolExtents) -> Extents {
    let sliding = pool.sliding;
    Extents {
        batch: pool.batch,
        channels: pool.channels,
        input: sliding.input,
        output: sliding.output,
        window: pool.window,
        strides: sliding.strides,
        dilations: sliding.dilations,
        pads_begin: sliding.pads_begin,
    }
}

fn block(region: &Region) -> Block {
    Block {
        dims: region.dims.clone(),
        from: region.from,
        from_strides: region.from_strides.clone(),
        to: region.to,
        to_strides: region.to_strides.clone(),
    }
}

/// `[batch, rows, columns]` as `[batch, columns, rows]`.
fn turned_block(batch: usize, rows: usize, columns: usize) -> Block {
    let dims = vec![batch, columns, rows];
    Block {
        from: 0,
        from_strides: vec![(rows * columns) as isize, 1, columns as isize],
        to: 0,
        to_strides: strides_of(&dims),
        dims,
    }
}
