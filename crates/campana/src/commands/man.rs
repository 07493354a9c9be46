//! `campana man`: manual pages into a folder.

use std::fs;

use anyhow::{Context, Result};
use campana_pipeline::{Overwrite, write_file};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::{Args, ManPages};
use crate::examples;
use crate::progress::Bar;

pub(crate) fn run(args: &ManPages) -> Result<()> {
    let folder = &args.folder;
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder '{}'", folder.display()))?;
    let mut command = Args::command().disable_help_subcommand(true);
    // Gives subcommands the names under which they are called.
    command.build();
    let subcommands = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set());
    for page in [&command].into_iter().chain(subcommands) {
        let name = page.get_display_name().unwrap_or_else(|| page.get_name());
        let path = folder.join(format!("{name}.1"));
        let text = rendered(page, name)?;
        write_file(&path, Overwrite::Allowed, &text, &Bar::new())?;
    }
    Ok(())
}

/// A manual page, examples last.
fn rendered(page: &Command, title: &str) -> Result<Vec<u8>> {
    let man = Man::new(page.clone()).title(title);
    let mut text = Vec::new();
    man.render(&mut text)?;
    let examples = examples::of(page.get_name());
    if examples.is_empty() {
        return Ok(text);
    }
    let mut section = Roff::default();
    section.control("SH", ["EXAMPLES"]);
    for (does, line) in examples {
        section.control("TP", []);
        section.text([roman(*does)]);
        section.text([bold(*line)]);
    }
    section.to_writer(&mut text)?;
    Ok(text)
}
