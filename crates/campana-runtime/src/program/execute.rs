//! Running a program.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use campana_kernels::depthwise::{Sliding, depthwise};
use campana_kernels::elementwise::map;
use campana_kernels::gemm::{Epilogue, Grid, RowRuns, gemm};
use campana_kernels::layout::{pad, transpose};
use campana_kernels::pooling::{Pooling, global_average, pool as pool_image};
use campana_kernels::{AlignedBuffer, Isa, ThreadPool};
use campana_tensor::{Tensor, TensorData};

use super::step::{Action, Border, ConvStep, Step};
use super::{Place, Program, Val};
use crate::error::RunError;
use crate::limits::Interrupt;
use crate::ops::{Call, Fault, floats, run};
use crate::plan::{Plan, PlannedNode, UNBOUNDED};

/// An input of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InputData<'a> {
    /// Floats; the program knows the shape.
    Floats(&'a [f32]),
    /// A tensor of another type.
    Other(&'a Tensor),
}

/// Memory for one run at a time.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    buffers: Vec<AlignedBuffer>,
    slots: Vec<Option<Tensor>>,
}

impl Frame {
    /// Makes room for a program.
    fn fit(&mut self, program: &Program) {
        self.buffers.resize_with(
            program.buffers.len().max(self.buffers.len()),
            AlignedBuffer::default,
        );
        for (buffer, &len) in self.buffers.iter_mut().zip(&program.buffers) {
            if buffer.as_slice().len() < len {
                *buffer = AlignedBuffer::zeros(len);
            }
        }
        self.slots.clear();
        self.slots.resize_with(program.slots, || None);
    }

    /// Bytes of its buffers.
    pub(crate) fn len_bytes(&self) -> usize {
        self.buffers.iter().map(AlignedBuffer::len_bytes).sum()
    }
}

/// What a run needs beside its program and its memory.
#[derive(Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) isa: Isa,
    pub(crate) pool: &'a ThreadPool,
    /// Memory that no run uses.
    pub(crate) frames: &'a Mutex<Vec<Frame>>,
    pub(crate) interrupt: Option<&'a Interrupt>,
}

