//! Activations that stay floats: those few whose rounding makes up most of the
//! outputs' error.
//!
//! Errors of different activations hardly depend on each other, so that their
//! energies at the outputs add up. One network with a switch at each rounded
//! activation is planned once; sets of them are rounded and divided, as far as
//! what a set does to the outputs is large enough to hold a large one.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use campana_ir::graph::{Graph, Node, Value};
use campana_ir::network::Network;
use campana_quantize::{ActivationScale, Error, Progress, Target, check_cancelled};
use campana_runtime::Session;
use campana_tensor::{ElementType, Tensor, TensorData};
use serde::Serialize;

use crate::integer_layers::layers_on_integers;
use crate::output_errors::OutputErrors;
use crate::running::{run, session};
use crate::samples::Batches;
use crate::value_sizes::with_extents_of;

/// Samples that errors are measured on.
const SAMPLES: usize = 4;

/// A relative error of the outputs that one activation may make: 40 dB, what
/// those leave that 256 codes fit.
const SMALL: f64 = 1e-4;

/// The relative error of outputs that are infinite or no numbers.
const LARGEST: f64 = f64::MAX;

/// The share of the outputs' error that makes an activation a large one, if it
/// is not small all the same.
const LARGE_SHARE: f64 = 0.2;

/// Into how many sets the activations are divided first.
const FIRST_SETS: usize = 8;

/// What activations that stay floats must gain together: 3 dB.
const LEAST_GAIN_DB: f64 = 3.0;

/// What they must gain for each percent of the multiply-accumulates that
/// runtimes then compute on floats.
const GAIN_DB_PER_PERCENT: f64 = 0.3;

/// How often large ones are looked for among those that are left.
const ROUNDS: usize = 4;

/// Sets that are tried at most: what is not found with these stays rounded.
const MAX_SETS: usize = 64;

/// Activations that stay floats, and what that gains.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FloatActivations {
    /// Their names, in the graph's order.
    pub names: Vec<String>,
    /// Ratio of the energies of the outputs and of what rounding activations does
    /// to them on a few samples, in dB: with all rounded, and without these. Null in
    /// JSON where outputs are not finite (minus infinity), or not changed at all.
    pub sqnr_db: [f64; 2],
    /// Share of the multiply-accumulates that leave the integers with them.
    pub share: f64,
}

/// Which of the activations had better stay floats in a network whose weights
/// are quantized; `original` is the one with weights as they were, on whose
/// errors it depends what matters. `None` where none should.
///
/// # Errors
///
/// Of kind `Unsupported` where the network cannot be run with them rounded; of
/// kind `Interrupted` where `progress` says so.
pub(super) fn sensitive(
    [original, graph]: [&Graph; 2],
    scales: &[ActivationScale],
    target: Target,
    batches: &Batches,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Option<FloatActivations>, Error> {
    let measure = Measure::new(graph, scales, batches, threads)?;
    let fixed = with_extents_of(graph, batches);
    let network = Network::new(&fixed).ok();
    let search = Search {
        measure,
        network: network.as_ref(),
        rounds_moved: target.rounds_moved(),
        scales,
        left: Cell::new(MAX_SETS),
        progress,
    };
    let all = search.error(|_| true)?;
    if all <= SMALL {
        return Ok(None);
    }
    let of_weights = search.measure.error_beside(original, threads)?;
    search.run(all, of_weights.max(SMALL))
}

struct Search<'s> {
    measure: Measure<'s>,
    /// With inputs as the samples have them; `None` where it cannot be analysed.
    network: Option<&'s Network<'s>>,
    rounds_moved: bool,
    scales: &'s [ActivationScale],
    /// Sets that may still be tried.
    left: Cell<usize>,
    progress: &'s dyn Progress,
}

