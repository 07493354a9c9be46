//! The best model within a bound on its size or on what is lost.

use std::borrow::Cow;
use std::path::Path;

use campana_allocate::{Allocator, Budget, DropEstimator, OutputLen};
use campana_calibrate::{
    Corrected, Samples, Sensitivity, assumed_sensitivities, sensitivities, uncalibrated,
};
use campana_eval::{
    BatchOptions, Candidate, Dataset, DatasetOptions, Network, Preprocessing, evaluate,
};
use campana_export::{OutputModel, Placement};
use campana_ir::graph::Graph;
use campana_onnx::Model;
use campana_quantize::graph::float_graph;
use campana_quantize::{
    Options, Plan, QuantizedModel, causes, quantize, quantized_graph, round_levels,
};
use campana_report::{AllocationReport, DropReport};

use crate::core_ml::sidecar_for;
use crate::correction::{JobSamples, correct_model};
use crate::error::Context;
use crate::job::{Bound, Measure, QuantizeJob, SampleChoice};
use crate::monitor::check;
use crate::output_len::output_len;
use crate::{Error, ErrorKind, Monitor, sidecar};

/// The widths between which a search for the smallest model goes on.
const SEARCHED_BITS: [f64; 2] = [1.0, 8.0];

/// Such a search ends when the rate is known this closely.
const RATE_TOLERANCE: f64 = 1.02;

/// How often a bound on the output's size is tried again because the correction
/// made the output larger than it was before.
const SIZE_ROUNDS: usize = 6;

/// How much measured sensitivities count, in turn; see
/// [`Allocator::allocate`]. Each is tried, and the one whose network is nearest
/// to the float one is kept.
const TRUSTS: [f64; 3] = [1.0, 0.5, 0.0];

/// Images that go through a network at once.
const BATCH: usize = 64;

/// What a report calls the images that a drop is estimated on where there are none.
pub const SYNTHETIC_IMAGES: &str = "synthetic images";

/// What a report calls the data that the caller has in memory.
const ARRAYS: &str = "arrays in memory";

/// A quantized model and how it came about.
pub(crate) struct Bounded<'m> {
    pub(crate) quantized: QuantizedModel<'m>,
    pub(crate) correction: Result<Corrected, String>,
    pub(crate) allocation: Option<AllocationReport>,
}

/// The best model within a bound.
pub(crate) fn quantize_within<'m>(
    bound: &Bound<'_>,
    job: &QuantizeJob<'_>,
    model: &'m Model,
    samples: &JobSamples<'_>,
    monitor: &dyn Monitor,
) -> Result<Bounded<'m>, Error> {
    let images = samples.get()?;
    // What cannot be measured is found before the long part.
    let estimator = DropEstimator::new(model, images, job.threads);
    let (estimator, judge) = match *bound {
        Bound::Drop { data: None, .. } => {
            let context = || {
                let name = job.input.display();
                format!("cannot estimate without labels what '{name}' loses")
            };
            (Some(estimator.context(context)?), None)
        }
        Bound::Drop {
            data: Some(data), ..
        } => {
            let labels = Labels::new(data, job, monitor)?;
            (estimator.ok(), Some(Judge::Labels(labels)))
        }
        Bound::DropOf { measure, .. } => {
            let given = Given::new(measure, job, model)?;
            (estimator.ok(), Some(Judge::Given(given)))
        }
        _ => (estimator.ok(), None),
    };
    let (sensitivities, how) = measure(job, model, images, monitor)?;
    let context = || format!("cannot quantize '{}'", job.input.display());
    // Only what is chosen is distilled.
    let searched = QuantizeJob {
        distill: None,
        ..*job
    };
    let mut search = Search {
        allocator: Allocator::new(model, job.options, &sensitivities).context(context)?,
        job: &searched,
        model,
        samples,
        estimator,
        judge,
        monitor,
    };
    let (found, bound) = match *bound {
        Bound::BitsPerWeight(bits) => {
            let found = search.best_of(&TRUSTS, &Budget::BitsPerWeight(bits))?;
            (
                search.distilled(job, found)?,
                format!("{bits} bits a weight"),
            )
        }
        Bound::OutputBytes(most) => {
            let mut found = search.within_bytes(most)?;
            if job.distill.is_some() && found.correction.is_ok() {
                found = search.distilled(job, found)?;
                found.is_within = search.output_bytes(&found.quantized)? <= most;
            }
            (found, format!("{most} bytes"))
        }
        Bound::Drop { most, .. } => {
            let found = search.within_drop(most)?;
            (found, format!("{} % of top-1", 100.0 * most))
        }
        Bound::DropOf { most, measure } => {
            let found = search.within_drop(most)?;
            let bound = match measure.is_top1() {
                true => format!("{} % of top-1", 100.0 * most),
                false => format!("{most} of the metric"),
            };
            (found, bound)
        }
    };
    Ok(Bounded {
        quantized: found.quantized,
        correction: found.correction,
        allocation: Some(AllocationReport {
            bound,
            met: found.is_within,
            written: found.is_within || job.best_effort,
            sensitivities: how,
            divergence: found.divergence,
            drop: found.drop,
        }),
    })
}