impl Machine<'_> {
    /// Runs a program; `elapsed_ns` gets each step's time, where asked for.
    pub(crate) fn run(
        &self,
        program: &Program,
        inputs: &[InputData<'_>],
        elapsed_ns: Option<&mut Vec<u64>>,
    ) -> Result<Vec<Tensor>, RunError> {
        self.with_frame(program, |frame| {
            program.run(self, frame, inputs, elapsed_ns)?;
            program.outputs(frame, inputs)
        })
    }

    /// Runs a program whose outputs are floats, and copies these to where they belong.
    pub(crate) fn run_into(
        &self,
        program: &Program,
        inputs: &[InputData<'_>],
        outputs: &mut [&mut [f32]],
    ) -> Result<(), RunError> {
        self.with_frame(program, |frame| {
            program.run(self, frame, inputs, None)?;
            program.copy_outputs(frame, inputs, outputs)
        })
    }

    /// Lends memory that a program runs in.
    fn with_frame<R>(&self, program: &Program, work: impl FnOnce(&mut Frame) -> R) -> R {
        // What is inside stays usable when a thread that held it panicked.
        let frames = || self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let mut frame = frames().pop().unwrap_or_default();
        frame.fit(program);
        let result = work(&mut frame);
        frames().push(frame);
        result
    }
}

impl Program {
    /// Runs the steps, which leave the outputs in the frame; `elapsed_ns` gets
    /// each step's time, where asked for.
    fn run(
        &self,
        machine: &Machine<'_>,
        frame: &mut Frame,
        inputs: &[InputData<'_>],
        mut elapsed_ns: Option<&mut Vec<u64>>,
    ) -> Result<(), RunError> {
        for step in &self.steps {
            let start = elapsed_ns.is_some().then(Instant::now);
            let node = &machine.plan.nodes[step.node];
            if machine.interrupt.is_some_and(Interrupt::is_set) {
                return Err(RunError::node(&node.node, Fault::Interrupted));
            }
            run_step(step, node, machine, frame, inputs)
                .map_err(|fault| RunError::node(&node.node, fault))?;
            for &slot in &step.frees {
                frame.slots[slot] = None;
            }
            if let (Some(times), Some(start)) = (&mut elapsed_ns, start) {
                times.push(start.elapsed().as_nanos() as u64);
            }
        }
        Ok(())
    }

    /// The outputs of the run that this frame saw last.
    fn outputs(&self, frame: &Frame, inputs: &[InputData<'_>]) -> Result<Vec<Tensor>, RunError> {
        let outputs = self.outputs.iter();
        outputs.map(|val| output(val, frame, inputs)).collect()
    }

    /// Copies the outputs of the run that this frame saw last, all of them floats.
    fn copy_outputs(
        &self,
        frame: &Frame,
        inputs: &[InputData<'_>],
        outputs: &mut [&mut [f32]],
    ) -> Result<(), RunError> {
        for (val, output) in self.outputs.iter().zip(outputs) {
            let values = read(&val.place, &frame.buffers, &frame.slots, inputs).ok();
            let values = match val.place {
                // A buffer may be longer than what lies in it.
                Place::Buffer(_) => values.and_then(|values| values.get(..output.len())),
                _ => values.filter(|values| values.len() == output.len()),
            };
            output.copy_from_slice(values.ok_or_else(lost_output)?);
        }
        Ok(())
    }
}

fn lost_output() -> RunError {
    RunError::input("an output was lost")
}

fn output(val: &Val, frame: &Frame, inputs: &[InputData<'_>]) -> Result<Tensor, RunError> {
    let len = val.shape.iter().product();
    let data = match &val.place {
        Place::Constant(tensor) => tensor.data().clone(),
        Place::Input(i) => match inputs[*i] {
            InputData::Floats(values) => TensorData::F32(values.to_vec()),
            InputData::Other(tensor) => tensor.data().clone(),
        },
        Place::Buffer(buffer) => TensorData::F32(frame.buffers[*buffer].as_slice()[..len].to_vec()),
        Place::Slot(slot) => {
            let tensor = frame.slots[*slot].as_ref().ok_or_else(lost_output)?;
            tensor.data().clone()
        }
    };
    Tensor::new(val.shape.clone(), data).ok_or_else(lost_output)
}

/// The floats at a place.
fn read<'a>(
    place: &'a Place,
    buffers: &'a [AlignedBuffer],
    slots: &'a [Option<Tensor>],
    inputs: &[InputData<'a>],
) -> Result<&'a [f32], Fault> {
    let lost = || Fault::invalid("a value was lost");
    match place {
        Place::Constant(tensor) => floats(tensor),
        Place::Input(i) => match inputs[*i] {
            InputData::Floats(values) => Ok(values),
            InputData::Other(tensor) => floats(tensor),
        },
        Place::Buffer(buffer) => Ok(buffers[*buffer].as_slice()),
        Place::Slot(slot) => floats(slots[*slot].as_ref().ok_or_else(lost)?),
    }
}

fn run_step(
    step: &Step,
    planned: &PlannedNode,
    machine: &Machine<'_>,
    frame: &mut Frame,
    inputs: &[InputData<'_>],
) -> Result<(), Fault> {
    if let Action::Plain {
        inputs: places,
        slots,
    } = &step.action
    {
        return plain_step(places, slots, planned, machine, frame, inputs);
    }
    let Some((write, len)) = step.write else {
        return Ok(());
    };
    // Buffers that are written leave the frame while the others are read.
    let mut written = std::mem::take(&mut frame.buffers[write]);
    let mut scratch = match step.scratch {
        Some((buffer, _)) => std::mem::take(&mut frame.buffers[buffer]),
        None => AlignedBuffer::default(),
    };
    let result = {
        let scratch = &mut scratch.as_mut_slice()[..step.scratch.map_or(0, |(_, len)| len)];
        let operand = |i: usize| read(&step.reads[i], &frame.buffers, &frame.slots, inputs);
        act(
            step,
            operand,
            &mut written.as_mut_slice()[..len],
            scratch,
            machine,
        )
    };
    if let Some((buffer, _)) = step.scratch {
        frame.buffers[buffer] = scratch;
    }
    frame.buffers[write] = written;
    result
}

/// Elements below which a map stays on one thread.
const MIN_MAP_LEN: usize = 1 << 14;

fn act<'a>(
    step: &Step,
    operand: impl Fn(usize) -> Result<&'a [f32], Fault>,
    output: &mut [f32],
    scratch: &mut [f32],
    machine: &Machine<'_>,
) -> Result<(), Fault> {
    let (isa, pool) = (machine.isa, machine.pool);
    match &step.action {
        Action::Conv(conv) => {
            let residual = if conv.has_residual {
                Some(operand(1)?)
            } else {
                None
            };
            run_conv(conv, operand(0)?, residual, output, scratch, machine);
        }
        Action::Depthwise {
            batch,
            filters,
            sliding,
            bounds: [at_least, at_most],
        } => {
            let input = operand(0)?;
            let input_len = sliding.input[0] * sliding.input[1] * filters.channels();
            let output_len = output.len() / (*batch).max(1);
            for n in 0..*batch {
                let image = &input[n * input_len..(n + 1) * input_len];
                let output = &mut output[n * output_len..(n + 1) * output_len];
                depthwise(
                    isa, pool, image, filters, *sliding, *at_least, *at_most, output,
                );
            }
        }
        Action::Dense {
            rows,
            matrix,
            bounds: [at_least, at_most],
        } => gemm(
            isa,
            pool,
            operand(0)?,
            Grid::rows(*rows, matrix.rows()),
            RowRuns::contiguous(matrix.rows()),
            matrix,
            Epilogue {
                residual: None,
                at_least: *at_least,
                at_most: *at_most,
            },
            output,
            Grid::rows(*rows, matrix.columns()),
        ),
        Action::Pool {
            batch,
            channels,
            pooling,
            window,
            sliding,
        } => {
            let windows = PoolWindows {
                images: *batch,
                channels: *channels,
                pooling: *pooling,
                window: *window,
                sliding: *sliding,
            };
            return windows.run(operand(0)?, output, machine);
        }
        Action::GlobalAverage { channels, pixels } => {
            let (input, len) = (operand(0)?, channels * pixels);
            for (n, output) in output.chunks_exact_mut(*channels).enumerate() {
                global_average(isa, &input[n * len..(n + 1) * len], output);
            }
        }
        Action::Unary(_) | Action::Function(_) => {
            let input = if step.in_place {
                None
            } else {
                Some(&operand(0)?[..output.len()])
            };
            let chunk = output.len().div_ceil(pool.threads()).max(MIN_MAP_LEN);
            pool.for_chunks(output, chunk, |i, output| {
                if let Some(input) = input {
                    output.copy_from_slice(&input[i * chunk..][..output.len()]);
                }
                match &step.action {
                    Action::Unary(op) => map(isa, *op, output),
                    Action::Function(function) => {
                        output
                            .iter_mut()
                            .for_each(|v| *v = function(f64::from(*v)) as f32);
                    }
                    _ => {}
                }
            });
        }
        Action::Binary { op, plan } => plan.run(isa, *op, operand(0)?, operand(1)?, output),
        Action::Copy { fill, regions } => {
            if let Some(fill) = fill {
                output.fill(*fill);
            }
            for (i, region) in regions.iter().enumerate() {
                region.copy(operand(i)?, output);
            }
        }
        Action::Transpose {
            batch,
            rows,
            columns,
        } => {
            let (input, len) = (operand(0)?, rows * columns);
            if *batch > 0 && len > 0 {
                pool.for_chunks(&mut output[..batch * len], len, |n, output| {
                    transpose(&input[n * len..][..len], *rows, *columns, output);
                });
            }
        }
        Action::Int8(action) => {
            return super::run_int8::act(action, operand, output, scratch, machine);
        }
        Action::Plain { .. } => {}
    }
    Ok(())
}

/// Taps from which a pool is cut into rows, so that it can be stopped.
const LONG_POOL: usize = 1 << 26;

/// Windows that are pooled over images `[height, width, channels]`.
#[derive(Clone, Copy)]
struct PoolWindows {
    images: usize,
    channels: usize,
    pooling: Pooling,
    window: [usize; 2],
    sliding: Sliding,
}

impl PoolWindows {
    fn run(self, input: &[f32], output: &mut [f32], machine: &Machine<'_>) -> Result<(), Fault> {
        let sliding = self.sliding;
        let input_len = sliding.input[0] * sliding.input[1] * self.channels;
        let output_len = (output.len() / self.images.max(1)).max(1);
        let taps = self
            .window
            .map(|len| len.min(sliding.input[0].max(sliding.input[1])));
        let rows = if output.len().saturating_mul(taps[0] * taps[1]) < LONG_POOL {
            1
        } else {
            sliding.output[0].max(1)
        };
        let chunk = (output_len / rows).max(1);
        let is_set = || machine.interrupt.is_some_and(Interrupt::is_set);
        machine.pool.for_chunks(output, chunk, |at, output| {
            if is_set() {
                return;
            }
            let (n, row) = (at / rows, at % rows);
            let image = &input[n * input_len..(n + 1) * input_len];
            let (first, sliding) = match rows {
                1 => (0, sliding),
                _ => row_of(sliding, row),
            };
            let image = &image[first * sliding.input[1] * self.channels..];
            pool_image(
                machine.isa,
                self.pooling,
                image,
                self.channels,
                self.window,
                sliding,
                output,
            );
        });
        match is_set() {
            true => Err(Fault::Interrupted),
            false => Ok(()),
        }
    }
}

/// One row of the output of windows: the first input row that it may see, and
/// how the windows lie from there on.
fn row_of(sliding: Sliding, row: usize) -> (usize, Sliding) {
    let start = row * sliding.strides[0];
    let first = start
        .saturating_sub(sliding.pads_begin[0])
        .min(sliding.input[0]);
    let sliding = Sliding {
        input: [sliding.input[0] - first, sliding.input[1]],
        output: [1, sliding.output[1]],
        pads_begin: [
            sliding.pads_begin[0].saturating_sub(start),
            sliding.pads_begin[1],
        ],
        ..sliding
    };
    (first, sliding)
}

fn run_conv(
    conv: &ConvStep,
    input: &[f32],
    residual: Option<&[f32]>,
    output: &mut [f32],
    scratch: &mut [f32],
    machine: &Machine<'_>,
) {
    let [height, width, filters] = conv.output;
    let output_len = height * width * filters;
    let group_filters = filters / conv.groups.len().max(1);
    for n in 0..conv.batch {
        let image = &input[n * conv.input_len..(n + 1) * conv.input_len];
        let image = match conv.border {
            Some(Border {
                planes,
                size,
                before,
                after,
            }) => {
                pad(machine.pool, image, planes, size, before, after, scratch);
                &*scratch
            }
            None => image,
        };
        let range = n * output_len..(n + 1) * output_len;
        let residual = residual.map(|residual| &residual[range.clone()]);
        let output = &mut output[range];
        for (g, weights) in conv.groups.iter().enumerate() {
            gemm(
                machine.isa,
                machine.pool,
                image,
                Grid {
                    start: g * conv.group_stride,
                    ..conv.input_grid
                },
                RowRuns::new(&conv.offsets, conv.run_len),
                weights,
                Epilogue {
                    residual,
                    at_least: conv.bounds[0],
                    at_most: conv.bounds[1],
                },
                output,
                Grid {
                    start: g * group_filters,
                    ..Grid::image(height, width, filters)
                },
            );
        }
    }
}

/// Runs a node by its reference fallback, with what was fused into it.
pub(super) fn plain_node(
    planned: &PlannedNode,
    call: &Call<'_>,
    residual: Option<&Tensor>,
) -> Result<Vec<Tensor>, Fault> {
    let mut results = run(call)?;
    if let Some(residual) = residual {
        let add = campana_ir::graph::Node {
            op_type: "Add".into(),
            ..Default::default()
        };
        let sum = Call {
            node: &add,
            inputs: vec![results.first(), Some(residual)],
            ..*call
        };
        results = run(&sum)?;
    }
    if planned.bounds != UNBOUNDED
        && let Some(first) = results.first_mut()
    {
        let [at_least, at_most] = planned.bounds;
        let mut values = floats(first)?.to_vec();
        let op = campana_kernels::elementwise::Unary::Clamp { at_least, at_most };
        map(call.isa, op, &mut values);
        *first = crate::ops::tensor(first.shape().to_vec(), TensorData::F32(values))?;
    }
    Ok(results)
}

fn plain_step(
    places: &[Option<(Vec<usize>, Place)>],
    slots: &[Option<usize>],
    planned: &PlannedNode,
    machine: &Machine<'_>,
    frame: &mut Frame,
    inputs: &[InputData<'_>],
) -> Result<(), Fault> {
    let mut tensors: Vec<Option<std::borrow::Cow<'_, Tensor>>> = Vec::new();
    for place in places {
        use std::borrow::Cow;
        let Some((shape, place)) = place else {
            tensors.push(None);
            continue;
        };
        let whole = match place {
            Place::Constant(tensor) => Some(&**tensor),
            Place::Slot(slot) => frame.slots[*slot].as_ref(),
            Place::Input(i) => match inputs[*i] {
                InputData::Other(tensor) => Some(tensor),
                InputData::Floats(_) => None,
            },
            Place::Buffer(_) => None,
        };
        // A view has another shape than the tensor it was made from.
        tensors.push(Some(match whole {
            Some(tensor) if tensor.shape() == shape => Cow::Borrowed(tensor),
            Some(tensor) => Cow::Owned(crate::ops::tensor(shape.clone(), tensor.data().clone())?),
            None => {
                let len = shape.iter().product();
                let values = read(place, &frame.buffers, &frame.slots, inputs)?[..len].to_vec();
                Cow::Owned(crate::ops::tensor(shape.clone(), TensorData::F32(values))?)
            }
        }));
    }
    let count = planned.node.inputs.len();
    let call = Call {
        node: &planned.node,
        inputs: tensors.iter().take(count).map(Option::as_deref).collect(),
        opset: machine.plan.opset,
        isa: machine.isa,
        pool: machine.pool,
        max_bytes: Some(machine.plan.limits.max_run_bytes),
        interrupt: machine.interrupt,
    };
    let residual = tensors.get(count).and_then(Option::as_deref);
    let results = plain_node(planned, &call, residual)?;
    drop(tensors);
    for (slot, tensor) in slots.iter().zip(results) {
        if let Some(slot) = slot {
            frame.slots[*slot] = Some(tensor);
        }
    }
    Ok(())
}
