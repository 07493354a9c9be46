//! A network run piece by piece, on many images, with bounded memory.
//!
//! Where all that is computed so far goes on through a single value, a graph
//! can be cut. The walk keeps that value for all images at the last cut, for
//! the float network and for the quantized one, and computes what lies between
//! it and the layer at hand anew for each question. Layers lie a few nodes
//! behind the last cut in every common network, so this costs a few times one
//! run of the network; and memory is that of one value, not of all.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use campana_model::graph::{Graph, Value};
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::{ElementType, Tensor, TensorData};

use crate::{Error, ErrorKind};

/// Bytes that the values of all images at a cut may take, for each of the two
/// networks.
const MAX_CUT_BYTES: usize = 512 << 20;

/// A value of one network for all images, in batches.
#[derive(Clone, Debug)]
pub(crate) struct Frontier {
    /// The value's name.
    name: String,
    /// Nodes before it.
    nodes: usize,
    batches: Vec<Tensor>,
}

/// Positions in the list of nodes after which one value alone goes on, with
/// its name, ascending.
pub(crate) fn cuts(graph: &Graph) -> Vec<(usize, String)> {
    let mut last_use: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            last_use.insert(input, i);
        }
    }
    for output in &graph.outputs {
        last_use.insert(&output.name, usize::MAX);
    }
    let mut alive: HashSet<&str> = graph.inputs.iter().map(|value| &*value.name).collect();
    let mut cuts = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        alive.extend(node.outputs.iter().map(String::as_str));
        alive.retain(|name| last_use.get(name).is_some_and(|&last| last > i));
        if let Some(&name) = alive.iter().next().filter(|_| alive.len() == 1)
            && node.outputs.iter().any(|output| output == name)
        {
            cuts.push((i + 1, name.to_owned()));
        }
    }
    cuts
}

impl Frontier {
    /// The network's input.
    pub(crate) fn at_input(name: &str, batches: Vec<Tensor>) -> Self {
        Self {
            name: name.to_owned(),
            nodes: 0,
            batches,
        }
    }

    /// Shows a value of the graph for each batch.
    pub(crate) fn visit(
        &self,
        graph: &Graph,
        name: &str,
        threads: usize,
        mut visitor: impl FnMut(&Tensor) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let reader = self.reader(graph, name, threads)?;
        (0..self.batches.len()).try_for_each(|batch| visitor(&*reader.read(batch)?))
    }

    /// Shows a value of both networks for each batch.
    pub(crate) fn visit_both(
        fronts: [&Self; 2],
        graphs: [&Graph; 2],
        name: &str,
        threads: usize,
        mut visitor: impl FnMut([&Tensor; 2]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let first = fronts[0].reader(graphs[0], name, threads)?;
        let second = fronts[1].reader(graphs[1], name, threads)?;
        (0..fronts[0].batches.len())
            .try_for_each(|batch| visitor([&*first.read(batch)?, &*second.read(batch)?]))
    }

    fn reader(&self, graph: &Graph, name: &str, threads: usize) -> Result<Reader<'_>, Error> {
        if name == self.name {
            return Ok(Reader {
                front: self,
                session: None,
            });
        }
        let plan = Plan::new(&self.part_to(graph, name), PlanOptions::default())
            .map_err(|error| unsupported("cannot run the network").with_source(error))?;
        Ok(Reader {
            front: self,
            session: Some(Session::new(plan, threads)),
        })
    }

    /// Moves to a later cut, where memory allows that; says whether it did.
    pub(crate) fn advance(
        &mut self,
        graph: &Graph,
        cut: &(usize, String),
        threads: usize,
    ) -> Result<bool, Error> {
        let (nodes, name) = cut;
        let mut batches: Vec<Tensor> = Vec::new();
        let mut too_large = false;
        let count = self.batches.len();
        self.visit(graph, name, threads, |batch| {
            too_large |= batch.len().saturating_mul(4 * count) > MAX_CUT_BYTES;
            if !too_large {
                batches.push(batch.clone());
            }
            Ok(())
        })?;
        if too_large {
            return Ok(false);
        }
        *self = Self {
            name: name.clone(),
            nodes: *nodes,
            batches,
        };
        Ok(true)
    }

