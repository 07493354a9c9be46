//! Runs a target of the mutation harness for as long as is wanted.
//!
//! Exit status: 0 nothing was found, 1 something was, 3 an execution hung.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that lists its targets")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use campana_fuzz::{Random, Target, Watchdog, execute, mutate, targets};
use clap::Parser;

/// Gives mutated files to a reader or a round trip, within this process.
#[derive(Parser)]
struct Args {
    /// The target, `all`, or `list`.
    target: String,
    /// Seconds for each target.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Executions of each target at most.
    #[arg(long, default_value_t = u64::MAX)]
    executions: u64,
    /// The seed of the mutations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where inputs with findings are written.
    #[arg(long, default_value = "fuzz-findings")]
    findings: PathBuf,
    /// Executes one file instead.
    #[arg(long)]
    input: Option<PathBuf>,
}

/// How long an execution may go on before the process is ended.
const HUNG: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let all = targets();
    if args.target == "list" {
        all.iter().for_each(|target| println!("{}", target.name));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen: Vec<Target> = all
        .into_iter()
        .filter(|target| args.target == "all" || args.target == target.name)
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "there is no target '{}'", args.target);
    // Findings say what a panic said.
    std::panic::set_hook(Box::new(|_| {}));
    let folder = args.findings.clone();
    let watchdog = Watchdog::start(HUNG, move |target, input| {
        eprintln!("{target}: hung; {}", keep(&folder, target, input));
    });
    let mut found = 0;
    for target in &chosen {
        found += match &args.input {
            Some(path) => {
                let input = std::fs::read(path)
                    .with_context(|| format!("cannot read '{}'", path.display()))?;
                one(target, &input, &watchdog)
            }
            None => run(target, &args, &watchdog),
        };
    }
    Ok(ExitCode::from(u8::from(found > 0)))
}

/// Executes one input and says what came of it; returns the findings.
fn one(target: &Target, input: &[u8], watchdog: &Watchdog) -> usize {
    match execute(target, input, watchdog) {
        Ok(execution) => {
            eprintln!(
                "{}: {} bytes of memory, {:?}",
                target.name, execution.peak_bytes, execution.elapsed
            );
            0
        }
        Err(finding) => {
            eprintln!("{}: {finding}", target.name);
            1
        }
    }
}

/// Mutates and executes until the time is over; returns the findings.
fn run(target: &Target, args: &Args, watchdog: &Watchdog) -> usize {
    let seeds = (target.seeds)();
    let mut random = Random::new(args.seed);
    let (start, mut executions, mut found) = (Instant::now(), 0, 0);
    let (mut slowest, mut largest) = (Duration::ZERO, 0);
    while start.elapsed().as_secs() < args.seconds && executions < args.executions {
        let mut input = random.pick(&seeds).clone();
        mutate(&mut random, &mut input, &seeds);
        executions += 1;
        match execute(target, &input, watchdog) {
            Ok(execution) => {
                slowest = slowest.max(execution.elapsed);
                largest = largest.max(execution.peak_bytes);
            }
            Err(finding) => {
                found += 1;
                let kept = keep(&args.findings, target.name, &input);
                eprintln!("{}: {finding}; {kept}", target.name);
            }
        }
    }
    eprintln!(
        "{}: {executions} executions in {:.0} s, {found} findings, slowest {slowest:.1?}, at most {largest} bytes",
        target.name,
        start.elapsed().as_secs_f64()
    );
    found
}

/// Writes an input to the folder of findings; says where.
fn keep(folder: &Path, target: &str, input: &[u8]) -> String {
    let name = format!("{target}-{:08x}", crc32fast::hash(input));
    let path = folder.join(name);
    match std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, input)) {
        Ok(()) => format!("its input is '{}'", path.display()),
        Err(error) => format!("its input cannot be kept: {error}"),
    }
}
