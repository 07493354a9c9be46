//! A network run node by node, on many images, with bounded memory.
//!
//! The walk keeps the values that later nodes read, for all images, in the
//! float network and in the quantized one; so each node runs about once. A
//! value that would take too much memory is not kept: what needs it computes
//! it again from the values before it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use campana_ir::graph::{Graph, Node, Value};
use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_runtime::Session;
use campana_tensor::{ElementType, Tensor, TensorData};
use rayon::prelude::*;

use crate::running::{run, session};
use crate::samples::Batches;

/// Bytes that the kept values of all images may take, for each of the two
/// networks.
const MAX_KEPT_BYTES: usize = 512 << 20;

/// Values of one network for all images.
#[derive(Clone, Debug)]
pub struct ActivationCache {
    /// Batches of each kept value.
    values: HashMap<String, Arc<Vec<Tensor>>>,
    batches: usize,
    max_bytes: usize,
}

/// Names of the values that nodes after the first `nodes` ones, or nobody but
/// the caller of the network, read.
pub(crate) fn read_after(graph: &Graph, nodes: usize) -> HashSet<&str> {
    let later = graph.nodes[nodes..].iter().flat_map(Node::reads);
    let outputs = graph.outputs.iter().map(|value| value.name.as_str());
    later.chain(outputs).collect()
}

impl ActivationCache {
    /// The network's inputs.
    pub fn at_inputs(batches: Batches) -> Self {
        let count = batches.len();
        let inputs = batches.into_inputs().into_iter();
        Self {
            batches: count,
            values: inputs
                .map(|(name, batches)| (name, Arc::new(batches)))
                .collect(),
            max_bytes: MAX_KEPT_BYTES,
        }
    }

    /// Shows a value of the graph for each batch.
    ///
    /// # Errors
    ///
    /// Where the network cannot be run, and those of `visitor`.
    pub fn visit(
        &self,
        graph: &Graph,
        name: &str,
        threads: usize,
        mut visitor: impl FnMut(&Tensor) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let reader = self.reader(graph, name, threads)?;
        (0..self.batches).try_for_each(|batch| visitor(&*reader.read(batch)?))
    }