impl Search<'_> {
    /// Large activations among all, whose rounding makes the error `all`, until it
    /// is `enough`, which others hide.
    fn run(&self, all: f64, enough: f64) -> Result<Option<FloatActivations>, Error> {
        let len = self.scales.len();
        let set_len = len.div_ceil(FIRST_SETS).max(1);
        let mut floats = vec![false; len];
        let (mut error, mut lost) = (all, 0.0);
        for _ in 0..ROUNDS {
            if error <= enough {
                break;
            }
            let mut large = Vec::new();
            for start in (0..len).step_by(set_len) {
                let set = start..(start + set_len).min(len);
                self.add_large(set, &floats, SMALL.max(LARGE_SHARE * error), &mut large)?;
            }
            if large.is_empty() {
                break;
            }
            let mut wider = floats.clone();
            large.iter().for_each(|&at| wider[at] = true);
            let less = self.error(|at| !wider[at])?;
            let share = self.on_integers(&floats) - self.on_integers(&wider);
            let gain = 10.0 * (error / less).log10();
            if gain < LEAST_GAIN_DB.max(GAIN_DB_PER_PERCENT * 100.0 * share) {
                break;
            }
            (floats, error, lost) = (wider, less, lost + share);
        }
        let names = self.scales.iter().zip(&floats);
        let names: Vec<String> = names
            .filter(|(_, is_float)| **is_float)
            .map(|(scale, _)| scale.name.clone())
            .collect();
        Ok((!names.is_empty()).then(|| FloatActivations {
            names,
            sqnr_db: [all, error].map(sqnr_db),
            share: lost,
        }))
    }

    /// The share of the multiply-accumulates that is on integers while these stay
    /// floats; 0 where the network cannot be analysed.
    fn on_integers(&self, floats: &[bool]) -> f64 {
        let Some(network) = self.network else {
            return 0.0;
        };
        let rounded = self.scales.iter().zip(floats);
        let rounded: HashSet<&str> = rounded
            .filter(|(_, is_float)| !**is_float)
            .map(|(scale, _)| scale.name.as_str())
            .collect();
        let layers = layers_on_integers(network, self.rounds_moved, |name| rounded.contains(name));
        let (mut on_integers, mut all) = (0.0, 0.0);
        for (layer, is_on_integers) in layers {
            let work = network.multiply_accumulates(&layer);
            all += work;
            on_integers += if is_on_integers { work } else { 0.0 };
        }
        on_integers / f64::max(all, 1.0)
    }

    /// Adds the activations of a set that do more than `least` to the outputs each.
    fn add_large(
        &self,
        set: Range<usize>,
        floats: &[bool],
        least: f64,
        large: &mut Vec<usize>,
    ) -> Result<(), Error> {
        if self.left.get() == 0 || set.clone().all(|at| floats[at]) {
            return Ok(());
        }
        self.left.set(self.left.get() - 1);
        let error = self.error(|at| set.contains(&at) && !floats[at])?;
        if error < least {
            return Ok(());
        }
        if set.len() == 1 {
            large.push(set.start);
            return Ok(());
        }
        let middle = set.start + set.len() / 2;
        self.add_large(set.start..middle, floats, least, large)?;
        self.add_large(middle..set.end, floats, least, large)
    }

    /// The error of the outputs with these rounded; [`LARGEST`] where it is not
    /// finite, as that of the logarithm of what was rounded to zero.
    fn error(&self, is_rounded: impl Fn(usize) -> bool) -> Result<f64, Error> {
        check_cancelled(self.progress)?;
        let error = self.measure.error(is_rounded)?;
        Ok(if error.is_finite() { error } else { LARGEST })
    }
}

/// A network in which the rounding of each activation can be switched on, and
/// what it gives without any.
struct Measure<'b> {
    session: Session,
    switches: Vec<String>,
    batches: &'b Batches,
    /// Batches that are run.
    len: usize,
    unrounded: Vec<Vec<Tensor>>,
}

impl<'b> Measure<'b> {
    fn new(
        graph: &Graph,
        scales: &[ActivationScale],
        batches: &'b Batches,
        threads: usize,
    ) -> Result<Self, Error> {
        let (graph, switches) = switched(graph, scales);
        let mut measure = Self {
            session: session(graph, threads)?,
            switches,
            batches,
            len: SAMPLES
                .div_ceil(batches.batch_len(0).max(1))
                .min(batches.len()),
            unrounded: Vec::new(),
        };
        let unrounded = (0..measure.len).map(|at| measure.outputs(at, |_| false));
        measure.unrounded = unrounded.collect::<Result<_, _>>()?;
        Ok(measure)
    }

