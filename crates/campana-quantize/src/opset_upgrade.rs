//! A model of an older operator set in the form of opset 13, the first with a
//! scale for each channel in DequantizeLinear.
//!
//! [`CHANGES`] lists the operators whose form or meaning changed on the way,
//! after ONNX's operator changelog, each with what makes the new form of the
//! old; all others only came to accept more. Attributes that became inputs are
//! `Constant` nodes before the node.

mod changes;
mod ranks;

use std::collections::HashSet;

use campana_onnx::{
    AttributeValue, Content, Edits, Graph, Model, NewAttribute, NewNode, NewTensor, Node, schema,
};
use campana_tensor::ElementType;

use self::changes::CHANGES;
use self::ranks::Ranks;
use crate::opset;
use crate::{Error, ErrorKind};

/// The opset that models are raised to.
pub(crate) const RAISED_TO: i64 = 13;

/// The oldest opset that is raised: before, operators broadcast as attributes
/// told.
pub(crate) const MIN_OPSET: i64 = 7;

/// The model at opset 13; `None` where it is not older.
///
/// # Errors
///
/// Of kind `Unsupported`, with the node's name, where a node has no form at
/// opset 13.
pub(crate) fn upgraded(model: &Model) -> Result<Option<Model>, Error> {
    let from = opset::version(model);
    if from >= RAISED_TO {
        return Ok(None);
    }
    if from < MIN_OPSET {
        return Err(unsupported(from, "opsets before 7 broadcast by attributes"));
    }
    if !model.functions.is_empty() {
        return Err(unsupported(from, "the model defines functions of its own"));
    }
    let mut edits = Edits::new(model);
    let mut upgrade = Upgrade {
        model,
        from,
        names: HashSet::new(),
        fresh: 0,
        ranks: Ranks::default(),
    };
    for graph in opset::graphs(model) {
        let made = graph.nodes.iter().flat_map(|node| &node.outputs);
        let inputs = graph.inputs.iter().map(|input| &input.name);
        let tensors = graph.initializers.iter().map(|tensor| &tensor.name);
        upgrade
            .names
            .extend(made.chain(inputs).chain(tensors).map(String::as_str));
    }
    for graph in opset::graphs(model) {
        upgrade.ranks = Ranks::of(graph);
        upgrade.graph(graph, &mut edits)?;
    }
    opset::set_version(model, &mut edits, RAISED_TO);
    let raised = edits.into_model();
    raised.map(Some).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot raise the model's opset").with_source(error)
    })
}

fn unsupported(from: i64, reason: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "the target needs opset {RAISED_TO}, and the model's opset {from} cannot be raised to it: {reason}; \
             convert the model first (onnx.version_converter), or use --target lut"
        ),
    )
}

/// What the changes need to know of the model.
struct Upgrade<'m> {
    model: &'m Model,
    from: i64,
    /// Names in use.
    names: HashSet<&'m str>,
    /// Number of names that were made.
    fresh: usize,
    /// Ranks of the values of the graph at hand.
    ranks: Ranks<'m>,
}

impl<'m> Upgrade<'m> {
    fn graph(&mut self, graph: &'m Graph, edits: &mut Edits<'m>) -> Result<(), Error> {
        for node in graph
            .nodes
            .iter()
            .filter(|node| opset::is_onnx(&node.domain))
        {
            let of_node = |change: &&changes::Change| {
                node.op_type == change.op_type
                    && self.from < change.since
                    && change.since <= RAISED_TO
            };
            let due: Vec<_> = CHANGES.iter().filter(of_node).collect();
            if due.is_empty() {
                continue;
            }
            let mut new = NewForm::of(node);
            for change in due {
                (change.make)(self, node, &mut new).map_err(|reason| {
                    let reason = format!("node '{}' ({}): {reason}", node.name, node.op_type);
                    unsupported(self.from, &reason)
                })?;
            }
            if !new.is_changed {
                continue;
            }
            edits.replace(node.message, new.into_nodes(self.model, node));
        }
        Ok(())
    }

    /// A name that nothing has.
    fn fresh(&mut self) -> String {
        loop {
            let name = format!("u{}", self.fresh);
            self.fresh += 1;
            if !self.names.contains(name.as_str()) {
                return name;
            }
        }
    }

    /// The bytes of a string attribute, as text.
    fn string(&self, node: &Node, name: &str) -> Option<String> {
        let AttributeValue::String(span) = node.attribute(name)?.value else {
            return None;
        };
        String::from_utf8(self.model.source().read(span).ok()?).ok()
    }

