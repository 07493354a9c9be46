//! A node in its new form, and what that needs to know of the model.

use std::collections::HashSet;

use campana_onnx::{
    AttributeValue, Content, Model, NewAttribute, NewNode, NewTensor, Node, schema,
};
use campana_tensor::ElementType;

use super::ranks::Ranks;

/// What the changes need to know of the model.
pub(super) struct Upgrade<'m> {
    pub(super) model: &'m Model,
    pub(super) from: i64,
    pub(super) to: i64,
    /// Names in use.
    pub(super) names: HashSet<&'m str>,
    /// Number of names that were made.
    pub(super) fresh: usize,
    /// Ranks of the values of the graph at hand.
    pub(super) ranks: Ranks<'m>,
}

impl Upgrade<'_> {
    /// A name that nothing has.
    pub(super) fn fresh(&mut self) -> String {
        loop {
            let name = format!("u{}", self.fresh);
            self.fresh += 1;
            if !self.names.contains(name.as_str()) {
                return name;
            }
        }
    }

    /// The bytes of a string attribute, as text.
    pub(super) fn string(&self, node: &Node, name: &str) -> Option<String> {
        let AttributeValue::String(span) = node.attribute(name)?.value else {
            return None;
        };
        String::from_utf8(self.model.source().read(span).ok()?).ok()
    }

    /// Whether a node of the model reads a value, or it is an output.
    pub(super) fn is_read(&self, name: &str) -> bool {
        self.model.graphs().iter().any(|graph| {
            let mut inputs = graph.nodes.iter().flat_map(|node| &node.inputs);
            inputs.any(|input| input == name)
                || graph.outputs.iter().any(|output| output.name == name)
        })
    }

    /// The type of all floats of the model.
    pub(super) fn float_type(&self) -> Result<ElementType, String> {
        use ElementType::F32;
        let mut found = HashSet::new();
        for graph in self.model.graphs() {
            found.extend(graph.initializers.iter().map(|tensor| tensor.element_type));
            let values = graph.inputs.iter().chain(&graph.outputs);
            found.extend(values.filter_map(|value| match &value.value_type {
                Some(campana_onnx::ValueType::Tensor(tensor)) => Some(tensor.element_type),
                _ => None,
            }));
        }
        let mut floats = found.into_iter().filter(|kind| kind.is_float());
        match (floats.next(), floats.next()) {
            (Some(kind), None) => Ok(kind),
            (None, _) => Ok(F32),
            _ => Err("the model has floats of several types".to_owned()),
        }
    }
}

/// A node in its new form.
pub(super) struct NewForm {
    pub(super) op_type: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    /// Attributes of the old node that the new one lacks.
    pub(super) dropped: Vec<&'static str>,
    pub(super) added: Vec<(&'static str, NewAttribute<'static>)>,
    pub(super) before: Content<'static>,
    pub(super) after: Content<'static>,
    pub(super) is_changed: bool,
}

impl NewForm {
    pub(super) fn of(node: &Node) -> Self {
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
    pub(super) fn drop_attribute(&mut self, name: &'static str) {
        self.dropped.push(name);
        self.is_changed = true;
    }

    /// Gives an attribute another value.
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<NewAttribute<'static>>) {
        self.drop_attribute(name);
        self.added.push((name, value.into()));
    }

    /// Reads another value, behind empty names where there were fewer inputs.
    pub(super) fn set_input(&mut self, index: usize, name: String) {
        self.inputs
            .resize(self.inputs.len().max(index + 1), String::new());
        self.inputs[index] = name;
        self.is_changed = true;
    }

    /// Puts a node before this one.
    pub(super) fn add_before(&mut self, node: NewNode<'static>) {
        let before = std::mem::take(&mut self.before);
        self.before = before.message(schema::graph::NODE, node);
        self.is_changed = true;
    }

    /// Puts a node behind this one.
    pub(super) fn add_after(&mut self, node: NewNode<'static>) {
        let after = std::mem::take(&mut self.after);
        self.after = after.message(schema::graph::NODE, node);
        self.is_changed = true;
    }

    /// Adds a constant as an input.
    pub(super) fn constant_input(
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
    pub(super) fn ints_to_input(
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

    pub(super) fn into_nodes<'m>(self, model: &'m Model, node: &Node) -> Content<'m> {
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
pub(super) fn int_list(values: &[i64]) -> NewTensor<'static> {
    let data: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    NewTensor::raw("", &[values.len()], ElementType::I64, data)
}
