//! Running a plan.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use campana_ir::graph::Dim;
use campana_kernels::{Isa, Peak, ThreadPool};
use campana_tensor::{ElementType, Tensor, TensorData};

use crate::error::RunError;
use crate::limits::Interrupt;
use crate::plan::Plan;
use crate::program::{
    Frame, InputData, InputShape, Machine, Program, compile, is_separable, run_in_stages,
};

/// An input of a run: a tensor, or floats that lie elsewhere.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A tensor of any type.
    Tensor(&'a Tensor),
    /// Floats, row-major.
    F32 {
        /// The extents, outermost first.
        shape: &'a [usize],
        /// The elements; as many as the product of the extents.
        data: &'a [f32],
    },
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl<'a> Input<'a> {
    fn shape(&self) -> &'a [usize] {
        match self {
            Self::Tensor(tensor) => tensor.shape(),
            Self::F32 { shape, .. } => shape,
        }
    }

    fn element_type(&self) -> ElementType {
        match self {
            Self::Tensor(tensor) => tensor.data().element_type(),
            Self::F32 { .. } => ElementType::F32,
        }
    }

    fn floats(&self) -> Option<&'a [f32]> {
        match self {
            Self::Tensor(tensor) => match tensor.data() {
                TensorData::F32(values) => Some(values),
                _ => None,
            },
            Self::F32 { data, .. } => Some(data),
        }
    }

    fn to_tensor(self) -> Option<Tensor> {
        match self {
            Self::Tensor(tensor) => Some(tensor.clone()),
            Self::F32 { shape, data } => {
                Tensor::new(shape.to_vec(), TensorData::F32(data.to_vec()))
            }
        }
    }
}

/// How long a node took in one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTime {
    /// The node's name, or its first output's where it has none.
    pub node: String,
    /// The node's operator; what was fused into it counts here.
    pub op_type: String,
    /// Time of its steps, conversions of layout included.
    pub elapsed_ns: u64,
    /// Multiplications of weights with inputs.
    pub products: u64,
    /// Whether it computes on codes.
    pub on_codes: bool,
}

/// Runs a plan on inputs of any shapes that it fits, from any thread.
///
/// Programs are kept for each combination of input shapes, memory for as
/// many runs as went on at once.
#[derive(Debug)]
pub struct Session {
    plan: Arc<Plan>,
    pool: ThreadPool,
    isa: Isa,
    programs: Mutex<HashMap<Vec<InputShape>, Arc<Prepared>>>,
    frames: Mutex<Vec<Frame>>,
    interrupt: Option<Interrupt>,
}

/// The run of one image of a batch.
struct ImageRun<'a> {
    /// Where its outputs go.
    outputs: Vec<&'a mut [f32]>,
    result: Result<(), RunError>,
}

/// Combinations of input shapes whose programs are kept.
const MAX_PROGRAMS: usize = 16;

/// A program, and whether it runs each image by itself.
#[derive(Debug)]
struct Prepared {
    program: Program,
    /// Images, where the program is that of one of them.
    images: Option<usize>,
}

impl Session {
    /// A session that works on this many threads, the caller's included; 0 counts as 1.
    pub fn new(plan: impl Into<Arc<Plan>>, threads: usize) -> Self {
        Self {
            plan: plan.into(),
            pool: ThreadPool::new(threads),
            isa: Isa::detect(),
            programs: Mutex::default(),
            frames: Mutex::default(),
            interrupt: None,
        }
    }

