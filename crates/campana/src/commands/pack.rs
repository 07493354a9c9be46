//! `campana pack` and `campana unpack`: models into containers and back.

use anyhow::Result;
use campana_pipeline::{Overwrite, PackReport, pack_file, unpack_file};

use crate::args::{Global, Pack, Unpack};
use crate::printer;
use crate::progress::Bar;

pub(crate) fn pack(args: &Pack, global: &Global) -> Result<()> {
    let overwrite = Overwrite::from_force(args.force);
    printer::make_way(&[Some(&args.output)], global.json)?;
    let report = pack_file(&args.model, &args.output, overwrite, &Bar::new())?;
    print(&report, global)
}

pub(crate) fn unpack(args: &Unpack, global: &Global) -> Result<()> {
    let overwrite = Overwrite::from_force(args.force);
    printer::make_way(&[Some(&args.output)], global.json)?;
    let report = unpack_file(&args.container, &args.output, overwrite, &Bar::new())?;
    print(&report, global)
}

fn print(report: &PackReport, global: &Global) -> Result<()> {
    if global.json {
        return printer::print_json(report);
    }
    printer::print_packed(report);
    Ok(())
}
