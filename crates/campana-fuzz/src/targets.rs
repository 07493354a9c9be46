//! What is done with a mutated file.

use std::time::Duration;

use campana_codebook::{Codebook, Packing, VectorCodes};
use campana_container::Piece;
use campana_eval::{CompareJournal, Dataset, DatasetFormat, DatasetOptions, RgbImage, Sidecar};
use campana_formats::TensorFile;
use campana_ir::format::{container as model_container, onnx as graph_format};
use campana_ir::weights::constant_tensors;
use campana_onnx::{Edits, Model, Source};
use campana_quantize::Plan;
use campana_tensor::Limits;

use crate::{corpus, graphs, repair};

/// A reader or a round trip, with the files that it starts from.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What the command calls it.
    pub name: &'static str,
    /// Sound files.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads a file; panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Bytes that come to the file around the input.
    pub added_len: usize,
    /// How long one execution may take, in an unoptimized build on a machine
    /// that is busy.
    pub max_time: Duration,
}

impl Target {
    /// The length of the file that an input stands for.
    pub fn file_len(&self, input: &[u8]) -> usize {
        input.len() + self.added_len
    }
}

const fn target(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, run: fn(&[u8])) -> Target {
    Target {
        name,
        seeds,
        run,
        added_len: 0,
        max_time: Duration::from_secs(2),
    }
}

/// All targets.
pub fn targets() -> Vec<Target> {
    vec![
        target(
            "onnx",
            || vec![corpus::onnx(), corpus::quantized_onnx()],
            onnx,
        ),
        target("external", || vec![corpus::external_onnx()], external),
        target(
            "safetensors",
            || vec![corpus::safetensors()],
            |bytes| {
                tensors("m.safetensors", bytes);
            },
        ),
        target(
            "npy",
            || vec![corpus::npy()],
            |bytes| tensors("m.npy", bytes),
        ),
        target(
            "npz",
            || vec![corpus::npz()],
            |bytes| tensors("m.npz", bytes),
        ),
        target(
            "pickle",
            || vec![corpus::pickle()],
            |bytes| {
                tensors("m.pt", &corpus::pytorch(bytes));
            },
        ),
        target(
            "pytorch",
            || vec![corpus::pytorch(&corpus::pickle())],
            |bytes| tensors("m.pt", bytes),
        ),
        target(
            "pytorch-legacy",
            || vec![corpus::pytorch_legacy()],
            |bytes| {
                tensors("m.pt", bytes);
            },
        ),
        target("container", || vec![corpus::container()], container),
        target(
            "packed-model",
            || vec![corpus::onnx(), corpus::quantized_onnx()],
            packed_model,
        ),
        target("plan", || vec![corpus::plan()], plan),
        target("sidecar", || vec![corpus::sidecar()], sidecar),
        target("journal", || vec![corpus::journal()], journal),
        target("cifar", || vec![corpus::cifar()], cifar),
        target("labels", || vec![corpus::labels()], labels),
        target(
            "png",
            || vec![corpus::png()],
            |bytes| picture(&repair::png(bytes)),
        ),
        target("jpeg", corpus::jpegs, picture),
        target("packing", || vec![(0..=255).collect()], packing),
        target(
            "codebook",
            || vec![crate::little_endian::floats(&[-1.0, 0.5, 2.0, 0.1, 3.0])],
            codebook,
        ),
        Target {
            added_len: 1 << 14,
            max_time: Duration::from_secs(20),
            ..target("graphs", || vec![vec![0; 8]], graphs::run)
        },
    ]
}

/// Reads a model, every tensor of it and its graph; writes it again.
fn onnx(bytes: &[u8]) {
    let source = Source::from_bytes(bytes.to_vec());
    let Ok(model) = Model::parse_within(source, &Limits::DEFAULT) else {
        return;
    };
    for tensor in model.tensors() {
        let _ = model.read_tensor(tensor);
    }
    let _ = constant_tensors(&model);
    let mut out = Vec::new();
    if Edits::new(&model).write(&mut out).is_ok() {
        assert_eq!(out, bytes, "a model without edits is written as it was");
    }
    drop(out);
    let _ = graph_format::graph(&model);
}

