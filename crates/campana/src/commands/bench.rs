//! `campana bench`: latency and memory, models in turn.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use campana_eval::{Latency, open_input};
use campana_ir::format;
use campana_pipeline::{CommandFiles, OutputFile, Overwrite};
use campana_report::{BenchLayer, BenchModel, BenchPeak, BenchReport, bench_page, thousands};
use campana_runtime::{Input, NodeTime, Plan, PlanOptions, Session};
use campana_verify::{InputSet, random_sets};

use crate::args::{Bench, Global};
use crate::commands::model_inputs::ModelInputs;
use crate::interrupt;
use crate::printer::{self, percent, say};
use crate::program;
use crate::progress::Bar;

/// Runs before the timed ones.
const WARM_UP: usize = 5;

/// Set for the process that measures the memory of one model alone, to the
/// model whose sidecar serves it too.
const ALONE: &str = "CAMPANA_BENCH_ALONE";

pub(crate) fn run(args: &Bench, global: &Global) -> Result<()> {
    let paths: Vec<&Path> = [Some(&args.model), args.reference.as_ref()]
        .into_iter()
        .flatten()
        .map(std::path::PathBuf::as_path)
        .collect();
    printer::make_way(&[args.html.as_deref()], global.json)?;
    let monitor = Bar::new();
    let page = page_file(args, &paths, &monitor)?;
    let alone = std::env::var_os(ALONE);
    if alone.is_some() {
        end_with_stdin();
    }
    let reference = alone.as_deref().map(Path::new);
    let reference = reference.or(args.reference.as_deref());
    let threads = global.thread_count();
    let mut networks = Vec::new();
    for path in &paths {
        networks.push(Loaded::open(path, reference, args, threads)?);
    }
    let times = measure(&networks, args.runs.get())?;
    let with_layers = args.layers || args.html.is_some();
    let peak = with_layers.then(|| BenchPeak::from(networks[0].session.measure_peak()));
    let mut models = Vec::new();
    for (i, (network, mut times)) in networks.iter().zip(times).enumerate() {
        let first_ms = times.remove(0);
        times.drain(..WARM_UP - 1);
        models.push(BenchModel {
            model: network.name.clone(),
            latency: Latency::of(&times),
            load_ms: network.load_ms,
            first_ms,
            peak_rss_bytes: if alone.is_some() {
                own_peak()
            } else {
                peak_alone(paths[i], &network.stated, args, threads)?
            },
            weight_bytes: network.session.weight_bytes(),
            layers: match &peak {
                Some(peak) => layers(network, args.runs.get(), peak)?,
                None => Vec::new(),
            },
        });
    }
    let report = BenchReport {
        threads,
        batch: args.batch.get(),
        runs: args.runs.get(),
        models,
        peak,
    };
    if let Some(mut file) = page {
        file.write_all(bench_page(&report).as_bytes())?;
        file.finish()?;
    }
    if global.json {
        return printer::print_json(&report);
    }
    print(&report);
    printer::say_written(&[("Page", args.html.as_deref())]);
    Ok(())
}

/// The page's file, refused before the work where it cannot be written.
fn page_file<'a>(
    args: &Bench,
    models: &[&Path],
    monitor: &'a Bar,
) -> Result<Option<OutputFile<'a>>> {
    let Some(html) = &args.html else {
        return Ok(None);
    };
    let files = CommandFiles::new().output("the page", html.as_path());
    let read = |files: CommandFiles, model: &&Path| files.model("the model", model);
    models.iter().fold(files, read).check()?;
    let overwrite = Overwrite::from_force(args.force);
    Ok(Some(OutputFile::create(html, overwrite, monitor)?))
}

/// A model that is loaded, and what it is run on.
struct Loaded {
    name: String,
    session: Session,
    inputs: InputSet,
    /// The extents that the model leaves open, as `--shape` states them.
    stated: Vec<String>,
    /// Time until the first run could begin, without that for its inputs.
    load_ms: f64,
}

impl Loaded {
    /// Inputs are random, of the shapes that the model declares, the user
    /// states, or a sidecar says.
    fn open(path: &Path, reference: Option<&Path>, args: &Bench, threads: usize) -> Result<Self> {
        let name = path.display().to_string();
        open_input(path).with_context(|| format!("cannot read '{name}'"))?;
        let start = Instant::now();
        let graph = format::load(path).with_context(|| format!("cannot read '{name}'"))?;
        let read_ms = milliseconds_since(start);
        let mut options = PlanOptions::default();
        options.threads = threads;
        let own = ModelInputs::new(&graph, &args.shape, (path, reference), args.batch.get())
            .with_context(|| format!("cannot run '{name}'"))?;
        let start = Instant::now();
        let plan = Plan::new(graph, options).with_context(|| format!("cannot run '{name}'"))?;
        let session = Session::new(plan, threads);
        let load_ms = read_ms + milliseconds_since(start);
        let inputs = random_sets(&own.values, &own.shapes, 1)?.remove(0);
        Ok(Self {
            name,
            session,
            inputs,
            stated: own.stated(),
            load_ms,
        })
    }

    fn inputs(&self) -> Vec<(&str, Input<'_>)> {
        let inputs = self.inputs.iter();
        inputs
            .map(|(name, tensor)| (name.as_str(), Input::from(tensor)))
            .collect()
    }

    fn cannot_run(&self) -> String {
        format!("cannot run '{}'", self.name)
    }
}

