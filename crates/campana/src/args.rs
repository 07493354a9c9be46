//! The command line: names, defaults and units.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use campana_calibrate::DistillBudget;
use campana_design::Method;
use campana_eval::{Correction, Shard};
use campana_ir::format::onnx::InputShape;
use campana_pipeline::{
    CALIBRATION_SAMPLES, MAX_THREADS, parse_percent, parse_size, parse_threads,
};
use campana_quantize::{Effort, MethodChoice, NamePattern, RangeMethod, Target};
use campana_tensor::Granularity;
use campana_verify::Runtime;
use clap::{Parser, Subcommand};

use crate::named::Named;

/// Makes trained convolutional networks small and fast without retraining.
#[derive(Debug, Parser)]
#[command(
    name = "campana",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Threads to use, 1 to 1024 [default: all cores]
    #[arg(long, global = true, value_name = "N", display_order = 100, value_parser = parse_threads)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Print one JSON object on stdout and nothing else there
    #[arg(long, global = true, display_order = 101)]
    pub(crate) json: bool,
    /// Print nothing but errors, and with --json the object
    #[arg(short, long, global = true, display_order = 101)]
    pub(crate) quiet: bool,
    /// Show all columns of tables and whole names, also where they are wider than the terminal
    #[arg(long, global = true, display_order = 101)]
    pub(crate) wide: bool,
    /// Memory that reading one file may take, for example 8GB [default: 64 times the file and
    /// 64MB, at most 4GiB]
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size, display_order = 102, hide_short_help = true)]
    pub(crate) max_memory: Option<u64>,
}

