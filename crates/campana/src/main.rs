//! The `campana` command: trained convolutional networks made small and fast.
//!
//! Exit status: 0 success, 1 a requested bound was not met, 2 an error.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod interrupt;
mod printer;
mod progress;

use std::process::ExitCode;

use campana_tensor::Limits;
use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(status) => status,
        Err(error) => {
            printer::print_error(&error);
            ExitCode::from(2)
        }
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    interrupt::install()?;
    if let Some(bytes) = args.global.max_memory {
        Limits::with_max_memory(usize::try_from(bytes).unwrap_or(usize::MAX)).set_global();
    }
    let threads = args.global.threads.map_or(0, std::num::NonZero::get);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    match args.command {
        Command::Quantize(quantize) => {
            return commands::quantize::run(&quantize, &args.global);
        }
        Command::Demo(demo) => commands::demo::run(&demo, &args.global),
        Command::Inspect(inspect) => commands::inspect::run(&inspect, &args.global),
        Command::Evaluate(evaluate) => commands::evaluate::run(&evaluate, &args.global),
        Command::Compare(compare) => commands::compare::run(&compare, &args.global),
        Command::Run(run) => commands::run::run(&run, &args.global),
        Command::Bench(bench) => commands::bench::run(&bench, &args.global),
        Command::Verify(verify) => commands::verify::run(&verify, &args.global),
        Command::VerifyWorker(worker) => commands::verify::work(&worker),
        Command::Man(man) => commands::man::run(&man),
        Command::Pack(pack) => commands::pack::pack(&pack, &args.global),
        Command::Unpack(unpack) => commands::pack::unpack(&unpack, &args.global),
        Command::Completions(completions) => commands::completions::run(&completions),
    }?;
    Ok(ExitCode::SUCCESS)
}
