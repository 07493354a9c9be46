//! Ranges of activations, from which the parameters of quantized activations
//! follow.
//!
//! [`quantized_activations`] says which values these are. A network is run
//! twice on the samples: for the least and greatest value of each tensor, then
//! for a histogram between them, so that memory does not grow with the samples. Which
//! range covers it best, and whether it had better stay float, is measured at the
//! outputs on a few of the samples.

mod candidates;
mod measure;
mod range;
mod sensitive;
mod speed;

use std::collections::{HashMap, HashSet};

use campana_ir::graph::Graph;
use campana_ir::network::{
    Network, ResidualSums, concatenated_activations, quantized_activations, quantized_for_speed,
};
use campana_quantize::graph::unsupported;
use campana_quantize::{
    ActivationScale, Error, ErrorKind, Progress, RangeMethod, Target, check_cancelled,
};
use campana_runtime::Session;
use campana_tensor::{Tensor, TensorData};

pub use self::sensitive::FloatActivations;
use crate::activations::candidates::{Candidates, METHODS, confirmed, of_least_error};
use crate::activations::measure::{Measure, affordable_samples};
use crate::activations::range::Histogram;
use crate::activations::sensitive::{sensitive, sqnr_db};
use crate::activations::speed::affordable;
use crate::comparable::Compared;
use crate::running::{giving, run, session};
use crate::samples::{Batches, Samples};
use crate::scale::batches_for;
use crate::value_sizes::{activation_bytes, fewer_samples, with_extents_of};

/// Samples that run at once: few, since all activations to be quantized are
/// kept meanwhile.
const BATCH: usize = 4;

/// Bytes that the values of a batch may take that are shown together.
const MAX_OBSERVED_BYTES: usize = 256 << 20;

/// How a network's activations are rounded.
#[derive(Clone, Debug, Default)]
pub struct ActivationRanges {
    /// The parameters of each activation that is.
    pub scales: Vec<ActivationScale>,
    /// Those that stay floats instead, where any do.
    pub floats: Option<FloatActivations>,
    /// Ratio of the energies of [what is compared](Self::of) and of what this does to it on
    /// a few samples, in dB; infinite where that is nothing, `None` where it was not measured.
    pub output_sqnr_db: Option<f64>,
    /// What that is of.
    pub of: Compared,
}

/// A network whose activations are to be quantized.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedNetwork<'g> {
    /// It runs as the quantized one does.
    pub graph: &'g Graph,
    /// The weights that become integers, by name: layers with others stay on floats.
    pub integer_weights: &'g HashSet<&'g str>,
    /// The network with the weights that it had; `None` where every activation
    /// is to be rounded.
    pub original: Option<&'g Graph>,
}

impl QuantizedNetwork<'_> {
    /// A form of its graph, analysed.
    fn analysed<'f>(&self, graph: &'f Graph) -> Result<Network<'f>, Error> {
        let is_integer = |name: &str| self.integer_weights.contains(name);
        Ok(analysed(graph)?.with_integer_weights(is_integer))
    }
}

/// The parameters of all quantized activations of a network from what the samples
/// show. Beside the network with the weights that it had, those whose rounding would
/// make up most of the outputs' error stay floats.
///
/// # Errors
///
/// Of kind `Unsupported` where the samples do not fit the network's inputs or
/// it cannot be run; of kind `InvalidModel` where a node is no valid use of its
/// operator; of kind `Interrupted` where `progress` says so.
pub fn calibrate(
    quantized: QuantizedNetwork<'_>,
    samples: &Samples,
    method: RangeMethod,
    target: Target,
    threads: usize,
    progress: &dyn Progress,
) -> Result<ActivationRanges, Error> {
    let QuantizedNetwork {
        graph, original, ..
    } = quantized;
    let network = quantized.analysed(graph)?;
    let sums = residual_sums(target);
    let names = quantized_activations(&network, sums);
    if names.is_empty() {
        return Ok(ActivationRanges::default());
    }
    let for_speed = quantized_for_speed(&network, sums);
    let batches = observed(graph, &names, samples)?;
    let observer = Observer::new(graph, &names, threads)?;
    let histograms = observer.histograms(&batches, method, progress)?;
    let methods = match method {
        RangeMethod::Auto => &METHODS[..],
        method => &[method],
    };
    let of_name =
        |(name, histogram): (&String, &Histogram)| Candidates::new(name, histogram, methods);
    let search = Search {
        quantized,
        candidates: names.iter().zip(&histograms).map(of_name).collect(),
        for_speed: names.iter().map(|name| for_speed.contains(name)).collect(),
        batches: &batches,
        threads,
    };
    let found = match original.is_some() || method == RangeMethod::Auto {
        true => search.run(target.rounds_moved(), progress),
        false => Ok(search.unmeasured()),
    };
    let found = match found {
        // What cannot be measured is rounded.
        Err(error) if error.kind() == ErrorKind::Unsupported => search.unmeasured(),
        found => found?,
    };
    let mut scales = search.scales(&found.chosen);
    let mut is_rounded = found.rounded.into_iter();
    scales.retain(|_| is_rounded.next().unwrap_or(true));
    add_concatenated(&mut scales, &network, target);
    Ok(ActivationRanges {
        scales,
        floats: found.floats,
        output_sqnr_db: found.output_sqnr_db,
        of: found.of,
    })
}

