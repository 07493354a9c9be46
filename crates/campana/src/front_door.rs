//! What a Rust program asks of a model beside quantizing it.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use campana_eval::BatchOptions;
use campana_ir::format;
use campana_pipeline::{
    Error, ErrorKind, EvaluateJob, EvaluateReport, evaluate_files, inspect_file,
};
use campana_quantize::Silent;
use campana_quantize::inspect::Inspection;
use campana_runtime::{Plan, PlanOptions, Session};

/// The weight tensors of a model or container: distribution and fit of those
/// that are floats, codes and levels of those that are quantized.
///
/// # Errors
///
/// Where the file cannot be read, or a weight is not finite.
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection, Error> {
    inspect_file(path.as_ref(), &Silent)
}

/// A model or container ready to be run, on all processors.
///
/// # Errors
///
/// Where the file cannot be read, or an operator is not supported.
pub fn open_session(path: impl AsRef<Path>) -> Result<Session, Error> {
    let path = path.as_ref();
    let failed = |kind: ErrorKind, doing: &str, error: &dyn std::error::Error| {
        let why = campana_quantize::causes(error);
        Error::new(kind, format!("cannot {doing} '{}': {why}", path.display()))
    };
    let graph = format::load(path).map_err(|error| failed(ErrorKind::Malformed, "read", &error))?;
    let threads = available_parallelism().map_or(1, NonZeroUsize::get);
    let mut options = PlanOptions::default();
    options.threads = threads;
    let plan =
        Plan::new(graph, options).map_err(|error| failed(ErrorKind::Unsupported, "run", &error))?;
    Ok(Session::new(plan, threads))
}

/// How often models are right on the same labelled images, and how often they
/// answer as `reference`. Each model has its sidecar beside it.
///
/// # Errors
///
/// Where a model, its sidecar or the images cannot be read or do not fit.
pub fn evaluate(
    models: &[PathBuf],
    data: impl AsRef<Path>,
    reference: Option<&Path>,
) -> Result<EvaluateReport, Error> {
    let job = EvaluateJob {
        models,
        reference,
        data: data.as_ref(),
        limit: None,
        batch: BatchOptions::default().batch,
        threads: available_parallelism().map_or(1, NonZeroUsize::get),
    };
    let outcome = evaluate_files(&job, &mut |_, _| true)?;
    Ok(outcome.report())
}