/// The same with a file of data beside it.
fn external(bytes: &[u8]) {
    let (Some(len), Ok(folder)) = (bytes.first_chunk::<4>(), tempfile::tempdir()) else {
        return;
    };
    let len = u32::from_le_bytes(*len) as usize;
    let rest = &bytes[4..];
    let (model, data) = rest.split_at(len.min(rest.len()));
    let path = folder.path().join("m.onnx");
    let written = std::fs::write(&path, model)
        .and_then(|()| std::fs::write(folder.path().join("data.bin"), data));
    if written.is_err() {
        return;
    }
    let Ok(model) = Model::open_within(&path, &Limits::DEFAULT) else {
        return;
    };
    for tensor in model.tensors() {
        let _ = model.read_tensor(tensor);
        let _ = model.external_len(tensor);
    }
    let _ = graph_format::graph(&model);
}

/// Reads a file of tensors, all of them; writes it again with the values it
/// had, which must then be the same.
fn tensors(name: &str, bytes: &[u8]) {
    let read = |bytes: Vec<u8>| TensorFile::from_bytes(name, bytes, &Limits::DEFAULT);
    let Ok(file) = read(bytes.to_vec()) else {
        return;
    };
    let mut sound = true;
    for tensor in file.tensors() {
        sound &= file.read_bytes(tensor).is_ok();
        if tensor.is_float() {
            let _ = file.read_f32(tensor);
        }
    }
    let mut out = std::io::Cursor::new(Vec::new());
    let rewritten = file.rewrite::<campana_formats::Error>(&mut out, &mut |tensor| {
        file.read_bytes(tensor).map(Some)
    });
    if rewritten.is_err() || !sound {
        return;
    }
    let again = read(out.into_inner());
    let again = again.unwrap_or_else(|error| panic!("what was written is no file: {error}"));
    assert_eq!(file.tensors().len(), again.tensors().len());
    for (before, after) in file.tensors().iter().zip(again.tensors()) {
        assert_eq!(file.read_bytes(before).ok(), again.read_bytes(after).ok());
    }
}

/// Unpacks a container under a right checksum, and packs what comes out.
fn container(bytes: &[u8]) {
    let container = repair::container(bytes);
    let Ok(file) = campana_container::unpack(&container, &Limits::DEFAULT) else {
        return;
    };
    assert_eq!(campana_container::unpacked_len(&container), Ok(file.len()));
    let small = &file[..file.len().min(1 << 16)];
    let again = campana_container::pack(&[Piece::Text(small)]);
    let again = campana_container::unpack(&again, &Limits::with_max_memory(1 << 30));
    assert_eq!(again.as_deref(), Ok(small));
}

/// Packs a model and unpacks it.
fn packed_model(bytes: &[u8]) {
    let source = Source::from_bytes(bytes.to_vec());
    let Ok(model) = Model::parse_within(source, &Limits::DEFAULT) else {
        return;
    };
    if let Ok(container) = model_container::pack(&model) {
        let file = model_container::unpack_within(&container, &Limits::DEFAULT);
        assert_eq!(file.ok().as_deref(), Some(bytes));
    }
}

fn plan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(plan) = Plan::parse(text) {
        let again = Plan::parse(&plan.to_string());
        assert_eq!(
            again.map(|plan| plan.to_string()).ok(),
            Some(plan.to_string())
        );
    }
}

fn sidecar(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(sidecar) = Sidecar::parse(text, "m.json")
    {
        let input_len = sidecar.preprocessing.input_len();
        assert!(input_len <= 3 * Limits::DEFAULT.max_pixels);
    }
}

fn journal(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let records: Vec<String> = text.lines().map(str::to_owned).collect();
        if let Ok(Some(journal)) = CompareJournal::read(&records) {
            assert!(journal.rows.len() < records.len());
        }
    }
}

