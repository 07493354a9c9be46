//! A network run node by node, on many images, with bounded memory.
//!
//! The walk keeps the values that later nodes read, for all images, in the
//! float network and in the quantized one; so each node runs about once. A
//! value that would take too much memory is kept for some batches, where these
//! are enough to tell what is asked of it: large values have many positions an
//! image. Elsewhere it is not kept: what needs it computes it again from the
//! values before it.

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
    /// Each kept value for the first batches of `order`.
    values: HashMap<String, Arc<Vec<Tensor>>>,
    /// All batches, so that those at the front are spread evenly.
    order: Arc<Vec<usize>>,
    /// Whether values that are too large are kept for some batches.
    in_part: bool,
    max_bytes: usize,
}

/// The numbers below `count`, so that those at the front are spread evenly: their
/// bit-reversal permutation.
fn spread_order(count: usize) -> Vec<usize> {
    let bits = usize::BITS - count.saturating_sub(1).leading_zeros();
    let backwards = |number: usize| match bits {
        0 => 0,
        bits => number.reverse_bits() >> (usize::BITS - bits),
    };
    let all = 0..1usize << bits;
    all.map(backwards)
        .filter(|&number| number < count)
        .collect()
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
        let order = spread_order(batches.len());
        let inputs = batches.into_inputs().into_iter();
        let in_order = |mut batches: Vec<Option<Tensor>>| -> Vec<Tensor> {
            let taken = order.iter().map(|&batch| batches[batch].take());
            taken.flatten().collect()
        };
        Self {
            values: inputs
                .map(|(name, batches)| {
                    let batches = batches.into_iter().map(Some).collect();
                    (name, Arc::new(in_order(batches)))
                })
                .collect(),
            order: Arc::new(order),
            in_part: false,
            max_bytes: MAX_KEPT_BYTES,
        }
    }

    /// The same, which keeps values that are too large for some batches.
    pub(crate) fn in_part(self) -> Self {
        Self {
            in_part: true,
            ..self
        }
    }

    /// The first `len` places of the order, in the order in which their batches stand
    /// in the data.
    fn first(&self, len: usize) -> impl Iterator<Item = usize> {
        let mut places: Vec<usize> = (0..len).collect();
        places.sort_by_key(|&place| self.order[place]);
        places.into_iter()
    }

    /// Shows a value of the graph for each batch, or for those that values before
    /// it are kept for.
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
        let mut places = self.first(reader.len());
        places.try_for_each(|place| visitor(&*reader.read(place)?))
    }

    /// Shows values of both networks for each batch that all can be had for.
    pub(crate) fn visit_both(
        caches: [&Self; 2],
        graphs: [&Graph; 2],
        names: &[&str],
        threads: usize,
        mut visitor: impl FnMut(&[[&Tensor; 2]]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let all = |_| true;
        Self::visit_some(caches, graphs, names, threads, all, |_, values| {
            visitor(values)
        })
    }

    /// The same for the batches that are wanted, each with its number.
    pub(crate) fn visit_some(
        caches: [&Self; 2],
        graphs: [&Graph; 2],
        names: &[&str],
        threads: usize,
        is_wanted: impl Fn(usize) -> bool,
        mut visitor: impl FnMut(usize, &[[&Tensor; 2]]) -> Result<(), Error>,
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
        let len = readers.iter().flatten().map(Reader::len).min().unwrap_or(0);
        for place in caches[0].first(len) {
            let batch = caches[0].order[place];
            if !is_wanted(batch) {
                continue;
            }
            let values = readers
                .iter()
                .map(|[first, second]| Ok([first.read(place)?, second.read(place)?]))
                .collect::<Result<Vec<_>, Error>>()?;
            let values: Vec<[&Tensor; 2]> = values
                .iter()
                .map(|[first, second]| [&**first, &**second])
                .collect();
            visitor(batch, &values)?;
        }
        Ok(())
    }

    /// The share of the batches that a value is shown for.
    pub(crate) fn share_shown(&self, graph: &Graph, name: &str) -> f64 {
        let batches = self.order.len();
        if self.values.keys().all(|name| self.is_whole(name)) {
            return 1.0;
        }
        let shown = match self.values.get(name) {
            Some(kept) => kept.len(),
            None => {
                let part = self.part_to(graph, name, |kept| self.values.contains_key(kept));
                let lens = part
                    .inputs
                    .iter()
                    .map(|input| self.values[&input.name].len());
                lens.min().unwrap_or(batches)
            }
        };
        shown as f64 / batches.max(1) as f64
    }

    fn reader<'f>(
        &'f self,
        graph: &Graph,
        name: &'f str,
        threads: usize,
    ) -> Result<Reader<'f>, Error> {
        self.reader_from(graph, name, threads, |kept| self.values.contains_key(kept))
    }

    /// Reads a value, computed where it is not kept from those that `is_usable`.
    fn reader_from<'f>(
        &'f self,
        graph: &Graph,
        name: &'f str,
        threads: usize,
        is_usable: impl Fn(&str) -> bool,
    ) -> Result<Reader<'f>, Error> {
        let session = match is_usable(name) {
            true => None,
            false => Some(session(self.part_to(graph, name, is_usable), threads)?),
        };
        Ok(Reader {
            cache: self,
            name,
            session,
        })
    }

    /// Whether a value is kept for all batches.
    fn is_whole(&self, name: &str) -> bool {
        let kept = self.values.get(name);
        kept.is_some_and(|kept| kept.len() == self.order.len())
    }

    /// Keeps a value, where memory allows that, if only for some batches; says
    /// whether it did.
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
        let batches = self.order.len();
        let mut reader = self.reader(graph, name, threads)?;
        let first = reader.read(0)?.into_owned();
        let fitting = self.max_bytes.saturating_sub(held) / len_bytes(&first).max(1);
        let len = match fitting {
            _ if fitting >= batches => batches,
            _ if self.in_part => fitting.min(reader.len()),
            _ => 0,
        };
        if len == 0 {
            return Ok(false);
        }
        let mut kept = Vec::with_capacity(len);
        kept.push(first);
        if reader.len() < len {
            reader = self.reader_from(graph, name, threads, |kept| self.is_whole(kept))?;
        }
        for place in 1..len {
            kept.push(reader.read(place)?.into_owned());
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
        // In place, where the other network does not keep it too.
        let owned = Arc::unwrap_or_clone(std::mem::take(kept));
        let mut shifted = Vec::with_capacity(owned.len());
        for tensor in owned {
            let (shape, data) = tensor.into_parts();
            let TensorData::F32(mut values) = data else {
                return Err(no_floats());
            };
            let axis = axis.unwrap_or(shape.len().saturating_sub(1));
            let inner: usize = shape.iter().skip(axis + 1).product();
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
        let needed = self.needed_after(graph, nodes, |name| self.values.contains_key(name));
        // What values kept for some batches are computed from for the others.
        let whole = self.needed_after(graph, nodes, |name| self.is_whole(name));
        let batches = self.order.len();
        self.values.retain(|name, kept| {
            needed.contains(&**name) || kept.len() == batches && whole.contains(&**name)
        });
    }

    /// What nodes after the first `nodes` ones read, and what it is computed from
    /// where it is not kept.
    fn needed_after<'g>(
        &self,
        graph: &'g Graph,
        nodes: usize,
        is_kept: impl Fn(&str) -> bool,
    ) -> HashSet<&'g str> {
        let mut needed = read_after(graph, nodes);
        for node in graph.nodes[..nodes].iter().rev() {
            let is_missing = |output: &String| needed.contains(&**output) && !is_kept(output);
            if node.outputs.iter().any(is_missing) {
                needed.extend(node.reads());
            }
        }
        needed
    }

    /// The graph from kept values that `is_usable` to another value.
    fn part_to(&self, graph: &Graph, name: &str, is_usable: impl Fn(&str) -> bool) -> Graph {
        let mut needed: HashSet<&str> = HashSet::from([name]);
        let mut nodes = Vec::new();
        for node in graph.nodes.iter().rev() {
            let is_missing = |output: &String| needed.contains(&**output) && !is_usable(output);
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
            .filter(|kept| is_usable(kept))
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

/// Reads one value batch by batch, each by its place in the order.
struct Reader<'f> {
    cache: &'f ActivationCache,
    name: &'f str,
    /// `None` where the value is kept.
    session: Option<Session>,
}

impl Reader<'_> {
    /// The batches that can be read.
    fn len(&self) -> usize {
        let values = &self.cache.values;
        let Some(session) = &self.session else {
            return values[self.name].len();
        };
        let inputs = session.plan().inputs().iter();
        let lens = inputs.map(|input| values[&input.name].len());
        lens.min().unwrap_or(self.cache.order.len())
    }

    fn read(&self, place: usize) -> Result<Cow<'_, Tensor>, Error> {
        let values = &self.cache.values;
        let Some(session) = &self.session else {
            return Ok(Cow::Borrowed(&values[self.name][place]));
        };
        let inputs = session.plan().inputs().iter();
        let outputs = run(
            session,
            inputs.map(|input| (&*input.name, &values[&input.name][place])),
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
        _ => Err(no_floats()),
    }
}

