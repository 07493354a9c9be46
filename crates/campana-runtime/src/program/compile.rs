//! From a plan and input shapes to a program.

use std::collections::HashMap;
use std::sync::Arc;

use campana_tensor::{ElementType, Tensor, TensorData};

use super::execute::plain_node;
use super::stages::{Stage, outputs_of};
use super::step::{Action, Step};
use super::{Layout, Place, Program, Val, assign, int8, lower};
use crate::error::PlanError;
use crate::ops::{
    Call, Fault, count_of, has_data_dependent_shape, run, shape_operands, shape_values,
};
use crate::plan::{Plan, PlannedNode, UNBOUNDED, constant_call};

/// Shape and element type of an input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InputShape {
    pub(crate) shape: Vec<usize>,
    pub(crate) element_type: ElementType,
}

impl InputShape {
    pub(crate) fn of(tensor: &Tensor) -> Self {
        Self {
            shape: tensor.shape().to_vec(),
            element_type: tensor.data().element_type(),
        }
    }
}

/// A program while it is made.
pub(crate) struct Compiler<'p> {
    pub(crate) plan: &'p Plan,
    values: HashMap<String, Val>,
    steps: Vec<Step>,
    buffers: usize,
    slots: usize,
    /// The node that steps are made for.
    node: usize,
    pub(crate) mixes_batch: bool,
    /// Conversions made so far: a buffer in the layout that the value does not have.
    converted: HashMap<(usize, Layout), Val>,
    /// Floats of values that are codes, by buffer.
    floats: HashMap<usize, Val>,
    input_types: Vec<ElementType>,
    slot_types: Vec<ElementType>,
}

/// The program of a plan for inputs of these shapes, in the plan's order.
pub(crate) fn compile(plan: &Plan, inputs: &[InputShape]) -> Result<Program, PlanError> {
    let names = plan.inputs.iter().map(|value| value.name.as_str());
    let mut compiler = Compiler::new(plan, names.zip(inputs));
    if compiler.nodes_from(0)? < plan.nodes.len() {
        return Ok(compiler.staged_program());
    }
    let outputs = plan.outputs.iter().map(|value| value.name.as_str());
    compiler.finish(outputs)
}

/// The same, each buffer written once and none used again; `None` where shapes
/// depend on values.
pub(crate) fn compile_unassigned(
    plan: &Plan,
    inputs: &[InputShape],
) -> Result<Option<Program>, PlanError> {
    let names = plan.inputs.iter().map(|value| value.name.as_str());
    let mut compiler = Compiler::new(plan, names.zip(inputs));
    if compiler.nodes_from(0)? < plan.nodes.len() {
        return Ok(None);
    }
    let outputs = plan.outputs.iter().map(|value| value.name.as_str());
    compiler.unassigned(outputs).map(Some)
}

/// The stage of a plan that begins at a node, where these values are known.
pub(super) fn compile_from(
    plan: &Plan,
    start: usize,
    known: &[(String, InputShape)],
) -> Result<Stage, PlanError> {
    let inputs = known.iter().map(|(name, input)| (name.as_str(), input));
    let mut compiler = Compiler::new(plan, inputs);
    let end = compiler.nodes_from(start)?;
    let outputs = outputs_of(plan, start, end);
    let program = compiler.finish(outputs.iter().map(String::as_str))?;
    Ok(Stage {
        program,
        end,
        outputs,
    })
}

/// A value known beforehand.
pub(crate) fn constant(tensor: Arc<Tensor>) -> Val {
    Val {
        shape: tensor.shape().to_vec(),
        is_float: matches!(tensor.data(), TensorData::F32(_)),
        place: Place::Constant(tensor),
        layout: Layout::First,
        codes: None,
    }
}

