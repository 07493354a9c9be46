//! `campana inspect`: how the weights are distributed.

use anyhow::Result;
use campana_pipeline::{Overwrite, check_differs, inspect_file, write_file};
use campana_report::inspect_page;

use crate::args::{Global, Inspect};
use crate::printer;
use crate::progress::Bar;

pub(crate) fn run(args: &Inspect, global: &Global) -> Result<()> {
    if let Some(html) = &args.html {
        check_differs(&args.model, html)?;
    }
    let bar = Bar::new();
    let inspection = inspect_file(&args.model, &bar)?;
    if let Some(html) = &args.html {
        let page = inspect_page(&inspection, args.bits);
        let overwrite = Overwrite::from_force(args.force);
        write_file(html, overwrite, page.as_bytes(), &bar)?;
    }
    drop(bar);
    if global.json {
        printer::print_json(&inspection)
    } else {
        printer::print_inspection(&inspection);
        Ok(())
    }
}