    /// The graph from here to a value.
    fn part_to(&self, graph: &Graph, name: &str) -> Graph {
        let mut needed: HashSet<&str> = HashSet::from([name]);
        let mut nodes = Vec::new();
        for node in graph.nodes[self.nodes..].iter().rev() {
            if node.outputs.iter().any(|output| needed.contains(&**output)) {
                needed.extend(node.inputs.iter().map(String::as_str));
                nodes.push(node.clone());
            }
        }
        nodes.reverse();
        let constants = graph
            .constants
            .iter()
            .filter(|(name, _)| needed.contains(name.as_str()))
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect();
        let quantized = graph
            .quantized
            .iter()
            .filter(|(name, _)| needed.contains(name.as_str()))
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect();
        let value = |name: &str| Value {
            name: name.to_owned(),
            element_type: Some(ElementType::F32),
            shape: None,
        };
        Graph {
            name: graph.name.clone(),
            nodes,
            inputs: vec![value(&self.name)],
            outputs: vec![value(name)],
            constants,
            quantized,
            opsets: graph.opsets.clone(),
        }
    }
}

/// Computes one value from a cut, batch by batch.
struct Reader<'f> {
    front: &'f Frontier,
    /// `None` where the cut is at the value itself.
    session: Option<Session>,
}

impl Reader<'_> {
    fn read(&self, batch: usize) -> Result<Cow<'_, Tensor>, Error> {
        let batch = &self.front.batches[batch];
        let Some(session) = &self.session else {
            return Ok(Cow::Borrowed(batch));
        };
        let outputs = session
            .run(&[(self.front.name.as_str(), Input::Tensor(batch))])
            .map_err(|error| unsupported("cannot run the network").with_source(error))?;
        let output = outputs.into_iter().next();
        output
            .map(Cow::Owned)
            .ok_or_else(|| unsupported("the network gives nothing"))
    }
}

/// The floats of a tensor.
pub(crate) fn floats(tensor: &Tensor) -> Result<&[f32], Error> {
    match tensor.data() {
        TensorData::F32(values) => Ok(values),
        _ => Err(unsupported("the network computes in other than float32")),
    }
}

pub(crate) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_model::graph::Node;

    fn node(op_type: &str, inputs: &[&str], output: &str) -> Node {
        Node {
            op_type: op_type.into(),
            inputs: inputs.iter().map(ToString::to_string).collect(),
            outputs: vec![output.into()],
            ..Node::default()
        }
    }

    /// x -> relu -> a -> (neg -> b), a + b -> c -> abs -> y
    fn residual() -> Graph {
        let value = |name: &str| Value {
            name: name.into(),
            element_type: None,
            shape: None,
        };
        Graph {
            nodes: vec![
                node("Relu", &["x"], "a"),
                node("Neg", &["a"], "b"),
                node("Add", &["a", "b"], "c"),
                node("Abs", &["c"], "y"),
            ],
            inputs: vec![value("x")],
            outputs: vec![value("y")],
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        }
    }

    #[test]
    fn a_graph_is_cut_where_one_value_goes_on() {
        let names: Vec<(usize, String)> = cuts(&residual());
        let expected = [(1, "a"), (3, "c"), (4, "y")].map(|(i, name)| (i, name.to_owned()));
        assert_eq!(names, expected);
    }

    #[test]
    fn values_are_the_same_from_every_cut() {
        let graph = residual();
        let batch = |values: [f32; 2]| Tensor::new(vec![2], TensorData::F32(values.to_vec()));
        let batches = vec![batch([-1.0, 2.0]).unwrap(), batch([3.0, -4.0]).unwrap()];
        let mut frontier = Frontier::at_input("x", batches);
        let values = |frontier: &Frontier, name: &str| {
            let mut seen = Vec::new();
            let visited = frontier.visit(&graph, name, 1, |tensor| {
                seen.extend_from_slice(floats(tensor)?);
                Ok(())
            });
            visited.unwrap();
            seen
        };
        assert_eq!(values(&frontier, "x"), [-1.0, 2.0, 3.0, -4.0]);
        let expected = values(&frontier, "b");
        assert_eq!(expected, [0.0, -2.0, -3.0, 0.0]);
        assert!(frontier.advance(&graph, &(1, "a".into()), 1).unwrap());
        assert_eq!(values(&frontier, "b"), expected);
        assert_eq!(values(&frontier, "y"), [0.0; 4]);
    }
}
