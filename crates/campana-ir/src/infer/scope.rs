//! The values of a graph while they are inferred.

use std::collections::HashMap;

use super::contents::Contents;
use super::value::{ValueInfo, Values};
use crate::graph::{Dim, Node};

/// The values of a graph and of those around it, while they are inferred.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) values: Values,
    pub(super) contents: HashMap<String, Contents>,
    /// Small constants of floats.
    pub(super) floats: HashMap<String, Vec<f32>>,
    pub(super) opset: i64,
}

impl Scope {
    /// What is known of a node's input.
    pub(super) fn input(&self, node: &Node, index: usize) -> Option<&ValueInfo> {
        self.values.get(node.inputs.get(index)?)
    }

    pub(super) fn input_shape(&self, node: &Node, index: usize) -> Option<&[Dim]> {
        self.input(node, index)?.shape.as_deref()
    }

    pub(super) fn input_floats(&self, node: &Node, index: usize) -> Option<&[f32]> {
        self.floats.get(node.inputs.get(index)?).map(Vec::as_slice)
    }

    pub(super) fn input_contents(&self, node: &Node, index: usize) -> Option<&Contents> {
        self.contents.get(node.inputs.get(index)?)
    }
}