fn no_floats() -> Error {
    unsupported("the network computes in other than float32")
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

    #[test]
    fn batches_at_the_front_are_spread() {
        assert_eq!(spread_order(0), Vec::<usize>::new());
        assert_eq!(spread_order(1), [0]);
        assert_eq!(spread_order(6), [0, 4, 2, 1, 5, 3]);
    }

    #[test]
    fn what_is_too_large_is_kept_for_some_batches() {
        let graph = residual();
        let batch = |first: f32| Tensor::new(vec![2], TensorData::F32(vec![first, -1.0])).unwrap();
        let mut cache = at_input((1..=4u8).map(|at| batch(f32::from(at))).collect()).in_part();
        let seen = |cache: &ActivationCache, name: &str| {
            let mut seen = Vec::new();
            let visit = |tensor: &Tensor| {
                seen.push(floats(tensor)?[0]);
                Ok(())
            };
            cache.visit(&graph, name, 1, visit).unwrap();
            seen
        };
        // Beside the input's 32 bytes there is room for two batches of 8.
        cache.max_bytes = 48;
        assert!(cache.keep(&graph, "a", 1).unwrap());
        cache.forget(&graph, 1);
        assert_eq!(seen(&cache, "a"), [1.0, 3.0]);
        assert_eq!(seen(&cache, "y"), [0.0; 2]);
        assert_eq!(
            seen(&cache, "x"),
            [1.0, 2.0, 3.0, 4.0],
            "what the others are computed from"
        );
        // Room for all of what follows.
        cache.max_bytes = 1000;
        assert!(cache.keep(&graph, "c", 1).unwrap());
        cache.forget(&graph, 3);
        assert_eq!(seen(&cache, "y"), [0.0; 4]);
        assert_eq!(cache.values.len(), 1, "only the sum is read");
    }
}
