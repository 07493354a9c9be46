//! `campana inspect`: how the weights are distributed.

use std::io::Write as _;

use anyhow::Result;
use campana_pipeline::{CommandFiles, OutputFile, Overwrite, inspect_file};
use campana_report::inspect_page;

use crate::args::{Global, Inspect};
use crate::printer;
use crate::progress::Bar;

pub(crate) fn run(args: &Inspect, global: &Global) -> Result<()> {
    CommandFiles::new()
        .model("the input", &args.model)
        .output("the page", args.html.as_deref())
        .check()?;
    printer::make_way(&[args.html.as_deref()], global.json)?;
    let (bar, monitor) = (Bar::new(), Bar::new());
    // Refuse what cannot be written before working for it.
    let overwrite = Overwrite::from_force(args.force);
    let html = args.html.as_ref();
    let page = html.map(|html| OutputFile::create(html, overwrite, &monitor));
    let page = page.transpose()?;
    let inspection = inspect_file(&args.model, &bar)?;
    if let Some(mut page) = page {
        page.write_all(inspect_page(&inspection, args.bits).as_bytes())?;
        page.finish()?;
    }
    drop(bar);
    if global.json {
        printer::print_json(&inspection)
    } else {
        printer::print_inspection(&inspection);
        printer::say_written(&[("Page", args.html.as_deref())]);
        Ok(())
    }
}
