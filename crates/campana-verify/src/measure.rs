//! Runs both models in every runtime and compares.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use campana_eval::{Latency, Likeness, OutputSet, likeness};
use campana_onnx::{Model, Source};

use crate::exchange::write_inputs;
use crate::outcome::{Missing, Row, Verdict, Verification};
use crate::runtime::{SCRIPT, is_tflite};
use crate::worker::{Job, Refusal, Worker};
use crate::{Error, ErrorKind, Inputs, Python, Runtime};

/// Runs before the timed ones.
const WARM_UP: usize = 3;

/// What is to be verified, and how.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The model.
    pub model: PathBuf,
    /// The float model it came from.
    pub reference: Option<PathBuf>,
    /// The runtimes; campana, with which the others are compared, need not be
    /// among them and always runs.
    pub runtimes: Vec<Runtime>,
    /// The Python whose runtimes are used.
    pub python: Python,
    /// A program, with its first arguments, that calls [`serve`](crate::serve())
    /// with the arguments that follow.
    pub campana: Vec<PathBuf>,
    /// Threads of each runtime.
    pub threads: usize,
    /// Timed runs of each model in each runtime.
    pub runs: usize,
    /// An empty folder for what the processes exchange; the caller removes it.
    pub folder: PathBuf,
}

/// A worker that has its model loaded.
struct Running {
    runtime: Runtime,
    is_reference: bool,
    model: PathBuf,
    worker: Worker,
    version: String,
    load_ms: f64,
    outputs: Vec<OutputSet>,
    times: Vec<f64>,
}

/// Runs the model and its reference on `inputs` in campana and in those of the
/// runtimes that are there. `go_on` is told what is done now, and says `false`
/// to stop.
///
/// # Errors
///
/// Where campana itself cannot run a model, a Python that was given does not
/// start, the temporary folder cannot be written, or `go_on` says so; where
/// the model gives outputs of other number or size than its reference. What
/// another runtime cannot do is reported, not an error.
pub fn verify(
    subject: &Subject,
    inputs: &Inputs,
    go_on: &mut dyn FnMut(&str) -> bool,
) -> Result<Verification, Error> {
    let folder = &subject.folder;
    write_inputs(&folder.join("inputs"), inputs.sets())?;
    let script = folder.join("worker.py");
    fs::write(&script, SCRIPT).map_err(|error| Error::io("write", &script, error))?;
    let mut step = |what: &str| {
        if go_on(what) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Io, "interrupted"))
        }
    };

    let mut missing = Vec::new();
    let mut running: Vec<Running> = Vec::new();
    for runtime in runtimes(subject, &mut missing)? {
        let command = || match runtime {
            Runtime::Campana => {
                let mut command = Command::new(&subject.campana[0]);
                command.args(&subject.campana[1..]);
                command
            }
            _ => {
                let mut command = Command::new(subject.python.program());
                command.arg(&script);
                command
            }
        };
        for (is_reference, model) in files(subject, runtime) {
            step(&format!("loading {} in {runtime}", model.display()))?;
            let job = Job {
                runtime: runtime.to_string(),
                model: model.to_owned(),
                inputs: folder.join("inputs"),
                outputs: folder.join(format!("{runtime}-{is_reference}")),
                threads: subject.threads,
            };
            match start(runtime, is_reference, job, command()) {
                Ok(started) => running.push(started),
                Err(Start::Error(error)) => return Err(error),
                Err(Start::Missing(reason)) => {
                    missing.push(Missing {
                        runtime: runtime.to_string(),
                        model: None,
                        reason,
                    });
                    break;
                }
                Err(Start::Failed(reason)) if runtime == Runtime::Campana => {
                    return Err(Error::new(
                        ErrorKind::Model,
                        format!("campana cannot run '{}'", model.display()),
                    )
                    .with_source(reason));
                }
                Err(Start::Failed(reason)) => missing.push(Missing {
                    runtime: runtime.to_string(),
                    model: Some(model.display().to_string()),
                    reason,
                }),
            }
        }
    }

    // In turn, so that a machine that gets slower does so for all.
    for round in 0..WARM_UP + subject.runs {
        step("timing")?;
        let mut failed = None;
        for (position, one) in running.iter_mut().enumerate() {
            match one.worker.time(round % inputs.count()) {
                Ok(ms) if round >= WARM_UP => one.times.push(ms),
                Ok(_) => {}
                Err(refusal) => failed = Some((position, refusal)),
            }
        }
        if let Some((position, refusal)) = failed {
            let one = running.remove(position);
            missing.push(fault(&one, refusal)?);
        }
    }
    let mut rows = Vec::new();
    for position in 0..running.len() {
        match running[position].worker.memory() {
            Ok(memory) => {
                let mut row = row(&running, position, inputs)?;
                row.memory_bytes = memory.memory_bytes;
                row.peak_bytes = memory.peak_bytes;
                rows.push(row);
            }
            Err(refusal) => missing.push(fault(&running[position], refusal)?),
        }
    }
    let verdicts = rows
        .iter()
        .filter(|row| !row.is_reference)
        .filter_map(|model| {
            let is_its = |row: &&Row| row.is_reference && row.runtime == model.runtime;
            Some(Verdict::of(rows.iter().find(is_its)?, model))
        })
        .collect();
    Ok(Verification {
        model: subject.model.display().to_string(),
        reference: subject
            .reference
            .as_ref()
            .map(|path| path.display().to_string()),
        threads: subject.threads,
        random_inputs: inputs.random(),
        given_inputs: inputs.count() - inputs.random(),
        runs: subject.runs,
        rows,
        missing,
        verdicts,
    })
}