impl Global {
    /// Threads to use.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads
            .map_or_else(rayon::current_num_threads, NonZeroUsize::get)
            .min(MAX_THREADS)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole story on a built-in network: no argument, no download
    Demo(Demo),
    /// Show how the weights of a model are distributed, and what each bit width would cost
    Inspect(Inspect),
    /// Write a smaller model that every ONNX runtime loads
    Quantize(Quantize),
    /// Measure how often models are right on labelled images
    Evaluate(Evaluate),
    /// Measure every method at every width on labelled images, without writing models
    Compare(Compare),
    /// Make one table of the rows that several compare commands measured, each a share of them
    Merge(Merge),
    /// Name what pictures show: the five likeliest labels
    Run(Run),
    /// Measure latency and memory on this machine, models in turn
    Bench(Bench),
    /// Compare answers, latency and memory of a model in every runtime of this machine
    Verify(Verify),
    /// Put an ONNX model into campana's entropy-coded container: the smallest file to ship
    Pack(Pack),
    /// Take the ONNX model out of a container, byte for byte
    Unpack(Unpack),
    /// Write a quantized network as C for microcontrollers, or say what it would take there
    Export(Export),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Write manual pages
    Man(ManPages),
    /// Runs one model for verify
    #[command(hide = true)]
    VerifyWorker(VerifyWorker),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Folder for the models and the HTML page it writes; made where it is missing
    #[arg(short, long, value_name = "FOLDER", default_value = "campana-demo")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// ONNX model; or weights alone: .safetensors (or its index.json), .pt, .pth, .npz or .npy
    pub(crate) model: PathBuf,
    /// Also write a page with each tensor's histogram, fitted densities, thresholds and levels
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Bits of the quantizer that the page draws: 1 to 8
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=8), requires = "html")]
    pub(crate) bits: u8,
    /// Overwrite the page where it exists
    #[arg(long, requires = "html")]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Quantize {
    /// ONNX model; or weights alone: .safetensors (or its index.json), .pt, .pth, .npz or .npy,
    /// which become a .safetensors of codes and levels
    pub(crate) model: PathBuf,
    /// Where to write the smaller model; - is the standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Bits of a weight's code: 1 to 8 (in depthwise networks auto gives small tensors more);
    /// or, with a point (3.2, 3.0), the average that is stored for a weight, every tensor then
    /// getting the bits and bytes it needs [default: 4, or 8 for the targets int8 and tflite]
    #[arg(long, value_name = "N", value_parser = parse_bits, help_heading = "Size and loss")]
    pub(crate) bits: Option<Bits>,
    /// Largest size of the output, with a unit: B, kB, MB, KiB or MiB; every tensor gets the bits
    /// it needs
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "bits", help_heading = "Size and loss")]
    pub(crate) max_size: Option<u64>,
    /// The smallest output that loses at most this much top-1 accuracy, in percent of all images:
    /// 1%. Measured on --data, else estimated without labels on the images of --calibrate or on
    /// synthetic ones
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, conflicts_with_all = ["bits", "max_size"], help_heading = "Size and loss")]
    pub(crate) max_drop: Option<f64>,
    /// Labelled images for --max-drop, as evaluate takes them
    #[arg(
        long,
        value_name = "PATH",
        requires = "max_drop",
        help_heading = "Size and loss"
    )]
    pub(crate) data: Option<PathBuf>,
    /// Write the best that is found where a bound cannot be met (exit status 1 all the same)
    #[arg(long, help_heading = "Size and loss")]
    pub(crate) best_effort: bool,
    /// What becomes of each tensor: with --bits, --max-size or --max-drop it is written there, to be
    /// read and edited; without them it is read from there and applied
    #[arg(long, value_name = "FILE", help_heading = "Size and loss")]
    pub(crate) plan: Option<PathBuf>,
    /// How levels are designed: auto, ks, gaussian, laplace, ggd, kmeans, ecsq, minmax, mse, aciq,
    /// pwlq, pot, apot or nf; auto measures and takes the best for each tensor. ecsq takes --bits as the
    /// entropy of the codes, for --target campana
    #[arg(long, value_name = "NAME", default_value_t = MethodChoice::Auto, value_parser = Named::<MethodChoice>::new(method_names()), hide_possible_values = true, help_heading = "Levels")]
    pub(crate) method: MethodChoice,
    /// What shares a codebook or scale: tensor, channel or group=N (about N weights of a channel)
    /// [default: channel for auto, tensor for every other method]
    #[arg(long, value_name = "WHAT", value_parser = parse_granularity, help_heading = "Levels")]
    pub(crate) granularity: Option<Granularity>,
    /// Leave weight tensors whose names match as they are; may be given several times
    #[arg(long, value_name = "GLOB", help_heading = "Levels")]
    pub(crate) keep: Vec<NamePattern>,
    /// Other bit width for weight tensors whose names match; the last match counts
    #[arg(long, value_name = "GLOB=N", hide_short_help = true, value_parser = parse_bits_for, help_heading = "Levels")]
    pub(crate) bits_for: Vec<(NamePattern, u8)>,
    /// Leave codes, normalizations and biases as quantization makes them, rather than correct what
    /// it does to the network's activations
    #[arg(long, help_heading = "Correction")]
    pub(crate) no_correct: bool,
    /// How much time the correction may take: full chooses codes again for the error of each layer's
    /// outputs; quick leaves the codes and corrects normalizations and biases on an eighth of the
    /// samples
    #[arg(long, value_name = "HOW", default_value_t = Effort::Full, conflicts_with = "no_correct", value_parser = Named::<Effort>::new(Effort::ALL.map(Effort::as_str)), hide_possible_values = true, help_heading = "Correction")]
    pub(crate) effort: Effort,
    /// Correct it on these data rather than on synthetic ones; labels are not read. Takes what
    /// evaluate takes, a folder of pictures, or arrays: .npz with one for each input, .npy for the
    /// only one, samples along the first axis. Use training data, not those to be tested with
    #[arg(long, value_name = "PATH", help_heading = "Correction")]
    pub(crate) calibrate: Option<PathBuf>,
    /// Images to take from there at most, evenly spread
    #[arg(
        long,
        value_name = "N",
        default_value = "256",
        requires = "calibrate",
        help_heading = "Correction"
    )]
    pub(crate) samples: NonZeroUsize,
    /// Learn from the float network's answers after the correction, without labels: levels, scales,
    /// normalizations and biases by gradient descent on the samples. So many steps, or as many as fit
    /// into a time: 300, 90s, 5m, 1h; the more pictures --calibrate has, the better (--samples 2048)
    #[arg(long, value_name = "STEPS|TIME", conflicts_with_all = ["no_correct", "max_drop", "rate", "sparsity"], help_heading = "Correction")]
    pub(crate) distill: Option<DistillBudget>,
    /// Least and greatest value of the network's float inputs, where neither data nor a sidecar
    /// tell them: 0,255 for bytes
    #[arg(long, value_name = "LO,HI", hide_short_help = true, value_parser = parse_range, allow_hyphen_values = true, conflicts_with = "calibrate", help_heading = "Correction")]
    pub(crate) input_range: Option<[f32; 2]>,
    /// Shape of an input that the model leaves open, [NAME=]1x3x224x224; N or ? leaves an extent open
    #[arg(long, value_name = "SHAPE", help_heading = "Correction")]
    pub(crate) shape: Vec<InputShape>,
    /// Journal of the correction's finished layers: kept as they finish, and taken from it when the
    /// command is run again
    #[arg(
        long,
        value_name = "FILE",
        hide_short_help = true,
        conflicts_with = "no_correct",
        help_heading = "Correction"
    )]
    pub(crate) resume: Option<PathBuf>,
    /// Form of the output: lut (plain ONNX, loads everywhere), lut-uint4 (opset 21, for recent
    /// runtimes), w4a8 (lut with activations rounded to 8 bits: campana runs it on integers), int8
    /// (weights and activations in 8 bits, the QDQ form of stock runtimes; --bits defaults to 8),
    /// float (decoded weights, full size), campana (entropy-coded container, the smallest; campana
    /// unpack gives the lut form back), tflite (a TFLite model with the weights and activations of
    /// int8, or weights of 4 bits with --bits 4), tflite-float (a TFLite model of decoded weights), tflm (one for TFLite Micro, whose
    /// weights are codes of 1 to 7 bits), coreml (a Core ML package that computes in 16-bit floats, a
    /// folder) or coreml-float32 (one in 32-bit floats) [default: campana, tflite or, of .mlpackage,
    /// coreml for an output of that name, else lut]
    #[arg(long, value_name = "FORM", value_parser = Named::<Target>::new(Target::ALL.map(Target::as_str)), hide_possible_values = true, help_heading = "Form")]
    pub(crate) target: Option<Target>,
    /// How the range of each activation is chosen for w4a8 and int8: minmax, percentile, mse,
    /// entropy, or auto: of the first three the one with the least error of the outputs
    #[arg(long, value_name = "NAME", default_value_t = RangeMethod::Auto, hide_short_help = true, value_parser = Named::<RangeMethod>::new(RangeMethod::ALL.map(RangeMethod::as_str)), hide_possible_values = true, help_heading = "Form")]
    pub(crate) activation_ranges: RangeMethod,
    /// Round every activation to 8 bits, also the few whose rounding makes up most of the error of
    /// the outputs and that stay floats otherwise
    #[arg(long, hide_short_help = true, help_heading = "Form")]
    pub(crate) round_all_activations: bool,
    /// Also write a page: what became of the file, which layers hurt, what to do, and each tensor's
    /// levels and errors
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// With --target campana: choose codes for the entropy coder, so that a weight takes this many
    /// bits there on average: 0.1 to 8, for example 1.6
    #[arg(long, value_name = "BITS", value_parser = parse_rate, hide_short_help = true, conflicts_with_all = ["bits", "max_size", "max_drop", "plan", "bits_for", "method", "granularity"], help_heading = "Form")]
    pub(crate) rate: Option<f64>,
    /// With --target campana: choose codes for the entropy coder, so that at least this share of the
    /// weights becomes zero, for example 60%
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, hide_short_help = true, conflicts_with_all = ["rate", "bits", "max_size", "max_drop", "plan", "bits_for", "method", "granularity"], help_heading = "Form")]
    pub(crate) sparsity: Option<f64>,
    /// Overwrite the output and the page where they exist
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Evaluate {
    /// ONNX models; all see the same data
    #[arg(required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// CIFAR-10 or CIFAR-100 binary, folder of class folders, or folder with a labels.tsv: top-1, top-5;
    /// folder with images/ and masks/ (PNG of class numbers): mean IoU; with --reference, images or arrays
    /// (.npy, .npz with one for each input) without labels: each output is compared
    #[arg(long, value_name = "PATH")]
    pub(crate) data: PathBuf,
    /// Model whose answers the others are compared with (agreement); its sidecar serves those without
    #[arg(long, value_name = "MODEL")]
    pub(crate) reference: Option<PathBuf>,
    /// Evaluate the first N images only, or N samples of arrays, evenly spread
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Images that go through a network at once
    #[arg(long, value_name = "N", default_value = "16")]
    pub(crate) batch: NonZeroUsize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// ONNX model with its sidecar MODEL.json beside it
    pub(crate) model: PathBuf,
    /// CIFAR-10 or CIFAR-100 binary, folder of class folders, or folder with a labels.tsv
    #[arg(long, value_name = "PATH")]
    pub(crate) data: PathBuf,
    /// Bits of a weight's code, 1 to 8, with commas between
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "2,3,4,8", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) bits: Vec<u8>,
    /// Methods as of campana quantize, with commas between, or all; with +free or +calibrated behind
    /// it a method's model is corrected as quantize does, on synthetic images or those of --calibrate
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "all", value_parser = Named::with(["all"].into_iter().chain(method_names()), parse_methods), hide_possible_values = true)]
    pub(crate) methods: Vec<Methods>,
    /// Images for +calibrated; not those of --data
    #[arg(long, value_name = "PATH")]
    pub(crate) calibrate: Option<PathBuf>,
    /// Images to take from there at most, evenly spread
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_SAMPLES, requires = "calibrate")]
    pub(crate) samples: NonZeroUsize,
    /// What shares a codebook or scale: tensor, channel or group=N, with commas between
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "tensor,channel", value_parser = parse_granularity)]
    pub(crate) granularity: Vec<Granularity>,
    /// Measure on the first N images only
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Images that go through a network at once
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) batch: NonZeroUsize,
    /// Also write the rows as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Also write a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Also write tables for a document
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Journal of finished rows: kept as they finish, and taken from it when the command is run again
    #[arg(long, visible_alias = "out", value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
    /// Measure one of N shares of the rows only, into the journal; campana merge makes one table of
    /// the journals of all
    #[arg(long, value_name = "I/N", requires = "resume", conflicts_with_all = ["csv", "html", "markdown"])]
    pub(crate) shard: Option<Shard>,
    /// Overwrite the CSV file, the page and the tables where they exist
    #[arg(long)]
    pub(crate) force: bool,
}