impl<'p> Compiler<'p> {
    /// Before the first node, where these inputs are known beside the constants.
    fn new<'i>(plan: &'p Plan, inputs: impl Iterator<Item = (&'i str, &'i InputShape)>) -> Self {
        let mut compiler = Self {
            plan,
            values: HashMap::new(),
            steps: Vec::new(),
            buffers: 0,
            slots: 0,
            node: 0,
            mixes_batch: false,
            converted: HashMap::new(),
            floats: HashMap::new(),
            input_types: Vec::new(),
            slot_types: Vec::new(),
        };
        for (name, tensor) in &plan.constants {
            let val = constant(Arc::clone(tensor));
            compiler.values.insert(name.clone(), val);
        }
        for (i, (name, input)) in inputs.enumerate() {
            let val = Val {
                shape: input.shape.clone(),
                place: Place::Input(i),
                layout: Layout::First,
                is_float: input.element_type == ElementType::F32,
                codes: None,
            };
            compiler.input_types.push(input.element_type);
            compiler.values.insert(name.to_owned(), val);
        }
        compiler
    }

    /// Makes the steps of the nodes from one on, up to the first whose
    /// outputs' shapes are not known; gives that node.
    fn nodes_from(&mut self, start: usize) -> Result<usize, PlanError> {
        let plan = self.plan;
        for (i, planned) in plan.nodes.iter().enumerate().skip(start) {
            self.node = i;
            if self.is_dynamic(planned) {
                return Ok(i);
            }
            self.node(planned)?;
        }
        Ok(plan.nodes.len())
    }

    pub(crate) fn value(&self, name: &str) -> Option<Val> {
        self.values.get(name).cloned()
    }

    /// The constant of this name, given or found out so far.
    pub(crate) fn constant(&self, name: &str) -> Option<&Tensor> {
        match &self.values.get(name)?.place {
            Place::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// An input of a node that is there, codes as floats.
    pub(crate) fn operand(&mut self, planned: &PlannedNode, index: usize) -> Result<Val, Fault> {
        let val = self.any_operand(planned, index)?;
        Ok(self.float_of(&val))
    }

    /// The value as floats.
    pub(crate) fn float_of(&mut self, val: &Val) -> Val {
        let (Some(codes), Place::Buffer(buffer)) = (val.codes, &val.place) else {
            return val.clone();
        };
        if let Some(known) = self.floats.get(buffer) {
            let (shape, layout) = (val.shape.clone(), val.layout);
            return Val {
                shape,
                layout,
                ..known.clone()
            };
        }
        let floats = int8::floats(self, val, codes);
        self.floats.insert(*buffer, floats.clone());
        floats
    }

    /// An input of a node that is there.
    pub(crate) fn any_operand(&self, planned: &PlannedNode, index: usize) -> Result<Val, Fault> {
        planned
            .node
            .inputs
            .get(index)
            .and_then(|name| self.value(name))
            .ok_or_else(|| Fault::invalid(format!("input {index} is missing")))
    }

    /// A call of the node on what is constant among its inputs.
    pub(crate) fn call<'a>(&'a self, planned: &'a PlannedNode) -> Call<'a> {
        constant_call(&planned.node, self.plan.opset, |name| self.constant(name))
    }

    /// Whether the shape of a node's output depends on values that only a run knows.
    fn is_dynamic(&self, planned: &PlannedNode) -> bool {
        let node = &planned.node;
        let is_constant = |name: &String| name.is_empty() || self.constant(name).is_some();
        if has_data_dependent_shape(&node.op_type) {
            // Where everything is known, so is the result.
            return !planned.bodies.is_empty() || !node.inputs.iter().all(is_constant);
        }
        shape_operands(&planned.node.op_type).iter().any(|&index| {
            let name = planned.node.inputs.get(index).map_or("", String::as_str);
            !name.is_empty() && self.constant(name).is_none()
        })
    }

    /// Makes the steps of one node.
    fn node(&mut self, planned: &PlannedNode) -> Result<(), PlanError> {
        let node = &planned.node;
        let at = |fault| PlanError::at(node, fault);
        if node.op_type == "Shape" && !node.inputs.is_empty() {
            let shape = self.any_operand(planned, 0).map_err(at)?.shape;
            let values = shape_values(&self.call(planned), &shape).map_err(at)?;
            self.define(&node.outputs[0], constant(Arc::new(values)));
            return Ok(());
        }
        let all_constant = planned.packed.is_none()
            && planned.quantize.is_none()
            && planned.residual.is_none()
            && planned.bounds == UNBOUNDED
            && node
                .inputs
                .iter()
                .all(|name| name.is_empty() || self.constant(name).is_some());
        if all_constant {
            let mut call = self.call(planned);
            call.max_bytes = Some(self.plan.limits.max_value_bytes);
            let results = run(&call).map_err(at)?;
            for (name, tensor) in node.outputs.iter().zip(results) {
                self.define(name, constant(Arc::new(tensor)));
            }
            return Ok(());
        }
        let lowered = match int8::lower(self, planned).map_err(at)? {
            Some(outputs) => Some(outputs),
            None => lower::lower(self, planned).map_err(at)?,
        };
        match lowered {
            Some(outputs) => {
                for val in &outputs {
                    self.check_size(val).map_err(at)?;
                }
                for (name, val) in node.outputs.iter().zip(outputs) {
                    self.define(name, val);
                }
            }
            None => self.plain_step(planned).map_err(at)?,
        }
        if let Some(params) = planned.quantize
            && let Some(val) = self.value(&node.outputs[0]).filter(|val| val.is_float)
        {
            let val = int8::quantized(self, &val, params);
            self.define(&node.outputs[0], val);
        }
        Ok(())
    }

    /// Refuses a value of more memory than a run may take.
    fn check_size(&self, val: &Val) -> Result<(), Fault> {
        let limit = self.plan.limits.max_run_bytes;
        let bytes = (count_of(&val.shape)? as u64).saturating_mul(size_of::<f32>() as u64);
        if bytes > limit {
            let shape = &val.shape;
            return Err(Fault::Limit(format!(
                "a value of shape {shape:?} takes {bytes} bytes, where a run may take {limit}"
            )));
        }
        Ok(())
    }

    fn define(&mut self, name: &str, val: Val) {
        if !name.is_empty() {
            self.values.insert(name.to_owned(), val);
        }
    }

    /// A step that runs the operator by its reference fallback. The shapes of its outputs
    /// are those it has on zeros, or on ones where zeros cannot be (divisors).
    fn plain_step(&mut self, planned: &PlannedNode) -> Result<(), Fault> {
        let node = &planned.node;
        let mut places = Vec::new();
        let mut zeros = Vec::new();
        for name in node.inputs.iter().chain(&planned.residual) {
            let Some(val) = self.value(name).filter(|_| !name.is_empty()) else {
                places.push(None);
                zeros.push(None);
                continue;
            };
            let val = self.float_of(&val);
            let val = if val.is_float {
                self.with_layout(&val, Layout::First)
            } else {
                val
            };
            zeros.push(Some(match &val.place {
                Place::Constant(tensor) => Arc::clone(tensor),
                Place::Input(i) => Arc::new(zero_tensor(self.input_types[*i], &val.shape)?),
                Place::Slot(i) => Arc::new(zero_tensor(self.slot_types[*i], &val.shape)?),
                Place::Buffer(_) => Arc::new(zero_tensor(ElementType::F32, &val.shape)?),
            }));
            places.push(Some((val.shape, val.place)));
        }
        let mut call = self.call(planned);
        call.max_bytes = Some(self.plan.limits.max_run_bytes);
        let count = node.inputs.len();
        let residual = zeros.get(count).and_then(Option::as_deref);
        call.inputs = zeros.iter().take(count).map(Option::as_deref).collect();
        let results = match plain_node(planned, &call, residual) {
            Err(Fault::Invalid(_)) => {
                let ones: Vec<Option<Tensor>> = zeros
                    .iter()
                    .map(|zero| zero.as_deref().map(ones_like))
                    .collect();
                call.inputs = ones.iter().take(count).map(Option::as_ref).collect();
                plain_node(planned, &call, residual)?
            }
            results => results?,
        };
        let mut slots = Vec::new();
        for (name, tensor) in node.outputs.iter().zip(&results) {
            slots.push((!name.is_empty()).then_some(self.slots));
            if !name.is_empty() {
                let val = Val {
                    shape: tensor.shape().to_vec(),
                    place: Place::Slot(self.slots),
                    layout: Layout::First,
                    is_float: matches!(tensor.data(), TensorData::F32(_)),
                    codes: None,
                };
                self.slot_types.push(tensor.data().element_type());
                self.define(name, val);
                self.slots += 1;
            }
        }
        let reads = places
            .iter()
            .flatten()
            .map(|(_, place)| place.clone())
            .collect();
        self.push(
            reads,
            None,
            None,
            false,
            Action::Plain {
                inputs: places,
                slots,
            },
        );
        Ok(())
    }

    /// Adds a step.
    pub(crate) fn push(
        &mut self,
        reads: Vec<Place>,
        write: Option<(usize, usize)>,
        scratch: Option<(usize, usize)>,
        in_place: bool,
        action: Action,
    ) {
        self.steps.push(Step {
            node: self.node,
            reads,
            write,
            scratch,
            in_place,
            action,
            frees: Vec::new(),
        });
    }

    /// A new buffer of this length, as a step's `write` or `scratch`.
    pub(crate) fn buffer(&mut self, len: usize) -> (usize, usize) {
        self.buffers += 1;
        (self.buffers - 1, len)
    }

    /// A value of this shape in a new buffer, and the buffer.
    pub(crate) fn new_value(&mut self, shape: Vec<usize>, layout: Layout) -> (Val, (usize, usize)) {
        let buffer = self.buffer(shape.iter().product());
        let val = Val {
            shape,
            place: Place::Buffer(buffer.0),
            layout,
            is_float: true,
            codes: None,
        };
        (val, buffer)
    }

    /// The same value in this layout, converted where it must be.
    pub(crate) fn with_layout(&mut self, val: &Val, layout: Layout) -> Val {
        if val.layout == layout {
            return val.clone();
        }
        if val.is_in_both_layouts() {
            return Val {
                layout,
                ..val.clone()
            };
        }
        if let Place::Buffer(buffer) = val.place
            && let Some(known) = self.converted.get(&(buffer, layout))
            && known.shape == val.shape
        {
            return known.clone();
        }
        let (batch, channels) = (val.shape[0], val.shape[1]);
        let pixels: usize = val.shape[2..].iter().product();
        let (rows, columns) = if layout == Layout::Last {
            (channels, pixels)
        } else {
            (pixels, channels)
        };
        if let Place::Constant(tensor) = &val.place {
            return transposed_constant(tensor, batch, rows, columns, val, layout);
        }
        let (converted, write) = self.new_value(val.shape.clone(), layout);
        let action = Action::Transpose {
            batch,
            rows,
            columns,
        };
        self.push(vec![val.place.clone()], Some(write), None, false, action);
        if let Place::Buffer(buffer) = val.place {
            self.converted.insert((buffer, layout), converted.clone());
        }
        converted
    }

    fn finish<'n>(self, names: impl Iterator<Item = &'n str>) -> Result<Program, PlanError> {
        let limit = self.plan.limits.max_run_bytes;
        let mut program = self.unassigned(names)?;
        let count = program.buffers.len();
        assign::assign(&mut program, count);
        let floats = program.buffers.iter().map(|&len| len as u64);
        let bytes = floats
            .fold(0, u64::saturating_add)
            .saturating_mul(size_of::<f32>() as u64);
        if bytes > limit {
            return Err(PlanError::limit(format!(
                "the values of a run take {bytes} bytes together, where they may take {limit}"
            )));
        }
        Ok(program)
    }

    /// The program before its buffers share memory.
    fn unassigned<'n>(
        mut self,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<Program, PlanError> {
        let mut outputs = Vec::new();
        for name in names {
            let val = self
                .value(name)
                .ok_or_else(|| PlanError::graph(format!("nothing makes the output {name:?}")))?;
            let val = self.float_of(&val);
            outputs.push(if val.is_float {
                self.with_layout(&val, Layout::First)
            } else {
                val
            });
        }
        let (mut shapes, mut derived) = (HashMap::new(), HashMap::new());
        for (name, val) in self.values {
            match val.place {
                Place::Constant(_) if self.plan.constants.contains_key(&name) => {}
                Place::Constant(tensor) => {
                    derived.insert(name, tensor);
                }
                _ => {
                    shapes.insert(name, val.shape);
                }
            }
        }
        Ok(Program {
            steps: self.steps,
            outputs,
            buffers: vec![0; self.buffers],
            slots: self.slots,
            shapes,
            derived,
            mixes_batch: self.mixes_batch,
            staged: false,
        })
    }

    fn staged_program(self) -> Program {
        Program {
            steps: Vec::new(),
            outputs: Vec::new(),
            buffers: Vec::new(),
            slots: 0,
            shapes: HashMap::new(),
            derived: HashMap::new(),
            mixes_batch: true,
            staged: true,
        }
    }
}

