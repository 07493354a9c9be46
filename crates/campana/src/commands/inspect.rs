//! `campana inspect`: how the weights are distributed.

use anyhow::{Context, Result};
use campana_eval::report::inspect_page;
use campana_onnx::Model;
use campana_quantize::inspect::inspect;

use crate::args::{Global, Inspect};
use crate::output_file::{Overwrite, check_differs, write_file};
use crate::printer;
use crate::progress::Bar;

pub(crate) fn run(args: &Inspect, global: &Global) -> Result<()> {
    let path = args.model.display();
    if let Some(html) = &args.html {
        check_differs(&args.model, html)?;
    }
    let model = Model::open(&args.model).with_context(|| format!("cannot read '{path}'"))?;
    let inspection = inspect(&model, &path.to_string(), &Bar::new())
        .with_context(|| format!("cannot inspect '{path}'"))?;
    if let Some(html) = &args.html {
        let page = inspect_page(&inspection, args.bits);
        write_file(html, Overwrite::from_force(args.force), page.as_bytes())?;
    }
    if global.json {
        printer::print_json(&inspection)
    } else {
        printer::print_inspection(&inspection);
        Ok(())
    }
}