    fn outputs(
        &self,
        batch: usize,
        is_rounded: impl Fn(usize) -> bool,
    ) -> Result<Vec<Tensor>, Error> {
        let switch = |at| Tensor::new(Vec::new(), TensorData::Bool(vec![is_rounded(at)]));
        let states: Vec<Tensor> = (0..self.switches.len()).filter_map(switch).collect();
        let switches = self.switches.iter().map(String::as_str).zip(&states);
        run(&self.session, self.batches.batch(batch).chain(switches))
    }

    /// The relative error of the outputs with these rounded.
    fn error(&self, is_rounded: impl Fn(usize) -> bool) -> Result<f64, Error> {
        let mut errors = OutputErrors::default();
        for (batch, unrounded) in self.unrounded.iter().enumerate() {
            errors.add(unrounded, &self.outputs(batch, &is_rounded)?);
        }
        Ok(errors.total())
    }

    /// The relative error of the outputs with none rounded beside those of
    /// another network.
    fn error_beside(&self, original: &Graph, threads: usize) -> Result<f64, Error> {
        let session = session(original, threads)?;
        let mut errors = OutputErrors::default();
        for (batch, unrounded) in self.unrounded.iter().enumerate() {
            errors.add(&run(&session, self.batches.batch(batch))?, unrounded);
        }
        Ok(errors.total())
    }
}

