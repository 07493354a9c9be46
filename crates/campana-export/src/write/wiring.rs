//! Other names for what nodes read and give. Several changes to one node add
//! up and are written once.

use std::collections::{BTreeMap, BTreeSet};

use campana_onnx::{Content, Edits, Model, Node, schema};
use campana_quantize::Error;

use super::removal::unreadable;

/// The nodes of a graph with some names changed and some nodes left out.
pub(super) struct Wiring<'m> {
    model: &'m Model,
    inputs: BTreeMap<usize, Vec<String>>,
    outputs: BTreeMap<usize, Vec<String>>,
    removed: BTreeSet<usize>,
}

impl<'m> Wiring<'m> {
    pub(super) fn new(model: &'m Model) -> Self {
        Self {
            model,
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            removed: BTreeSet::new(),
        }
    }

    /// Names that a node reads.
    pub(super) fn inputs(&self, node: usize) -> &[String] {
        self.inputs
            .get(&node)
            .unwrap_or(&self.model.graph.nodes[node].inputs)
    }

    /// Names that a node gives.
    pub(super) fn outputs(&self, node: usize) -> &[String] {
        self.outputs
            .get(&node)
            .unwrap_or(&self.model.graph.nodes[node].outputs)
    }

    /// The nodes that are not left out.
    pub(super) fn nodes(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.model.graph.nodes.len()).filter(|node| !self.removed.contains(node))
    }

    /// The node that gives a value.
    pub(super) fn maker(&self, name: &str) -> Option<usize> {
        self.nodes()
            .find(|&node| self.outputs(node).iter().any(|output| output == name))
    }

    /// Has a node read another value, behind empty names where it had fewer inputs.
    pub(super) fn set_input(&mut self, node: usize, index: usize, name: String) {
        let mut inputs = self.inputs(node).to_vec();
        inputs.resize(inputs.len().max(index + 1), String::new());
        inputs[index] = name;
        self.inputs.insert(node, inputs);
    }

    /// Has these nodes read `to` wherever they read `from`.
    pub(super) fn redirect(&mut self, from: &str, to: &str, which: impl Fn(&Node) -> bool) {
        let nodes: Vec<usize> = self.nodes().collect();
        for node in nodes {
            if !which(&self.model.graph.nodes[node]) {
                continue;
            }
            for index in 0..self.inputs(node).len() {
                if self.inputs(node)[index] == from {
                    self.set_input(node, index, to.to_owned());
                }
            }
        }
    }

    /// Calls an output of a node otherwise.
    pub(super) fn rename_output(&mut self, node: usize, from: &str, to: &str) {
        let rename = |name: &String| if name == from { to } else { name }.to_owned();
        let outputs = self.outputs(node).iter().map(rename).collect();
        self.outputs.insert(node, outputs);
    }

    /// Leaves a node out.
    pub(super) fn remove(&mut self, node: usize) {
        self.removed.insert(node);
    }

    /// Makes the changes.
    pub(super) fn apply(self, edits: &mut Edits<'_>) -> Result<(), Error> {
        let nodes = &self.model.graph.nodes;
        for &node in &self.removed {
            edits.remove(nodes[node].message);
        }
        let lists = [
            (schema::node::INPUT, &self.inputs),
            (schema::node::OUTPUT, &self.outputs),
        ];
        for (field, lists) in lists {
            for (&node, names) in lists {
                if self.removed.contains(&node) {
                    continue;
                }
                let message = nodes[node].message;
                let mut names = Some(names.iter().fold(Content::default(), |content, name| {
                    content.string(field, name)
                }));
                for run in self.model.fields(message).map_err(unreadable)? {
                    if run.number == field {
                        edits.replace_fields(message, run.span, names.take().unwrap_or_default());
                    }
                }
            }
        }
        Ok(())
    }
}