/// The tensors' sensitivities, and how they are known.
fn measure(
    job: &QuantizeJob<'_>,
    model: &Model,
    samples: &Samples,
    monitor: &dyn Monitor,
) -> Result<(Vec<Sensitivity>, String), Error> {
    match sensitivities(model, samples, job.threads, monitor) {
        Ok(measured) => {
            let images = match samples {
                Samples::Synthetic { .. } => SYNTHETIC_IMAGES,
                Samples::Images { .. } | Samples::Arrays(_) => "the data given",
            };
            Ok((measured, format!("measured on {images}")))
        }
        Err(error) if error.kind() == campana_quantize::ErrorKind::Unsupported => Ok((
            assumed_sensitivities(model),
            format!("taken to be alike: {}", causes(&error)),
        )),
        Err(error) => Err(error).context(|| format!("cannot measure '{}'", job.input.display())),
    }
}

/// A candidate.
struct Found<'m> {
    quantized: QuantizedModel<'m>,
    plan: Plan,
    correction: Result<Corrected, String>,
    divergence: f64,
    is_within: bool,
    trust: f64,
    drop: Option<DropReport>,
}

/// What tells the bytes that an output takes.
type OutputMeasure<'m> = Box<OutputLen<'m>>;

struct Search<'s, 'm> {
    allocator: Allocator<'m>,
    job: &'s QuantizeJob<'s>,
    model: &'m Model,
    samples: &'s JobSamples<'s>,
    /// `None` where the network does not give class scores.
    estimator: Option<DropEstimator>,
    judge: Option<Judge<'s>>,
    monitor: &'s dyn Monitor,
}

