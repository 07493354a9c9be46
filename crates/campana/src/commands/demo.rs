//! `campana demo`: the whole story on a built-in network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use campana_eval::{BatchOptions, Candidate, Dataset, DatasetOptions, Network, Sidecar, evaluate};
use campana_onnx::Model;
use campana_pipeline::{Overwrite, QuantizeJob, quantize_file, write_file};
use campana_quantize::inspect::inspect;
use campana_quantize::{Options, Silent};
use campana_report::{DemoReport, DemoRow, demo_page, thousands};
use serde::Serialize;

use crate::args::{Demo, Global};
use crate::interrupt;
use crate::printer::{self, decibels, percent, say};
use crate::progress::Bar;

/// ResNet-8 for CIFAR-10, trained for this project by tools/fixture.
const NETWORK: &[u8] = include_bytes!("../../../../fixtures/cifar10_resnet8.onnx");

/// Its preprocessing and labels.
const SIDECAR: &str = include_str!("../../../../fixtures/cifar10_resnet8.json");

/// Test images, 50 of each class.
const IMAGES: &[u8] = include_bytes!("../../../../fixtures/cifar10_test_500.bin");

/// Widths that the demo shows.
const BITS: [u8; 3] = [4, 3, 2];

/// Bits of the quantizer that the page draws.
const DRAWN_BITS: u8 = 4;

/// Single images whose median time is the latency.
const TIMED_RUNS: usize = 31;

#[derive(Serialize)]
struct DemoSummary {
    folder: String,
    images: usize,
    models: Vec<ModelSummary>,
}

#[derive(Serialize)]
struct ModelSummary {
    model: String,
    bytes: u64,
    bits_per_weight: f64,
    sqnr_db: f64,
    top1: Option<f64>,
    agreement: Option<f64>,
    median_ms: Option<f64>,
}

pub(crate) fn run(args: &Demo, global: &Global) -> Result<()> {
    let folder = &args.output;
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder '{}'", folder.display()))?;
    let float = folder.join("resnet8.onnx");
    write_file(&float, Overwrite::Allowed, NETWORK, &Bar::new())?;
    let model = Model::open(&float)?;
    let inspection = inspect(&model, "ResNet-8 for CIFAR-10", &Silent)?;

    let mut rows = vec![DemoRow {
        name: "float".to_owned(),
        bytes: NETWORK.len() as u64,
        bits_per_weight: 32.0,
        sqnr_db: f64::INFINITY,
        top1: None,
        agreement: None,
        median_ms: None,
    }];
    let mut files = vec![float.clone()];
    for bits in BITS {
        let output = folder.join(format!("resnet8-{bits}bit.onnx"));
        let options = Options {
            bits,
            means_are_corrected: true,
            ..Options::default()
        };
        let job = QuantizeJob {
            threads: global.thread_count(),
            page: None,
            overwrite: Overwrite::Allowed,
            ..QuantizeJob::new(&float, &output, &options)
        };
        let report = quantize_file(&job, &Bar::new())?;
        rows.push(DemoRow {
            name: format!("{bits}-bit"),
            bytes: report.output_bytes,
            bits_per_weight: report.bits_per_weight,
            sqnr_db: report.sqnr_db,
            ..rows[0].clone()
        });
        files.push(output);
    }
    for file in &files {
        write_file(
            &Sidecar::path_of(file),
            Overwrite::Allowed,
            SIDECAR.as_bytes(),
            &Bar::new(),
        )?;
    }
    let images = measure(&files, &mut rows, global.thread_count())?;

    let report = DemoReport {
        title: "One network, four sizes".to_owned(),
        rows,
        inspection,
        bits: DRAWN_BITS,
    };
    let page = folder.join("report.html");
    write_file(
        &page,
        Overwrite::Allowed,
        demo_page(&report).as_bytes(),
        &Bar::new(),
    )?;
    if global.json {
        return printer::print_json(&summary(folder, images, &report));
    }
    printer::print_inspection(&report.inspection);
    print(folder, images, &report);
    Ok(())
}

