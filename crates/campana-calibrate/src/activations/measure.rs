//! What rounding activations does to a network's outputs, by one network in which it
//! can be switched.

use std::collections::HashMap;
use std::sync::Arc;

use campana_ir::graph::{Graph, Node, Value};
use campana_ir::network::Network;
use campana_quantize::{ActivationScale, Error, Progress, check_cancelled};
use campana_runtime::Session;
use campana_tensor::{ElementType, Tensor, TensorData};

use crate::comparable::{Compared, with_comparable_outputs};
use crate::output_errors::OutputErrors;
use crate::running::{run, session};
use crate::samples::Batches;

/// Samples that errors are measured on, at least and at most: errors differ much from
/// sample to sample.
const SAMPLES: [usize; 2] = [8, 32];

/// How many times as many others what was chosen on them is judged on.
const HELD_OUT: usize = 4;

/// Multiply-accumulates of one measurement that more than the least samples may take.
const AFFORDABLE: f64 = 1e8;

/// The relative error of outputs that are infinite or no numbers.
pub(super) const LARGEST: f64 = f64::MAX;

/// A network in which each activation can be rounded by one of its candidates, and
/// what it gives without any rounded.
pub(super) struct Measure<'b> {
    session: Arc<Session>,
    /// For each activation the inputs that turn on its candidates.
    switches: Arc<Vec<Vec<String>>>,
    batches: &'b Batches,
    /// The batches that are run.
    shown: Vec<usize>,
    unrounded: Vec<Vec<Tensor>>,
    /// What the network gives as its outputs.
    pub(super) compared: Compared,
    progress: &'b dyn Progress,
}

impl<'b> Measure<'b> {
    /// Of a network with these candidates for each activation, on as many samples,
    /// spread evenly.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` where the network cannot be run with them rounded.
    pub(super) fn new(
        graph: &Graph,
        candidates: &[&[ActivationScale]],
        samples: usize,
        batches: &'b Batches,
        threads: usize,
        progress: &'b dyn Progress,
    ) -> Result<Self, Error> {
        let comparable = with_comparable_outputs(graph);
        let compared = match comparable {
            Some(_) => Compared::Candidates,
            None => Compared::Outputs,
        };
        let (graph, switches) = switched(comparable.as_ref().unwrap_or(graph), candidates);
        let len = samples.div_ceil(batches.batch_len(0).max(1));
        let all: Vec<usize> = (0..batches.len()).collect();
        let measure = Self {
            session: Arc::new(session(graph, threads)?),
            switches: Arc::new(switches),
            batches,
            shown: spread(&all, len),
            unrounded: Vec::new(),
            compared,
            progress,
        };
        measure.with_unrounded()
    }

    /// The same on samples that this one has not seen, [`HELD_OUT`] times as many;
    /// `None` where there are no others.
    ///
    /// # Errors
    ///
    /// Of kind `Interrupted` where the progress says so.
    pub(super) fn held_out(&self) -> Result<Option<Self>, Error> {
        let all = 0..self.batches.len();
        let others: Vec<usize> = all.filter(|batch| !self.shown.contains(batch)).collect();
        if others.is_empty() {
            return Ok(None);
        }
        let other = Self {
            session: Arc::clone(&self.session),
            switches: Arc::clone(&self.switches),
            batches: self.batches,
            shown: spread(&others, HELD_OUT * self.shown.len()),
            unrounded: Vec::new(),
            compared: self.compared,
            progress: self.progress,
        };
        other.with_unrounded().map(Some)
    }

    fn with_unrounded(mut self) -> Result<Self, Error> {
        for &batch in &self.shown {
            check_cancelled(self.progress)?;
            self.unrounded.push(self.outputs(batch, |_| None)?);
        }
        Ok(self)
    }

    /// How many batches it is measured on.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    fn outputs(
        &self,
        batch: usize,
        chosen: impl Fn(usize) -> Option<usize>,
    ) -> Result<Vec<Tensor>, Error> {
        let states = self.switches.iter().enumerate().flat_map(|(at, switches)| {
            let chosen = chosen(at);
            (0..switches.len()).map(move |candidate| chosen == Some(candidate))
        });
        let switch = |is_on| Tensor::new(Vec::new(), TensorData::Bool(vec![is_on]));
        let states: Vec<Tensor> = states.filter_map(switch).collect();
        let names = self.switches.iter().flatten().map(String::as_str);
        let switches = names.zip(&states);
        run(&self.session, self.batches.batch(batch).chain(switches))
    }

    /// The relative error of the outputs with each activation rounded by the candidate
    /// chosen for it, or not; [`LARGEST`] where it is not finite, as that of the logarithm of
    /// what was rounded to zero.
    ///
    /// # Errors
    ///
    /// Of kind `Interrupted` where the progress says so.
    pub(super) fn error(&self, chosen: impl Fn(usize) -> Option<usize>) -> Result<f64, Error> {
        let mut errors = OutputErrors::default();
        for (&batch, unrounded) in self.shown.iter().zip(&self.unrounded) {
            check_cancelled(self.progress)?;
            errors.add(unrounded, &self.outputs(batch, &chosen)?);
        }
        let error = errors.total();
        Ok(if error.is_finite() { error } else { LARGEST })
    }

    /// The relative error of the outputs with none rounded beside those of
    /// another network.
    pub(super) fn error_beside(&self, original: &Graph, threads: usize) -> Result<f64, Error> {
        let comparable = with_comparable_outputs(original);
        let session = session(comparable.as_ref().unwrap_or(original), threads)?;
        let mut errors = OutputErrors::default();
        for (&batch, unrounded) in self.shown.iter().zip(&self.unrounded) {
            errors.add(&run(&session, self.batches.batch(batch))?, unrounded);
        }
        Ok(errors.total())
    }
}

