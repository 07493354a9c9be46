//! `campana completions`: a completion script on stdout.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::args::{Args, Completions};

pub(crate) fn run(args: &Completions) -> Result<()> {
    let mut command = Args::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    match io::stdout().write_all(&script) {
        // A reader such as `head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write the script"),
    }
}
