//! The experiment: designs of one model, each measured on the same images.
//!
//! No file is written: a design's decoded weights take the place of the
//! float ones in the graph, which is planned and run.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use campana_calibrate::{CorrectionSettings, Samples, correct};
use campana_export::{OutputModel, Placement};
use campana_ir::format::onnx;
use campana_ir::graph::Graph;
use campana_onnx::Model;
use campana_quantize::{
    MethodChoice, Options, Progress, QuantizedModel, Target, quantize, sqnr_db,
};
use campana_tensor::{Fingerprint, Granularity, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::dataset::nothing_readable;
use crate::input_scale::input_scale;
use crate::{
    AccuracyTally, Batch, BatchOptions, Dataset, Error, ImageFailure, Network, Preprocessing,
    Proportion, argmax,
};

mod journal;
mod key;
mod markdown;
mod merge;
mod shard;
mod table;

pub use journal::CompareJournal;
pub use key::ExperimentKey;
pub use markdown::compare_markdown;
pub use merge::merge_journals;
pub use shard::Shard;
pub use table::{CompareCell, CompareTable};

/// Decoded images are kept in memory up to this many bytes, and decoded again
/// for each design beyond.
const MAX_DECODED_BYTES: usize = 1 << 30;

/// What is corrected after quantization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Correction {
    /// Nothing.
    #[default]
    None,
    /// What synthetic images show.
    Free,
    /// What the images of [`Experiment::calibrate`] show.
    Calibrated,
}

impl Correction {
    /// What the names of methods end with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Free => "+free",
            Self::Calibrated => "+calibrated",
        }
    }
}

/// One way to quantize a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Design {
    /// How levels are designed.
    pub method: MethodChoice,
    /// What is corrected then.
    pub correction: Correction,
    /// Bits of a code, 1 to 8.
    pub bits: u8,
    /// What shares a codebook or a scale.
    pub granularity: Granularity,
}

impl Design {
    /// The method as on the command line: `auto`, `auto+free`.
    pub fn method_name(&self) -> String {
        format!("{}{}", self.method, self.correction.suffix())
    }

    /// `tensor`, `channel` or `group=N`, as on the command line.
    pub fn granularity_name(&self) -> String {
        self.granularity.to_string()
    }

    /// The cell of a comparison's table that it fills.
    pub fn cell(&self) -> CompareCell {
        CompareCell {
            method: self.method_name(),
            bits: self.bits,
            granularity: self.granularity_name(),
        }
    }
}

impl fmt::Display for Design {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell().fmt(f)
    }
}

/// What came of one design.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompareRow {
    /// The method's name, and `+free` or `+calibrated` where it is corrected.
    pub method: String,
    /// Bits of a code.
    pub bits: u8,
    /// `tensor`, `channel` or `group=N`.
    pub granularity: String,
    /// Mean squared error of the quantized weights.
    pub mse: f64,
    /// Ratio of the energies of quantized weights and error, in dB; `None`
    /// where nothing was lost.
    pub sqnr_db: Option<f64>,
    /// Bits a quantized weight takes: codes, codebooks, scales and padding.
    pub bits_per_weight: f64,
    /// Size of the model as `--target lut` would write it.
    pub output_bytes: u64,
    /// Share of right answers, 0 to 1; `None` without labels.
    pub top1: Option<f64>,
    /// Share of answers equal to the float model's, 0 to 1.
    pub agreement: Option<f64>,
    /// Each quantized tensor, in the file's order.
    pub tensors: Vec<TensorSqnr>,
}

impl CompareRow {
    /// The cell of the table that it fills.
    pub fn cell(&self) -> CompareCell {
        CompareCell {
            method: self.method.clone(),
            bits: self.bits,
            granularity: self.granularity.clone(),
        }
    }
}

/// How much of one tensor is left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorSqnr {
    /// The tensor's name.
    pub name: String,
    /// Ratio of the energies of its weights and their error, in dB; `None`
    /// where nothing was lost.
    pub sqnr_db: Option<f64>,
}