/// One method, or every one that there is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Methods {
    /// Every fixed method, then auto and, as quantize writes it, auto+free.
    All,
    /// This one.
    One(MethodChoice, Correction),
}

impl Methods {
    /// The methods one by one.
    pub(crate) fn expand(&self) -> Vec<(MethodChoice, Correction)> {
        match self {
            Self::All => Method::ALL
                .into_iter()
                .map(MethodChoice::Fixed)
                .map(|method| (method, Correction::None))
                .chain([Correction::None, Correction::Free].map(|c| (MethodChoice::Auto, c)))
                .collect(),
            Self::One(method, correction) => vec![(*method, *correction)],
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Merge {
    /// Journals that campana compare left, of all shares of one table
    #[arg(required = true)]
    pub(crate) rows: Vec<PathBuf>,
    /// Also write the rows as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Also write a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Also write tables for a document
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Overwrite the CSV file, the page and the tables where they exist
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// ONNX model; for pictures with its sidecar MODEL.json beside it
    pub(crate) model: PathBuf,
    /// JPEG or PNG pictures; or one file of arrays: .npz with one for each input, .npy for the
    /// only one
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// Write the outputs for arrays into this .npz
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the output if it exists
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// ONNX model
    pub(crate) model: PathBuf,
    /// Model to run in turn with it
    #[arg(long, value_name = "MODEL")]
    pub(crate) reference: Option<PathBuf>,
    /// Samples that go through a network at once
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) batch: NonZeroUsize,
    /// Also print the time of each layer, its speed and its share of the machine's peak, which is
    /// measured
    #[arg(long)]
    pub(crate) layers: bool,
    /// Also write a page with a bar for each layer; implies --layers
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Overwrite the page where it exists
    #[arg(long, requires = "html")]
    pub(crate) force: bool,
    /// Shape of an input that the model leaves open, [NAME=]1x3x224x224; N or ? leaves an extent open
    #[arg(long, value_name = "SHAPE")]
    pub(crate) shape: Vec<InputShape>,
    /// Timed runs of each model
    #[arg(long, value_name = "N", default_value = "50")]
    pub(crate) runs: NonZeroUsize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Pack {
    /// ONNX model, as campana quantize writes it or any other
    pub(crate) model: PathBuf,
    /// Where to write the container; - is the standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Overwrite the output where it exists
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Unpack {
    /// Container that campana pack or campana quantize --target campana wrote
    pub(crate) container: PathBuf,
    /// Where to write the ONNX model; - is the standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Overwrite the output where it exists
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// ONNX model, or TFLite model with the ONNX model it came from as --reference
    pub(crate) model: PathBuf,
    /// Float model that it came from, run in turn with it
    #[arg(long, value_name = "MODEL")]
    pub(crate) reference: Option<PathBuf>,
    /// Runtimes beside campana, with commas between: onnxruntime, openvino, tflite, tflm (of an ONNX
    /// model the last two read MODEL.tflite beside MODEL.onnx); what this machine does not have is
    /// said [default: onnxruntime,openvino,tflite, or tflm for a model of --target tflm]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = Named::<Runtime>::new(Runtime::ALL.map(Runtime::as_str)),
        hide_possible_values = true
    )]
    pub(crate) runtimes: Option<Vec<Runtime>>,
    /// Python that has the runtimes [default: python3]
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// Data to run on too: what evaluate takes, a folder of pictures, or arrays (.npy, .npz with one
    /// for each input); labels are not read
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Samples to take from there at most, evenly spread
    #[arg(long, value_name = "N", default_value = "64", requires = "data")]
    pub(crate) samples: NonZeroUsize,
    /// Random inputs
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) random: usize,
    /// Shape of an input that the model leaves open, [NAME=]1x3x224x224; N or ? leaves an extent open
    #[arg(long, value_name = "SHAPE")]
    pub(crate) shape: Vec<InputShape>,
    /// Timed runs of each model in each runtime
    #[arg(long, value_name = "N", default_value = "30")]
    pub(crate) runs: NonZeroUsize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// ONNX model that campana quantize --target w4a8 or int8 wrote
    pub(crate) model: PathBuf,
    /// Folder for the code; made, and must not be there yet
    #[arg(
        short,
        long,
        value_name = "FOLDER",
        required_unless_present = "plan",
        conflicts_with = "plan"
    )]
    pub(crate) output: Option<PathBuf>,
    /// Language of the code: c (C99 that needs nothing but its own files)
    #[arg(long, value_name = "FORM", default_value = "c", value_parser = ["c"], hide_possible_values = true)]
    pub(crate) target: String,
    /// Name of the function NAME_run and of the files [default: the model's file name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Print flash, RAM and multiply-accumulates of each layer and write nothing
    #[arg(long)]
    pub(crate) plan: bool,
    /// Flash that the device has for code and constants, for example 256kB; where the network takes
    /// more, it is said what would help, and nothing is written (exit status 1)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) flash: Option<u64>,
    /// RAM that the device has for the network's values, for example 64kB: where they take more,
    /// wide layers run in strips of rows; else as --flash
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) ram: Option<u64>,
    /// Shape of an input that the model leaves open, [NAME=]1x3x224x224; an open batch becomes 1
    #[arg(long, value_name = "SHAPE")]
    pub(crate) shape: Vec<InputShape>,
    /// Replace the folder where campana export wrote all that is in it
    #[arg(long, conflicts_with = "plan")]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyWorker {
    /// What to run
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) job: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ManPages {
    /// Folder for campana.1 and a page for each command; made where it is missing
    pub(crate) folder: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// The names of methods, auto first.
fn method_names() -> impl Iterator<Item = &'static str> {
    MethodChoice::all().map(MethodChoice::as_str)
}