/// Accuracy, agreement with the float model and latency of each file; returns
/// the number of images.
fn measure(files: &[PathBuf], rows: &mut [DemoRow], threads: usize) -> Result<usize> {
    let settings = Sidecar::parse(SIDECAR, "the built-in sidecar")?.preprocessing;
    let dataset =
        Dataset::from_cifar_bytes(IMAGES, "the built-in images", &DatasetOptions::default())?;
    let networks: Vec<Network> = files
        .iter()
        .map(|file| Network::open(file, threads))
        .collect::<Result<_, _>>()?;
    let candidates: Vec<Candidate<'_>> = networks
        .iter()
        .map(|network| Candidate {
            network,
            settings: &settings,
        })
        .collect();
    let options = BatchOptions {
        batch: 50,
        threads,
        ..BatchOptions::default()
    };
    let go_on = &mut |_: &[_]| !interrupt::is_requested();
    let comparison = evaluate(&candidates, Some(&networks[0]), &dataset, &options, go_on)?;
    let image = dataset.decode(0, &settings)?;
    let mut times = vec![Vec::new(); networks.len()];
    for _ in 0..TIMED_RUNS {
        // In turn, so that a machine that gets slower does so for all.
        for (network, times) in networks.iter().zip(&mut times) {
            let start = Instant::now();
            network.scores(&image, 1, &settings)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    for ((row, evaluation), mut times) in rows.iter_mut().zip(&comparison.evaluations).zip(times) {
        times.sort_by(f64::total_cmp);
        row.top1 = evaluation.tally.top1().fraction();
        row.agreement = evaluation.tally.agreement().fraction();
        row.median_ms = Some(times[times.len() / 2]);
    }
    Ok(dataset.len())
}

fn summary(folder: &Path, images: usize, report: &DemoReport) -> DemoSummary {
    let model = |row: &DemoRow| ModelSummary {
        model: row.name.clone(),
        bytes: row.bytes,
        bits_per_weight: row.bits_per_weight,
        sqnr_db: row.sqnr_db,
        top1: row.top1,
        agreement: row.agreement,
        median_ms: row.median_ms,
    };
    DemoSummary {
        folder: folder.display().to_string(),
        images,
        models: report.rows.iter().map(model).collect(),
    }
}

fn print(folder: &Path, images: usize, report: &DemoReport) {
    let float_bytes = report.rows[0].bytes as f64;
    let mut table = printer::new_table(
        &["model"],
        &[
            "file bytes",
            "of float",
            "bits/weight",
            "SQNR dB",
            "top-1",
            "same answer",
            "ms/image",
        ],
    )
    .dispensable(&["SQNR dB", "bits/weight"]);
    for row in &report.rows {
        printer::add_row(
            &mut table,
            [
                row.name.clone(),
                thousands(row.bytes),
                percent(row.bytes as f64 / float_bytes),
                format!("{:.2}", row.bits_per_weight),
                decibels(row.sqnr_db),
                row.top1.map(percent).unwrap_or_default(),
                row.agreement.map(percent).unwrap_or_default(),
                row.median_ms
                    .map(|ms| format!("{ms:.2}"))
                    .unwrap_or_default(),
            ],
        );
    }
    say!("\n{table}");
    say!(
        "Top-1: how often the likeliest class is the right one, on {images} test images (standard error 1.5 points); \
         same answer: how often it is the float model's. SQNR: how far the weights stand out from the error of \
         rounding them; at 20 dB the error is a tenth of a typical weight.\n\n\
         Written to {0}: the models (any ONNX runtime loads them) and the page {0}/report.html.\n\
         Now yours: campana quantize MODEL.onnx -o SMALLER.onnx",
        folder.display(),
    );
}
