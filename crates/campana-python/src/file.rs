//! Whole jobs on files; reports come back as JSON text, which the Python part
//! turns into dicts.

use std::path::PathBuf;

use campana_eval::ImageFailure;
use campana_pipeline::{
    CommandFiles, EvaluateJob, EvaluationKind, OutputsJob, Overwrite, compare_outputs,
    evaluate_masks, write_file,
};
use campana_quantize::Progress;
use campana_report::inspect_page;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::data::{Judge, Metric};
use crate::error::{argument, exception};
use crate::job::{self, Events};
use crate::options::{Keywords, Shapes, stated, width};
use crate::session::{Types, types, values};

/// Quantizes a file.
#[pyfunction]
pub(crate) fn quantize_file(
    py: Python<'_>,
    input: PathBuf,
    output: PathBuf,
    keywords: Bound<'_, PyAny>,
    metric: Option<Metric>,
    threads: Option<i64>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let keywords = Keywords::of(&keywords)?;
    let judge = metric.as_ref().map(Judge::new);
    let (options, shapes) = (keywords.options()?, keywords.shapes()?);
    let report = job::run(py, threads, progress.as_ref(), |events, threads| {
        let job = keywords.job(
            [&input, &output],
            &options,
            &shapes,
            judge.as_ref(),
            threads,
        )?;
        campana_pipeline::quantize_file(&job, events).map_err(exception)
    })?;
    match judge.and_then(Judge::raised) {
        Some(raised) => Err(raised),
        None => json(&report?),
    }
}

/// The files beside a model that hold its data.
#[pyfunction]
pub(crate) fn data_files(py: Python<'_>, path: PathBuf) -> Vec<PathBuf> {
    py.detach(|| campana_pipeline::data_files(&path))
}

/// What an ONNX model declares of its inputs: NumPy's names of their types,
/// and their shapes.
#[pyfunction]
pub(crate) fn model_inputs<'py>(
    py: Python<'py>,
    path: PathBuf,
    shapes: Shapes,
) -> PyResult<(Types, Bound<'py, PyDict>)> {
    let shapes = stated(&shapes)?;
    let inputs = py.detach(|| campana_pipeline::model_inputs(&path, &shapes));
    let inputs = inputs.map_err(exception)?;
    Ok((types(&inputs), values(py, &inputs)?))
}

/// Packs a model into a container.
#[pyfunction]
pub(crate) fn pack_file(
    py: Python<'_>,
    input: PathBuf,
    output: PathBuf,
    force: bool,
) -> PyResult<String> {
    let overwrite = Overwrite::from_force(force);
    let report = job::run(py, None, None, |events, _| {
        campana_pipeline::pack_file(&input, &output, overwrite, events)
    })?;
    json(&report.map_err(exception)?)
}

/// Takes the model out of a container.
#[pyfunction]
pub(crate) fn unpack_file(
    py: Python<'_>,
    input: PathBuf,
    output: PathBuf,
    force: bool,
) -> PyResult<String> {
    let overwrite = Overwrite::from_force(force);
    let report = job::run(py, None, None, |events, _| {
        campana_pipeline::unpack_file(&input, &output, overwrite, events)
    })?;
    json(&report.map_err(exception)?)
}

/// Describes the weights in a file.
#[pyfunction]
pub(crate) fn inspect_file(
    py: Python<'_>,
    path: PathBuf,
    page: Option<PathBuf>,
    bits: i64,
    force: bool,
    threads: Option<i64>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let bits = width("bits", bits)?;
    let inspection = job::run(py, threads, progress.as_ref(), |events, _| {
        CommandFiles::new()
            .model("the input", &path)
            .output("the page", page.as_deref())
            .check()?;
        let inspection = campana_pipeline::inspect_file(&path, events)?;
        if let Some(page) = &page {
            let text = inspect_page(&inspection, bits);
            write_file(page, Overwrite::from_force(force), text.as_bytes(), events)?;
        }
        Ok::<_, campana_pipeline::Error>(inspection)
    })?;
    json(&inspection.map_err(exception)?)
}

/// Evaluates models.
#[pyfunction]
#[expect(
    clippy::too_many_arguments,
    reason = "keyword arguments of the Python function"
)]
pub(crate) fn evaluate_files(
    py: Python<'_>,
    models: Vec<PathBuf>,
    data: PathBuf,
    reference: Option<PathBuf>,
    limit: Option<usize>,
    batch: usize,
    threads: Option<i64>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    if models.is_empty() {
        return Err(argument("name at least one model"));
    }
    if batch == 0 {
        return Err(argument("batch must be 1 or more"));
    }
    let report = job::run(py, threads, progress.as_ref(), |events, threads| {
        let job = EvaluateJob {
            models: &models,
            reference: reference.as_deref(),
            data: &data,
            limit,
            batch,
            threads,
        };
        match EvaluationKind::on(&data) {
            EvaluationKind::Accuracy => accuracy(&job, events),
            EvaluationKind::MeanIou => mean_iou(&job, events),
            EvaluationKind::Outputs => likeness(&job, events),
        }
    })?;
    json(&report.map_err(exception)?)
}

type Evaluated = Result<serde_json::Value, campana_pipeline::Error>;

fn accuracy(job: &EvaluateJob<'_>, events: &Events) -> Evaluated {
    let outcome = campana_pipeline::evaluate_files(job, &mut |evaluations, images| {
        events.set(evaluations[0].tally.images(), images);
        !events.is_cancelled()
    })?;
    say_skipped(&outcome.comparison.failures, events);
    Ok(serde_json::json!(outcome.report()))
}

fn mean_iou(job: &EvaluateJob<'_>, events: &Events) -> Evaluated {
    let report = evaluate_masks(job, &mut |done, all| {
        events.set(done, all);
        !events.is_cancelled()
    })?;
    say_skipped(&report.skipped, events);
    Ok(serde_json::json!(report))
}

fn likeness(job: &EvaluateJob<'_>, events: &Events) -> Evaluated {
    let job = OutputsJob {
        models: job.models,
        reference: job.reference,
        data: job.data,
        limit: job.limit,
        threads: job.threads,
    };
    let report = compare_outputs(&job, events, &mut |done, all| {
        events.set(done as u64, all as u64);
        !events.is_cancelled()
    })?;
    Ok(serde_json::json!(report))
}

fn say_skipped(failures: &[ImageFailure], events: &Events) {
    for failure in failures {
        events.say(format!("skipped {}: {}", failure.name, failure.error));
    }
}

/// A report as JSON text.
pub(crate) fn json(report: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(report).map_err(argument)
}
