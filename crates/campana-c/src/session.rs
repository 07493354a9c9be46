//! Sessions and the results of their runs.

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use campana_ir::format;
use campana_ir::graph::{Dim, Graph, Value};
use campana_runtime::{Input, Plan, PlanOptions};
use campana_tensor::{ElementType, Limits, Tensor, TensorData};

use crate::failure::{Failure, Status, internal};
use crate::handles::Handles;
use crate::tensor::{Given, bytes};

/// Sessions that C holds.
pub(crate) static SESSIONS: Handles<Session> = Handles::new("session");

/// Results that C holds.
pub(crate) static RESULTS: Handles<RunResult> = Handles::new("result");

/// Threads of a session at most, as of the command line.
const MAX_THREADS: usize = 1024;

/// Stack of the thread that opens a model: readers enter as many levels of
/// nesting as a main thread has room for, and the caller's may be a small one.
const STACK_BYTES: usize = 8 << 20;

/// How a model is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    threads: usize,
    limits: Limits,
}

impl Settings {
    /// Of numbers of which 0 is the default.
    pub(crate) fn new(threads: u32, max_memory: u64) -> Result<Self, Failure> {
        let threads = match threads as usize {
            0 => {
                let processors = thread::available_parallelism().map_or(1, usize::from);
                processors.min(MAX_THREADS)
            }
            threads => threads,
        };
        if threads > MAX_THREADS {
            return Err(Failure::argument(format!(
                "{threads} threads; a session has {MAX_THREADS} at most"
            )));
        }
        let limits = match max_memory {
            0 => Limits::DEFAULT,
            bytes => Limits::with_max_memory(usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        Ok(Self { threads, limits })
    }
}

/// A model that is ready to run.
#[derive(Debug)]
pub(crate) struct Session {
    engine: campana_runtime::Session,
    inputs: Vec<Described>,
    outputs: Vec<Described>,
    /// The process that has the engine's threads.
    process: u32,
}

/// What a model declares of an input or output.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) name: CString,
    /// ONNX's number; 0 where the model declares none.
    pub(crate) element_type: i32,
    /// -1 for an extent that a run decides; `None` where not even the rank is
    /// declared.
    pub(crate) dims: Option<Vec<i64>>,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct RunResult {
    pub(crate) outputs: Vec<Output>,
}

/// An output of a run.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) name: CString,
    pub(crate) element_type: ElementType,
    pub(crate) dims: Vec<i64>,
    data: TensorData,
}

impl Output {
    fn new(name: CString, tensor: Tensor) -> Result<Self, Failure> {
        let (shape, data) = tensor.into_parts();
        let element_type = data.element_type();
        if bytes(&data).is_none() {
            let name = name.to_string_lossy();
            return Err(Failure::new(
                Status::Unsupported,
                format!(
                    "output '{name}' is of element type {element_type}, which has no form in C"
                ),
            ));
        }
        Ok(Self {
            name,
            element_type,
            // No tensor in memory has an extent beyond i64.
            dims: shape.iter().map(|&extent| extent as i64).collect(),
            data,
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytes(&self.data).unwrap_or(&[])
    }
}

impl Session {
    /// Opens the model in a file, which messages call by this name.
    pub(crate) fn open(path: &Path, name: &str, settings: Settings) -> Result<Self, Failure> {
        let read = || format::load_within(path, &settings.limits);
        Self::of(read, settings).map_err(|failure| failure.in_file(name))
    }

    /// Opens the model in these bytes, which are those of a file.
    pub(crate) fn parse(file: &[u8], settings: Settings) -> Result<Self, Failure> {
        let read = || format::parse_within(file.to_vec(), &settings.limits);
        Self::of(read, settings)
    }

    fn of(
        read: impl FnOnce() -> format::Result<Graph> + Send,
        settings: Settings,
    ) -> Result<Self, Failure> {
        let mut options = PlanOptions::default();
        options.threads = settings.threads;
        let plan = || Ok::<_, Failure>(Plan::new(read()?, options)?);
        let plan = thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name("campana-open".into())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, plan)
                .map_err(|error| {
                    let text = format!("no thread to open the model in: {error}");
                    Failure::new(Status::Limit, text)
                })?;
            thread.join().map_err(|panic| internal(&*panic))?
        })?;
        Ok(Self {
            inputs: described("input", plan.inputs())?,
            outputs: described("output", plan.outputs())?,
            engine: campana_runtime::Session::new(plan, settings.threads),
            process: std::process::id(),
        })
    }

    pub(crate) fn inputs(&self) -> &[Described] {
        &self.inputs
    }

    pub(crate) fn outputs(&self) -> &[Described] {
        &self.outputs
    }

    /// Runs on inputs by name, or by position where one has none.
    pub(crate) fn run(&self, inputs: &[(Option<&str>, Given<'_>)]) -> Result<RunResult, Failure> {
        if self.is_without_threads() {
            return Err(Failure::new(
                Status::Handle,
                "the session has threads and was opened before this process was forked; open it in \
                 the process that runs it",
            ));
        }
        let declared = self.engine.plan().inputs();
        let named: Vec<(&str, Input<'_>)> = inputs
            .iter()
            .enumerate()
            .map(|(position, (name, given))| {
                let name = name.or_else(|| Some(declared.get(position)?.name.as_str()));
                let missing = || {
                    let count = declared.len();
                    Failure::argument(format!(
                        "the model has {count} inputs, not {}",
                        inputs.len()
                    ))
                };
                Ok((name.ok_or_else(missing)?, given.input()))
            })
            .collect::<Result<_, Failure>>()?;
        let tensors = self.engine.run(&named)?;
        let outputs = self.outputs.iter().zip(tensors);
        let outputs = outputs.map(|(value, tensor)| Output::new(value.name.clone(), tensor));
        let outputs = outputs.collect::<Result<_, Failure>>()?;
        Ok(RunResult { outputs })
    }

    /// Ends a session. In a forked process its engine stays in memory: the end
    /// would wait for threads that are only in the other process.
    pub(crate) fn end(session: Arc<Self>) {
        if session.is_without_threads() {
            std::mem::forget(session);
        }
    }

    fn is_without_threads(&self) -> bool {
        self.engine.threads() > 1 && self.process != std::process::id()
    }
}

fn described(what: &str, values: &[Value]) -> Result<Vec<Described>, Failure> {
    let described = values.iter().map(|value| {
        let name = CString::new(value.name.as_str()).map_err(|_| {
            let text = format!(
                "the name of {what} {:?} contains a NUL character",
                value.name
            );
            Failure::new(Status::Unsupported, text)
        })?;
        let extent = |dim: &Dim| match dim {
            Dim::Fixed(extent) => i64::try_from(*extent).unwrap_or(i64::MAX),
            Dim::Symbol(_) => -1,
        };
        Ok(Described {
            name,
            element_type: value.element_type.map_or(0, ElementType::to_onnx),
            dims: value
                .shape
                .as_ref()
                .map(|dims| dims.iter().map(extent).collect()),
        })
    });
    described.collect()
}
