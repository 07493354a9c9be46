//! Knowledge distillation without labels: what is continuous of a quantized
//! network (levels, entries of vector codebooks, scales, normalizations,
//! biases) is learned by gradient descent so that the whole network gives the
//! float network's answers on the samples. Codes stay.
//!
//! - Teacher is the float network, student the corrected quantized one. The loss
//!   is the Kullback-Leibler divergence of class scores, or the squared error of
//!   other outputs relative to their energy, and beside it the relative squared
//!   error of the inputs of all layers, which keeps few samples from being learned
//!   by heart.
//! - What is learned is what will be stored: weights are decoded from levels and
//!   scales as rounded to their storage, gradients go to the values before
//!   rounding (straight-through estimation).
//! - Steps are Adam's, of sizes relative to each parameter's magnitude, that rise
//!   at first and then follow a half cosine to 0.
//! - Some batches are held back, also from the correction before, and judge: the
//!   state of the least divergence is kept in which no fewer rows of scores agree in
//!   the greatest one than at first, but for a standard error; it is the first where
//!   none is better.
//!
//! # References
//!
//! Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
//! arXiv 1503.02531. Kingma, Ba, "Adam: A Method for Stochastic Optimization",
//! 2015, arXiv 1412.6980. Bengio, Leonard, Courville, "Estimating or Propagating
//! Gradients Through Stochastic Neurons", 2013, arXiv 1308.3432.

mod adam;
pub(crate) mod budget;
mod learner;
mod loss;
mod parameters;
mod shown;

use std::time::{Duration, Instant};

use campana_ir::graph::{Graph, Value};
use campana_ir::weights::{Role, constant_tensors};
use campana_onnx::Model;
use campana_quantize::graph::{float_graph, unsupported};
use campana_quantize::{Error, Progress, QuantizedModel};
use campana_tensor::{ElementType, Tensor};

use crate::distill::budget::MOST_STEPS;
pub use crate::distill::budget::{DistillBudget, DistillReport};
use crate::distill::learner::Learner;
use crate::distill::parameters::Parameters;
pub(crate) use crate::distill::shown::Parted;
use crate::distill::shown::{Inputs, owned};
use crate::samples::{Batches, Samples, run_shapes, typed_values};
use crate::scale::check_synthetic;

/// How often the divergence on held-back samples is measured.
const MEASURED: u32 = 16;

/// Steps that are timed before their number is known.
const TIMED: u32 = 3;

/// Learns what is continuous of a quantized network, `student` as it computes on
/// the samples beside `teacher`, and puts it into both `student` and
/// `quantized`.
///
/// # Errors
///
/// Of kind `Unsupported` where an operator between the weights and the outputs
/// has no gradient, which the error names; of kind `Interrupted` where
/// `progress` says so.
pub(crate) fn distill(
    teacher: &Graph,
    (student, quantized): (&mut Graph, &mut QuantizedModel<'_>),
    samples: Parted,
    budget: DistillBudget,
    threads: usize,
    progress: &dyn Progress,
) -> Result<DistillReport, Error> {
    let start = Instant::now();
    let mut parameters = Parameters::of(student, quantized)?;
    let mut learner = Learner::new(teacher, student, &parameters, samples, threads, progress)?;
    let before = learner.judge(student, progress)?;
    if !before.divergence.is_finite() {
        return Err(unsupported("answers on the samples are not finite"));
    }
    let mut best = (before, 0, parameters.clone());
    let mut steps = match budget {
        DistillBudget::Steps(steps) => steps,
        DistillBudget::Time(_) => MOST_STEPS,
    };
    let judged = start.elapsed();
    let mut step = 0;
    while step < steps {
        let loss = learner.step(student, &mut parameters, [step, steps], progress)?;
        step += 1;
        if let (DistillBudget::Time(time), TIMED) = (budget, step) {
            steps = steps_within(time, start.elapsed(), judged);
        }
        let is_measured = step == steps || step.is_multiple_of((steps / MEASURED).max(1));
        if is_measured {
            let now = learner.judge(student, progress)?;
            // A lower divergence may come from unlikely classes alone.
            let agrees = now.agreement >= before.agreement - before.error;
            if now.divergence < best.0.divergence && agrees {
                best = (now, step, parameters.clone());
            }
        }
        progress.distilled(u64::from(step), u64::from(steps), best.0.divergence);
        if !loss.is_finite() {
            break;
        }
    }
    let (after, kept_step, mut best) = best;
    best.put_into_graph(student)?;
    let count = best.count();
    best.put_into_model(teacher, quantized)?;
    Ok(DistillReport {
        steps: step,
        kept_step,
        samples: learner.samples(),
        held_back: learner.held_back(),
        parameters: count,
        divergence_before: before.divergence,
        divergence_after: after.divergence,
    })
}

/// Whether a model can be distilled on these samples, by one sample's extents.
///
/// # Errors
///
/// Of kind `Unsupported` where an operator between the weights and the outputs
/// has no gradient, which the error names, or the model cannot be run on the
/// samples.
pub fn check_distillable(model: &Model, samples: &Samples) -> Result<(), Error> {
    let graph = float_graph(model)?;
    let weights = constant_tensors(model);
    let weights: Vec<&str> = weights
        .iter()
        .filter(|tensor| matches!(tensor.role, Role::Weight { .. }))
        .map(|tensor| tensor.name)
        .filter(|name| graph.constants.contains_key(*name))
        .collect();
    check_synthetic(&graph, samples)?;
    let inputs = match samples {
        Samples::Synthetic { size, .. } => neutral_inputs(&graph.inputs, *size)?,
        _ => owned(&Batches::of_length(&graph.inputs, samples, 1)?.first(), 0),
    };
    learner::check_gradients(&graph, &weights, &inputs)
}

/// One sample of zeros.
fn neutral_inputs(inputs: &[Value], size: Option<[usize; 2]>) -> Result<Inputs, Error> {
    let shapes = run_shapes(inputs, 1, size)?;
    let tensors = inputs.iter().zip(shapes).map(|(input, shape)| {
        let element_type = input.element_type.unwrap_or(ElementType::F32);
        let values = typed_values(element_type, shape.iter().product(), |len, _| {
            vec![0.0; len]
        });
        let tensor = values.and_then(|values| Tensor::new(shape, values));
        let name = &input.name;
        let tensor =
            tensor.ok_or_else(|| unsupported(format!("no values for the input '{name}'")))?;
        Ok((name.clone(), tensor))
    });
    tensors.collect()
}

/// Steps that fit into a time, by the first ones; each sixteenth is followed by
/// a measurement.
fn steps_within(time: Duration, elapsed: Duration, judged: Duration) -> u32 {
    let of_step = elapsed.saturating_sub(judged).as_secs_f64() / f64::from(TIMED);
    let measurements = judged.as_secs_f64() * f64::from(MEASURED);
    let left = time.as_secs_f64() - elapsed.as_secs_f64() - measurements;
    let steps = (left / of_step.max(1e-9)).clamp(0.0, f64::from(MOST_STEPS - TIMED));
    TIMED + steps as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_as_many_steps_as_fit() {
        let time = |seconds| Duration::from_secs_f64(seconds);
        // Three steps took 3 s, a measurement half a second: 16 of these.
        assert_eq!(steps_within(time(60.0), time(3.5), time(0.5)), 3 + 48);
        assert_eq!(steps_within(time(1.0), time(3.5), time(0.5)), 3);
    }
}