impl<'m> Search<'_, 'm> {
    /// The best within a budget over several trusts in sensitivities.
    fn best_of(&mut self, trusts: &[f64], budget: &Budget<'_>) -> Result<Found<'m>, Error> {
        let mut best: Option<Found<'m>> = None;
        let mut plans = Vec::new();
        for &trust in trusts {
            let found = self.corrected(budget, trust, &mut plans)?;
            let Some(found) = found else { continue };
            let key = |found: &Found<'_>| (!found.is_within, found.divergence);
            if best.as_ref().is_none_or(|best| key(&found) < key(best)) {
                best = Some(found);
            }
            // What cannot be compared is not tried.
            if self.estimator.is_none() {
                break;
            }
        }
        best.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "no trust to try"))
    }

    /// The best within a budget, corrected; `None` where its plan is among
    /// those made before.
    fn corrected(
        &mut self,
        budget: &Budget<'_>,
        trust: f64,
        plans: &mut Vec<Plan>,
    ) -> Result<Option<Found<'m>>, Error> {
        let job = self.job;
        let mut allocation = self
            .allocator
            .allocate(budget, trust, self.monitor)
            .context(|| format!("cannot quantize '{}'", job.input.display()))?;
        check(self.monitor)?;
        if plans.contains(&allocation.plan) {
            return Ok(None);
        }
        plans.push(allocation.plan.clone());
        let quantized = &mut allocation.quantized;
        let correction = correct_model(job, self.model, quantized, self.samples, self.monitor)?;
        let mut found = Found {
            quantized: allocation.quantized,
            plan: allocation.plan,
            correction,
            divergence: allocation.divergence,
            is_within: allocation.is_within,
            trust,
            drop: None,
        };
        self.estimate(&mut found)?;
        Ok(Some(found))
    }

    /// A candidate that the job distills: corrected once more from its plan, and
    /// then learned.
    fn distilled(&self, job: &QuantizeJob<'_>, found: Found<'m>) -> Result<Found<'m>, Error> {
        if job.distill.is_none() || found.correction.is_err() {
            return Ok(found);
        }
        let options = Options {
            plan: Some(found.plan.clone()),
            ..job.options.clone()
        };
        let context = || format!("cannot quantize '{}'", job.input.display());
        let mut quantized = quantize(self.model, &options, self.monitor).context(context)?;
        let correction =
            correct_model(job, self.model, &mut quantized, self.samples, self.monitor)?;
        let mut found = Found {
            quantized,
            correction,
            ..found
        };
        self.estimate(&mut found)?;
        Ok(found)
    }

    /// Estimates what a candidate loses.
    fn estimate(&self, found: &mut Found<'m>) -> Result<(), Error> {
        let job = self.job;
        if let Some(estimator) = &self.estimator {
            let estimate = estimator
                .estimate(&found.quantized)
                .context(|| format!("cannot run '{}'", job.input.display()))?;
            found.divergence = estimate.divergence;
            found.drop = Some(DropReport {
                drop: estimate.drop,
                how: "estimated",
                images: estimate.images as u64,
                data: match job.samples {
                    Some(SampleChoice::Images { data, .. }) => {
                        format!("images of {}", data.display())
                    }
                    Some(SampleChoice::Arrays { .. }) => ARRAYS.to_owned(),
                    _ => SYNTHETIC_IMAGES.to_owned(),
                },
                changed: Some(estimate.changed),
                top1: None,
                metric: None,
            });
        }
        Ok(())
    }

    /// Bytes of the output.
    fn output_bytes(&self, quantized: &QuantizedModel<'_>) -> Result<u64, Error> {
        let context = || format!("cannot write '{}'", self.job.output.display());
        let measure = self.output_measure()?;
        measure(quantized).context(context)
    }

    /// What tells the bytes that an output takes: with levels as they will be
    /// stored, and the parameters of rounded activations.
    fn output_measure(&self) -> Result<OutputMeasure<'m>, Error> {
        let (model, target) = (self.model, self.job.options.target);
        let placement = Placement::of(self.job.input, self.job.output);
        let sidecar = sidecar_for(target, self.job.input)?;
        let activations = match target.rounds_activations() {
            true => float_graph(model)
                .and_then(|graph| uncalibrated(&graph, target))
                .context(|| format!("cannot quantize '{}'", self.job.input.display()))?,
            false => Vec::new(),
        };
        Ok(Box::new(move |quantized: &QuantizedModel<'_>| {
            let mut stored = Cow::Borrowed(quantized);
            if target.rounds_activations() {
                round_levels(stored.to_mut(), target);
            }
            output_len(
                OutputModel::new(model, &stored, &activations, target, &placement)?,
                target,
                sidecar.as_ref(),
            )
        }))
    }

    fn within_bytes(&mut self, most: u64) -> Result<Found<'m>, Error> {
        let measure = self.output_measure()?;
        // What the correction adds or saves is known after one round.
        let is_corrected = self.job.samples.is_some();
        let mut trusts = if is_corrected {
            vec![TRUSTS[0]]
        } else {
            TRUSTS.to_vec()
        };
        let mut budget = most;
        let (mut step, mut last) = (0, 0);
        let mut round = 0;
        loop {
            let output = Budget::OutputBytes {
                most: budget,
                measure: &measure,
            };
            let mut found = self.best_of(&trusts, &output)?;
            let taken = measure(&found.quantized)
                .context(|| format!("cannot write '{}'", self.job.output.display()))?;
            let is_smallest = !found.is_within;
            found.is_within = taken <= most;
            if round == 0 && is_corrected {
                budget = (budget + most).saturating_sub(taken);
                trusts = TRUSTS.to_vec();
            } else if found.is_within || is_smallest || round == SIZE_ROUNDS {
                return Ok(found);
            } else {
                // Further where less room changed nothing.
                step = if last == taken {
                    2 * step
                } else {
                    taken - most + most / 1000
                };
                last = taken;
                budget = budget.saturating_sub(step);
                trusts = vec![found.trust];
            }
            round += 1;
        }
    }

    /// The smallest that loses little enough: the rate is halved in the
    /// logarithm, and every candidate corrected and judged.
    fn within_drop(&mut self, most: f64) -> Result<Found<'m>, Error> {
        let [mut low, mut high] = SEARCHED_BITS;
        let mut best: Option<Found<'m>> = None;
        let mut bits = (low * high).sqrt();
        let mut trusts = TRUSTS.to_vec();
        while high / low > RATE_TOLERANCE {
            let mut found = self.best_of(&trusts, &Budget::BitsPerWeight(bits))?;
            trusts = vec![found.trust];
            let is_within = self.judge(&mut found, most)?;
            if is_within {
                high = bits;
                best = Some(found);
            } else {
                low = bits;
            }
            bits = (low * high).sqrt();
        }
        if let Some(found) = best {
            return Ok(found);
        }
        let mut found = self.best_of(&trusts, &Budget::BitsPerWeight(f64::INFINITY))?;
        self.judge(&mut found, most)?;
        Ok(found)
    }

    /// Whether a candidate loses little enough: measured where there are
    /// labels, else as was estimated.
    fn judge(&self, found: &mut Found<'m>, most: f64) -> Result<bool, Error> {
        if let Some(judge) = &self.judge {
            let name = self.job.input.display().to_string();
            let graph = quantized_graph(self.model, &found.quantized)
                .context(|| format!("'{name}' cannot be measured"))?;
            found.drop = Some(match judge {
                Judge::Given(given) => given.drop(&graph, self.job.threads)?,
                Judge::Labels(labels) => {
                    let network = Network::new(&graph, name, self.job.threads)?;
                    labels.drop(&network, self.job.threads, self.monitor)?
                }
            });
        }
        found.is_within &= found.drop.as_ref().is_some_and(|drop| drop.drop <= most);
        Ok(found.is_within)
    }
}