    /// Makes runs end with an error of kind
    /// [`Interrupted`](crate::RunErrorKind::Interrupted) once this flag is
    /// set: between steps, and within operators that take long.
    pub fn set_interrupt(&mut self, flag: impl Into<Interrupt>) {
        self.interrupt = Some(flag.into());
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Number of threads that work.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Measures what the session's threads reach at most on this machine, in
    /// less than half a second; no run may go on meanwhile.
    pub fn measure_peak(&self) -> Peak {
        Peak::measure(self.isa, &self.pool)
    }

    /// Bytes of weights and other constants in memory.
    pub fn weight_bytes(&self) -> usize {
        self.plan.weight_bytes()
    }

    /// Bytes of activations reserved by the runs so far.
    pub fn activation_bytes(&self) -> usize {
        lock(&self.frames).iter().map(Frame::len_bytes).sum()
    }

    /// Computes the outputs, in the graph's order, from inputs by name.
    ///
    /// # Errors
    ///
    /// Where an input is missing, unknown, given twice or contradicts what the
    /// model declares; where the model cannot run on these shapes; or where a
    /// node fails on the values it meets.
    pub fn run(&self, inputs: &[(&str, Input<'_>)]) -> Result<Vec<Tensor>, RunError> {
        let inputs = self.in_order(inputs)?;
        let prepared = self.prepare(&inputs)?;
        if prepared.program.staged {
            return self.run_staged(&inputs);
        }
        match prepared.images {
            Some(images) => self.run_images(&prepared.program, &inputs, images),
            None => {
                let machine = self.machine(&self.pool);
                machine.run(&prepared.program, &data_of(&inputs), None)
            }
        }
    }

    /// Runs the program of one image on each of them, and puts their outputs together.
    fn run_images(
        &self,
        program: &Program,
        inputs: &[Input<'_>],
        images: usize,
    ) -> Result<Vec<Tensor>, RunError> {
        let outputs = program.outputs.iter();
        let mut all: Vec<Vec<f32>> = outputs
            .map(|val| vec![0f32; images * val.shape.iter().product::<usize>()])
            .collect();
        let mut parts: Vec<_> = all
            .iter_mut()
            .map(|output| {
                let len = output.len() / images;
                output.chunks_exact_mut(len.max(1))
            })
            .collect();
        let of_images: Vec<Mutex<ImageRun<'_>>> = (0..images)
            .map(|_| {
                Mutex::new(ImageRun {
                    outputs: parts
                        .iter_mut()
                        .map(|parts| parts.next().unwrap_or_default())
                        .collect(),
                    result: Err(RunError::input("an image was lost")),
                })
            })
            .collect();
        // With fewer images than threads all threads share each image.
        let serial = ThreadPool::serial();
        let run_image = |i: usize, pool: &ThreadPool| {
            let image: Vec<Input<'_>> = inputs
                .iter()
                .map(|input| image_of(input, i, images))
                .collect();
            let mut run = lock(&of_images[i]);
            let machine = self.machine(pool);
            run.result = machine.run_into(program, &data_of(&image), &mut run.outputs);
        };
        if images < self.pool.threads() {
            (0..images).for_each(|i| run_image(i, &self.pool));
        } else {
            self.pool.run(images, |i| run_image(i, &serial));
        }
        for run in of_images {
            run.into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .result?;
        }
        let outputs = program.outputs.iter().zip(all).map(|(val, values)| {
            let mut shape = val.shape.clone();
            if let Some(len) = shape.first_mut() {
                *len = images;
            }
            Tensor::new(shape, TensorData::F32(values))
                .ok_or_else(|| RunError::input("images gave outputs of different shapes"))
        });
        outputs.collect()
    }

    /// As [`run`](Self::run), on all inputs at once, with the time of each node.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn profile(
        &self,
        inputs: &[(&str, Input<'_>)],
    ) -> Result<(Vec<Tensor>, Vec<NodeTime>), RunError> {
        let inputs = self.in_order(inputs)?;
        let program = compile(&self.plan, &shapes_of(&inputs)).map_err(RunError::shape)?;
        if program.staged {
            return Ok((self.run_staged(&inputs)?, Vec::new()));
        }
        let mut elapsed_ns = Vec::new();
        let outputs =
            self.machine(&self.pool)
                .run(&program, &data_of(&inputs), Some(&mut elapsed_ns))?;
        let mut times: Vec<NodeTime> = Vec::new();
        let mut last = None;
        for (step, elapsed_ns) in program.steps.iter().zip(elapsed_ns) {
            let node = &self.plan.nodes[step.node].node;
            match times.last_mut().filter(|_| last == Some(step.node)) {
                Some(time) => {
                    time.elapsed_ns += elapsed_ns;
                    time.products += step.action.products();
                    time.on_codes |= step.action.multiplies_codes();
                }
                None => times.push(NodeTime {
                    node: if node.name.is_empty() {
                        node.outputs.join(", ")
                    } else {
                        node.name.clone()
                    },
                    op_type: node.op_type.clone(),
                    elapsed_ns,
                    products: step.action.products(),
                    on_codes: step.action.multiplies_codes(),
                }),
            }
            last = Some(step.node);
        }
        Ok((outputs, times))
    }

    fn machine<'a>(&'a self, pool: &'a ThreadPool) -> Machine<'a> {
        Machine {
            plan: &self.plan,
            isa: self.isa,
            pool,
            frames: &self.frames,
            interrupt: self.interrupt.as_ref(),
        }
    }

    fn run_staged(&self, inputs: &[Input<'_>]) -> Result<Vec<Tensor>, RunError> {
        run_in_stages(&self.machine(&self.pool), self.named(inputs)?)
    }

    /// Runs every node by its reference fallback, on its own.
    #[cfg(test)]
    fn run_plain(&self, inputs: &[Input<'_>]) -> Result<Vec<Tensor>, RunError> {
        crate::program::run_plainly(&self.machine(&self.pool), self.named(inputs)?)
    }

    fn named(&self, inputs: &[Input<'_>]) -> Result<Vec<(String, Tensor)>, RunError> {
        let tensors = self.plan.inputs.iter().zip(inputs).map(|(value, input)| {
            let tensor = input
                .to_tensor()
                .ok_or_else(|| RunError::input("an input was lost"))?;
            Ok((value.name.clone(), tensor))
        });
        tensors.collect()
    }

    /// The inputs in the plan's order, checked against what it declares.
    fn in_order<'a>(&self, inputs: &[(&str, Input<'a>)]) -> Result<Vec<Input<'a>>, RunError> {
        for (i, (name, input)) in inputs.iter().enumerate() {
            if !self.plan.inputs.iter().any(|value| value.name == *name) {
                let known: Vec<&str> = self.plan.inputs.iter().map(|v| v.name.as_str()).collect();
                return Err(RunError::input(format!(
                    "no input is named {name:?}; the model's are {known:?}"
                )));
            }
            if inputs[..i].iter().any(|(other, _)| other == name) {
                return Err(RunError::input(format!("input {name:?} is given twice")));
            }
            if let Input::F32 { shape, data } = input {
                let count = shape
                    .iter()
                    .try_fold(1usize, |product, &dim| product.checked_mul(dim));
                if count != Some(data.len()) {
                    return Err(RunError::input(format!(
                        "input {name:?} has {} elements for the shape {shape:?}",
                        data.len()
                    )));
                }
            }
        }
        self.plan
            .inputs
            .iter()
            .map(|value| {
                let (_, input) = inputs
                    .iter()
                    .find(|(name, _)| *name == value.name)
                    .ok_or_else(|| RunError::input(format!("input {:?} is missing", value.name)))?;
                let found = input.element_type();
                if value.element_type.is_some_and(|declared| declared != found) {
                    let declared = value.element_type.unwrap_or(found);
                    return Err(RunError::input(format!(
                        "input {:?} is {declared} in the model, {found} was given",
                        value.name
                    )));
                }
                if let Some(declared) = &value.shape {
                    let shape = input.shape();
                    let fits = declared.len() == shape.len()
                        && declared.iter().zip(shape).all(|(dim, found)| match dim {
                            Dim::Fixed(dim) => dim == found,
                            Dim::Symbol(_) => true,
                        });
                    if !fits {
                        return Err(RunError::input(format!(
                            "input {:?} has shape {} in the model, {shape:?} was given",
                            value.name,
                            display_shape(declared)
                        )));
                    }
                }
                Ok(*input)
            })
            .collect()
    }

    /// The program for inputs of these shapes.
    fn prepare(&self, inputs: &[Input<'_>]) -> Result<Arc<Prepared>, RunError> {
        let shapes = shapes_of(inputs);
        if let Some(prepared) = lock(&self.programs).get(&shapes) {
            return Ok(Arc::clone(prepared));
        }
        let whole = compile(&self.plan, &shapes).map_err(RunError::shape)?;
        let prepared = Arc::new(match self.single(&shapes, &whole) {
            Some((program, images)) => Prepared {
                program,
                images: Some(images),
            },
            None => Prepared {
                program: whole,
                images: None,
            },
        });
        let mut programs = lock(&self.programs);
        if programs.len() >= MAX_PROGRAMS {
            programs.clear();
        }
        programs.insert(shapes, Arc::clone(&prepared));
        Ok(prepared)
    }

    /// The program of one image and their number, where images can be run one by one.
    fn single(&self, shapes: &[InputShape], whole: &Program) -> Option<(Program, usize)> {
        let images = *shapes.first()?.shape.first()?;
        let is_batch = |input: &InputShape| {
            input.shape.first() == Some(&images) && input.element_type == ElementType::F32
        };
        let outputs_are_floats = whole.outputs.iter().all(|val| val.is_float);
        if images < 2 || whole.staged || !shapes.iter().all(is_batch) || !outputs_are_floats {
            return None;
        }
        let mut single_shapes = shapes.to_vec();
        single_shapes
            .iter_mut()
            .for_each(|input| input.shape[0] = 1);
        let single = compile(&self.plan, &single_shapes).ok()?;
        is_separable(&self.plan, whole, &single, images).then_some((single, images))
    }
}

fn shapes_of(inputs: &[Input<'_>]) -> Vec<InputShape> {
    inputs
        .iter()
        .map(|input| InputShape {
            shape: input.shape().to_vec(),
            element_type: input.element_type(),
        })
        .collect()
}

fn data_of<'a>(inputs: &[Input<'a>]) -> Vec<InputData<'a>> {
    let data = inputs.iter().map(|input| match *input {
        Input::F32 { data, .. } => InputData::Floats(data),
        Input::Tensor(tensor) => match tensor.data() {
            TensorData::F32(values) => InputData::Floats(values),
            _ => InputData::Other(tensor),
        },
    });
    data.collect()
}

/// The floats of one image of a batch; its program knows the shape.
fn image_of<'a>(input: &Input<'a>, image: usize, images: usize) -> Input<'a> {
    let data = input.floats().unwrap_or(&[]);
    let len = data.len() / images;
    Input::F32 {
        shape: &[],
        data: &data[image * len..(image + 1) * len],
    }
}

fn display_shape(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside stays usable when a thread that held it panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
