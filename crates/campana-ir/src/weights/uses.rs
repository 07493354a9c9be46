//! Which operators read which constants, in a graph and the graphs inside of
//! its nodes.

use std::collections::HashMap;

use campana_onnx::{Attribute, AttributeValue, Graph, Node, TensorProto};
use campana_tensor::ElementType;

/// Axes that a permutation may have: a longer one is that of no tensor, and
/// would be copied with every use.
const MAX_RANK: usize = 64;

/// Where a graph keeps a constant; the number is the position among the
/// graph's initializers or nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An initializer.
    Initializer(usize),
    /// The attribute `value` of a `Constant` node.
    ConstantNode(usize),
}

/// A constant float tensor.
pub(super) struct Constant<'m> {
    pub(super) name: &'m str,
    pub(super) graph: &'m Graph,
    pub(super) origin: Origin,
    pub(super) proto: &'m TensorProto,
}

/// One reading of a constant by an operator.
pub(super) struct Use<'m> {
    pub(super) node: &'m Node,
    /// Which of the node's inputs it is.
    pub(super) input: usize,
    /// For each axis that the operator sees, the constant's own axis; `None`
    /// where it was reshaped on its way.
    pub(super) axes: Axes,
}

/// How the axes that an operator sees lie in the constant.
#[derive(Clone)]
pub(super) enum Axes {
    Same,
    Permuted(Vec<usize>),
    Lost,
}

impl Axes {
    pub(super) fn own_axis(&self, seen: usize) -> Option<usize> {
        match self {
            Self::Same => Some(seen),
            Self::Permuted(permutation) => permutation.get(seen).copied(),
            Self::Lost => None,
        }
    }
}

/// What a name stands for in a scope: a constant (by position) as it lies, or
/// anything else.
type Meaning = Option<(usize, Axes)>;

/// The constants of a graph and of the graphs inside of its nodes, and the
/// uses of each.
#[derive(Default)]
pub(super) struct Uses<'m> {
    pub(super) tensors: Vec<Constant<'m>>,
    /// As many as there are tensors.
    pub(super) uses: Vec<Vec<Use<'m>>>,
    /// The names of the graphs around the current place, innermost last.
    scopes: Vec<HashMap<&'m str, Meaning>>,
}

impl<'m> Uses<'m> {
    /// All uses of each constant, also under the names it gets from operators
    /// that only move its elements.
    pub(super) fn of(graph: &'m Graph) -> Self {
        let mut found = Self::default();
        found.enter(graph);
        found
    }

    fn enter(&mut self, graph: &'m Graph) {
        self.scopes.push(HashMap::new());
        for (index, proto) in graph.initializers.iter().enumerate() {
            self.define(graph, &proto.name, Origin::Initializer(index), proto);
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            let ("Constant", [output]) = (node.op_type.as_str(), node.outputs.as_slice()) else {
                continue;
            };
            if let Some(Attribute {
                value: AttributeValue::Tensor(proto),
                ..
            }) = node.attribute("value")
            {
                self.define(graph, output, Origin::ConstantNode(index), proto);
            }
        }
        // Inputs of bodies hide names of the graphs around them; one that has
        // the name of an initializer only declares it.
        for input in &graph.inputs {
            self.bind(&input.name, None);
        }
        for node in &graph.nodes {
            self.visit(node);
        }
        self.scopes.pop();
    }

    fn define(&mut self, graph: &'m Graph, name: &'m str, origin: Origin, proto: &'m TensorProto) {
        let is_known = self
            .scopes
            .last()
            .is_some_and(|scope| scope.contains_key(name));
        if !is_float(proto) || is_known {
            self.bind(name, None);
            return;
        }
        self.bind(name, Some((self.tensors.len(), Axes::Same)));
        self.uses.push(Vec::new());
        self.tensors.push(Constant {
            name,
            graph,
            origin,
            proto,
        });
    }

    /// Gives a name its meaning in the innermost scope, where it has none yet.
    fn bind(&mut self, name: &'m str, meaning: Meaning) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.entry(name).or_insert(meaning);
        }
    }

    fn meaning(&self, name: &str) -> Meaning {
        let scopes = self.scopes.iter().rev();
        scopes
            .into_iter()
            .find_map(|scope| scope.get(name))?
            .clone()
    }

    fn visit(&mut self, node: &'m Node) {
        for (input, name) in node.inputs.iter().enumerate() {
            let Some((tensor, axes)) = self.meaning(name) else {
                continue;
            };
            match (moved_axes(node, &axes), node.outputs.first()) {
                (Some(axes), Some(output)) if input == 0 => {
                    self.bind(output, Some((tensor, axes)));
                }
                _ => self.uses[tensor].push(Use { node, input, axes }),
            }
        }
        for attribute in &node.attributes {
            match &attribute.value {
                AttributeValue::Graph(graph) => self.enter(graph),
                AttributeValue::Graphs(graphs) => {
                    graphs.iter().for_each(|graph| self.enter(graph));
                }
                _ => {}
            }
        }
        for output in &node.outputs {
            self.bind(output, None);
        }
    }
}

fn is_float(proto: &TensorProto) -> bool {
    use ElementType::{Bf16, F16, F32, F64};
    matches!(proto.element_type, F32 | F16 | Bf16 | F64)
}

/// How axes lie behind an operator that only moves elements; `None` for any
/// other operator.
fn moved_axes(node: &Node, axes: &Axes) -> Option<Axes> {
    match (node.op_type.as_str(), axes) {
        ("Identity" | "Cast", axes) => Some(axes.clone()),
        ("Transpose", Axes::Same) => match node.attribute("perm").map(|a| &a.value) {
            Some(AttributeValue::Ints(permutation)) if permutation.len() <= MAX_RANK => {
                let axes = permutation.iter().map(|&axis| axis as usize);
                Some(Axes::Permuted(axes.collect()))
            }
            _ => Some(Axes::Lost),
        },
        ("Transpose" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten", _) => Some(Axes::Lost),
        _ => None,
    }
}
