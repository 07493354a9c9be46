//! Passes through teacher and student, and steps by their gradients.

use std::collections::{BTreeMap, HashMap};

use campana_gradient::Backward;
use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_quantize::graph::unsupported;
use campana_quantize::{Error, Progress, check_cancelled};
use campana_runtime::Session;
use campana_tensor::Tensor;

use crate::correct::activation_cache::floats;
use crate::distill::adam::{Adam, LEARNING_RATE, schedule};
use crate::distill::loss::{Loss, agreement, classes_of};
use crate::distill::parameters::{Parameters, add};
use crate::distill::shown::{Inputs, Parted, Shown};
use crate::divergence::Kind;
use crate::running::{giving, run, session};

/// Samples of one step.
const STEP_SAMPLES: usize = 64;

/// Samples of one pass, and bytes that their values may take.
const PASS_SAMPLES: usize = 32;
const PASS_BYTES: usize = 256 << 20;

/// Teacher and student.
pub(super) struct Learner {
    backward: Backward,
    loss: Loss,
    teacher: Session,
    shown: Shown,
    /// Passes of one step.
    passes: usize,
    states: Vec<Adam>,
    /// What the teacher gives on the batches that judge.
    answers: Vec<Vec<Tensor>>,
    threads: usize,
}

/// How near a student is to its teacher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Nearness {
    /// The mean divergence of the outputs.
    pub(super) divergence: f64,
    /// The share of rows of scores with the same greatest one; 0 without scores.
    pub(super) agreement: f64,
    /// The standard error of that share.
    pub(super) error: f64,
}

/// Whether gradients of constants are known in a network on these inputs.
pub(super) fn check_gradients(
    graph: &Graph,
    constants: &[&str],
    inputs: &Inputs,
) -> Result<(), Error> {
    backward(graph, constants, &loss_of(graph)?, inputs).map(|_| ())
}

fn loss_of(graph: &Graph) -> Result<Loss, Error> {
    let network = Network::new(graph)
        .map_err(|error| unsupported("cannot analyse the network").with_source(error))?;
    let loss = Loss::of(&network);
    if loss.outputs().is_empty() {
        return Err(unsupported("no output of the network is float32"));
    }
    Ok(loss)
}

impl Learner {
    pub(super) fn new(
        teacher: &Graph,
        student: &Graph,
        parameters: &Parameters,
        samples: Parted,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let loss = loss_of(student)?;
        let wanted = parameters.names();
        let mut shown = Shown::new(student, samples);
        let mut backward = backward(student, &wanted, &loss, &shown.draw())?;
        if shown.can_draw() {
            let samples = PASS_BYTES / backward.kept_bytes().max(1);
            shown.set_samples(samples.clamp(1, PASS_SAMPLES));
            backward = self::backward(student, &wanted, &loss, &shown.draw())?;
        }
        let mut learner = Self {
            teacher: session(giving(teacher, loss.names()), threads)?,
            passes: STEP_SAMPLES.div_ceil(shown.samples()),
            states: parameters.states(),
            answers: Vec::new(),
            backward,
            loss,
            shown,
            threads,
        };
        learner.answers = learner.outputs_of(teacher, progress)?;
        Ok(learner)
    }

    /// Samples to learn from.
    pub(super) fn samples(&self) -> usize {
        self.shown.learned()
    }

    /// Samples that judge and are not learned from.
    pub(super) fn held_back(&self) -> usize {
        self.shown.held_back()
    }

    /// One step, which `[step, steps]` counts from 0; the loss before it.
    pub(super) fn step(
        &mut self,
        student: &mut Graph,
        parameters: &mut Parameters,
        [step, steps]: [u32; 2],
        progress: &dyn Progress,
    ) -> Result<f64, Error> {
        let session = self
            .backward
            .session(student, self.threads)
            .map_err(failed)?;
        let mut gradients: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        let mut total = 0.0;
        for _ in 0..self.passes {
            check_cancelled(progress)?;
            let inputs = self.shown.draw();
            let (loss, found) = self.pass(student, &session, &inputs)?;
            total += loss;
            for (name, gradient) in found {
                let sums = gradients.entry(name);
                let sums = sums.or_insert_with(|| vec![0.0; gradient.len()]);
                add(sums, &gradient);
            }
        }
        if !total.is_finite() {
            return Ok(total);
        }
        let rate = LEARNING_RATE * schedule([step, steps]);
        parameters.step(&gradients, &mut self.states, rate, step);
        parameters.put_into_graph(student)?;
        Ok(total)
    }