/// At most `len` of some numbers, spread evenly.
fn spread(numbers: &[usize], len: usize) -> Vec<usize> {
    let len = len.min(numbers.len());
    (0..len)
        .map(|at| numbers[at * numbers.len() / len])
        .collect()
}

/// Samples that errors are measured on, of a network with the extents of these batches;
/// the fewest where it cannot be analysed.
pub(super) fn affordable_samples(network: Option<&Network<'_>>, batches: &Batches) -> usize {
    let [least, most] = SAMPLES;
    let Some(network) = network else {
        return least;
    };
    let work = network
        .layers()
        .map(|layer| network.multiply_accumulates(&layer));
    let of_sample = work.sum::<f64>() / batches.batch_len(0).max(1) as f64;
    ((AFFORDABLE / of_sample.max(1.0)) as usize).clamp(least, most)
}

/// The graph with a switch for each of an activation's candidates, and the names of the
/// inputs that turn them on.
fn switched(graph: &Graph, candidates: &[&[ActivationScale]]) -> (Graph, Vec<Vec<String>>) {
    let mut graph = graph.clone();
    let prefix = unused_prefix(&graph);
    let mut inserted: HashMap<String, Vec<Node>> = HashMap::new();
    let mut switches = Vec::new();
    let mut read_instead: HashMap<String, String> = HashMap::new();
    let mut made_instead: HashMap<String, String> = HashMap::new();
    for (at, candidates) in candidates.iter().enumerate() {
        let Some(first) = candidates.first() else {
            switches.push(Vec::new());
            continue;
        };
        let raw = format!("{prefix}{at}raw");
        // A node's output gets another name; an input of the graph keeps its own,
        // and its readers read another.
        let own = first.name.clone();
        let is_input = graph.inputs.iter().any(|input| input.name == own);
        let (from, to) = match is_input {
            true => {
                read_instead.insert(own.clone(), raw.clone());
                (own, raw)
            }
            false => {
                made_instead.insert(own.clone(), raw.clone());
                (raw, own)
            }
        };
        let mut nodes = Vec::new();
        let mut names = Vec::new();
        let mut left = from.clone();
        for (candidate, scale) in candidates.iter().enumerate() {
            let result = match candidate + 1 == candidates.len() {
                true => to.clone(),
                false => format!("{prefix}{at}_{candidate}switched"),
            };
            let prefix = format!("{prefix}{at}_{candidate}");
            let switch = format!("{prefix}on");
            let rounded = round(&mut graph, &mut nodes, &prefix, &from, scale);
            nodes.push(Node::new("Where", &[&switch, &rounded, &left], &[&result]));
            names.push(switch);
            left = result;
        }
        inserted.insert(from, nodes);
        switches.push(names);
    }
    let rename = |names: &mut Vec<String>, instead: &HashMap<String, String>| {
        for name in names {
            if let Some(other) = instead.get(name) {
                name.clone_from(other);
            }
        }
    };
    for node in &mut graph.nodes {
        rename(&mut node.inputs, &read_instead);
        rename(&mut node.outputs, &made_instead);
    }
    graph
        .inputs
        .extend(switches.iter().flatten().map(|name| Value {
            element_type: Some(ElementType::Bool),
            shape: Some(Vec::new()),
            ..Value::named(name)
        }));
    insert_behind(&mut graph, inserted);
    (graph, switches)
}

/// Adds the nodes that round a value; gives the name of what they make.
fn round(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    prefix: &str,
    from: &str,
    scale: &ActivationScale,
) -> String {
    let [codes, rounded, step, zero] =
        ["codes", "rounded", "step", "zero"].map(|what| format!("{prefix}{what}"));
    let constants = [
        (&step, TensorData::F32(vec![scale.scale])),
        (&zero, TensorData::U8(vec![scale.zero_point])),
    ];
    for (name, data) in constants {
        let tensor = Tensor::new(Vec::new(), data);
        graph
            .constants
            .extend(tensor.map(|tensor| (name.clone(), tensor)));
    }
    nodes.extend([
        Node::new("QuantizeLinear", &[from, &step, &zero], &[&codes]),
        Node::new("DequantizeLinear", &[&codes, &step, &zero], &[&rounded]),
    ]);
    rounded
}

/// Puts nodes behind what makes the value that they read.
fn insert_behind(graph: &mut Graph, mut inserted: HashMap<String, Vec<Node>>) {
    let mut nodes = Vec::with_capacity(graph.nodes.len() + 3 * inserted.len());
    for input in &graph.inputs {
        nodes.extend(inserted.remove(&input.name).into_iter().flatten());
    }
    for node in std::mem::take(&mut graph.nodes) {
        let behind = node.outputs.iter().filter_map(|name| inserted.remove(name));
        let behind: Vec<Node> = behind.flatten().collect();
        nodes.push(node);
        nodes.extend(behind);
    }
    graph.nodes = nodes;
}

/// A beginning that no value's name has.
fn unused_prefix(graph: &Graph) -> String {
    let mut prefix = "activation_".to_owned();
    let made = graph.nodes.iter().flat_map(|node| &node.outputs);
    let inputs = graph.inputs.iter().map(|input| &input.name);
    let names: Vec<&String> = made.chain(inputs).chain(graph.constants.keys()).collect();
    while names.iter().any(|name| name.starts_with(&prefix)) {
        prefix.push('_');
    }
    prefix
}
