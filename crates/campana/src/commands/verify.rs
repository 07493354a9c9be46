//! `campana verify`: one model in every runtime of this machine.

use std::io;

use anyhow::{Context, Result, bail};
use campana_calibrate::Batches;
use campana_pipeline::{Monitor, sample_inputs};
use campana_report::thousands;
use campana_verify::{
    Gain, InputSet, Inputs, Python, Row, Runtime, Subject, Verdict, Verification, graph_of,
    is_tflite, random_sets, verify,
};
use indicatif::ProgressBar;

use crate::args::{Global, Verify, VerifyWorker};
use crate::commands::model_inputs::ModelInputs;
use crate::interrupt;
use crate::printer::{self, decibels, percent, say};
use crate::program;
use crate::progress::{self, Bar};

/// Answers what `run` asks; started by it, once for each model.
pub(crate) fn work(args: &VerifyWorker) -> Result<()> {
    campana_verify::serve(&args.job, io::stdin().lock(), io::stdout().lock())?;
    Ok(())
}

pub(crate) fn run(args: &Verify, global: &Global) -> Result<()> {
    let (inputs, shapes) = inputs(args, global, &Bar::new())?;
    let mut campana = program::again()?;
    campana.push("verify-worker".into());
    let folder = tempfile::Builder::new().prefix("campana-verify-").tempdir();
    let folder = folder.context("cannot make a temporary folder")?;
    interrupt::remove_at_end(folder.path());
    let subject = Subject {
        folder: folder.path().to_owned(),
        model: args.model.clone(),
        reference: args.reference.clone(),
        runtimes: args
            .runtimes
            .clone()
            .unwrap_or_else(|| Runtime::defaults(&args.model)),
        python: args.python.clone().map_or(Python::Default, Python::Given),
        campana,
        threads: global.thread_count(),
        runs: args.runs.get(),
    };
    let bar = progress::shown(ProgressBar::new_spinner());
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
    print(&verification, &shapes);
    Ok(())
}

/// Random inputs and the user's data, and the shapes of the former.
fn inputs(args: &Verify, global: &Global, monitor: &dyn Monitor) -> Result<(Inputs, String)> {
    let reference = args.reference.as_deref();
    let network = match (is_tflite(&args.model), reference) {
        (true, Some(reference)) => reference,
        (true, None) => bail!(
            "'{}' is a TFLite model: name the ONNX model that it came from with --reference",
            args.model.display()
        ),
        (false, _) => args.model.as_path(),
    };
    let models = (network, reference);
    let graph = graph_of(network)?;
    let own = ModelInputs::new(&graph, &args.shape, models, 1);
    let own = own.with_context(|| format!("cannot verify '{}'", args.model.display()))?;
    let given = match &args.data {
        Some(data) => {
            let (count, threads) = (args.samples.get(), global.thread_count());
            let samples = sample_inputs(models, &own.values, data, count, threads, monitor)?;
            let batches = Batches::of_length(&own.values, &samples, 1)
                .with_context(|| format!("cannot use '{}'", data.display()))?;
            sets(&batches)
        }
        None => Vec::new(),
    };
    let random = random_sets(&own.values, &own.shapes, args.random)?;
    Ok((Inputs::new(random, given)?, own.text()))
}

fn sets(batches: &Batches) -> Vec<InputSet> {
    let set = |index| {
        let inputs = batches.batch(index);
        inputs
            .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
            .collect()
    };
    (0..batches.len()).map(set).collect()
}

fn print(verification: &Verification, shapes: &str) {
    let mut table = printer::new_table(
        &["runtime", "file"],
        &[
            "bytes",
            "load ms",
            "ms a run",
            "middle half",
            "memory",
            "difference",
            "same as campana",
            "same as reference",
            "SQNR dB",
        ],
    )
    .dispensable(&["load ms", "difference", "middle half", "memory", "SQNR dB"]);
    for row in &verification.rows {
        printer::add_row(&mut table, cells(row));
    }
    say!("{table}");
    let inputs = match (verification.random_inputs, verification.given_inputs) {
        (random, 0) => format!("{random} random inputs ({shapes})"),
        (0, given) => format!("{given} given inputs"),
        (random, given) => {
            format!(
                "{random} random inputs ({shapes}) and {given} given, of which answers and SQNR are"
            )
        }
    };
    say!(
        "{inputs}; {} threads, {} runs in turn. Difference: the largest of an output value to campana's, as a share \
         of the largest value; same: share of the inputs with the same best answer, where the first output is one list \
         of scores; SQNR: of the outputs, those of the reference in the same runtime (in campana, where that does not run \
         the reference) being the signal, the least of \
         several outputs; memory in bytes, added by loading and running.",
        verification.threads,
        verification.runs,
    );
    for verdict in &verification.verdicts {
        say!("{}", line(verdict));
    }
    for row in verification.rows.iter().filter(|row| {
        let has_reference = |other: &Row| other.is_reference && other.runtime == row.runtime;
        let is_compared = row.is_reference || row.reference_cosine.is_some();
        !is_compared && verification.rows.iter().any(has_reference)
    }) {
        say!(
            "not compared: {} in {}: its outputs have other sizes than the reference's, where these depend on values",
            row.model,
            row.runtime
        );
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
        format!("{:.3}", row.latency.median_ms),
        row.latency
            .quartiles_ms
            .map(|ms| format!("{ms:.3}"))
            .join("–"),
        row.memory_bytes.map(thousands).unwrap_or_default(),
        row.relative_difference
            .map(|difference| format!("{difference:.1e}"))
            .unwrap_or_default(),
        share(row.agreement),
        share(row.reference_agreement),
        row.reference_sqnr_db.map(decibels).unwrap_or_default(),
    ]
}

fn line(verdict: &Verdict) -> String {
    let memory = verdict
        .memory_ratio
        .map(|ratio| format!(", memory {}", percent(ratio)))
        .unwrap_or_default();
    let time = match verdict.speed {
        Gain::Same => "about the same".to_owned(),
        Gain::Faster | Gain::Slower => format!("{} of its", percent(verdict.time_ratio)),
    };
    format!(
        "{} beside the reference: {} (file {}{memory}, time {time})",
        verdict.runtime,
        verdict.sentence(),
        percent(verdict.disk_ratio),
    )
}