    /// The loss on some inputs, and its gradients.
    fn pass(
        &self,
        student: &Graph,
        session: &Session,
        inputs: &Inputs,
    ) -> Result<(f64, BTreeMap<String, Vec<f32>>), Error> {
        let expected = run(&self.teacher, given(inputs))?;
        let expected: HashMap<&str, &Tensor> = self.loss.names().zip(&expected).collect();
        let inputs: Vec<(&str, &Tensor)> = given(inputs).collect();
        let found = self.backward.values(session, &inputs).map_err(failed)?;
        let pair = |name: &str| {
            let (expected, found) = (expected.get(name)?, found.get(name)?);
            let pair = [floats(expected).ok()?, floats(found).ok()?];
            (pair[0].len() == pair[1].len()).then_some(pair)
        };
        let classes = |name: &str| expected.get(name).map_or(1, |tensor| classes_of(tensor));
        let share = 1.0 / self.passes as f64;
        let (loss, seeds) = self.loss.of_pass(pair, classes, share);
        let seeds = seeds.into_iter().collect();
        let gradients = self.backward.run(student, &found, seeds).map_err(failed)?;
        Ok((loss, gradients))
    }

    /// How near the student's outputs are to the teacher's on the batches that
    /// judge.
    pub(super) fn judge(
        &self,
        student: &Graph,
        progress: &dyn Progress,
    ) -> Result<Nearness, Error> {
        let found = self.outputs_of(student, progress)?;
        let outputs = self.loss.outputs();
        let share = 1.0 / self.answers.len().max(1) as f64;
        let (mut divergence, mut agreeing, mut rows) = (0.0, 0, 0);
        for (answers, found) in self.answers.iter().zip(&found) {
            let at = |name: &str| outputs.iter().position(|(output, _)| output == name);
            let pair = |name: &str| {
                let at = at(name)?;
                Some([floats(&answers[at]).ok()?, floats(&found[at]).ok()?])
            };
            let classes = |name: &str| at(name).map_or(1, |at| classes_of(&answers[at]));
            divergence += self.loss.of_pass(pair, classes, share).0;
            for (name, kind) in outputs {
                if let (Kind::Scores, Some(pair)) = (kind, pair(name)) {
                    let [agree, all] = agreement(pair, classes(name));
                    agreeing += agree;
                    rows += all;
                }
            }
        }
        let agreement = agreeing as f64 / rows.max(1) as f64;
        Ok(Nearness {
            // Of equal answers roundings remain.
            divergence: if divergence < 0.0 { 0.0 } else { divergence },
            agreement,
            error: (agreement * (1.0 - agreement) / rows.max(1) as f64).sqrt(),
        })
    }

    /// What a network gives on the batches that judge.
    fn outputs_of(
        &self,
        graph: &Graph,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<Tensor>>, Error> {
        let outputs = self.loss.outputs().iter().map(|(name, _)| name.as_str());
        let session = session(giving(graph, outputs), self.threads)?;
        let judging = self.shown.judging();
        let run_batch = |batch| {
            check_cancelled(progress)?;
            run(&session, judging.batch(batch))
        };
        (0..judging.len()).map(run_batch).collect()
    }
}

/// The way back from the compared values to what is learned.
fn backward(
    student: &Graph,
    wanted: &[&str],
    loss: &Loss,
    inputs: &Inputs,
) -> Result<Backward, Error> {
    let compared: Vec<&str> = loss.names().collect();
    let inputs: Vec<(&str, &Tensor)> = given(inputs).collect();
    Backward::new(student, wanted, &compared, &inputs).map_err(failed)
}

fn failed(error: campana_gradient::Error) -> Error {
    unsupported("cannot distill the network").with_source(error)
}

/// The inputs of a pass as a run takes them.
fn given(inputs: &Inputs) -> impl Iterator<Item = (&str, &Tensor)> {
    inputs.iter().map(|(name, tensor)| (name.as_str(), tensor))
}