fn parse_methods(text: &str) -> Result<Methods, String> {
    if text == "all" {
        return Ok(Methods::All);
    }
    let (name, correction) = [Correction::Free, Correction::Calibrated]
        .into_iter()
        .find_map(|correction| Some((text.strip_suffix(correction.suffix())?, correction)))
        .unwrap_or((text, Correction::None));
    name.parse()
        .map(|method| Methods::One(method, correction))
        .map_err(|error: String| format!("{error}, or all"))
}

fn parse_granularity(text: &str) -> Result<Granularity, String> {
    text.parse().map_err(str::to_owned)
}

/// What `--bits` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bits {
    /// This width for every tensor.
    Width(u8),
    /// At most this many bits a weight on average.
    Average(f64),
}

fn parse_bits(text: &str) -> Result<Bits, String> {
    if let Ok(width @ 1..=8) = text.parse() {
        return Ok(Bits::Width(width));
    }
    match text.parse::<f64>() {
        Ok(average) if text.contains('.') && (1.0..=8.0).contains(&average) => {
            Ok(Bits::Average(average))
        }
        _ => Err("use a whole number from 1 to 8, or an average as 3.2".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(bits) if (0.1..=8.0).contains(&bits) => Ok(bits),
        _ => Err("use a number of bits from 0.1 to 8".to_owned()),
    }
}

fn parse_range(text: &str) -> Result<[f32; 2], String> {
    let number = |text: &str| {
        text.trim()
            .parse::<f32>()
            .ok()
            .filter(|value| value.is_finite())
    };
    let bounds = text
        .split_once(',')
        .and_then(|(low, high)| Some([number(low)?, number(high)?]));
    bounds
        .filter(|[low, high]| low < high)
        .ok_or_else(|| "use LO,HI with LO below HI, for example 0,255".to_owned())
}

fn parse_bits_for(text: &str) -> Result<(NamePattern, u8), String> {
    let (pattern, bits) = text
        .rsplit_once('=')
        .ok_or("use GLOB=N, for example 'layer1*=6'")?;
    match bits.parse() {
        Ok(bits) if (1..=8).contains(&bits) => Ok((pattern.parse()?, bits)),
        _ => Err(format!(
            "bits must be a whole number from 1 to 8, not '{bits}'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn bits_are_a_width_or_with_a_point_an_average() {
        assert_eq!(parse_bits("3"), Ok(Bits::Width(3)));
        assert_eq!(parse_bits("3.0"), Ok(Bits::Average(3.0)));
        for text in ["0", "9", "0.9", "8.5", "nan", "3,2", "1e0", "inf"] {
            assert!(parse_bits(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_may_hold_an_equals_sign() {
        let (pattern, bits) = parse_bits_for("a=b*=3").unwrap();
        assert_eq!((pattern.as_str(), bits), ("a=b*", 3));
    }
}
