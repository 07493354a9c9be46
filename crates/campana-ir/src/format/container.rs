//! ONNX models in the entropy-coded container, and out of it byte for byte.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use campana_codebook::Packing;
use campana_container::{Limits, MAGIC, Piece};
use campana_onnx::{DataLocation, Graph, Model, Source, Span, TensorProto};
use campana_tensor::ElementType;

use super::{Error, ErrorKind, Result, onnx};

/// Payloads below this many bytes stay among the text.
const MIN_PAYLOAD: u64 = 16;

/// Kinds of values, by what reads them: those of one kind are alike.
const OTHER: usize = 0;
const NORMALIZATION: usize = 1;
const BIAS: usize = 5;

/// The model as a container: codes, weights and other values entropy-coded,
/// all else compressed.
///
/// # Errors
///
/// Where the model keeps data in files beside it, which a container would
/// leave behind, or cannot be read.
pub fn pack(model: &Model) -> Result<Vec<u8>> {
    let external = |tensor: &&&TensorProto| matches!(tensor.data, DataLocation::External(_));
    let tensors = model.tensors();
    if let Some(tensor) = tensors.iter().find(external) {
        return Err(Error::unsupported(format!(
            "tensor '{}' is in a file beside the model, and a container holds one file; store the \
             model with its data inside first",
            tensor.name
        )));
    }
    let bytes = model.source().read(model.source().span())?;
    let payloads = payloads(model, &tensors);
    let forms = code_forms(model);
    let kinds = kinds(&model.graph);
    let at = |span: Span| &bytes[span.start as usize..span.end as usize];
    let mut pieces = Vec::new();
    let mut done = 0;
    for (start, (span, tensor)) in payloads {
        if start < done {
            continue;
        }
        let payload = at(span);
        let piece = match (forms.get(payload), tensor.element_type.bits()) {
            (Some((packing, row_len)), _) => Piece::Codes {
                packed: payload,
                packing: packing.clone(),
                row_len: *row_len,
            },
            (None, Some(bits)) if is_number(tensor.element_type) => Piece::Values {
                bytes: payload,
                width: bits / 8,
                kind: kinds.get(tensor.name.as_str()).copied().unwrap_or(OTHER),
            },
            _ => continue,
        };
        pieces.push(Piece::Text(at(Span {
            start: done,
            end: start,
        })));
        pieces.push(piece);
        done = span.end;
    }
    pieces.push(Piece::Text(at(Span {
        start: done,
        end: bytes.len() as u64,
    })));
    Ok(campana_container::pack(&pieces))
}

/// Whether these bytes begin as a container does.
pub fn is_container(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The ONNX model in a container, byte for byte.
///
/// # Errors
///
/// Where the container is damaged, of a later version, or exceeds the limits
/// of the process.
pub fn unpack(container: &[u8]) -> Result<Vec<u8>> {
    unpack_within(container, &Limits::global())
}

/// As [`unpack`], within these limits rather than the process's.
///
/// # Errors
///
/// As [`unpack`].
pub fn unpack_within(container: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    campana_container::unpack(container, limits).map_err(|error| {
        use campana_container::ErrorKind as Container;
        let kind = match error.kind() {
            Container::Unsupported => ErrorKind::Unsupported,
            Container::Limit => ErrorKind::Limit,
            _ => ErrorKind::Malformed,
        };
        Error::new(kind, error.to_string())
    })
}

/// Opens the model in a file, which is ONNX or a container of it; the latter
/// is unpacked in memory.
///
/// # Errors
///
/// Where the file cannot be read or is neither.
pub fn open(path: impl AsRef<Path>) -> Result<Model> {
    open_within(path, &Limits::global())
}

/// As [`open`], within these limits rather than the process's.
///
/// # Errors
///
/// As [`open`].
pub fn open_within(path: impl AsRef<Path>, limits: &Limits) -> Result<Model> {
    let source = Source::open(path.as_ref())?;
    let mut magic = [0; MAGIC.len()];
    if source.len() < magic.len() as u64 || source.len() > limits.max_memory as u64 {
        return Ok(Model::open_within(path, limits)?);
    }
    source.read_at(0, &mut magic)?;
    if !is_container(&magic) {
        return Ok(Model::open_within(path, limits)?);
    }
    parse_within(source.read(source.span())?, limits)
}

/// The model in the bytes of a file, which is ONNX or a container of it. What
/// an ONNX model keeps in other files is not found.
///
/// # Errors
///
/// Where the bytes are neither, or exceed the limits.
pub fn parse_within(file: Vec<u8>, limits: &Limits) -> Result<Model> {
    let file = match is_container(&file) {
        true => unpack_within(&file, limits)?,
        false => file,
    };
    Ok(Model::parse_within(Source::from_bytes(file), limits)?)
}

/// Where tensors' elements lie in the file, in order.
fn payloads<'m>(
    model: &Model,
    tensors: &[&'m TensorProto],
) -> BTreeMap<u64, (Span, &'m TensorProto)> {
    let whole = model.source().span();
    let found = tensors.iter().filter_map(|tensor| match tensor.data {
        DataLocation::Raw(span) if span.len() >= MIN_PAYLOAD && whole.contains(span) => {
            Some((span.start, (span, *tensor)))
        }
        _ => None,
    });
    found.collect()
}

fn is_number(element_type: ElementType) -> bool {
    element_type
        .bits()
        .is_some_and(|bits| bits.is_multiple_of(8) && (8..=64).contains(&bits))
        && element_type != ElementType::U8
}

/// How packed codes lie, and how long a row of them is, by their bytes. Empty
/// where the model's graph cannot be understood: then they are mere bytes.
fn code_forms(model: &Model) -> HashMap<Vec<u8>, (Packing, usize)> {
    let Ok(graph) = onnx::graph(model) else {
        return HashMap::new();
    };
    let forms = graph.quantized.into_values().map(|tensor| {
        let rows = tensor.shape.first().copied().unwrap_or(1).max(1);
        let row_len = (tensor.partition.len() / rows).max(1);
        let form = match tensor.packing {
            // The coder sees the numbers of vectors.
            Packing::Vectors(vectors) => {
                let row_len = row_len.div_ceil(vectors.dimension());
                (Packing::PLAIN, row_len)
            }
            packing => (packing, row_len),
        };
        (tensor.packed, form)
    });
    forms.collect()
}

/// What constants are for, by their names.
fn kinds(graph: &Graph) -> HashMap<&str, usize> {
    let mut kinds = HashMap::new();
    for node in &graph.nodes {
        for (input, name) in node.inputs.iter().enumerate().skip(1) {
            let kind = match (&*node.op_type, input) {
                ("BatchNormalization", 1..=4) => NORMALIZATION + input - 1,
                ("Conv" | "Gemm", 2) => BIAS,
                _ => continue,
            };
            kinds.insert(name.as_str(), kind);
        }
    }
    kinds
}
