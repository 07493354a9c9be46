//! Nodes that run graphs of their own: If, Loop and Scan.

use campana_ir::graph::{Attribute, Node};
use campana_tensor::{Tensor, TensorData};

use super::execute::Machine;
use super::stages::run_in_stages;
use crate::error::RunError;
use crate::ops::{Fault, along, len_bytes, stacked, whole_numbers};
use crate::plan::{Body, PlannedNode};

/// The outputs of a control flow node on these inputs.
pub(super) fn run(
    machine: &Machine<'_>,
    planned: &PlannedNode,
    inputs: &[Option<&Tensor>],
) -> Result<Vec<Tensor>, RunError> {
    let node = Control {
        machine,
        node: &planned.node,
        bodies: &planned.bodies,
        inputs,
    };
    match planned.node.op_type.as_str() {
        "If" => node.branch(),
        "Loop" => node.repeat(),
        _ => node.scan(),
    }
}

struct Control<'a> {
    machine: &'a Machine<'a>,
    node: &'a Node,
    bodies: &'a [Body],
    inputs: &'a [Option<&'a Tensor>],
}

/// Passes of a loop that never ends by itself.
const MAX_PASSES: i64 = 1 << 31;

impl Control<'_> {
    fn fault(&self, fault: Fault) -> RunError {
        RunError::node(self.node, fault)
    }

    fn invalid(&self, message: impl Into<String>) -> RunError {
        self.fault(Fault::invalid(message))
    }

    fn body(&self, attribute: &str) -> Result<&Body, RunError> {
        let found = self.bodies.iter().find(|body| body.attribute == attribute);
        found.ok_or_else(|| self.invalid(format!("attribute {attribute} is missing")))
    }

    fn input(&self, index: usize) -> Result<&Tensor, RunError> {
        let found = self.inputs.get(index).copied().flatten();
        found.ok_or_else(|| self.invalid(format!("input {index} is missing")))
    }

    /// The truth of a tensor with one element.
    fn truth(&self, tensor: &Tensor) -> Result<bool, RunError> {
        match tensor.data() {
            TensorData::Bool(values) if values.len() == 1 => Ok(values[0]),
            _ => Err(self.invalid("a condition that is not one bool")),
        }
    }

    /// Runs a body on its declared inputs and what it takes from around it.
    fn call(&self, body: &Body, declared: Vec<Tensor>) -> Result<Vec<Tensor>, RunError> {
        if self.machine.interrupt.is_some_and(crate::Interrupt::is_set) {
            return Err(self.fault(Fault::Interrupted));
        }
        let names = body.plan.inputs.iter().map(|value| value.name.clone());
        let mut tensors = declared;
        for &index in &body.captured {
            tensors.push(self.input(index)?.clone());
        }
        let inputs: Vec<(String, Tensor)> = names.zip(tensors).collect();
        if inputs.len() != body.plan.inputs.len() {
            return Err(self.invalid("a body with other inputs than it is given"));
        }
        let machine = Machine {
            plan: &body.plan,
            ..*self.machine
        };
        run_in_stages(&machine, inputs)
    }

    fn branch(&self) -> Result<Vec<Tensor>, RunError> {
        let name = match self.truth(self.input(0)?)? {
            true => "then_branch",
            false => "else_branch",
        };
        self.call(self.body(name)?, Vec::new())
    }

    fn repeat(&self) -> Result<Vec<Tensor>, RunError> {
        let body = self.body("body")?;
        let most = match self.inputs.first().copied().flatten() {
            Some(count) => match whole_numbers(count).map_err(|f| self.fault(f))?.as_slice() {
                [count] => *count,
                _ => return Err(self.invalid("a trip count that is not one number")),
            },
            None => MAX_PASSES,
        };
        let mut goes_on = match self.inputs.get(1).copied().flatten() {
            Some(condition) => self.truth(condition)?,
            None => true,
        };
        let carried = body.declared.saturating_sub(2);
        let mut state = (0..carried)
            .map(|i| self.input(2 + i).cloned())
            .collect::<Result<Vec<_>, _>>()?;
        let collected = body.plan.outputs.len().saturating_sub(1 + carried);
        let mut parts: Vec<Vec<Tensor>> = vec![Vec::new(); collected];
        let (mut pass, mut collected_bytes) = (0, 0u64);
        while goes_on && pass < most {
            let mut inputs = Vec::with_capacity(body.declared);
            inputs.push(scalar(TensorData::I64(vec![pass])).map_err(|f| self.fault(f))?);
            inputs.push(scalar(TensorData::Bool(vec![true])).map_err(|f| self.fault(f))?);
            inputs.append(&mut state);
            let mut outputs = self.call(body, inputs)?.into_iter();
            let condition = outputs
                .next()
                .ok_or_else(|| self.invalid("a body without outputs"))?;
            goes_on = self.truth(&condition)?;
            state.extend(outputs.by_ref().take(carried));
            for (part, output) in parts.iter_mut().zip(outputs) {
                collected_bytes = collected_bytes.saturating_add(len_bytes(&output));
                part.push(output);
            }
            self.check_collected(collected_bytes)?;
            pass += 1;
        }
        let values = body.plan.outputs.iter().skip(1 + carried);
        for (part, value) in parts.iter().zip(values) {
            state.push(stacked(part, 0, value).map_err(|f| self.fault(f))?);
        }
        Ok(state)
    }

    /// Refuses what all passes give together, where that is more than a run may take.
    fn check_collected(&self, bytes: u64) -> Result<(), RunError> {
        let limit = self.machine.plan.limits.max_run_bytes;
        if bytes > limit {
            return Err(self.fault(Fault::Limit(format!(
                "what the passes give takes {bytes} bytes, where a run may take {limit}"
            ))));
        }
        Ok(())
    }

    fn ints(&self, name: &str, count: usize) -> Result<Vec<i64>, RunError> {
        match self.node.attributes.get(name) {
            None => Ok(vec![0; count]),
            Some(Attribute::Ints(values)) if values.len() == count => Ok(values.clone()),
            Some(_) => Err(self.invalid(format!("attribute {name} is not {count} numbers"))),
        }
    }

    fn scan(&self) -> Result<Vec<Tensor>, RunError> {
        if self.machine.plan.opset < 9 {
            return Err(self.fault(Fault::unsupported("Scan before opset 9")));
        }
        let body = self.body("body")?;
        let given = match self.node.attributes.get("num_scan_inputs") {
            Some(Attribute::Int(count)) => usize::try_from(*count).unwrap_or(0),
            _ => 0,
        };
        let states = body
            .declared
            .checked_sub(given)
            .filter(|states| given > 0 && *states <= body.plan.outputs.len())
            .ok_or_else(|| self.invalid(format!("num_scan_inputs is {given}")))?;
        let collected = body.plan.outputs.len() - states;
        let axes = self.ints("scan_input_axes", given)?;
        let backwards = self.ints("scan_input_directions", given)?;
        let output_axes = self.ints("scan_output_axes", collected)?;
        let prepended = self.ints("scan_output_directions", collected)?;
        let scanned = (states..states + given)
            .map(|i| self.input(i))
            .collect::<Result<Vec<_>, _>>()?;
        let fault = |f| self.fault(f);
        let lens = scanned
            .iter()
            .zip(&axes)
            .map(|(tensor, &axis)| along::len(tensor, axis).map_err(fault))
            .collect::<Result<Vec<_>, _>>()?;
        let len = lens[0];
        if lens.iter().any(|&other| other != len) {
            return Err(self.invalid(format!("scans of different lengths {lens:?}")));
        }
        let mut state = (0..states)
            .map(|i| self.input(i).cloned())
            .collect::<Result<Vec<_>, _>>()?;
        let mut parts: Vec<Vec<Tensor>> = vec![Vec::new(); collected];
        let mut collected_bytes = 0u64;
        for pass in 0..len {
            let mut inputs = std::mem::take(&mut state);
            for ((tensor, &axis), &back) in scanned.iter().zip(&axes).zip(&backwards) {
                let at = if back != 0 { len - 1 - pass } else { pass };
                inputs.push(along::index(tensor, axis, at).map_err(fault)?);
            }
            let mut outputs = self.call(body, inputs)?.into_iter();
            state.extend(outputs.by_ref().take(states));
            for (part, output) in parts.iter_mut().zip(outputs) {
                collected_bytes = collected_bytes.saturating_add(len_bytes(&output));
                part.push(output);
            }
            self.check_collected(collected_bytes)?;
        }
        let values = body.plan.outputs.iter().skip(states);
        for (i, (mut part, value)) in parts.into_iter().zip(values).enumerate() {
            if prepended[i] != 0 {
                part.reverse();
            }
            state.push(stacked(&part, output_axes[i], value).map_err(fault)?);
        }
        Ok(state)
    }
}

fn scalar(data: TensorData) -> Result<Tensor, Fault> {
    crate::ops::tensor(Vec::new(), data)
}
