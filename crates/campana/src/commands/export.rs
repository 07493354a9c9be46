//! `campana export`: code for microcontrollers.

use anyhow::Result;
use campana_pipeline::{CommandFiles, FirmwareJob, FirmwareReport, Overwrite, export_firmware};
use campana_report::thousands;

use crate::args::{Export, Global};
use crate::printer::{self, say};
use crate::progress::Bar;

/// The exit status where the device has too little.
const MISSED: u8 = 1;

pub(crate) fn run(args: &Export, global: &Global) -> Result<u8> {
    CommandFiles::new()
        .model("the input", &args.model)
        .check()?;
    let job = FirmwareJob {
        model: &args.model,
        output: args.output.as_deref(),
        overwrite: Overwrite::from_force(args.force),
        name: args.name.as_deref(),
        shapes: &args.shape,
        flash_bytes: args.flash,
        ram_bytes: args.ram,
    };
    let bar = Bar::new();
    let report = export_firmware(&job, &bar)?;
    drop(bar);
    if global.json {
        printer::print_json(&report)?;
    } else {
        print(&report, args);
    }
    Ok(if report.fits { 0 } else { MISSED })
}

fn print(report: &FirmwareReport, args: &Export) {
    if args.plan || !report.fits {
        print_layers(report);
    }
    say!(
        "{}: flash {} bytes ({} of them code, about), RAM {} bytes, {} multiply-accumulates",
        report.input,
        thousands(report.flash_bytes as u64),
        thousands(report.code_bytes as u64),
        thousands(report.ram_bytes as u64),
        thousands(report.multiply_accumulates),
    );
    if let Some(left_out) = &report.left_out {
        say!("{left_out}");
    }
    for shortfall in &report.shortfalls {
        say!(
            "Does not fit: {} bytes too much {}, most of it at '{}'. {}",
            thousands(shortfall.excess_bytes),
            shortfall.memory,
            shortfall.layer,
            shortfall.advice,
        );
    }
    if report.fits && (args.flash.is_some() || args.ram.is_some()) {
        say!("Fits.");
    }
    if let Some(output) = &report.output {
        let name = &report.name;
        say!(
            "{output}: {} files; {name}.h has {name}_run",
            report.files.len()
        );
    }
}

fn print_layers(report: &FirmwareReport) {
    let numbers = [
        "bits",
        "weights",
        "strips",
        "flash",
        "RAM",
        "multiply-accumulates",
    ];
    let mut table = printer::new_table(&["layer", "operator"], &numbers)
        .dispensable(&["weights", "strips", "operator"]);
    for layer in &report.layers {
        let bits = layer
            .weight_bits
            .map_or_else(String::new, |bits| bits.to_string());
        table.add_row(vec![
            layer.node.clone(),
            layer.op_type.clone(),
            bits,
            thousands(layer.weights as u64),
            layer.strips.to_string(),
            thousands(layer.flash_bytes as u64),
            thousands(layer.ram_bytes as u64),
            thousands(layer.multiply_accumulates),
        ]);
    }
    say!("{table}");
}
