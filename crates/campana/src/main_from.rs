//! From arguments to an exit status.

use std::ffi::OsString;
use std::path::PathBuf;

use campana_tensor::Limits;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Args, Command};
use crate::{commands, examples, interrupt, printer, program};

/// The exit status of an error.
const FAILURE: u8 = 2;

/// Runs the command with these arguments, of which the first is its name, once
/// in a process: it takes over Ctrl-C, the threads and the limits of readers.
///
/// `program` is what starts the command as another process, for those that
/// measure models one by one: a program and its first arguments. Where it is
/// empty, that is the program that runs.
///
/// Returns the exit status: 0 success, 1 a requested bound was not met, 2 an
/// error, which is printed.
pub fn main_from(args: impl IntoIterator<Item = OsString>, program: Vec<PathBuf>) -> u8 {
    program::set(program);
    let command = examples::added_to(Args::command());
    let matches = command.try_get_matches_from(args);
    let outcome = match matches.and_then(|matches| Args::from_arg_matches(&matches)) {
        Ok(args) => run(args),
        Err(text) => return print_usage(&text),
    };
    interrupt::begin_to_end();
    let outcome = outcome.and_then(|status| printer::finish().map(|()| status));
    match outcome {
        Ok(status) => status,
        Err(error) => {
            printer::print_error(&error);
            FAILURE
        }
    }
}

/// Help, the version, or what is wrong with the arguments.
fn print_usage(text: &clap::Error) -> u8 {
    match text.print() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            printer::print_error(&printer::unwritten(error));
            FAILURE
        }
        _ => u8::try_from(text.exit_code()).unwrap_or(FAILURE),
    }
}

fn run(args: Args) -> anyhow::Result<u8> {
    interrupt::install()?;
    printer::set(args.global.quiet, args.global.wide);
    if let Some(bytes) = args.global.max_memory {
        Limits::with_max_memory(usize::try_from(bytes).unwrap_or(usize::MAX)).set_global();
    }
    // Not what rayon's own variable says, which has no bounds.
    let threads = args
        .global
        .threads
        .or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.map_or(0, std::num::NonZero::get);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    match args.command {
        Command::Quantize(quantize) => {
            return commands::quantize::run(&quantize, &args.global);
        }
        Command::Export(export) => {
            return commands::export::run(&export, &args.global);
        }
        Command::Demo(demo) => commands::demo::run(&demo, &args.global),
        Command::Inspect(inspect) => commands::inspect::run(&inspect, &args.global),
        Command::Evaluate(evaluate) => commands::evaluate::run(&evaluate, &args.global),
        Command::Compare(compare) => commands::compare::run(&compare, &args.global),
        Command::Merge(merge) => commands::merge::run(&merge, &args.global),
        Command::Run(run) => commands::run::run(&run, &args.global),
        Command::Bench(bench) => commands::bench::run(&bench, &args.global),
        Command::Verify(verify) => commands::verify::run(&verify, &args.global),
        Command::VerifyWorker(worker) => commands::verify::work(&worker),
        Command::Man(man) => commands::man::run(&man),
        Command::Pack(pack) => commands::pack::pack(&pack, &args.global),
        Command::Unpack(unpack) => commands::pack::unpack(&unpack, &args.global),
        Command::Completions(completions) => commands::completions::run(&completions),
    }?;
    Ok(0)
}
