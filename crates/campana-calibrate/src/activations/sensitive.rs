//! Activations that stay floats: those few whose rounding makes up most of the
//! outputs' error.
//!
//! Errors of different activations hardly depend on each other, so that their
//! energies at the outputs add up. Sets of them are rounded and divided, as far as
//! what a set does to the outputs is large enough to hold a large one.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;

use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_quantize::{ActivationScale, Error};
use serde::Serialize;

use crate::activations::measure::{LARGEST, Measure};
use crate::comparable::Compared;
use crate::integer_layers::layers_on_integers;

/// A relative error of the outputs that one activation may make: 40 dB, what
/// those leave that 256 codes fit.
pub(super) const SMALL: f64 = 1e-4;

/// The share of the outputs' error that makes an activation a large one, if it
/// is not small all the same; smaller ones where none is and outputs are poor.
const LARGE_SHARES: [f64; 3] = [0.2, 0.1, 0.05];

/// The relative error from which outputs are poor: 20 dB.
const POOR: f64 = 1e-2;

/// Into how many sets the activations are divided first.
pub(super) const FIRST_SETS: usize = 8;

/// What activations that stay floats must gain together: 3 dB.
const LEAST_GAIN_DB: f64 = 3.0;

/// What they must gain for each percent of the multiply-accumulates that
/// runtimes then compute on floats.
const GAIN_DB_PER_PERCENT: f64 = 0.3;

/// Outputs with a larger relative error (15 dB) are of little use: what makes them useful is
/// taken whatever runtimes then compute on floats.
const USELESS: f64 = 0.031_623;

/// The factor by which the error of such outputs must fall: 6 dB.
const LEAST_SAVING: f64 = 3.981;

/// How often large ones are looked for among those that are left.
const ROUNDS: usize = 8;

/// Sets that are tried at most: what is not found with these stays rounded.
const MAX_SETS: usize = 128;

/// Activations that stay floats, and what that gains.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FloatActivations {
    /// Their names, in the graph's order.
    pub names: Vec<String>,
    /// Ratio of the energies of the outputs and of what rounding activations does
    /// to them on a few samples, in dB: with all rounded, and without these. Null in
    /// JSON where outputs are not finite (minus infinity), or not changed at all.
    pub sqnr_db: [f64; 2],
    /// What that is of.
    pub of: Compared,
    /// Share of the multiply-accumulates that leave the integers with them.
    pub share: f64,
}

impl FloatActivations {
    /// The same with these errors of the outputs: with all rounded, and without these.
    pub(super) fn with_errors(self, errors: [f64; 2]) -> Self {
        Self {
            sqnr_db: errors.map(sqnr_db),
            ..self
        }
    }
}

/// Which of the activations had better stay floats in a network whose weights
/// are quantized, where each is rounded by the first of its candidates; `original` is the
/// network with weights as they were, on whose errors it depends what matters. Those
/// that are rounded `for_speed` alone are not rounded meanwhile. `None` where none should.
/// `network` has inputs as the samples have them; `None` where it cannot be analysed.
///
/// # Errors
///
/// Of kind `Unsupported` where the original cannot be run; of kind `Interrupted`
/// where the measure's progress says so.
pub(super) fn sensitive(
    original: &Graph,
    (measure, for_speed): (&Measure<'_>, &[bool]),
    scales: &[ActivationScale],
    (network, rounds_moved): (Option<&Network<'_>>, bool),
    threads: usize,
) -> Result<Option<FloatActivations>, Error> {
    let search = Search {
        measure,
        for_speed,
        network,
        rounds_moved,
        scales,
        left: Cell::new(MAX_SETS),
    };
    let all = search.error(|_| true)?;
    if all <= SMALL {
        return Ok(None);
    }
    let of_weights = measure.error_beside(original, threads)?;
    search.run(all, of_weights.max(SMALL))
}

struct Search<'s> {
    measure: &'s Measure<'s>,
    /// Those that are not rounded.
    for_speed: &'s [bool],
    network: Option<&'s Network<'s>>,
    rounds_moved: bool,
    scales: &'s [ActivationScale],
    /// Sets that may still be tried.
    left: Cell<usize>,
}

impl Search<'_> {
    /// Large activations among all, whose rounding makes the error `all`, until it
    /// is `enough`, which others hide.
    fn run(&self, all: f64, enough: f64) -> Result<Option<FloatActivations>, Error> {
        let len = self.scales.len();
        let mut floats = vec![false; len];
        let (mut error, mut lost) = (all, 0.0);
        // Several that hide each other gain nothing until the last of them is float.
        let mut tried = floats.clone();
        let mut error_of_tried = all;
        for _ in 0..ROUNDS {
            if error_of_tried <= enough {
                break;
            }
            let large = self.large(&tried, error_of_tried)?;
            if large.is_empty() {
                break;
            }
            large.iter().for_each(|&at| tried[at] = true);
            error_of_tried = self.error(|at| !tried[at])?;
            let share = self.on_integers(&floats) - self.on_integers(&tried);
            let gain = 10.0 * (error / error_of_tried).log10();
            let is_worth_it = gain >= LEAST_GAIN_DB.max(GAIN_DB_PER_PERCENT * 100.0 * share);
            let saves = error > USELESS && error_of_tried * LEAST_SAVING < error;
            if is_worth_it || saves {
                (floats, error, lost) = (tried.clone(), error_of_tried, lost + share);
            }
        }
        let names = self.scales.iter().zip(&floats);
        let names: Vec<String> = names
            .filter(|(_, is_float)| **is_float)
            .map(|(scale, _)| scale.name.clone())
            .collect();
        Ok((!names.is_empty()).then(|| FloatActivations {
            names,
            sqnr_db: [all, error].map(sqnr_db),
            of: self.measure.compared,
            share: lost,
        }))
    }

    /// The activations whose rounding makes up large shares of an error, smaller shares
    /// where none makes up a larger one.
    fn large(&self, floats: &[bool], error: f64) -> Result<Vec<usize>, Error> {
        let len = self.scales.len();
        let set_len = len.div_ceil(FIRST_SETS).max(1);
        let mut large = Vec::new();
        for share in LARGE_SHARES {
            for start in (0..len).step_by(set_len) {
                let set = start..(start + set_len).min(len);
                self.add_large(set, floats, SMALL.max(share * error), &mut large)?;
            }
            if !large.is_empty() || error < POOR {
                break;
            }
        }
        Ok(large)
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

    /// The error of the outputs with these rounded.
    fn error(&self, is_rounded: impl Fn(usize) -> bool) -> Result<f64, Error> {
        self.measure
            .error(|at| (is_rounded(at) && !self.for_speed[at]).then_some(0))
    }
}

/// Of a relative error, in dB.
pub(super) fn sqnr_db(error: f64) -> f64 {
    match error < LARGEST {
        true => -10.0 * error.log10(),
        false => f64::NEG_INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use campana_ir::graph::{Dim, Node, Value};
    use campana_quantize::Silent;
    use campana_tensor::{ElementType, Tensor, TensorData};

    use super::*;
    use crate::samples::{Batches, Samples};
    use crate::value_sizes::with_extents_of;

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
        let candidates = scales.each_ref().map(std::slice::from_ref);
        let measure = Measure::new(graph, &candidates, 8, &batches, 1, &Silent).unwrap();
        let fixed = with_extents_of(graph, &batches);
        let network = Network::new(&fixed).unwrap();
        let measured = (&measure, &[false, false][..]);
        sensitive(original, measured, &scales, (Some(&network), true), 1).unwrap()
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
