//! `campana completions`: a completion script on stdout.

use anyhow::Result;
use clap::CommandFactory;

use crate::args::{Args, Completions};
use crate::printer;

pub(crate) fn run(args: &Completions) -> Result<()> {
    let mut command = Args::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    printer::print_bytes(&script)
}