/// Times in milliseconds of each network, all in turn, with those of warming up.
fn measure(networks: &[Loaded], runs: usize) -> Result<Vec<Vec<f64>>> {
    let mut times = vec![Vec::new(); networks.len()];
    for _ in 0..WARM_UP + runs {
        interrupt::check()?;
        for (network, times) in networks.iter().zip(&mut times) {
            let inputs = network.inputs();
            let start = Instant::now();
            let outputs = network.session.run(&inputs);
            outputs.with_context(|| network.cannot_run())?;
            times.push(milliseconds_since(start));
        }
    }
    Ok(times)
}

fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Median times of the nodes of a network.
fn layers(network: &Loaded, runs: usize, peak: &BenchPeak) -> Result<Vec<BenchLayer>> {
    let mut runs_of_nodes: Vec<(NodeTime, Vec<u64>)> = Vec::new();
    for _ in 0..runs {
        interrupt::check()?;
        let profile = network.session.profile(&network.inputs());
        let (_, times) = profile.with_context(|| network.cannot_run())?;
        if runs_of_nodes.is_empty() {
            runs_of_nodes = times
                .iter()
                .map(|time| (time.clone(), Vec::new()))
                .collect();
        }
        for ((_, all), time) in runs_of_nodes.iter_mut().zip(times) {
            all.push(time.elapsed_ns);
        }
    }
    let reports = runs_of_nodes.into_iter().map(|(time, mut all)| {
        all.sort_unstable();
        let median_ns = all[all.len() / 2];
        let gops = 2.0 * time.products as f64 / median_ns.max(1) as f64;
        let gops = (time.products > 0).then_some(gops);
        let peak_gops = match time.on_codes {
            true => peak.integer_gops,
            false => peak.float_gops,
        };
        BenchLayer {
            node: time.node,
            op: time.op_type,
            median_ms: median_ns as f64 / 1e6,
            gops,
            on_codes: time.on_codes,
            peak_share: gops.map(|gops| gops / peak_gops),
        }
    });
    Ok(reports.collect())
}

/// Peak memory of another process of this program that runs the model alone.
///
/// The extents of its inputs are `stated`, so that it does nothing to find them.
fn peak_alone(
    model: &Path,
    stated: &[String],
    args: &Bench,
    threads: usize,
) -> Result<Option<u64>> {
    let program = program::again()?;
    let mut child = Command::new(&program[0])
        .args(&program[1..])
        .arg("bench")
        .arg(model)
        .args(["--json", "--runs", "3"])
        .args(["--batch", &args.batch.to_string()])
        .args(["--threads", &threads.to_string()])
        .args(stated.iter().flat_map(|shape| ["--shape", shape]))
        .env(ALONE, args.reference.as_ref().unwrap_or(&args.model))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a process to measure memory")?;
    // Held open: it ends when this process does.
    let _stdin = child.stdin.take();
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "measuring memory failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let report: BenchReport = serde_json::from_slice(&output.stdout)?;
    Ok(report.models.first().and_then(|model| model.peak_rss_bytes))
}

/// Ends this process when its standard input does: when the process that
/// started it is gone.
fn end_with_stdin() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(2);
    });
}

/// The largest resident memory of this process so far, as Linux tells it.
fn own_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The time of each layer of a model, and how far all are from the peak.
fn print_layers(model: &BenchModel, peak: &BenchPeak) {
    let layers = &model.layers;
    printer::print_heading(&model.model);
    let mut table = printer::new_table(
        &["layer", "operator"],
        &["median ms", "share", "GOPS", "of peak", "computes on"],
    )
    .dispensable(&["computes on", "operator"]);
    let total: f64 = layers.iter().map(|layer| layer.median_ms).sum();
    for layer in layers {
        printer::add_row(
            &mut table,
            [
                layer.node.clone(),
                layer.op.clone(),
                format!("{:.4}", layer.median_ms),
                percent(layer.median_ms / total),
                layer
                    .gops
                    .map(|gops| format!("{gops:.1}"))
                    .unwrap_or_default(),
                layer.peak_share.map(percent).unwrap_or_default(),
                match (layer.gops, layer.on_codes) {
                    (None, _) => "",
                    (_, true) => "integers",
                    (_, false) => "floats",
                }
                .to_owned(),
            ],
        );
    }
    say!("{table}");
    let reached = model.peak_share().map_or_else(String::new, |share| {
        format!(
            "; convolutions and fully connected layers together reach {} of it",
            percent(share)
        )
    });
    say!(
        "measured peak: {:.1} GOPS on integers, {:.1} on floats{reached}",
        peak.integer_gops,
        peak.float_gops,
    );
}

fn print(report: &BenchReport) {
    let mut table = printer::new_table(
        &["model"],
        &[
            "median ms",
            "middle half",
            "p95 ms",
            "min ms",
            "peak memory",
            "weights in memory",
        ],
    )
    .dispensable(&["min ms", "weights in memory", "middle half"]);
    for model in &report.models {
        printer::add_row(
            &mut table,
            [
                model.model.clone(),
                format!("{:.3}", model.latency.median_ms),
                model
                    .latency
                    .quartiles_ms
                    .map(|ms| format!("{ms:.3}"))
                    .join("–"),
                format!("{:.3}", model.latency.p95_ms),
                format!("{:.3}", model.latency.min_ms),
                model.peak_rss_bytes.map(thousands).unwrap_or_default(),
                thousands(model.weight_bytes as u64),
            ],
        );
    }
    say!("{table}");
    if let Some(peak) = &report.peak {
        for model in &report.models {
            print_layers(model, peak);
        }
    }
    if let Some(verdict) = report.verdict() {
        say!("{verdict}.");
    }
    for warning in report.warnings() {
        say!("Note: {warning}.");
    }
    say!(
        "batch {}, {} threads; memory in bytes; the middle half of the runs lies between its times",
        report.batch,
        report.threads
    );
}