/// What was asked for and can be tried, campana first.
fn runtimes(subject: &Subject, missing: &mut Vec<Missing>) -> Result<Vec<Runtime>, Error> {
    let mut found = vec![Runtime::Campana];
    let others: Vec<Runtime> = Runtime::ALL
        .into_iter()
        .filter(|runtime| *runtime != Runtime::Campana && subject.runtimes.contains(runtime))
        .collect();
    if others.is_empty() {
        return Ok(found);
    }
    let mut miss = |runtime: Runtime, reason: String| {
        missing.push(Missing {
            runtime: runtime.to_string(),
            model: None,
            reason,
        });
    };
    if !subject.python.starts() {
        let program = subject.python.program().display().to_string();
        if let Python::Given(_) = subject.python {
            return Err(Error::new(
                ErrorKind::Argument,
                format!("'{program}' is no Python that starts"),
            ));
        }
        for runtime in others {
            miss(
                runtime,
                format!("there is no {program}; name one with --python"),
            );
        }
        return Ok(found);
    }
    for runtime in others {
        if runtime.file_of(&subject.model).is_none() {
            let file = subject.model.with_extension("tflite");
            let reason = match runtime {
                Runtime::TfLite | Runtime::TfLiteMicro => format!(
                    "reads .tflite files only, and there is no '{}'",
                    file.display()
                ),
                _ => "reads no TFLite models".to_owned(),
            };
            miss(runtime, reason);
        } else {
            found.push(runtime);
        }
    }
    Ok(found)
}

/// The reference, where there is one, and the model; of a TFLite model campana
/// runs the reference alone, and the TFLite file beside that may be the model.
fn files(subject: &Subject, runtime: Runtime) -> impl Iterator<Item = (bool, &Path)> {
    let reference = subject.reference.as_deref().map(|path| (true, path));
    let files = reference
        .into_iter()
        .chain([(false, subject.model.as_path())]);
    let is_converted = is_tflite(&subject.model);
    files.filter(
        move |(is_reference, path)| match (is_converted, is_reference) {
            (false, _) => true,
            (true, false) => runtime.reads_tflite(),
            (true, true) => {
                let file = runtime.file_of(path);
                file.is_some_and(|file| file != subject.model)
            }
        },
    )
}

enum Start {
    Error(Error),
    Missing(String),
    Failed(String),
}

fn start(
    runtime: Runtime,
    is_reference: bool,
    mut job: Job,
    command: Command,
) -> Result<Running, Start> {
    let model = job.model.clone();
    job.model = runtime
        .file_of(&model)
        .ok_or_else(|| Start::Failed("there is no .tflite file of it".to_owned()))?;
    // From the disk to the cache, so that the first to load it is not the slowest.
    let read = Source::open(&job.model)
        .and_then(|source| source.copy_to(source.span(), &mut std::io::sink()));
    read.map_err(|error| {
        let message = format!("cannot read '{}'", job.model.display());
        Start::Error(Error::new(ErrorKind::Io, message).with_source(error))
    })?;
    let file = job.model.clone();
    let mut worker = Worker::start(command, job).map_err(Start::Error)?;
    let refused = |refusal| match refusal {
        Refusal::Missing(reason) => Start::Missing(reason),
        Refusal::Failed(reason) => Start::Failed(reason),
    };
    let loaded = worker.load().map_err(refused)?;
    let outputs = worker.outputs().map_err(refused)?;
    Ok(Running {
        runtime,
        is_reference,
        model: file,
        worker,
        version: loaded.version,
        load_ms: loaded.load_ms,
        outputs,
        times: Vec::new(),
    })
}