/// A float model and the images that its designs are measured on.
#[derive(Debug)]
pub struct Experiment<'a> {
    model: &'a Model,
    placement: Placement,
    name: String,
    graph: Graph,
    images: Images<'a>,
    threads: usize,
    answers: Vec<Option<usize>>,
    reference: AccuracyTally,
    failures: Vec<ImageFailure>,
    key: ExperimentKey,
    /// Results by the decoded weights that gave them.
    known: HashMap<u64, AccuracyTally>,
    calibration: Option<Samples>,
}

impl<'a> Experiment<'a> {
    /// Decodes the images and asks the float model, in the file `path`, about
    /// all of them. `go_on` says, between batches, whether to go on.
    ///
    /// # Errors
    ///
    /// Where the model cannot be run on the images, a label exceeds its
    /// classes, no image can be read, or `go_on` says to stop.
    pub fn new(
        model: &'a Model,
        path: &Path,
        dataset: &'a Dataset,
        settings: &'a Preprocessing,
        options: BatchOptions,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Self, Error> {
        let name = path.display().to_string();
        let graph =
            onnx::graph(model).map_err(|error| Error::model(&name, "cannot be read", error))?;
        let threads = options.threads;
        let network = Network::new(&graph, name.clone(), threads)?;
        network.check_input(settings)?;
        let mut images = Images {
            dataset,
            settings,
            options,
            decoded: None,
            fingerprint: 0,
        };
        let failures = images.decode(go_on)?;
        let (reference, answers) = images.ask(&network, None, go_on)?;
        if reference.images() == 0 {
            return Err(nothing_readable(dataset.name(), &failures));
        }
        let key = ExperimentKey::new(
            model_fingerprint(&graph),
            images.fingerprint,
            answers_fingerprint(&answers, &reference),
        );
        Ok(Self {
            model,
            placement: Placement::of(path, &path.with_extension("campana-compare.onnx")),
            name,
            graph,
            images,
            threads,
            answers,
            reference,
            failures,
            key,
            known: HashMap::new(),
            calibration: None,
        })
    }

    /// The images that [`Correction::Calibrated`] looks at: not those that the
    /// designs are measured on.
    pub fn calibrate(&mut self, samples: Samples) {
        if let Samples::Images { data, .. } = &samples {
            let mut hash = Fingerprint::default();
            hash.floats(data);
            self.key.set_calibration(hash.value());
        }
        self.calibration = Some(samples);
    }

    /// The float model's right answers.
    pub fn reference_top1(&self) -> Proportion {
        self.reference.top1()
    }

    /// Images that every design sees.
    pub fn image_count(&self) -> u64 {
        self.reference.images()
    }

    /// Images that could not be read, and are left out.
    pub fn failures(&self) -> &[ImageFailure] {
        &self.failures
    }

    /// What rows are measured on; that of other weights, images or limits is
    /// another.
    pub fn key(&self) -> &ExperimentKey {
        &self.key
    }

    /// The table that designs are to fill, of a model and images that go by
    /// these names.
    pub fn table(&self, model: String, data: String, designs: &[Design]) -> CompareTable {
        CompareTable {
            model,
            data,
            images: self.image_count(),
            skipped: self.failures.iter().map(|f| f.name.clone()).collect(),
            reference_top1: self.reference_top1().fraction(),
            cells: designs.iter().map(Design::cell).collect(),
        }
    }

    /// Quantizes, measures and asks about all images; a design whose decoded
    /// weights were seen before is not asked again.
    ///
    /// # Errors
    ///
    /// Where the model cannot be quantized or stored, or `go_on` says to stop.
    pub fn run(
        &mut self,
        design: &Design,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<CompareRow, Error> {
        let options = Options {
            bits: design.bits,
            method: design.method,
            granularity: design.granularity,
            target: Target::Lut,
            means_are_corrected: design.correction != Correction::None,
            ..Options::default()
        };
        let failed = |what: &str, error: campana_quantize::Error| {
            if error.kind() == campana_quantize::ErrorKind::Interrupted {
                Error::Interrupted
            } else {
                Error::model(&self.name, what, error)
            }
        };
        let mut quantized = quantize(self.model, &options, &Stop(go_on))
            .map_err(|error| failed("cannot be quantized", error))?;
        let [height, width] = self.images.settings.size;
        let synthetic = Samples::Synthetic {
            size: Some([height, width]),
            scale: input_scale(self.images.settings),
        };
        let samples = match design.correction {
            Correction::None => None,
            Correction::Free => Some(&synthetic),
            Correction::Calibrated => Some(self.calibration.as_ref().ok_or_else(|| {
                Error::unsuitable_model(&self.name, "has no images to be calibrated on")
            })?),
        };
        if let Some(samples) = samples {
            let stop = Stop(go_on);
            let settings = CorrectionSettings::new(design.method.into(), self.threads);
            let corrected = correct(self.model, &mut quantized, samples, settings, None, &stop);
            match corrected {
                // The model is as `quantize` writes it then: not corrected.
                Err(error) if error.kind() == campana_quantize::ErrorKind::NoGain => {}
                other => {
                    other.map_err(|error| failed("cannot be corrected", error))?;
                }
            }
        }
        let output_bytes = self.output_bytes(&quantized)?;
        let graph = self.decoded_graph(&quantized)?;
        let mut hash = Fingerprint::default();
        for tensor in graph.constants.values() {
            hash.tensor(tensor.data());
        }
        let tally = match self.known.get(&hash.value()) {
            Some(tally) => *tally,
            None => {
                let network = Network::new(&graph, self.name.clone(), self.threads)?;
                let (tally, _) = self.images.ask(&network, Some(&self.answers), go_on)?;
                self.known.insert(hash.value(), tally);
                tally
            }
        };
        Ok(row(design, &quantized, output_bytes, &tally))
    }

    /// The float graph with decoded weights.
    fn decoded_graph(&self, quantized: &QuantizedModel<'_>) -> Result<Graph, Error> {
        let mut graph = self.graph.clone();
        for outcome in &quantized.tensors {
            let values = match (&outcome.quantized, &outcome.corrected) {
                (Some(tensor), _) => tensor.dequantize(),
                (None, Some(values)) => values.clone(),
                (None, None) => continue,
            };
            let name = outcome.tensor.name;
            let replaced = graph.constants.get_mut(name).and_then(|constant| {
                let data = like(constant.data(), values)?;
                *constant = Tensor::new(constant.shape().to_vec(), data)?;
                Some(())
            });
            replaced.ok_or_else(|| {
                let message =
                    format!("has a weight tensor '{name}' that no operator reads as floats");
                Error::unsuitable_model(&self.name, &message)
            })?;
        }
        Ok(graph)
    }

    fn output_bytes(&self, quantized: &QuantizedModel<'_>) -> Result<u64, Error> {
        let failed = |error| Error::model(&self.name, "cannot be stored with codebooks", error);
        let mut output = OutputModel::new(self.model, quantized, &[], Target::Lut, &self.placement)
            .map_err(failed)?;
        let mut counter = Counter(0);
        for file in std::mem::take(&mut output.data_files) {
            file.write(&mut counter).map_err(failed)?;
        }
        output.write(&mut counter).map_err(failed)?;
        Ok(counter.0)
    }
}

fn model_fingerprint(graph: &Graph) -> u64 {
    let mut hash = Fingerprint::default();
    hash.bytes(format!("{:?}", graph.nodes).as_bytes());
    for (name, tensor) in &graph.constants {
        hash.bytes(name.as_bytes());
        hash.tensor(tensor.data());
    }
    hash.value()
}

fn answers_fingerprint(answers: &[Option<usize>], reference: &AccuracyTally) -> u64 {
    let mut hash = Fingerprint::default();
    for answer in answers {
        hash.word(answer.map_or(u64::MAX, |class| class as u64));
    }
    hash.word(reference.images());
    hash.word(reference.top1().right);
    hash.value()
}

fn row(
    design: &Design,
    quantized: &QuantizedModel<'_>,
    output_bytes: u64,
    tally: &AccuracyTally,
) -> CompareRow {
    let (mut weights, mut stored, mut energy, mut squared_error) = (0.0, 0.0, 0.0, 0.0);
    let mut tensors = Vec::new();
    for outcome in &quantized.tensors {
        if outcome.quantized.is_none() {
            continue;
        }
        weights += outcome.report.shape.iter().product::<usize>() as f64;
        stored += 8.0 * outcome.report.output_bytes as f64;
        energy += outcome.energy;
        squared_error += outcome.squared_error;
        tensors.push(TensorSqnr {
            name: outcome.tensor.name.to_owned(),
            sqnr_db: finite(sqnr_db(outcome.energy, outcome.squared_error)),
        });
    }
    let per_weight = |total: f64| if weights == 0.0 { 0.0 } else { total / weights };
    CompareRow {
        method: design.method_name(),
        bits: design.bits,
        granularity: design.granularity_name(),
        mse: per_weight(squared_error),
        sqnr_db: finite(sqnr_db(energy, squared_error)),
        bits_per_weight: per_weight(stored),
        output_bytes,
        top1: tally.top1().fraction(),
        agreement: tally.agreement().fraction(),
        tensors,
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Values as elements of the type that `data` has; `None` where that is no
/// float type.
fn like(data: &TensorData, values: Vec<f32>) -> Option<TensorData> {
    match data {
        TensorData::F32(_) => Some(TensorData::F32(values)),
        TensorData::F64(_) => Some(TensorData::F64(values.into_iter().map(f64::from).collect())),
        TensorData::F16(_) => Some(TensorData::F16(
            values.into_iter().map(half::f16::from_f32).collect(),
        )),
        TensorData::Bf16(_) => Some(TensorData::Bf16(
            values.into_iter().map(half::bf16::from_f32).collect(),
        )),
        _ => None,
    }
}

/// Which rows no other row beats: none is at most as large and at least as
/// accurate, and better in one of both. Rows without accuracy are in none.
pub fn pareto_front(rows: &[CompareRow]) -> Vec<bool> {
    let beats = |a: &CompareRow, b: &CompareRow| match (a.top1, b.top1) {
        (Some(top1), Some(other)) => {
            a.output_bytes <= b.output_bytes
                && top1 >= other
                && (a.output_bytes < b.output_bytes || top1 > other)
        }
        _ => false,
    };
    rows.iter()
        .map(|row| row.top1.is_some() && !rows.iter().any(|other| beats(other, row)))
        .collect()
}

/// The rows as comma-separated values under a line of names; empty where
/// there is no value.
pub fn compare_csv(rows: &[CompareRow]) -> String {
    let mut csv = String::from(
        "method,bits,granularity,mse,sqnr_db,bits_per_weight,output_bytes,top1,agreement\n",
    );
    let text = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for row in rows {
        csv.push_str(&format!(
            "{},{},{},{:e},{},{},{},{},{}\n",
            row.method,
            row.bits,
            row.granularity,
            row.mse,
            text(row.sqnr_db),
            row.bits_per_weight,
            row.output_bytes,
            text(row.top1),
            text(row.agreement),
        ));
    }
    csv
}

/// The images of an experiment, decoded once where they fit into memory.
#[derive(Debug)]
struct Images<'a> {
    dataset: &'a Dataset,
    settings: &'a Preprocessing,
    options: BatchOptions,
    decoded: Option<Vec<Batch>>,
    /// Of all that was decoded, and its labels.
    fingerprint: u64,
}

impl Images<'_> {
    /// Decodes all images that will be asked about; returns those that cannot be.
    fn decode(&mut self, go_on: &dyn Fn() -> bool) -> Result<Vec<ImageFailure>, Error> {
        let count = self.options.limit.unwrap_or(usize::MAX);
        let bytes = count
            .min(self.dataset.len())
            .saturating_mul(size_of::<f32>() * self.settings.input_len());
        let fits = bytes <= MAX_DECODED_BYTES;
        let (mut batches, mut failures) = (Vec::new(), Vec::new());
        let mut hash = Fingerprint::default();
        for batch in self.dataset.batches(self.settings, &self.options)? {
            let mut batch = batch?;
            failures.append(&mut batch.failures);
            batch
                .input
                .iter()
                .for_each(|v| hash.word(v.to_bits().into()));
            for label in &batch.labels {
                hash.word(label.map_or(u64::MAX, |class| class as u64));
            }
            if fits && !batch.is_empty() {
                batches.push(batch);
            }
            if !go_on() {
                return Err(Error::Interrupted);
            }
        }
        self.decoded = fits.then_some(batches);
        self.fingerprint = hash.value();
        Ok(failures)
    }

    /// Counts a network's right answers, and those equal to `reference`;
    /// returns the answers too.
    fn ask(
        &self,
        network: &Network,
        reference: Option<&[Option<usize>]>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(AccuracyTally, Vec<Option<usize>>), Error> {
        let mut tally = AccuracyTally::new();
        let mut answers = Vec::new();
        let mut ask = |batch: &Batch| {
            if batch.is_empty() {
                return Ok(());
            }
            let (scores, classes) = network.scores(&batch.input, batch.len(), self.settings)?;
            if answers.is_empty() {
                self.dataset.check_labels(classes)?;
            }
            for (scores, label) in scores.chunks(classes).zip(&batch.labels) {
                let expected = reference.and_then(|reference| reference[answers.len()]);
                tally.add(scores, *label, expected);
                answers.push(argmax(scores));
            }
            if go_on() {
                Ok(())
            } else {
                Err(Error::Interrupted)
            }
        };
        match &self.decoded {
            Some(batches) => batches.iter().try_for_each(ask)?,
            None => {
                for batch in self.dataset.batches(self.settings, &self.options)? {
                    ask(&batch?)?;
                }
            }
        }
        Ok((tally, answers))
    }
}

/// Passes on that the user wants to stop.
struct Stop<'a>(&'a (dyn Fn() -> bool + Sync));

impl Progress for Stop<'_> {
    fn is_cancelled(&self) -> bool {
        !(self.0)()
    }
}

/// Counts bytes and drops them.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(method: &str, bits: u8, output_bytes: u64, top1: Option<f64>) -> CompareRow {
        CompareRow {
            method: method.to_owned(),
            bits,
            granularity: "tensor".to_owned(),
            mse: 1.5e-5,
            sqnr_db: Some(20.0),
            bits_per_weight: f64::from(bits) + 0.1,
            output_bytes,
            top1,
            agreement: top1,
            tensors: vec![TensorSqnr {
                name: "w".to_owned(),
                sqnr_db: Some(20.0),
            }],
        }
    }

    #[test]
    fn the_front_has_what_nothing_beats() {
        let rows = [
            row("best", 4, 100, Some(0.9)),
            row("equal", 4, 100, Some(0.9)),
            row("larger", 4, 101, Some(0.9)),
            row("worse", 4, 100, Some(0.8)),
            row("smaller", 2, 50, Some(0.7)),
            row("largest", 8, 200, Some(0.95)),
            row("unlabelled", 1, 1, None),
        ];
        assert_eq!(
            pareto_front(&rows),
            [true, true, false, false, true, true, false]
        );
        assert!(pareto_front(&[]).is_empty());
    }

    #[test]
    fn csv_leaves_missing_values_empty() {
        let mut exact = row("ks", 8, 100, None);
        exact.sqnr_db = None;
        let csv = compare_csv(&[row("kmeans", 4, 50, Some(0.5)), exact]);
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1], "kmeans,4,tensor,1.5e-5,20,4.1,50,0.5,0.5");
        assert_eq!(lines[2], "ks,8,tensor,1.5e-5,,8.1,100,,");
    }

    #[test]
    fn a_hash_tells_weights_apart() {
        let hash = |values: &[f32]| {
            let mut hash = Fingerprint::default();
            hash.tensor(&TensorData::F32(values.to_vec()));
            hash.value()
        };
        assert_ne!(hash(&[1.0, 2.0]), hash(&[2.0, 1.0]));
        assert_ne!(hash(&[0.0]), hash(&[0.0, 0.0]));
        assert_eq!(hash(&[1.5]), hash(&[1.5]));
    }
}