/// The graph with a switch at each of these activations, and the names of the
/// inputs that turn them on.
fn switched(graph: &Graph, scales: &[ActivationScale]) -> (Graph, Vec<String>) {
    let mut graph = graph.clone();
    let prefix = unused_prefix(&graph);
    let mut nodes = Vec::new();
    let mut switches = Vec::new();
    let mut read_instead: HashMap<String, String> = HashMap::new();
    let mut made_instead: HashMap<String, String> = HashMap::new();
    let scalar = |data| Tensor::new(Vec::new(), data);
    for (at, activation) in scales.iter().enumerate() {
        let name = |what: &str| format!("{prefix}{at}{what}");
        let [switch, raw, codes, rounded, step, zero] =
            ["on", "raw", "codes", "rounded", "step", "zero"].map(name);
        let constants = [
            (&step, TensorData::F32(vec![activation.scale])),
            (&zero, TensorData::U8(vec![activation.zero_point])),
        ];
        for (name, data) in constants {
            graph
                .constants
                .extend(scalar(data).map(|tensor| (name.clone(), tensor)));
        }
        // A node's output gets another name; an input of the graph keeps its own,
        // and its readers read another.
        let own = activation.name.clone();
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
        let pair = [
            Node::new("QuantizeLinear", &[&from, &step, &zero], &[&codes]),
            Node::new("DequantizeLinear", &[&codes, &step, &zero], &[&rounded]),
            Node::new("Where", &[&switch, &rounded, &from], &[&to]),
        ];
        nodes.push((from, pair));
        switches.push(switch);
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
    graph.inputs.extend(switches.iter().map(|name| Value {
        element_type: Some(ElementType::Bool),
        shape: Some(Vec::new()),
        ..Value::named(name)
    }));
    insert_behind(&mut graph, nodes);
    (graph, switches)
}

/// Puts nodes behind what makes the value that they read.
fn insert_behind(graph: &mut Graph, inserted: Vec<(String, [Node; 3])>) {
    let mut inserted: HashMap<String, [Node; 3]> = inserted.into_iter().collect();
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

/// Of a relative error, in dB.
fn sqnr_db(error: f64) -> f64 {
    match error < LARGEST {
        true => -10.0 * error.log10(),
        false => f64::NEG_INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use campana_ir::graph::Dim;
    use campana_quantize::Silent;

    use super::*;
    use crate::samples::Samples;

    const CHANNELS: usize = 4;

    /// Two dense layers; what is between them is multiplied with `factors`, and
    /// the second takes that back.
    fn network(factors: [f32; CHANNELS]) -> Graph {
        let square = |values: Vec<f32>| {
            Tensor::new(vec![CHANNELS, CHANNELS], TensorData::F32(values)).unwrap()
        };
        let mixed = (0..16u8).map(|at| f32::from(at * 7 % 5) / 2.0 - 1.0);
        let mixed: Vec<f32> = mixed.collect();
        let undone = (0..16).map(|at| mixed[at] / factors[at / CHANNELS]);
        let factors = Tensor::new(vec![CHANNELS], TensorData::F32(factors.to_vec()));
        let constants = [
            ("first", square(mixed.clone())),
            ("factors", factors.unwrap()),
            ("second", square(undone.collect())),
        ];
        let shape = vec![Dim::Symbol("N".into()), Dim::Fixed(CHANNELS)];
        Graph {
            nodes: vec![
                Node::new("MatMul", &["x", "first"], &["product"]),
                Node::new("Tanh", &["product"], &["even"]),
                Node::new("Mul", &["even", "factors"], &["uneven"]),
                Node::new("MatMul", &["uneven", "second"], &["y"]),
            ],
            inputs: vec![Value {
                element_type: Some(ElementType::F32),
                shape: Some(shape),
                ..Value::named("x")
            }],
            outputs: vec![Value::named("y")],
            constants: constants
                .map(|(name, tensor)| (name.to_owned(), tensor))
                .into(),
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        }
    }

    fn scale(name: &str, largest: f32) -> ActivationScale {
        ActivationScale {
            name: name.to_owned(),
            scale: 2.0 * largest / 255.0,
            zero_point: 128,
        }
    }

    fn found(original: &Graph, graph: &Graph, largest: f32) -> Option<FloatActivations> {
        let values = (0..32u16).map(|at| f32::from(at * 37 % 32) / 16.0 - 1.0);
        let array = Tensor::new(vec![8, CHANNELS], TensorData::F32(values.collect())).unwrap();
        let samples = Samples::Arrays(vec![("x".into(), array)]);
        let batches = Batches::of_length(&graph.inputs, &samples, 4).unwrap();
        let scales = [scale("x", 1.0), scale("uneven", largest)];
        sensitive(
            [original, graph],
            &scales,
            Target::Int8,
            &batches,
            1,
            &Silent,
        )
        .unwrap()
    }

    #[test]
    fn channels_beside_a_loud_one_stay_floats() {
        let graph = network([1000.0, 1.0, 1.0, 1.0]);
        let found = found(&graph, &graph, 1000.0).unwrap();
        assert_eq!(found.names, ["uneven"]);
        let [rounded, kept] = found.sqnr_db;
        assert!(rounded < 10.0 && kept > 40.0, "{rounded} {kept}");
        // The layer behind it gives the network's output, which is float anyway.
        assert_eq!(found.share, 0.0);
    }

    #[test]
    fn what_rounding_makes_infinite_stays_float() {
        let mut graph = network([1000.0, 1.0, 1.0, 1.0]);
        graph.nodes[2] = Node::new("Mul", &["positive", "factors"], &["uneven"]);
        graph
            .nodes
            .insert(2, Node::new("Exp", &["even"], &["positive"]));
        graph.nodes[4].inputs[0] = "logarithm".into();
        graph
            .nodes
            .insert(4, Node::new("Log", &["uneven"], &["logarithm"]));
        let found = found(&graph, &graph, 1000.0).unwrap();
        assert_eq!(found.names, ["uneven"]);
        assert_eq!(found.sqnr_db[0], f64::NEG_INFINITY);
        assert!(found.sqnr_db[1] > 20.0, "{:?}", found.sqnr_db);
    }

    #[test]
    fn activations_that_codes_fit_are_rounded() {
        let graph = network([1.0; CHANNELS]);
        assert_eq!(found(&graph, &graph, 1.0), None);
    }

    #[test]
    fn what_rounded_weights_hide_needs_no_floats() {
        let graph = network([1000.0, 1.0, 1.0, 1.0]);
        // Of the opposite sign.
        let mut original = graph.clone();
        original.nodes.push(Node::new("Neg", &["positive"], &["y"]));
        original.nodes[3].outputs = vec!["positive".into()];
        assert_eq!(found(&original, &graph, 1000.0), None);
    }
}
