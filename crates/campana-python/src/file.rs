//! Whole jobs on files; reports come back as JSON text, which the Python part
//! turns into dicts.

use std::path::PathBuf;

use campana_pipeline::{CommandFiles, EvaluateJob, Overwrite, write_file};
use campana_quantize::Progress;
use campana_report::inspect_page;
use pyo3::prelude::*;

use crate::error::{argument, exception};
use crate::job;
use crate::options::{Keywords, width};

/// Quantizes a file.
#[pyfunction]
pub(crate) fn quantize_file(
    py: Python<'_>,
    input: PathBuf,
    output: PathBuf,
    keywords: Keywords,
    threads: Option<i64>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let options = keywords.options()?;
    let report = job::run(py, threads, progress.as_ref(), |events, threads| {
        let job = keywords.job(&input, &output, &options, threads)?;
        campana_pipeline::quantize_file(&job, events).map_err(exception)
    })??;
    json(&report)
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
        let outcome = campana_pipeline::evaluate_files(&job, &mut |evaluations, images| {
            events.set(evaluations[0].tally.images(), images);
            !events.is_cancelled()
        })?;
        for failure in &outcome.comparison.failures {
            events.say(format!("skipped {}: {}", failure.name, failure.error));
        }
        Ok::<_, campana_pipeline::Error>(outcome.report())
    })?;
    json(&report.map_err(exception)?)
}

/// A report as JSON text.
pub(crate) fn json(report: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(report).map_err(argument)
}