fn cifar(bytes: &[u8]) {
    for format in [
        None,
        Some(DatasetFormat::Cifar10),
        Some(DatasetFormat::Cifar100),
    ] {
        let options = DatasetOptions {
            format,
            ..DatasetOptions::default()
        };
        let Ok(dataset) = Dataset::from_cifar_bytes(bytes.to_vec(), "d", &options) else {
            continue;
        };
        for index in 0..dataset.len() {
            assert!(dataset.label(index).is_some_and(|label| label < 100));
            let _ = dataset.image(index);
        }
    }
}

/// Reads a list of labels beside no pictures at all.
fn labels(bytes: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    if std::fs::write(folder.path().join("labels.tsv"), bytes).is_err() {
        return;
    }
    if let Ok(dataset) = Dataset::open(folder.path()) {
        for index in 0..dataset.len() {
            assert!(!dataset.image_name(index).starts_with('/'));
            assert!(dataset.image(index).is_err(), "there are no pictures");
        }
    }
}

fn picture(bytes: &[u8]) {
    if let Ok(image) = RgbImage::decode_within(bytes, "p", &Limits::DEFAULT) {
        assert_eq!(image.pixels().len(), 3 * image.width() * image.height());
    }
}

/// Packs codes in every way and unpacks them; unpacks any bytes.
fn packing(bytes: &[u8]) {
    vector_packing(bytes);
    for levels in [2, 3, 4, 6, 8, 16, 32, 64, 128, 256] {
        let packing = Packing::densest(levels);
        let codes: Vec<u8> = bytes
            .iter()
            .map(|&b| (usize::from(b) % levels) as u8)
            .collect();
        let mut packed = vec![0; packing.len_bytes(codes.len())];
        packing.pack(&codes, &mut packed);
        assert_eq!(
            packing.unpack(&packed, codes.len()),
            codes,
            "{levels} levels"
        );
        assert!(packing.are_below(&packed, codes.len(), levels));
        let planes = packing.planes();
        let whole = &bytes[..bytes.len() / planes * planes];
        let count = whole.len() / planes * packing.codes_per_byte();
        assert_eq!(packing.unpack(whole, count).len(), count);
    }
}

/// Vectors of the first bytes, and the other bytes as their numbers.
fn vector_packing(bytes: &[u8]) {
    for dimension in [2, 4, 8] {
        let (table, numbers) = bytes.split_at(bytes.len().min(256 * dimension));
        let table = table[..table.len() / dimension * dimension].to_vec();
        let Some(vectors) = VectorCodes::new(table, dimension) else {
            continue;
        };
        let packing = Packing::Vectors(vectors);
        let codes = packing.unpack(numbers, numbers.len() * dimension);
        // Equal vectors have several numbers.
        let mut packed = vec![0; numbers.len()];
        packing.pack(&codes, &mut packed);
        assert_eq!(packing.unpack(&packed, codes.len()), codes);
        let bound = codes.iter().max().map_or(1, |&most| usize::from(most) + 1);
        assert!(packing.are_below(numbers, codes.len(), bound));
    }
}

/// Makes a codebook of any floats and assigns them: each gets the level that
/// is nearest, and a level gets itself.
fn codebook(bytes: &[u8]) {
    let values: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let (levels, weights) = values.split_at(values.len().min(1 + values.len() / 2));
    let Ok(codebook) = Codebook::new(levels.to_vec()) else {
        return;
    };
    let weights: Vec<f32> = weights.iter().copied().filter(|w| w.is_finite()).collect();
    let mut codes = vec![0; weights.len()];
    codebook.assign(&weights, &mut codes);
    let distance = |weight: f32, level: f32| (f64::from(weight) - f64::from(level)).abs();
    for (&weight, &code) in weights.iter().zip(&codes) {
        let found = distance(weight, codebook.levels()[usize::from(code)]);
        let nearest = codebook
            .levels()
            .iter()
            .map(|&level| distance(weight, level));
        let nearest = nearest.fold(f64::INFINITY, f64::min);
        // Thresholds are floats: a weight beside one may fall to either side.
        let rounding = f64::from(f32::EPSILON) * (f64::from(weight.abs()) + found);
        assert!(
            found <= nearest + 2.0 * rounding,
            "{weight}: {found}, not {nearest}"
        );
    }
}