/// What of the outputs decides on a network's activations.
struct Search<'s> {
    quantized: QuantizedNetwork<'s>,
    /// Of each activation.
    candidates: Vec<Candidates>,
    /// Whether an activation is rounded for speed alone.
    for_speed: Vec<bool>,
    batches: &'s Batches,
    threads: usize,
}

/// How activations are rounded.
struct Found {
    /// The candidate of each.
    chosen: Vec<usize>,
    /// Whether it is.
    rounded: Vec<bool>,
    floats: Option<FloatActivations>,
    output_sqnr_db: Option<f64>,
    of: Compared,
}

impl Search<'_> {
    /// All by their first candidates.
    fn unmeasured(&self) -> Found {
        Found {
            chosen: vec![0; self.candidates.len()],
            rounded: vec![true; self.candidates.len()],
            floats: None,
            output_sqnr_db: None,
            of: Compared::Outputs,
        }
    }

    /// The candidates chosen.
    fn scales(&self, chosen: &[usize]) -> Vec<ActivationScale> {
        let pairs = self.candidates.iter().zip(chosen);
        pairs.map(|(own, &at)| own.scales[at].clone()).collect()
    }

    /// The candidate of each activation, with the relative error of the outputs where
    /// `rounded` ones are rounded so, on all samples that were looked at.
    ///
    /// # Errors
    ///
    /// Of kind `Interrupted` where the measure's progress says so.
    fn chosen(&self, measure: &Measure<'_>, rounded: &[bool]) -> Result<(Vec<usize>, f64), Error> {
        let chosen = of_least_error(measure, &self.candidates, rounded)?;
        let error = |chosen: &[usize]| measure.error(|at| rounded[at].then_some(chosen[at]));
        let is_open = self.candidates.iter().any(|own| own.scales.len() > 1);
        let held_out = match is_open {
            true => measure.held_out()?,
            false => None,
        };
        let Some(held_out) = held_out else {
            let error = error(&chosen)?;
            return Ok((chosen, error));
        };
        let (chosen, of_others) = confirmed(chosen, &held_out, &self.candidates, rounded)?;
        let [own, others] = [measure.len(), held_out.len()].map(|len| len as f64);
        let sum = own * error(&chosen)? + others * of_others;
        Ok((chosen, sum / (own + others)))
    }

    /// What stays float first, then what is rounded for speed, then by which candidates.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` where the network cannot be run with activations rounded; of
    /// kind `Interrupted` where `progress` says so.
    fn run(&self, rounds_moved: bool, progress: &dyn Progress) -> Result<Found, Error> {
        let QuantizedNetwork {
            graph, original, ..
        } = self.quantized;
        let fixed = with_extents_of(graph, self.batches);
        let network = self.quantized.analysed(&fixed).ok();
        let network = network.as_ref();
        let candidates: Vec<&[ActivationScale]> =
            self.candidates.iter().map(|own| &*own.scales).collect();
        let samples = affordable_samples(network, self.batches);
        let (batches, threads) = (self.batches, self.threads);
        let measure = Measure::new(graph, &candidates, samples, batches, threads, progress)?;
        let Some(original) = original else {
            let found = self.unmeasured();
            let (chosen, error) = self.chosen(&measure, &found.rounded)?;
            return Ok(Found {
                chosen,
                output_sqnr_db: Some(sqnr_db(error)),
                of: measure.compared,
                ..found
            });
        };
        let first = self.scales(&self.unmeasured().chosen);
        let measured = (&measure, &*self.for_speed);
        let analysed = (network, rounds_moved);
        let floats = sensitive(original, measured, &first, analysed, threads)?;
        let is_float = |scale: &ActivationScale| {
            let mut floats = floats.iter().flat_map(|floats| &floats.names);
            floats.any(|name| *name == scale.name)
        };
        let is_float: Vec<bool> = first.iter().map(is_float).collect();
        let rounded = affordable(&measure, &self.for_speed, &is_float)?;
        let (chosen, error) = self.chosen(&measure, &rounded)?;
        let with_floats = |at| (rounded[at] || is_float[at]).then_some(chosen[at]);
        let floats = match floats {
            Some(floats) => {
                let without = measure.error(|at| rounded[at].then_some(chosen[at]))?;
                Some(floats.with_errors([measure.error(with_floats)?, without]))
            }
            None => None,
        };
        Ok(Found {
            chosen,
            rounded,
            floats,
            output_sqnr_db: Some(sqnr_db(error)),
            of: measure.compared,
        })
    }
}