    /// Shows values of both networks for each batch.
    pub(crate) fn visit_both(
        caches: [&Self; 2],
        graphs: [&Graph; 2],
        names: &[&str],
        threads: usize,
        mut visitor: impl FnMut(&[[&Tensor; 2]]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let readers = names
            .iter()
            .map(|name| {
                Ok([
                    caches[0].reader(graphs[0], name, threads)?,
                    caches[1].reader(graphs[1], name, threads)?,
                ])
            })
            .collect::<Result<Vec<_>, Error>>()?;
        for batch in 0..caches[0].batches {
            let values = readers
                .iter()
                .map(|[first, second]| Ok([first.read(batch)?, second.read(batch)?]))
                .collect::<Result<Vec<_>, Error>>()?;
            let values: Vec<[&Tensor; 2]> = values
                .iter()
                .map(|[first, second]| [&**first, &**second])
                .collect();
            visitor(&values)?;
        }
        Ok(())
    }

    fn reader<'f>(
        &'f self,
        graph: &Graph,
        name: &'f str,
        threads: usize,
    ) -> Result<Reader<'f>, Error> {
        let session = if self.values.contains_key(name) {
            None
        } else {
            Some(session(self.part_to(graph, name), threads)?)
        };
        Ok(Reader {
            cache: self,
            name,
            session,
        })
    }

    /// Keeps a value, where memory allows that; says whether it did.
    pub(crate) fn keep(
        &mut self,
        graph: &Graph,
        name: &str,
        threads: usize,
    ) -> Result<bool, Error> {
        if self.values.contains_key(name) {
            return Ok(true);
        }
        let held: usize = self
            .values
            .values()
            .flat_map(|batches| batches.iter())
            .map(len_bytes)
            .sum();
        let reader = self.reader(graph, name, threads)?;
        let mut kept: Vec<Tensor> = Vec::with_capacity(self.batches);
        for batch in 0..self.batches {
            let tensor = reader.read(batch)?.into_owned();
            if held + len_bytes(&tensor).saturating_mul(self.batches) > self.max_bytes {
                return Ok(false);
            }
            kept.push(tensor);
        }
        drop(reader);
        self.values.insert(name.to_owned(), Arc::new(kept));
        Ok(true)
    }

    /// Adds to each channel along `axis`, or along the last one, of a value that
    /// is kept.
    pub(crate) fn shift(
        &mut self,
        name: &str,
        changes: &[f32],
        axis: Option<usize>,
    ) -> Result<(), Error> {
        let Some(kept) = self.values.get_mut(name) else {
            return Ok(());
        };
        let mut shifted = Vec::with_capacity(kept.len());
        for tensor in std::mem::take(kept).iter() {
            let shape = tensor.shape().to_vec();
            let axis = axis.unwrap_or(shape.len().saturating_sub(1));
            let inner: usize = shape.iter().skip(axis + 1).product();
            let mut values = floats(tensor)?.to_vec();
            let runs = values.par_chunks_mut(inner.max(1)).enumerate();
            runs.for_each(|(run, values)| {
                let change = changes[run % changes.len()];
                values.iter_mut().for_each(|value| *value += change);
            });
            let tensor = Tensor::new(shape, TensorData::F32(values));
            shifted.push(tensor.ok_or_else(|| unsupported("a value changes its size"))?);
        }
        *kept = Arc::new(shifted);
        Ok(())
    }

    /// Lets go of all values.
    pub(crate) fn clear(&mut self) {
        self.values.clear();
    }

    /// Lets go of the values that nothing after the first `nodes` nodes needs.
    pub(crate) fn forget(&mut self, graph: &Graph, nodes: usize) {
        let mut needed = read_after(graph, nodes);
        for node in graph.nodes[..nodes].iter().rev() {
            let is_missing =
                |output: &String| needed.contains(&**output) && !self.values.contains_key(output);
            if node.outputs.iter().any(is_missing) {
                needed.extend(node.reads());
            }
        }
        self.values.retain(|name, _| needed.contains(&**name));
    }

    /// The graph from what is kept to a value.
    fn part_to(&self, graph: &Graph, name: &str) -> Graph {
        let mut needed: HashSet<&str> = HashSet::from([name]);
        let mut nodes = Vec::new();
        for node in graph.nodes.iter().rev() {
            let is_missing =
                |output: &String| needed.contains(&**output) && !self.values.contains_key(output);
            if node.outputs.iter().any(is_missing) {
                needed.extend(node.reads());
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
        // A kept value has the type that it was computed in, integers included.
        let value = |name: &str| Value {
            name: name.to_owned(),
            element_type: self.element_type(name),
            shape: None,
        };
        let mut inputs: Vec<&String> = self
            .values
            .keys()
            .filter(|kept| {
                nodes
                    .iter()
                    .any(|node| node.reads().any(|name| name == *kept))
            })
            .collect();
        inputs.sort();
        Graph {
            name: graph.name.clone(),
            inputs: inputs.into_iter().map(|name| value(name)).collect(),
            outputs: vec![value(name)],
            nodes,
            constants,
            quantized,
            opsets: graph.opsets.clone(),
        }
    }
}

impl ActivationCache {
    fn element_type(&self, name: &str) -> Option<ElementType> {
        let first = self.values.get(name)?.first()?;
        Some(first.data().element_type())
    }
}

fn len_bytes(tensor: &Tensor) -> usize {
    tensor.len().saturating_mul(size_of::<f32>())
}

/// Reads one value batch by batch.
struct Reader<'f> {
    cache: &'f ActivationCache,
    name: &'f str,
    /// `None` where the value is kept.
    session: Option<Session>,
}

impl Reader<'_> {
    fn read(&self, batch: usize) -> Result<Cow<'_, Tensor>, Error> {
        let values = &self.cache.values;
        let Some(session) = &self.session else {
            return Ok(Cow::Borrowed(&values[self.name][batch]));
        };
        let inputs = session.plan().inputs().iter();
        let outputs = run(
            session,
            inputs.map(|input| (&*input.name, &values[&input.name][batch])),
        )?;
        let output = outputs.into_iter().next();
        output
            .map(Cow::Owned)
            .ok_or_else(|| unsupported("the network gives nothing"))
    }
}