fn transposed_constant(
    tensor: &Tensor,
    batch: usize,
    rows: usize,
    columns: usize,
    val: &Val,
    layout: Layout,
) -> Val {
    let TensorData::F32(values) = tensor.data() else {
        return val.clone();
    };
    let mut turned = vec![0.0; values.len()];
    let len = rows * columns;
    for i in 0..batch {
        let range = i * len..(i + 1) * len;
        campana_kernels::layout::transpose(
            &values[range.clone()],
            rows,
            columns,
            &mut turned[range],
        );
    }
    // The tensor's own shape no longer says how its elements lie; the value does.
    match Tensor::new(tensor.shape().to_vec(), TensorData::F32(turned)) {
        Some(turned) => Val {
            layout,
            place: Place::Constant(Arc::new(turned)),
            ..val.clone()
        },
        None => val.clone(),
    }
}

/// Zeros of any type.
fn zero_tensor(kind: ElementType, shape: &[usize]) -> Result<Tensor, Fault> {
    let count = shape.iter().product();
    let data = match kind {
        ElementType::F32 => TensorData::F32(vec![0.0; count]),
        ElementType::F64 => TensorData::F64(vec![0.0; count]),
        ElementType::F16 => TensorData::F16(vec![half::f16::ZERO; count]),
        ElementType::Bf16 => TensorData::Bf16(vec![half::bf16::ZERO; count]),
        ElementType::I8 => TensorData::I8(vec![0; count]),
        ElementType::U8 => TensorData::U8(vec![0; count]),
        ElementType::I16 => TensorData::I16(vec![0; count]),
        ElementType::U16 => TensorData::U16(vec![0; count]),
        ElementType::I32 => TensorData::I32(vec![0; count]),
        ElementType::U32 => TensorData::U32(vec![0; count]),
        ElementType::I64 => TensorData::I64(vec![0; count]),
        ElementType::U64 => TensorData::U64(vec![0; count]),
        ElementType::Bool => TensorData::Bool(vec![false; count]),
        ElementType::String => TensorData::String(vec![String::new(); count]),
        other => return Err(Fault::unsupported(format!("elements of {other}"))),
    };
    crate::ops::tensor(shape.to_vec(), data)
}

/// Ones in place of whole numbers that are zero.
fn ones_like(tensor: &Tensor) -> Tensor {
    macro_rules! ones {
        ($($variant:ident),*) => {
            match tensor.data() {
                $(TensorData::$variant(values) => {
                    TensorData::$variant(values.iter().map(|&v| if v == 0 { 1 } else { v }).collect())
                })*
                other => other.clone(),
            }
        };
    }
    let data = ones!(I8, U8, I16, U16, I32, U32, I64, U64);
    Tensor::new(tensor.shape().to_vec(), data).unwrap_or_else(|| tensor.clone())
}