/// What measures how much a candidate loses.
enum Judge<'a> {
    Labels(Labels<'a>),
    Given(Given<'a>),
}

/// The caller's measure, and what it tells of the float network.
struct Given<'a> {
    measure: &'a dyn Measure,
    float: f64,
}

impl<'a> Given<'a> {
    fn new(measure: &'a dyn Measure, job: &QuantizeJob<'_>, model: &Model) -> Result<Self, Error> {
        let graph = float_graph(model)
            .context(|| format!("'{}' cannot be measured", job.input.display()))?;
        let float = measure.measure(&graph, job.threads)?;
        Ok(Self { measure, float })
    }

    fn drop(&self, graph: &Graph, threads: usize) -> Result<DropReport, Error> {
        let found = self.measure.measure(graph, threads)?;
        let values = [self.float, found];
        Ok(DropReport {
            drop: self.float - found,
            how: "measured",
            images: self.measure.samples(),
            data: ARRAYS.to_owned(),
            changed: None,
            top1: self.measure.is_top1().then_some(values),
            metric: (!self.measure.is_top1()).then_some(values),
        })
    }
}

/// Labelled images, and what the float network makes of them.
struct Labels<'a> {
    dataset: Dataset,
    settings: Preprocessing,
    data: &'a Path,
    float_top1: f64,
}

impl<'a> Labels<'a> {
    fn new(data: &'a Path, job: &QuantizeJob<'_>, monitor: &dyn Monitor) -> Result<Self, Error> {
        let sidecar = sidecar(job.input)?;
        let options = DatasetOptions {
            class_names: &sidecar.labels,
            ..DatasetOptions::default()
        };
        let mut labels = Self {
            dataset: Dataset::open_with(data, &options)?,
            settings: sidecar.preprocessing,
            data,
            float_top1: 0.0,
        };
        let float = Network::open(job.input, job.threads)?;
        (labels.float_top1, _) = labels.top1(&float, job.threads, monitor)?;
        Ok(labels)
    }

    fn drop(
        &self,
        network: &Network,
        threads: usize,
        monitor: &dyn Monitor,
    ) -> Result<DropReport, Error> {
        let (top1, images) = self.top1(network, threads, monitor)?;
        Ok(DropReport {
            drop: self.float_top1 - top1,
            how: "measured",
            images,
            data: self.data.display().to_string(),
            changed: None,
            top1: Some([self.float_top1, top1]),
            metric: None,
        })
    }

    /// The share of right answers, and the number of images.
    fn top1(
        &self,
        network: &Network,
        threads: usize,
        monitor: &dyn Monitor,
    ) -> Result<(f64, u64), Error> {
        let options = BatchOptions {
            batch: BATCH,
            threads,
            ..BatchOptions::default()
        };
        let candidate = Candidate {
            network,
            settings: &self.settings,
        };
        let context = || format!("cannot evaluate on '{}'", self.data.display());
        let go_on = &mut |_: &[_]| !monitor.is_cancelled();
        let comparison =
            evaluate(&[candidate], None, &self.dataset, &options, go_on).context(context)?;
        let top1 = comparison.evaluations[0].tally.top1();
        let Some(share) = top1.fraction() else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "'{}' has no labels to measure a drop with; without --data it is estimated",
                    self.data.display()
                ),
            ));
        };
        Ok((share, top1.total))
    }
}
