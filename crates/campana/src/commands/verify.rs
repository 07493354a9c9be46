//! `campana verify`: one model in every runtime of this machine.

use std::io;

use anyhow::{Context, Result};
use campana_calibrate::Samples;
use campana_eval::Sidecar;
use campana_pipeline::{Monitor, sample_images};
use campana_report::thousands;
use campana_verify::{Inputs, Python, Row, Subject, Verdict, Verification, declared_shape, verify};
use indicatif::ProgressBar;

use crate::args::{Global, Verify, VerifyWorker};
use crate::interrupt;
use crate::printer::{self, percent, say};
use crate::progress::Bar;

/// Answers what `run` asks; started by it, once for each model.
pub(crate) fn work(args: &VerifyWorker) -> Result<()> {
    campana_verify::serve(&args.job, io::stdin().lock(), io::stdout().lock())?;
    Ok(())
}

pub(crate) fn run(args: &Verify, global: &Global) -> Result<()> {
    let inputs = inputs(args, global, &Bar::new())?;
    let program = std::env::current_exe().context("cannot find this program again")?;
    let folder = tempfile::Builder::new().prefix("campana-verify-").tempdir();
    let folder = folder.context("cannot make a temporary folder")?;
    interrupt::remove_at_end(folder.path());
    let subject = Subject {
        folder: folder.path().to_owned(),
        model: args.model.clone(),
        reference: args.reference.clone(),
        runtimes: args.runtimes.clone(),
        python: args.python.clone().map_or(Python::Default, Python::Given),
        campana: vec![program, "verify-worker".into()],
        threads: global.thread_count(),
        runs: args.runs.get(),
    };
    let bar = ProgressBar::new_spinner();
    let verification = verify(&subject, &inputs, &mut |now| {
        bar.set_message(now.to_owned());
        bar.tick();
        !interrupt::is_requested()
    });
    bar.finish_and_clear();
    let verification = verification?;
    if global.json {
        return printer::print_json(&verification);
    }
    print(&verification);
    Ok(())
}

/// Random inputs of the shape that the model declares, or else its sidecar,
/// and the user's images.
fn inputs(args: &Verify, global: &Global, monitor: &dyn Monitor) -> Result<Inputs> {
    let declared = declared_shape(&args.model)?;
    let (mut given, mut shape) = (Vec::new(), declared);
    if let Some(data) = &args.data {
        let threads = global.thread_count();
        let samples = sample_images(&args.model, data, args.samples.get(), threads, monitor)?;
        if let Samples::Images {
            shape: images,
            data,
        } = samples
        {
            shape = Some([&[1], &images[1..]].concat());
            given = data;
        }
    }
    let shape = match shape {
        Some(shape) => shape,
        None => {
            let sidecar = Sidecar::beside(&args.model)?.with_context(|| {
                format!(
                    "'{}' does not say how large its input is; say so in '{}' (README, \"Sidecar\")",
                    args.model.display(),
                    Sidecar::path_of(&args.model).display()
                )
            })?;
            sidecar.preprocessing.input_shape(1).to_vec()
        }
    };
    Ok(Inputs::new(shape, args.random, &given)?)
}

fn print(verification: &Verification) {
    let mut table = printer::new_table(
        &["runtime", "file"],
        &[
            "bytes",
            "load ms",
            "ms a run",
            "memory",
            "difference",
            "same as campana",
            "same as reference",
        ],
    );
    for row in &verification.rows {
        printer::add_row(&mut table, cells(row));
    }
    say!("{table}");
    let inputs = match (verification.random_inputs, verification.given_inputs) {
        (random, 0) => format!("{random} random inputs"),
        (0, given) => format!("{given} given inputs"),
        (random, given) => {
            format!("{random} random and {given} given inputs, answers to the latter")
        }
    };
    say!(
        "{inputs}; {} threads, {} runs in turn. Difference: the largest of an output value to campana's, as a share \
         of the largest value; same: share of the inputs with the same best answer; memory in bytes, added by loading \
         and running.",
        verification.threads,
        verification.runs,
    );
    for verdict in &verification.verdicts {
        say!("{}", line(verdict));
    }
    for missing in &verification.missing {
        let file = missing
            .model
            .as_ref()
            .map(|model| format!(" on '{model}'"))
            .unwrap_or_default();
        say!("not run: {}{file}: {}", missing.runtime, missing.reason);
    }
}

fn cells(row: &Row) -> Vec<String> {
    let share = |value: Option<f64>| value.map(percent).unwrap_or_default();
    vec![
        format!("{} {}", row.runtime, row.version),
        row.model.clone(),
        thousands(row.file_bytes),
        format!("{:.1}", row.load_ms),
        format!("{:.3}", row.median_ms),
        row.memory_bytes.map(thousands).unwrap_or_default(),
        row.relative_difference
            .map(|difference| format!("{difference:.1e}"))
            .unwrap_or_default(),
        share(row.agreement),
        share(row.reference_agreement),
    ]
}

fn line(verdict: &Verdict) -> String {
    let memory = verdict
        .memory_ratio
        .map(|ratio| format!(", memory {}", percent(ratio)))
        .unwrap_or_default();
    format!(
        "{} beside the reference: {} (file {}{memory}, time {} of its)",
        verdict.runtime,
        verdict.sentence(),
        percent(verdict.disk_ratio),
        percent(verdict.time_ratio),
    )
}