    /// Whether a node of the model reads a value, or it is an output.
    fn is_read(&self, name: &str) -> bool {
        opset::graphs(self.model).iter().any(|graph| {
            let mut inputs = graph.nodes.iter().flat_map(|node| &node.inputs);
            inputs.any(|input| input == name)
                || graph.outputs.iter().any(|output| output.name == name)
        })
    }

    /// The type of all floats of the model.
    fn float_type(&self) -> Result<ElementType, String> {
        use ElementType::{Bf16, F16, F32, F64};
        let mut found = HashSet::new();
        for graph in opset::graphs(self.model) {
            found.extend(graph.initializers.iter().map(|tensor| tensor.element_type));
            let values = graph.inputs.iter().chain(&graph.outputs);
            found.extend(values.filter_map(|value| match &value.value_type {
                Some(campana_onnx::ValueType::Tensor(tensor)) => Some(tensor.element_type),
                _ => None,
            }));
        }
        let mut floats = found
            .into_iter()
            .filter(|kind| matches!(kind, F32 | F16 | Bf16 | F64));
        match (floats.next(), floats.next()) {
            (Some(kind), None) => Ok(kind),
            (None, _) => Ok(F32),
            _ => Err("the model has floats of several types".to_owned()),
        }
    }
}

/// A node in its new form.
struct NewForm {
    op_type: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// Attributes of the old node that the new one lacks.
    dropped: Vec<&'static str>,
    added: Vec<(&'static str, NewAttribute<'static>)>,
    before: Content<'static>,
    after: Content<'static>,
    is_changed: bool,
}

impl NewForm {
    fn of(node: &Node) -> Self {
        Self {
            op_type: node.op_type.clone(),
            inputs: node.inputs.clone(),
            outputs: node.outputs.clone(),
            dropped: Vec::new(),
            added: Vec::new(),
            before: Content::default(),
            after: Content::default(),
            is_changed: false,
        }
    }

    /// Leaves out an attribute.
    fn drop_attribute(&mut self, name: &'static str) {
        self.dropped.push(name);
        self.is_changed = true;
    }

    /// Gives an attribute another value.
    fn set(&mut self, name: &'static str, value: impl Into<NewAttribute<'static>>) {
        self.drop_attribute(name);
        self.added.push((name, value.into()));
    }

    /// Reads another value, behind empty names where there were fewer inputs.
    fn set_input(&mut self, index: usize, name: String) {
        self.inputs
            .resize(self.inputs.len().max(index + 1), String::new());
        self.inputs[index] = name;
        self.is_changed = true;
    }

    /// Puts a node before this one.
    fn add_before(&mut self, node: NewNode<'static>) {
        let before = std::mem::take(&mut self.before);
        self.before = before.message(schema::graph::NODE, node);
        self.is_changed = true;
    }

    /// Puts a node behind this one.
    fn add_after(&mut self, node: NewNode<'static>) {
        let after = std::mem::take(&mut self.after);
        self.after = after.message(schema::graph::NODE, node);
        self.is_changed = true;
    }

    /// Adds a constant as an input.
    fn constant_input(
        &mut self,
        upgrade: &mut Upgrade<'_>,
        index: usize,
        tensor: NewTensor<'static>,
    ) {
        let name = upgrade.fresh();
        let none: [&str; 0] = [];
        let constant = NewNode::new("Constant", none, [&name])
            .attribute("value", NewAttribute::Tensor(tensor));
        self.add_before(constant);
        self.set_input(index, name);
    }

    /// Moves a list of integers from an attribute to an input, where there is
    /// one.
    fn ints_to_input(
        &mut self,
        upgrade: &mut Upgrade<'_>,
        node: &Node,
        name: &'static str,
        index: usize,
    ) {
        let Some(AttributeValue::Ints(values)) = node.attribute(name).map(|found| &found.value)
        else {
            return;
        };
        self.drop_attribute(name);
        self.constant_input(upgrade, index, int_list(values));
    }

    fn into_nodes<'m>(self, model: &'m Model, node: &Node) -> Content<'m> {
        let mut new = NewNode::new(&self.op_type, &self.inputs, &self.outputs);
        if !node.name.is_empty() {
            new = new.name(&node.name);
        }
        if !node.domain.is_empty() {
            new = new.domain(&node.domain);
        }
        for attribute in &node.attributes {
            if !self.dropped.contains(&attribute.name.as_str()) {
                new = new.with(Content::copy(model.span(attribute.message)));
            }
        }
        for (name, value) in self.added {
            new = new.attribute(name, value);
        }
        self.before
            .message(schema::graph::NODE, new)
            .then(self.after)
    }
}

/// A list of whole numbers.
fn int_list(values: &[i64]) -> NewTensor<'static> {
    let data: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    NewTensor::raw("", &[values.len()], ElementType::I64, data)
}

#[cfg(test)]
mod tests;
