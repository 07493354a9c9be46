//! Running a plan in parts: where the shape of a value depends on other
//! values than shapes (boxes that are left, a loop's results), what follows
//! is compiled once they are known. The programs are kept.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use campana_tensor::{Tensor, TensorData};

use super::compile::{InputShape, compile_from};
use super::execute::{InputData, Machine, plain_node};
use super::{Program, control};
use crate::error::RunError;
use crate::ops::Call;
use crate::plan::{Plan, PlannedNode};

/// The program of the nodes from one on, up to the first whose outputs'
/// shapes only a run knows.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(super) program: Program,
    /// The node behind those of the program.
    pub(super) end: usize,
    /// Names of the program's outputs.
    pub(super) outputs: Vec<String>,
}

/// Where a stage begins and what is known there.
type Key = (usize, Vec<(String, InputShape)>);

/// Stages that are kept: shapes that never come again must not fill the memory.
const MAX_STAGES: usize = 64;

/// The stages of a plan that have been compiled.
#[derive(Debug, Default)]
pub(crate) struct StageCache(Mutex<HashMap<Key, Arc<Stage>>>);

impl StageCache {
    fn stage(
        &self,
        plan: &Plan,
        start: usize,
        known: Vec<(String, InputShape)>,
    ) -> Result<Arc<Stage>, RunError> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (start, known);
        if let Some(stage) = lock().get(&key) {
            return Ok(Arc::clone(stage));
        }
        let stage = compile_from(plan, start, &key.1).map_err(RunError::shape)?;
        let stage = Arc::new(stage);
        let mut stages = lock();
        if stages.len() >= MAX_STAGES {
            stages.clear();
        }
        stages.insert(key, Arc::clone(&stage));
        Ok(stage)
    }
}

/// The names that nodes from `start` on and the plan's outputs read.
fn read_from(plan: &Plan, start: usize) -> HashSet<&str> {
    let nodes = plan.nodes[start..].iter();
    let inputs = nodes.flat_map(|planned| planned.node.inputs.iter().chain(&planned.residual));
    let outputs = plan.outputs.iter().map(|value| &value.name);
    inputs.chain(outputs).map(String::as_str).collect()
}

/// The names among those made before `end` that are read after it.
pub(super) fn outputs_of(plan: &Plan, start: usize, end: usize) -> Vec<String> {
    let read = read_from(plan, end);
    let made = plan.nodes[start..end]
        .iter()
        .flat_map(|planned| &planned.node.outputs);
    made.filter(|name| !name.is_empty() && read.contains(name.as_str()))
        .cloned()
        .collect()
}

/// Runs a plan in stages.
pub(crate) fn run_in_stages(
    machine: &Machine<'_>,
    inputs: Vec<(String, Tensor)>,
) -> Result<Vec<Tensor>, RunError> {
    let plan = machine.plan;
    let mut values: HashMap<String, Tensor> = inputs.into_iter().collect();
    let mut start = 0;
    while start < plan.nodes.len() {
        let read = read_from(plan, start);
        values.retain(|name, _| read.contains(name.as_str()));
        let mut known: Vec<(String, InputShape)> = values
            .iter()
            .map(|(name, tensor)| (name.clone(), InputShape::of(tensor)))
            .collect();
        known.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let names: Vec<String> = known.iter().map(|(name, _)| name.clone()).collect();
        let stage = plan.stages.stage(plan, start, known)?;
        if stage.end > start {
            let data: Vec<InputData<'_>> = names
                .iter()
                .map(|name| match &values[name] {
                    tensor if matches!(tensor.data(), TensorData::F32(_)) => match tensor.data() {
                        TensorData::F32(values) => InputData::Floats(values),
                        _ => InputData::Other(tensor),
                    },
                    tensor => InputData::Other(tensor),
                })
                .collect();
            let outputs = machine.run(&stage.program, &data, None)?;
            values.extend(stage.outputs.iter().cloned().zip(outputs));
        }
        if let Some(planned) = plan.nodes.get(stage.end) {
            run_node(machine, planned, &mut values)?;
        }
        start = stage.end + 1;
    }
    results(plan, &values)
}

#[cfg(test)]
/// Runs every node of a plan by its reference fallback: what the steps of programs are
/// compared with.
pub(crate) fn run_plainly(
    machine: &Machine<'_>,
    inputs: Vec<(String, Tensor)>,
) -> Result<Vec<Tensor>, RunError> {
    let mut values: HashMap<String, Tensor> = inputs.into_iter().collect();
    for planned in &machine.plan.nodes {
        run_node(machine, planned, &mut values)?;
    }
    results(machine.plan, &values)
}

fn results(plan: &Plan, values: &HashMap<String, Tensor>) -> Result<Vec<Tensor>, RunError> {
    let outputs = plan.outputs.iter().map(|value| {
        value_of(plan, values, &value.name)
            .cloned()
            .ok_or_else(|| RunError::input("an output was lost"))
    });
    outputs.collect()
}

fn value_of<'a>(
    plan: &'a Plan,
    values: &'a HashMap<String, Tensor>,
    name: &str,
) -> Option<&'a Tensor> {
    let constant = || plan.constants.get(name).map(|tensor| &**tensor);
    values.get(name).or_else(constant)
}

/// Runs one node by its reference fallback and keeps its outputs.
fn run_node(
    machine: &Machine<'_>,
    planned: &PlannedNode,
    values: &mut HashMap<String, Tensor>,
) -> Result<(), RunError> {
    let node = &planned.node;
    let plan = machine.plan;
    let operands: Vec<Option<&Tensor>> = node
        .inputs
        .iter()
        .map(|name| value_of(plan, values, name))
        .collect();
    let results = if planned.bodies.is_empty() {
        let call = Call {
            node,
            inputs: operands,
            opset: plan.opset,
            isa: machine.isa,
            pool: machine.pool,
            max_bytes: Some(plan.limits.max_run_bytes),
            interrupt: machine.interrupt,
        };
        let residual = planned.residual.as_ref();
        let residual = residual.and_then(|name| value_of(plan, values, name));
        call.check_interrupt()
            .and_then(|()| plain_node(planned, &call, residual))
            .map_err(|fault| RunError::node(node, fault))?
    } else {
        control::run(machine, planned, &operands)?
    };
    let named = node.outputs.iter().zip(results);
    values.extend(
        named
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, tensor)| (name.clone(), tensor)),
    );
    Ok(())
}
