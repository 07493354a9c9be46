//! `campana demo`: the whole story on a built-in network.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use campana_onnx::Model;
use campana_quantize::inspect::inspect;
use campana_quantize::{Options, Silent};
use serde::Serialize;

use crate::args::{Demo, Global};
use crate::commands::quantize::quantize_file;
use crate::output_file::{Overwrite, write_file};
use crate::printer::{self, decibels, percent, thousands};

/// ResNet-8 for CIFAR-10, trained for this project by tools/fixture.
const NETWORK: &[u8] = include_bytes!("../../../../fixtures/cifar10_resnet8.onnx");

/// Its preprocessing and labels.
const SIDECAR: &[u8] = include_bytes!("../../../../fixtures/cifar10_resnet8.json");

/// Widths that the demo shows.
const BITS: [u8; 3] = [4, 3, 2];

/// Bits of the quantizer that the page draws.
const DRAWN_BITS: u8 = 4;

struct DemoRow {
    name: String,
    bytes: u64,
    bits_per_weight: f64,
    sqnr_db: Option<f64>,
}

struct DemoReport {
    rows: Vec<DemoRow>,
}

#[derive(Serialize)]
struct DemoSummary {
    folder: String,
    models: Vec<ModelSummary>,
}

#[derive(Serialize)]
struct ModelSummary {
    model: String,
    bytes: u64,
    bits_per_weight: f64,
    sqnr_db: Option<f64>,
}

pub(crate) fn run(args: &Demo, global: &Global) -> Result<()> {
    let folder = &args.output;
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder '{}'", folder.display()))?;
    let float = folder.join("resnet8.onnx");
    write_file(&float, Overwrite::Allowed, NETWORK)?;
    write_file(&folder.join("resnet8.json"), Overwrite::Allowed, SIDECAR)?;

    let model = Model::open(&float)?;
    let inspection = inspect(&model, "ResNet-8 for CIFAR-10", &Silent)?;
    let mut rows = vec![DemoRow {
        name: "float".to_owned(),
        bytes: NETWORK.len() as u64,
        bits_per_weight: 32.0,
        sqnr_db: None,
    }];
    for bits in BITS {
        let output = folder.join(format!("resnet8-{bits}bit.onnx"));
        let options = Options {
            bits,
            ..Options::default()
        };
        let report = quantize_file(&float, &output, &options, Overwrite::Allowed)?;
        rows.push(DemoRow {
            name: format!("{bits} bit"),
            bytes: report.output_bytes,
            bits_per_weight: report.bits_per_weight,
            sqnr_db: Some(report.sqnr_db),
        });
        if bits == DRAWN_BITS && !global.json {
            printer::print_inspection(&inspection);
        }
    }
    let report = DemoReport { rows };
    if global.json {
        return printer::print_json(&summary(folder, &report));
    }
    print(folder, &report);
    Ok(())
}

fn summary(folder: &Path, report: &DemoReport) -> DemoSummary {
    let model = |row: &DemoRow| ModelSummary {
        model: row.name.clone(),
        bytes: row.bytes,
        bits_per_weight: row.bits_per_weight,
        sqnr_db: row.sqnr_db,
    };
    DemoSummary {
        folder: folder.display().to_string(),
        models: report.rows.iter().map(model).collect(),
    }
}

fn print(folder: &Path, report: &DemoReport) {
    let float_bytes = report.rows[0].bytes as f64;
    let mut table = printer::new_table(
        &["model"],
        &["file bytes", "of float", "bits/weight", "SQNR dB"],
    );
    for row in &report.rows {
        table.add_row([
            row.name.clone(),
            thousands(row.bytes),
            percent(row.bytes as f64 / float_bytes),
            format!("{:.2}", row.bits_per_weight),
            row.sqnr_db.map(decibels).unwrap_or_default(),
        ]);
    }
    anstream::println!("\n{table}");
    anstream::println!(
        "SQNR: how far the weights stand out from the error of rounding them; 20 dB is one part in a hundred.\n\n\
         Written to {0}: the models (any ONNX runtime loads them).\n\
         Now yours: campana quantize MODEL.onnx -o SMALLER.onnx",
        folder.display(),
    );
}
