//! campana's own engine as a worker: the same questions, the same answers.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use campana_eval::{Output, OutputSet};
use campana_ir::format;
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::Tensor;
use serde_json::{Value, json};

use crate::exchange::{read_inputs, write_outputs};
use crate::worker::Job;
use crate::{Error, ErrorKind, InputSet};

/// Answers questions about one model, line by line, until there are no more.
///
/// `arguments` are those that [`Worker`](crate::Worker) starts a process with.
///
/// # Errors
///
/// Where the arguments are not such, or a stream breaks. What goes wrong with
/// the model is an answer.
pub fn serve(
    arguments: &[String],
    questions: impl BufRead,
    mut answers: impl Write,
) -> Result<(), Error> {
    let job = Job::parse(arguments)?;
    let broken =
        |error| Error::new(ErrorKind::Io, "cannot read or answer a question").with_source(error);
    let mut state = None;
    for line in questions.lines() {
        let line = line.map_err(broken)?;
        let answer = answer(&job, &mut state, &line)
            .unwrap_or_else(|error| json!({ "error": causes(error.as_ref()) }));
        writeln!(answers, "{answer}").map_err(broken)?;
        answers.flush().map_err(broken)?;
    }
    Ok(())
}

/// A loaded model.
struct State {
    session: Session,
    inputs: Vec<InputSet>,
    /// Resident memory before the model was loaded.
    before: Option<[u64; 2]>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn answer(job: &Job, state: &mut Option<State>, question: &str) -> Result<Value, Failure> {
    let mut words = question.split_whitespace();
    let question = words.next().unwrap_or_default();
    if question == "load" {
        let inputs = read_inputs(&job.inputs)?;
        let before = memory();
        let start = Instant::now();
        let graph = format::load(&job.model)?;
        let mut options = PlanOptions::default();
        options.threads = job.threads;
        let session = Session::new(Plan::new(graph, options)?, job.threads);
        let load_ms = 1e3 * start.elapsed().as_secs_f64();
        *state = Some(State {
            session,
            inputs,
            before,
        });
        return Ok(json!({ "version": env!("CARGO_PKG_VERSION"), "load_ms": load_ms }));
    }
    let state = state.as_ref().ok_or("nothing is loaded")?;
    match question {
        "outputs" => {
            let runs = (0..state.inputs.len()).map(|index| state.outputs(index));
            let outputs = runs.collect::<Result<Vec<OutputSet>, Failure>>()?;
            write_outputs(&job.outputs, &outputs)?;
            Ok(json!({ "runs": outputs.len() }))
        }
        "time" => {
            let index = words.next().unwrap_or_default().parse()?;
            let start = Instant::now();
            state.run(index)?;
            Ok(json!({ "ms": 1e3 * start.elapsed().as_secs_f64() }))
        }
        "memory" => Ok(match (state.before, memory()) {
            (Some([before, _]), Some([now, peak])) => json!({
                "memory_bytes": now.saturating_sub(before),
                "peak_bytes": peak.saturating_sub(before),
            }),
            _ => json!({ "memory_bytes": null, "peak_bytes": null }),
        }),
        other => Err(format!("no such question: '{other}'").into()),
    }
}

impl State {
    fn run(&self, index: usize) -> Result<Vec<Tensor>, Failure> {
        let set = self.inputs.get(index).ok_or("no such input")?;
        let inputs: Vec<(&str, Input<'_>)> = set
            .iter()
            .map(|(name, tensor)| (name.as_str(), Input::from(tensor)))
            .collect();
        Ok(self.session.run(&inputs)?)
    }

    fn outputs(&self, index: usize) -> Result<OutputSet, Failure> {
        let tensors = self.run(index)?;
        let names = self.session.plan().outputs();
        let outputs = tensors.into_iter().zip(names).map(|(tensor, value)| {
            let name = &value.name;
            Output::new(name, tensor)
                .ok_or_else(|| format!("output '{name}' has no numbers").into())
        });
        outputs.collect()
    }
}

/// Resident memory of this process now and its peak, as Linux tells it.
fn memory() -> Option<[u64; 2]> {
    let status = std::fs::read_to_string(PathBuf::from("/proc/self/status")).ok()?;
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some([value("VmRSS:")?, value("VmHWM:")?])
}

/// An error and what caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::write_inputs;

    #[test]
    fn what_goes_wrong_is_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        write_inputs(&folder.path().join("in"), &[Vec::new()]).unwrap();
        std::fs::write(folder.path().join("net.onnx"), "not a model").unwrap();
        let arguments = [
            "campana".to_owned(),
            path("net.onnx"),
            path("in"),
            path("out"),
            "1".to_owned(),
        ];
        let mut answers = Vec::new();
        serve(&arguments, "time 0\nload\nsing\n".as_bytes(), &mut answers).unwrap();
        let answers = String::from_utf8(answers).unwrap();
        let answers: Vec<Value> = answers
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(answers.len(), 3);
        assert_eq!(answers[0]["error"], "nothing is loaded");
        assert!(answers[1]["error"].is_string(), "{}", answers[1]);
    }
}