/// A worker that failed after it had begun.
fn fault(one: &Running, refusal: Refusal) -> Result<Missing, Error> {
    let (Refusal::Missing(reason) | Refusal::Failed(reason)) = refusal;
    if one.runtime == Runtime::Campana {
        let message = format!("campana failed on '{}'", one.model.display());
        return Err(Error::new(ErrorKind::Model, message).with_source(reason));
    }
    Ok(Missing {
        runtime: one.runtime.to_string(),
        model: Some(one.model.display().to_string()),
        reason,
    })
}

fn row(running: &[Running], position: usize, inputs: &Inputs) -> Result<Row, Error> {
    let one = &running[position];
    let other = |runtime: Runtime, is_reference: bool| {
        running
            .iter()
            .find(|other| other.runtime == runtime && other.is_reference == is_reference)
    };
    let campana = other(Runtime::Campana, one.is_reference)
        .filter(|_| one.runtime != Runtime::Campana)
        .and_then(|campana| likeness_of(campana, one, inputs));
    // Of a TFLite model there may be no reference in the same runtime.
    let reference = other(one.runtime, true)
        .or_else(|| other(Runtime::Campana, true).filter(|_| is_tflite(&one.model)))
        .filter(|_| !one.is_reference)
        .map(|reference| {
            let found = likeness_of(reference, one, inputs);
            if found.is_some() || has_sizes_by_values(reference)? {
                return Ok(found);
            }
            Err({
                let message = format!(
                    "'{}' gives outputs of other number or size in {} than '{}'",
                    one.model.display(),
                    one.runtime,
                    reference.model.display()
                );
                Error::new(ErrorKind::Model, message)
            })
        })
        .transpose()?
        .flatten();
    Ok(Row {
        runtime: one.runtime.to_string(),
        version: one.version.clone(),
        model: one.model.display().to_string(),
        is_reference: one.is_reference,
        file_bytes: file_bytes(&one.model)?,
        load_ms: one.load_ms,
        latency: Latency::of(&one.times),
        memory_bytes: None,
        peak_bytes: None,
        max_difference: campana.as_ref().map(|found| found.max_difference),
        relative_difference: campana.as_ref().map(|found| found.relative_difference),
        agreement: campana.and_then(|found| found.agreement),
        reference_agreement: reference.as_ref().and_then(|found| found.agreement),
        reference_sqnr_db: reference.as_ref().map(|found| found.sqnr_db),
        reference_cosine: reference.as_ref().map(|found| found.cosine),
    })
}

/// Whether the sizes of a model's outputs may depend on the values of its inputs, so that
/// a quantized form rightly gives others; of what is no ONNX model they do not.
fn has_sizes_by_values(one: &Running) -> Result<bool, Error> {
    let Ok(model) = Model::open(&one.model) else {
        return Ok(false);
    };
    let mut nodes = model
        .graphs()
        .into_iter()
        .flat_map(|graph| graph.nodes.clone());
    Ok(nodes.any(|node| {
        matches!(
            node.op_type.as_str(),
            "NonZero" | "NonMaxSuppression" | "Compress" | "Unique" | "If" | "Loop" | "Range"
        )
    }))
}

/// How like the outputs of `expected` those of `found` are, of several outputs
/// the least: differences over all inputs, the rest over the given ones where
/// some are given; agreement of the first output alone.
fn likeness_of(expected: &Running, found: &Running, inputs: &Inputs) -> Option<Likeness> {
    let all = likeness(&expected.outputs, &found.outputs)?;
    let first = match inputs.count() == inputs.random() {
        true => 0,
        false => inputs.random(),
    };
    let answered = likeness(expected.outputs.get(first..)?, found.outputs.get(first..)?)?;
    let mut worst = answered.first()?.clone();
    for other in &answered {
        worst.sqnr_db = worst.sqnr_db.min(other.sqnr_db);
        worst.cosine = worst.cosine.min(other.cosine);
    }
    for other in &all {
        worst.max_difference = worst.max_difference.max(other.max_difference);
        worst.relative_difference = worst.relative_difference.max(other.relative_difference);
    }
    Some(worst)
}

/// Bytes of a model and of the files it refers to.
fn file_bytes(path: &Path) -> Result<u64, Error> {
    let len = |path: &Path| {
        let metadata = fs::metadata(path).map_err(|error| Error::io("read", path, error))?;
        Ok::<u64, Error>(metadata.len())
    };
    let mut total = len(path)?;
    // What is no ONNX model refers to no other file.
    let Ok(model) = Model::open(path) else {
        return Ok(total);
    };
    let mut files: Vec<PathBuf> = model
        .tensors()
        .iter()
        .filter_map(|tensor| model.external_path(tensor).ok().flatten())
        .collect();
    files.sort();
    files.dedup();
    for file in &files {
        total += len(file)?;
    }
    Ok(total)
}