/// What a concatenation joins gets the parameters of its result, in forms that round
/// what layers hand to it.
fn add_concatenated(scales: &mut Vec<ActivationScale>, network: &Network<'_>, target: Target) {
    if !target.rounds_moved() {
        return;
    }
    let own: HashMap<&str, usize> = (scales.iter().enumerate())
        .map(|(at, scale)| (scale.name.as_str(), at))
        .collect();
    let joined = concatenated_activations(network, |name| own.contains_key(name)).into_iter();
    let joined: Vec<ActivationScale> = joined
        .map(|[name, result]| ActivationScale {
            name: name.to_owned(),
            ..scales[own[result]].clone()
        })
        .collect();
    scales.extend(joined);
}

/// As [`calibrate`], with ranges that nothing was asked for: what parameters take
/// in a file does not depend on their values.
///
/// # Errors
///
/// Of kind `InvalidModel` where a node is no valid use of its operator.
pub fn uncalibrated(graph: &Graph, target: Target) -> Result<Vec<ActivationScale>, Error> {
    let network = analysed(graph)?;
    let names = quantized_activations(&network, residual_sums(target));
    // Of different values, since equal constants may be stored once.
    let scale = |(i, name)| ActivationScale {
        name,
        scale: 1.0 + i as f32,
        zero_point: (i % 256) as u8,
    };
    let mut scales: Vec<ActivationScale> = names.into_iter().enumerate().map(scale).collect();
    add_concatenated(&mut scales, &network, target);
    Ok(scales)
}

/// Samples in batches whose observed values fit into memory.
fn observed(graph: &Graph, names: &[String], samples: &Samples) -> Result<Batches, Error> {
    let batches = batches_for(graph, samples, Some(BATCH))?;
    let sizes = activation_bytes(graph, &batches).into_iter();
    let names: HashSet<&String> = names.iter().collect();
    let kept = sizes.filter(|(name, _)| names.contains(name));
    let bytes = kept.fold(0, |sum: usize, (_, bytes)| sum.saturating_add(bytes));
    match fewer_samples(&batches, bytes, MAX_OBSERVED_BYTES) {
        Some(fewer) => batches_for(graph, samples, Some(fewer)),
        None => Ok(batches),
    }
}

/// Where a target's engines compute residual sums.
fn residual_sums(target: Target) -> ResidualSums {
    match target {
        Target::W4a8 => ResidualSums::Fused,
        Target::TfLite | Target::TfLiteMicro => ResidualSums::SeparateForIntegerLayers,
        _ => ResidualSums::Separate,
    }
}

fn analysed(graph: &Graph) -> Result<Network<'_>, Error> {
    Network::new(graph).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot analyse the network").with_source(error)
    })
}

/// A network that gives the activations to be quantized.
struct Observer {
    session: Session,
    /// For each name whether it is an input of the network.
    names: Vec<(String, bool)>,
}

impl Observer {
    fn new(graph: &Graph, names: &[String], threads: usize) -> Result<Self, Error> {
        let is_input = |name: &String| graph.inputs.iter().any(|input| input.name == *name);
        let made = names.iter().filter(|name| !is_input(name));
        let observed = giving(graph, made.map(String::as_str));
        Ok(Self {
            session: session(&observed, threads)?,
            names: names
                .iter()
                .map(|name| (name.clone(), is_input(name)))
                .collect(),
        })
    }

    /// What values each activation has.
    fn histograms(
        &self,
        batches: &Batches,
        method: RangeMethod,
        progress: &dyn Progress,
    ) -> Result<Vec<Histogram>, Error> {
        let mut bounds = vec![[f32::INFINITY, f32::NEG_INFINITY]; self.names.len()];
        self.run(batches, progress, |i, values| {
            for &value in values {
                bounds[i] = [bounds[i][0].min(value), bounds[i][1].max(value)];
            }
        })?;
        let mut histograms: Vec<Histogram> = bounds.into_iter().map(Histogram::new).collect();
        if method != RangeMethod::MinMax {
            self.run(batches, progress, |i, values| histograms[i].add(values))?;
        }
        Ok(histograms)
    }

    /// Shows each activation on all samples.
    fn run(
        &self,
        batches: &Batches,
        progress: &dyn Progress,
        mut show: impl FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        for index in 0..batches.len() {
            check_cancelled(progress)?;
            let batch: Vec<(&str, &Tensor)> = batches.batch(index).collect();
            let outputs = run(&self.session, batch.iter().copied())?;
            let mut outputs = outputs.iter();
            for (i, (name, is_input)) in self.names.iter().enumerate() {
                let given = || batch.iter().find(|(input, _)| input == name);
                let tensor = match is_input {
                    true => given().map(|(_, tensor)| *tensor),
                    false => outputs.next(),
                };
                match tensor.map(Tensor::data) {
                    Some(TensorData::F32(values)) => show(i, values),
                    _ => return Err(unsupported(format!("'{name}' is no float32 tensor"))),
                }
            }
        }
        Ok(())
    }
}
