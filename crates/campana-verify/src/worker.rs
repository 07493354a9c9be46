//! A process that runs one model in one runtime and answers questions.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use campana_eval::OutputSet;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::exchange::read_outputs;
use crate::{Error, ErrorKind};

/// What a worker is to do: its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) runtime: String,
    pub(crate) model: PathBuf,
    pub(crate) inputs: PathBuf,
    pub(crate) outputs: PathBuf,
    pub(crate) threads: usize,
}

impl Job {
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        vec![
            self.runtime.clone().into(),
            self.model.clone().into(),
            self.inputs.clone().into(),
            self.outputs.clone().into(),
            self.threads.to_string().into(),
        ]
    }

    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Error> {
        let wrong = || {
            Error::new(
                ErrorKind::Argument,
                "these are not the arguments of a worker",
            )
        };
        let [runtime, model, inputs, outputs, threads] = arguments else {
            return Err(wrong());
        };
        Ok(Self {
            runtime: runtime.clone(),
            model: model.into(),
            inputs: inputs.into(),
            outputs: outputs.into(),
            threads: threads.parse().map_err(|_| wrong())?,
        })
    }
}

/// A process that runs one model in one runtime.
///
/// It is asked by a line on its standard input and answers by a line of JSON:
///
/// ```text
/// load     {"version", "load_ms"}, or {"missing"} where there is no such runtime
/// outputs  {"runs"}: how many; what they gave is in the file of outputs
/// time N   {"ms"}: the time of one run on input N
/// memory   {"memory_bytes", "peak_bytes"}: growth since before loading, or null
/// ```
///
/// or `{"error"}`. Dropped, it ends.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What the process said on its standard error.
    complaints: PathBuf,
    job: Job,
}

/// The answer to `load`.
#[derive(Debug, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) version: String,
    pub(crate) load_ms: f64,
}

/// The answer to `memory`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Memory {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) peak_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Runs {
    runs: usize,
}

#[derive(Deserialize)]
struct Time {
    ms: f64,
}

#[derive(Deserialize)]
struct Trouble {
    missing: Option<String>,
    error: Option<String>,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The runtime is not there.
    Missing(String),
    /// The runtime, or its process, failed.
    Failed(String),
}

impl Worker {
    /// Starts `command` with the arguments of a job.
    pub(crate) fn start(mut command: Command, job: Job) -> Result<Self, Error> {
        let complaints = job.outputs.with_extension("stderr");
        let file =
            File::create(&complaints).map_err(|error| Error::io("write", &complaints, error))?;
        let program = command.get_program().to_owned();
        let mut child = command
            .args(job.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(|error| Error::io("start", Path::new(&program), error))?;
        let questions = child.stdin.take();
        let answers = child.stdout.take().expect("standard output is a pipe");
        Ok(Self {
            child,
            questions,
            answers: BufReader::new(answers),
            complaints,
            job,
        })
    }

    pub(crate) fn load(&mut self) -> Result<Loaded, Refusal> {
        self.ask("load")
    }

    /// The outputs of every run.
    pub(crate) fn outputs(&mut self) -> Result<Vec<OutputSet>, Refusal> {
        let Runs { runs } = self.ask("outputs")?;
        let outputs =
            read_outputs(&self.job.outputs).map_err(|error| Refusal::Failed(error.to_string()))?;
        match outputs.len() == runs {
            true => Ok(outputs),
            false => Err(Refusal::Failed(format!(
                "it wrote {} of {runs} outputs",
                outputs.len()
            ))),
        }
    }

    /// Milliseconds of one run on one input.
    pub(crate) fn time(&mut self, input: usize) -> Result<f64, Refusal> {
        self.ask(&format!("time {input}")).map(|Time { ms }| ms)
    }

    pub(crate) fn memory(&mut self) -> Result<Memory, Refusal> {
        self.ask("memory")
    }

    fn ask<T: DeserializeOwned>(&mut self, question: &str) -> Result<T, Refusal> {
        let mut line = String::new();
        let asked = self
            .questions
            .as_mut()
            .map(|pipe| writeln!(pipe, "{question}").and_then(|()| pipe.flush()));
        if !matches!(asked, Some(Ok(()))) || !matches!(self.answers.read_line(&mut line), Ok(1..)) {
            return Err(Refusal::Failed(self.last_words()));
        }
        if let Ok(trouble) = serde_json::from_str::<Trouble>(&line) {
            if let Some(missing) = trouble.missing {
                return Err(Refusal::Missing(missing));
            }
            if let Some(error) = trouble.error {
                return Err(Refusal::Failed(error));
            }
        }
        serde_json::from_str(&line)
            .map_err(|error| Refusal::Failed(format!("it answered '{}': {error}", line.trim())))
    }

    /// Why the process has ended.
    fn last_words(&mut self) -> String {
        let status = self
            .child
            .wait()
            .map_or_else(|error| error.to_string(), |s| s.to_string());
        let complaints = fs::read(&self.complaints).unwrap_or_default();
        let complaints = String::from_utf8_lossy(&complaints);
        match complaints.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => format!("its process ended ({status}): {}", line.trim()),
            None => format!("its process ended ({status})"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without questions it ends by itself; a process that hangs does not.
        drop(self.questions.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_they_are_written() {
        let job = Job {
            runtime: "openvino".to_owned(),
            model: "a b.onnx".into(),
            inputs: "in".into(),
            outputs: "out".into(),
            threads: 2,
        };
        let arguments: Vec<String> = job
            .arguments()
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect();
        let read = Job::parse(&arguments).unwrap();
        assert_eq!(read.threads, 2);
        assert_eq!(read.model, Path::new("a b.onnx"));
        assert!(Job::parse(&arguments[1..]).is_err());
    }

    #[cfg(unix)]
    fn worker(script: &str) -> (tempfile::TempDir, Worker) {
        let folder = tempfile::tempdir().unwrap();
        let job = Job {
            runtime: "none".to_owned(),
            model: "net.onnx".into(),
            inputs: folder.path().join("in"),
            outputs: folder.path().join("out"),
            threads: 1,
        };
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]);
        let worker = Worker::start(command, job).unwrap();
        (folder, worker)
    }

    #[cfg(unix)]
    #[test]
    fn a_process_that_dies_is_quoted() {
        let (_folder, mut worker) = worker("read line; echo out of luck >&2; exit 7");
        let Err(Refusal::Failed(reason)) = worker.load() else {
            panic!("it cannot answer");
        };
        assert!(
            reason.contains('7') && reason.contains("out of luck"),
            "{reason}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn troubles_and_nonsense_are_told_apart() {
        let (_folder, mut answering) = worker(
            r#"read l; echo '{"missing":"no module"}'; read l; echo '{"error":"bad shape"}'; read l; echo 'hello'; cat"#,
        );
        assert!(matches!(answering.load(), Err(Refusal::Missing(reason)) if reason == "no module"));
        assert!(matches!(answering.time(0), Err(Refusal::Failed(reason)) if reason == "bad shape"));
        assert!(
            matches!(answering.memory(), Err(Refusal::Failed(reason)) if reason.contains("hello"))
        );
    }
}
