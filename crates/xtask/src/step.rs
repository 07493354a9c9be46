//! One program that a task runs, and what came of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::transcript::Transcript;

/// The status with which scripts say that the machine lacks what they need.
const LACKING: i32 = 3;

/// One program that a task runs.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What it checks, for the table.
    pub(crate) name: &'static str,
    program: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    /// Whether its output is that of Rust's test harness.
    is_harness: bool,
    /// Whether tests that need it skip by themselves where it fails.
    is_set_up: bool,
}

/// What came of a step.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ran and found nothing.
    Passed(Transcript),
    /// It found something, or did not run.
    Failed(Transcript, String),
    /// The machine lacks what it needs.
    Skipped(String),
}

impl Outcome {
    pub(crate) fn passed(&self) -> bool {
        !matches!(self, Self::Failed(..))
    }
}

impl Step {
    pub(crate) fn new<const N: usize>(
        name: &'static str,
        program: &'static str,
        arguments: [&str; N],
    ) -> Self {
        Self {
            name,
            program,
            arguments: arguments.map(str::to_owned).into(),
            environment: Vec::new(),
            is_harness: false,
            is_set_up: false,
        }
    }

    /// A step whose output is that of Rust's test harness.
    pub(crate) fn tests<const N: usize>(
        name: &'static str,
        program: &'static str,
        arguments: [&str; N],
    ) -> Self {
        Self {
            is_harness: true,
            ..Self::new(name, program, arguments)
        }
    }

    /// A script of the repository, which exits with 3 where the machine lacks
    /// what it needs.
    pub(crate) fn script(name: &'static str, script: &'static str) -> Self {
        Self::new(name, script, [])
    }

    /// A script that makes what tests need, which skip without it.
    pub(crate) fn set_up(name: &'static str, script: &'static str) -> Self {
        Self {
            is_set_up: true,
            ..Self::script(name, script)
        }
    }

    pub(crate) fn with(mut self, arguments: &[String]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    pub(crate) fn environment(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// Runs it in the repository's root, its output passed on as it comes.
    pub(crate) fn run(&self, root: &Path) -> Outcome {
        println!(
            "\n== {}: {} {}",
            self.name,
            self.program,
            self.arguments.join(" ")
        );
        let mut command = match self.program.contains('/') {
            true => Command::new(root.join(self.program)),
            false => Command::new(self.program),
        };
        let started = command
            .args(&self.arguments)
            .envs(self.environment.iter().copied())
            .current_dir(root)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                let reason = format!("{} does not start: {error}", self.program);
                return Outcome::Failed(Transcript::default(), reason);
            }
        };
        let transcript = pass_on(child.stdout.take(), child.stderr.take(), self.is_harness);
        match child.wait().map(|status| status.code()) {
            Ok(Some(0)) => Outcome::Passed(transcript),
            Ok(Some(LACKING)) => Outcome::Skipped("this machine lacks what it needs".to_owned()),
            Ok(_) if self.is_set_up => {
                Outcome::Skipped("could not be set up; what needs them is skipped".to_owned())
            }
            Ok(Some(status)) => Outcome::Failed(transcript, format!("status {status}")),
            Ok(None) => Outcome::Failed(transcript, "ended by a signal".to_owned()),
            Err(error) => Outcome::Failed(transcript, error.to_string()),
        }
    }
}

/// Prints what a program says, both streams as their lines come, and notes what
/// the table needs.
fn pass_on(
    stdout: Option<impl Read + Send + 'static>,
    stderr: Option<impl Read + Send + 'static>,
    is_harness: bool,
) -> Transcript {
    let (sender, lines) = mpsc::channel();
    let other = sender.clone();
    let first = thread::spawn(move || send_lines(stdout, &sender));
    let second = thread::spawn(move || send_lines(stderr, &other));
    let mut transcript = Transcript::default();
    let mut out = std::io::stdout();
    for line in lines {
        // Whether somebody listens does not change what came of the tests.
        let _ = writeln!(out, "{line}");
        transcript.note(&line, is_harness);
    }
    let _ = first.join();
    let _ = second.join();
    transcript
}

fn send_lines(stream: Option<impl Read>, lines: &mpsc::Sender<String>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if lines.send(text).is_err() {
            return;
        }
        line.clear();
    }
}
