//! `campana man`: manual pages into a folder.

use std::fs;

use anyhow::{Context, Result};
use campana_pipeline::{Overwrite, write_file};
use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::{Args, ManPages};
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
        let mut text = Vec::new();
        Man::new(page.clone()).title(name).render(&mut text)?;
        write_file(&path, Overwrite::Allowed, &text, &Bar::new())?;
    }
    Ok(())
}
