//! How like the outputs of a reference those of models are, on data without
//! labels.

use std::path::{Path, PathBuf};

use campana_calibrate::{Batches, Samples};
use campana_eval::{Likeness, Output, OutputSet, likeness, open_input};
use campana_ir::format;
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::Tensor;
use serde::Serialize;

use crate::error::Context;
use crate::{Error, ErrorKind, Monitor, is_arrays, sample_inputs};

/// Images of a folder that are compared unless a number is given: their inputs
/// and outputs are all in memory.
const IMAGES: usize = 256;

/// Models, their reference and what both are run on.
#[derive(Clone, Copy, Debug)]
pub struct OutputsJob<'a> {
    /// The models, at least one.
    pub models: &'a [PathBuf],
    /// The model whose outputs are expected; without one there is nothing to
    /// compare with.
    pub reference: Option<&'a Path>,
    /// Arrays (`.npy`, `.npz` with one for each input) or a folder of images,
    /// which are prepared as a model's sidecar or else the reference's says.
    pub data: &'a Path,
    /// At most this many samples, evenly spread; by default all arrays, 256
    /// images.
    pub limit: Option<usize>,
    /// Threads to use.
    pub threads: usize,
}

/// What is said of models beside their reference; the keys of the JSON are a
/// contract.
#[derive(Clone, Debug, Serialize)]
pub struct OutputsReport {
    /// Number of samples.
    pub n: usize,
    /// The model whose outputs were expected.
    pub reference: String,
    /// Each model.
    pub models: Vec<OutputsOfModel>,
}

/// What is said of one model.
#[derive(Clone, Debug, Serialize)]
pub struct OutputsOfModel {
    /// The model's file.
    pub model: String,
    /// Each output beside the reference's.
    pub outputs: Vec<Likeness>,
}

/// Runs models and their reference on the same samples. `go_on` hears the number
/// of runs that are done and of all, and says whether to go on.
///
/// # Errors
///
/// Where there is no reference, a file cannot be read, the data do not fit a model, a model cannot run
/// or has other outputs than the reference, or `go_on` says to stop.
pub fn compare_outputs(
    job: &OutputsJob<'_>,
    monitor: &dyn Monitor,
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<OutputsReport, Error> {
    let Some(reference) = job.reference else {
        let data = job.data.display();
        let message = format!(
            "'{data}' has no labels: name a reference, the model that gives the expected outputs"
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    };
    let reference = Subject::open(reference, job, monitor)?;
    let models = job
        .models
        .iter()
        .map(|model| Subject::open(model, job, monitor));
    let models: Vec<Subject> = models.collect::<Result<_, _>>()?;
    let all = reference.batches.len() * (1 + models.len());
    let mut done = 0;
    let mut step = || {
        done += 1;
        match go_on(done, all) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
        }
    };
    let expected = reference.run(&mut step)?;
    let compared = models.iter().map(|model| {
        let found = model.run(&mut step)?;
        let outputs = likeness(&expected, &found).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "'{}' gives outputs of other number or size than '{}'",
                    model.name, reference.name
                ),
            )
        })?;
        Ok(OutputsOfModel {
            model: model.name.clone(),
            outputs,
        })
    });
    Ok(OutputsReport {
        models: compared.collect::<Result<_, Error>>()?,
        n: reference.batches.samples(),
        reference: reference.name,
    })
}

/// A model that is loaded, and its samples.
pub(crate) struct Subject {
    name: String,
    pub(crate) session: Session,
    pub(crate) batches: Batches,
}

impl Subject {
    /// A model with a job's data and threads.
    pub(crate) fn open(
        model: &Path,
        job: &OutputsJob<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Self, Error> {
        let name = model.display().to_string();
        open_input(model).context(|| format!("cannot read '{name}'"))?;
        let graph = format::load(model).context(|| format!("cannot read '{name}'"))?;
        let all = if is_arrays(job.data) {
            usize::MAX
        } else {
            IMAGES
        };
        let samples: Samples = sample_inputs(
            (model, job.reference),
            &graph.inputs,
            job.data,
            job.limit.unwrap_or(all),
            job.threads,
            monitor,
        )?;
        let batches = Batches::of_length(&graph.inputs, &samples, 1)
            .context(|| format!("cannot run '{name}' on '{}'", job.data.display()))?;
        let mut options = PlanOptions::default();
        options.threads = job.threads;
        let plan = Plan::new(graph, options).context(|| format!("cannot run '{name}'"))?;
        Ok(Self {
            session: Session::new(plan, job.threads),
            name,
            batches,
        })
    }

    /// The tensors that one batch of samples gives.
    pub(crate) fn tensors(&self, batch: usize) -> Result<Vec<Tensor>, Error> {
        let inputs = self.batches.batch(batch);
        let inputs: Vec<(&str, Input<'_>)> = inputs
            .map(|(name, tensor)| (name, Input::from(tensor)))
            .collect();
        let tensors = self.session.run(&inputs);
        tensors.context(|| format!("cannot run '{}'", self.name))
    }

    /// The outputs for each sample.
    fn run(&self, step: &mut dyn FnMut() -> Result<(), Error>) -> Result<Vec<OutputSet>, Error> {
        let runs = (0..self.batches.len()).map(|index| {
            step()?;
            let tensors = self.tensors(index)?;
            let names = self.session.plan().outputs().iter();
            let outputs = names.zip(tensors).map(|(value, tensor)| {
                Output::new(&value.name, tensor).ok_or_else(|| {
                    let message = format!("output '{}' has no numbers", value.name);
                    Error::new(ErrorKind::Unsupported, message)
                })
            });
            outputs.collect()
        });
        runs.collect()
    }
}