/// The floats of a tensor.
///
/// # Errors
///
/// Where it holds something else.
pub fn floats(tensor: &Tensor) -> Result<&[f32], Error> {
    match tensor.data() {
        TensorData::F32(values) => Ok(values),
        _ => Err(unsupported("the network computes in other than float32")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_ir::graph::{Attribute, Dim};

    use crate::samples::Samples;

    /// x -> relu -> a -> (neg -> b), a + b -> c -> abs -> y
    fn residual() -> Graph {
        Graph {
            nodes: vec![
                Node::new("Relu", &["x"], &["a"]),
                Node::new("Neg", &["a"], &["b"]),
                Node::new("Add", &["a", "b"], &["c"]),
                Node::new("Abs", &["c"], &["y"]),
            ],
            inputs: vec![Value::named("x")],
            outputs: vec![Value::named("y")],
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        }
    }

    fn at_input(batches: Vec<Tensor>) -> ActivationCache {
        let shape = vec![batches.len(), batches[0].len()];
        let values = batches.iter().flat_map(|batch| floats(batch).unwrap());
        let data = TensorData::F32(values.copied().collect());
        let array = Tensor::new(shape, data).unwrap();
        let input = Value {
            name: "x".into(),
            element_type: None,
            shape: Some(vec![Dim::Fixed(1), Dim::Fixed(2)]),
        };
        let samples = Samples::Arrays(vec![("x".into(), array)]);
        ActivationCache::at_inputs(Batches::new(&[input], &samples).unwrap())
    }

    /// x -> relu -> a; if true: neg of a -> y
    fn branching() -> Graph {
        let branch = |op_type: &str| Graph {
            nodes: vec![Node::new(op_type, &["a"], &["inner"])],
            outputs: vec![Value::named("inner")],
            ..Graph::default()
        };
        let mut choice = Node::new("If", &["condition"], &["y"]);
        for (name, op_type) in [("then_branch", "Neg"), ("else_branch", "Abs")] {
            let branch = Attribute::Graph(Box::new(branch(op_type)));
            choice.attributes.insert(name.into(), branch);
        }
        let condition = Tensor::new(Vec::new(), TensorData::Bool(vec![true])).unwrap();
        Graph {
            nodes: vec![Node::new("Relu", &["x"], &["a"]), choice],
            inputs: vec![Value::named("x")],
            outputs: vec![Value::named("y")],
            constants: [("condition".to_owned(), condition)].into(),
            ..Graph::default()
        }
    }

    #[test]
    fn values_that_branches_read_are_kept_and_computed() {
        let graph = branching();
        assert!(read_after(&graph, 1).contains("a"));
        let array = Tensor::new(vec![1, 2], TensorData::F32(vec![2.0, -3.0])).unwrap();
        let samples = Samples::Arrays(vec![("x".into(), array)]);
        let batches = Batches::new(&graph.inputs, &samples).unwrap();
        let mut cache = ActivationCache::at_inputs(batches);
        let seen = |cache: &ActivationCache| {
            let mut seen = Vec::new();
            let visit = |tensor: &Tensor| {
                seen.extend_from_slice(floats(tensor)?);
                Ok(())
            };
            cache.visit(&graph, "y", 1, visit).unwrap();
            seen
        };
        assert_eq!(seen(&cache), [-2.0, 0.0]);
        assert!(cache.keep(&graph, "a", 1).unwrap());
        cache.forget(&graph, 1);
        assert_eq!(seen(&cache), [-2.0, 0.0]);
    }

    #[test]
    fn values_are_the_same_whatever_is_kept() {
        let graph = residual();
        let batch = |values: [f32; 2]| Tensor::new(vec![2], TensorData::F32(values.to_vec()));
        let batches = vec![batch([-1.0, 2.0]).unwrap(), batch([3.0, -4.0]).unwrap()];
        let mut cache = at_input(batches);
        let values = |cache: &ActivationCache, name: &str| {
            let mut seen = Vec::new();
            let visited = cache.visit(&graph, name, 1, |tensor| {
                seen.extend_from_slice(floats(tensor)?);
                Ok(())
            });
            visited.unwrap();
            seen
        };
        assert_eq!(values(&cache, "x"), [-1.0, 2.0, 3.0, -4.0]);
        let expected = values(&cache, "b");
        assert_eq!(expected, [0.0, -2.0, -3.0, 0.0]);
        assert!(cache.keep(&graph, "a", 1).unwrap());
        cache.forget(&graph, 1);
        assert_eq!(cache.values.len(), 1, "the input is no longer needed");
        assert_eq!(values(&cache, "b"), expected);
        assert!(cache.keep(&graph, "b", 1).unwrap());
        cache.forget(&graph, 2);
        assert_eq!(cache.values.len(), 2, "the sum reads both");
        assert_eq!(values(&cache, "y"), [0.0; 4]);
    }

    #[test]
    fn what_is_too_large_is_computed_again() {
        let graph = residual();
        let batch = Tensor::new(vec![2], TensorData::F32(vec![-1.0, 2.0])).unwrap();
        let mut cache = at_input(vec![batch]);
        cache.max_bytes = 12;
        assert!(!cache.keep(&graph, "a", 1).unwrap());
        cache.forget(&graph, 1);
        let mut seen = Vec::new();
        let visited = cache.visit(&graph, "b", 1, |tensor| {
            seen.extend_from_slice(floats(tensor)?);
            Ok(())
        });
        visited.unwrap();
        assert_eq!(seen, [0.0, -2.0]);
    }
}
