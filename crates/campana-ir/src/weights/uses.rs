//! Which operators read which constants, in a graph and the graphs inside of
//! its nodes.

use std::collections::{HashMap, HashSet};

use campana_onnx::{Attribute, AttributeValue, Graph, Model, Node, TensorProto};
use campana_tensor::{ElementType, TensorData};

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
#[derive(Clone, PartialEq)]
pub(super) enum Axes {
    Same,
    /// The constant's own axis of each; `None` for one that was inserted.
    Moved(Vec<Option<usize>>),
    Lost,
}

impl Axes {
    pub(super) fn own_axis(&self, seen: usize) -> Option<usize> {
        match self {
            Self::Same => Some(seen),
            Self::Moved(own) => own.get(seen).copied().flatten(),
            Self::Lost => None,
        }
    }

    /// The own axes of a constant of this rank, where they are known.
    fn own(&self, rank: usize) -> Option<Vec<Option<usize>>> {
        match self {
            Self::Same => Some((0..rank).map(Some).collect()),
            Self::Moved(own) => Some(own.clone()),
            Self::Lost => None,
        }
    }
}

/// What a name stands for in a scope: constants (by position) as they lie,
/// several of them joined, or anything else, which is none.
type Meaning = Vec<(usize, Axes)>;

/// The constants of a graph and of the graphs inside of its nodes, and the
/// uses of each.
pub(super) struct Uses<'m> {
    model: &'m Model,
    pub(super) tensors: Vec<Constant<'m>>,
    /// As many as there are tensors.
    pub(super) uses: Vec<Vec<Use<'m>>>,
    /// Those that an output of a graph gives, by position.
    pub(super) given: HashSet<usize>,
    /// The names of the graphs around the current place, innermost last.
    scopes: Vec<HashMap<&'m str, Meaning>>,
    /// Short vectors of integers by their names: axes of operators.
    integers: HashMap<&'m str, &'m TensorProto>,
}

impl<'m> Uses<'m> {
    /// All uses of each constant, also under the names it gets from operators
    /// that only move its elements.
    pub(super) fn of(model: &'m Model) -> Self {
        let mut found = Self {
            model,
            tensors: Vec::new(),
            uses: Vec::new(),
            given: HashSet::new(),
            scopes: Vec::new(),
            integers: HashMap::new(),
        };
        found.enter(&model.graph);
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
            self.bind(&input.name, Meaning::new());
        }
        for node in &graph.nodes {
            self.visit(node);
        }
        for output in &graph.outputs {
            let given = self.meaning(&output.name);
            self.given.extend(given.iter().map(|(tensor, _)| *tensor));
        }
        self.scopes.pop();
    }

    fn define(&mut self, graph: &'m Graph, name: &'m str, origin: Origin, proto: &'m TensorProto) {
        let is_known = self
            .scopes
            .last()
            .is_some_and(|scope| scope.contains_key(name));
        if !proto.element_type.is_float() || is_known {
            self.bind(name, Meaning::new());
            if proto.element_type == ElementType::I64 && proto.dims.len() <= 1 {
                self.integers.insert(name, proto);
            }
            return;
        }
        self.bind(name, vec![(self.tensors.len(), Axes::Same)]);
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
        let mut scopes = self.scopes.iter().rev();
        let found = scopes.find_map(|scope| scope.get(name));
        found.cloned().unwrap_or_default()
    }

    fn visit(&mut self, node: &'m Node) {
        match self.moved(node) {
            Some(meaning) => {
                for output in &node.outputs {
                    self.bind(output, meaning.clone());
                }
            }
            None => self.read(node),
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
            self.bind(output, Meaning::new());
        }
    }

    /// Notes that a node reads the constants among its inputs.
    fn read(&mut self, node: &'m Node) {
        for (input, name) in node.inputs.iter().enumerate() {
            for (tensor, axes) in self.meaning(name) {
                self.uses[tensor].push(Use { node, input, axes });
            }
        }
    }

    /// What the outputs of a node stand for that only moves elements of
    /// constants; `None` for any other.
    fn moved(&self, node: &Node) -> Option<Meaning> {
        let mut all = Meaning::new();
        for name in moved_inputs(&node.op_type, &node.inputs)? {
            let meaning = self.meaning(name);
            // A constant beside what is none is no weight of the reader.
            if meaning.is_empty() {
                return None;
            }
            for (tensor, axes) in meaning {
                let rank = self.tensors[tensor].proto.dims.len();
                let own = (tensor, self.moved_axes(node, &axes, rank));
                if !all.contains(&own) {
                    all.push(own);
                }
            }
        }
        Some(all).filter(|all| !all.is_empty())
    }

    /// How the axes of a constant of some rank lie behind an operator that only
    /// moves elements.
    fn moved_axes(&self, node: &Node, axes: &Axes, rank: usize) -> Axes {
        let moved = match node.op_type.as_str() {
            "Identity" | "Cast" | "Slice" | "Split" | "Concat" => Some(axes.clone()),
            "Transpose" => permuted(node, axes, rank),
            "Unsqueeze" => {
                let inserted = self.inserted_axes(node);
                inserted.and_then(|inserted| unsqueezed(&inserted, axes, rank))
            }
            _ => None,
        };
        moved.unwrap_or(Axes::Lost)
    }

    /// The axes that Unsqueeze inserts: an attribute up to opset 12, then a
    /// constant.
    fn inserted_axes(&self, node: &Node) -> Option<Vec<i64>> {
        if let Some(AttributeValue::Ints(axes)) = node.attribute("axes").map(|a| &a.value) {
            return (axes.len() <= MAX_RANK).then(|| axes.clone());
        }
        let proto = self.integers.get(node.inputs.get(1)?.as_str())?;
        if proto.dims.iter().any(|&len| len as usize > MAX_RANK) {
            return None;
        }
        match self.model.read_tensor(proto).ok()?.into_parts() {
            (_, TensorData::I64(axes)) => Some(axes),
            _ => None,
        }
    }
}

/// The inputs of whose elements the outputs of an operator consist, in another
/// order, shape or type: constants stay weights behind it. `None` for an operator
/// that computes.
pub fn moved_inputs<'n>(op_type: &str, inputs: &'n [String]) -> Option<&'n [String]> {
    match op_type {
        "Concat" => Some(inputs),
        "Identity" | "Cast" | "Slice" | "Split" | "Transpose" | "Unsqueeze" | "Reshape"
        | "Squeeze" | "Flatten" => inputs.get(..1),
        _ => None,
    }
}

fn permuted(node: &Node, axes: &Axes, rank: usize) -> Option<Axes> {
    let AttributeValue::Ints(permutation) = &node.attribute("perm")?.value else {
        return None;
    };
    let own = axes.own(rank).filter(|_| permutation.len() <= MAX_RANK)?;
    let moved = permutation
        .iter()
        .map(|&axis| own.get(axis as usize).copied().flatten());
    Some(Axes::Moved(moved.collect()))
}

fn unsqueezed(inserted: &[i64], axes: &Axes, rank: usize) -> Option<Axes> {
    let mut own = axes.own(rank)?;
    let rank = (own.len() + inserted.len()) as i64;
    let mut inserted: Vec<i64> = inserted
        .iter()
        .map(|axis| axis.rem_euclid(rank.max(1)))
        .collect();
    inserted.sort_unstable();
    for axis in inserted {
        own.insert((axis as usize).min(own.len()), None);
    }
    Some(Axes::Moved(own))
}
