//! Models with external data: which files the output has beside it.
//!
//! A file from which no tensor was quantized stays as it is: referred to where
//! the output lies in the input's folder, copied under its name elsewhere. Any
//! other is written anew, named after the output, with the codes (or decoded
//! weights) of quantized tensors and the untouched bytes of all others, aligned
//! as the tensors of the input were.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use campana_codebook::QuantizedTensor;
use campana_formats::encode_f32;
use campana_onnx::schema::tensor::EXTERNAL_DATA;
use campana_onnx::{Content, DataLocation, Edits, ExternalData, MessageId, Model, TensorProto};
use campana_quantize::{Error, ErrorKind};
use campana_tensor::ElementType;

/// Alignment where the input's offsets do not tell one.
const DEFAULT_ALIGNMENT: u64 = 64;

/// The largest alignment that is kept: what ONNX recommends for mapping on
/// every system.
const MAX_ALIGNMENT: u64 = 1 << 16;

/// A file beside the output model.
#[derive(Debug)]
pub struct DataFile<'a> {
    /// Path relative to the output model's folder.
    pub location: String,
    /// The input's file that it takes the place of.
    pub origin: PathBuf,
    model: &'a Model,
    alignment: u64,
    /// Pieces and where they begin, ascending.
    pieces: Vec<(u64, Piece<'a>)>,
    len: u64,
    whole: bool,
}

#[derive(Debug)]
enum Piece<'a> {
    /// The bytes of a tensor that stays as it is.
    Kept(&'a TensorProto),
    Codes(Vec<u8>),
    Values(NewValues<'a>, ElementType),
}

/// Float values that take the place of a tensor's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewValues<'a> {
    /// Weights as they are decoded: as large as the tensor, so they are made
    /// only when they are written.
    Decoded(&'a QuantizedTensor),
    /// These.
    Given(&'a [f32]),
}

impl NewValues<'_> {
    /// The values as stored, row-major.
    pub(crate) fn to_bytes(self, element_type: ElementType) -> Vec<u8> {
        match self {
            Self::Decoded(tensor) => encode_f32(&tensor.dequantize(), element_type),
            Self::Given(values) => encode_f32(values, element_type),
        }
    }
}

/// The external files of a model that is being changed.
#[derive(Debug)]
pub(crate) struct ExternalOutput<'a> {
    /// New files by the input's location.
    files: BTreeMap<String, DataFile<'a>>,
}

/// Where input and output lie.
#[derive(Clone, Debug)]
pub struct Placement {
    /// File name of the input model.
    pub input_name: String,
    /// File name of the output model.
    pub output_name: String,
    /// Whether both are in the same folder.
    pub same_folder: bool,
}

impl Placement {
    /// The placement of two paths.
    pub fn of(input: &Path, output: &Path) -> Self {
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let folder = |path: &Path| match path.parent() {
            Some(folder) if folder != Path::new("") => folder.canonicalize().ok(),
            _ => Path::new(".").canonicalize().ok(),
        };
        Self {
            input_name: name(input),
            output_name: name(output),
            same_folder: folder(input).is_some() && folder(input) == folder(output),
        }
    }

    /// The name of a new file in the place of `location`.
    fn renamed(&self, location: &str) -> String {
        let (folder, name) = location
            .rsplit_once('/')
            .map_or(("", location), |(f, n)| (f, n));
        let stem = |name: &str| {
            name.rsplit_once('.')
                .map_or(name.to_owned(), |(stem, _)| stem.to_owned())
        };
        let (input_stem, output_stem) = (stem(&self.input_name), stem(&self.output_name));
        let renamed = if let Some(rest) = name.strip_prefix(&self.input_name) {
            format!("{}{rest}", self.output_name)
        } else if let Some(rest) = name
            .strip_prefix(&input_stem)
            .filter(|_| !input_stem.is_empty())
        {
            format!("{output_stem}{rest}")
        } else {
            format!("{output_stem}.{name}")
        };
        if folder.is_empty() {
            renamed
        } else {
            format!("{folder}/{renamed}")
        }
    }
}

impl<'a> ExternalOutput<'a> {
    /// Decides about every external file of a model. `changed` are the tensors
    /// that get other data.
    pub(crate) fn plan(
        model: &'a Model,
        edits: &mut Edits<'a>,
        changed: &[MessageId],
        placement: &Placement,
    ) -> Result<Self, Error> {
        let mut by_location: BTreeMap<&str, Vec<(&ExternalData, &'a TensorProto)>> =
            BTreeMap::new();
        for tensor in model.tensors() {
            if let DataLocation::External(external) = &tensor.data {
                by_location
                    .entry(&external.location)
                    .or_default()
                    .push((external, tensor));
            }
        }
        let mut files = BTreeMap::new();
        for (location, mut tensors) in by_location {
            tensors.sort_by_key(|(external, _)| external.offset);
            let rewritten = tensors
                .iter()
                .any(|(_, tensor)| changed.contains(&tensor.message));
            if !rewritten && placement.same_folder {
                continue;
            }
            let origin = model
                .external_path(tensors[0].1)
                .map_err(missing)?
                .expect("the tensor's data is external");
            let mut file = DataFile {
                location: if rewritten {
                    placement.renamed(location)
                } else {
                    location.to_owned()
                },
                origin,
                model,
                alignment: alignment(tensors.iter().map(|(external, _)| external.offset)),
                pieces: Vec::new(),
                len: 0,
                whole: !rewritten,
            };
            if rewritten {
                file.take_over(edits, &tensors, changed)?;
            }
            files.insert(location.to_owned(), file);
        }
        Ok(Self { files })
    }

    /// Puts the codes of a tensor into the file where its weights were; where
    /// that was the model itself, `None` and the bytes.
    pub(crate) fn add_codes(
        &mut self,
        origin: &TensorProto,
        codes: Vec<u8>,
    ) -> Result<ExternalData, Vec<u8>> {
        match self.file_of(origin) {
            Some(file) => {
                let len = codes.len() as u64;
                Ok(file.push(len, Piece::Codes(codes)))
            }
            None => Err(codes),
        }
    }

    /// Puts new values of a tensor into the file where the old ones were;
    /// `None` where that was the model itself.
    pub(crate) fn add_values(
        &mut self,
        origin: &TensorProto,
        values: NewValues<'a>,
        len: u64,
    ) -> Option<ExternalData> {
        let element_type = origin.element_type;
        self.file_of(origin)
            .map(|file| file.push(len, Piece::Values(values, element_type)))
    }

    fn file_of(&mut self, tensor: &TensorProto) -> Option<&mut DataFile<'a>> {
        match &tensor.data {
            DataLocation::External(external) => self.files.get_mut(&external.location),
            _ => None,
        }
    }

    pub(crate) fn into_files(self) -> Vec<DataFile<'a>> {
        self.files.into_values().collect()
    }
}

impl<'a> DataFile<'a> {
    /// Moves the tensors that stay as they are into this file.
    fn take_over(
        &mut self,
        edits: &mut Edits<'a>,
        tensors: &[(&ExternalData, &'a TensorProto)],
        changed: &[MessageId],
    ) -> Result<(), Error> {
        // Tensors may share their bytes; they still do afterwards.
        let mut moved: HashMap<(u64, u64), ExternalData> = HashMap::new();
        for (external, tensor) in tensors {
            if changed.contains(&tensor.message) {
                continue;
            }
            let len = self.model.external_len(tensor).map_err(missing)?;
            let place = moved
                .entry((external.offset, len))
                .or_insert_with(|| self.push(len, Piece::Kept(tensor)));
            set_external(self.model, edits, tensor, place)?;
        }
        Ok(())
    }

    fn push(&mut self, len: u64, piece: Piece<'a>) -> ExternalData {
        let offset = self.len.next_multiple_of(self.alignment);
        self.pieces.push((offset, piece));
        self.len = offset + len;
        ExternalData {
            location: self.location.clone(),
            offset,
            length: Some(len),
            checksum: None,
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// Where reading the input or writing fails.
    pub fn write(self, mut out: &mut dyn Write) -> Result<(), Error> {
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Io, format!("cannot write '{}'", self.location))
                .with_source(error)
        };
        if self.whole {
            let mut input = std::fs::File::open(&self.origin).map_err(failed)?;
            io::copy(&mut input, &mut out).map_err(failed)?;
            return Ok(());
        }
        let mut written = 0;
        for (offset, piece) in &self.pieces {
            let padding = vec![0; (offset - written) as usize];
            out.write_all(&padding).map_err(failed)?;
            let mut counted = Counted { out, len: 0 };
            match piece {
                Piece::Kept(tensor) => self
                    .model
                    .copy_external(tensor, &mut counted)
                    .map_err(missing)?,
                Piece::Codes(codes) => counted.write_all(codes).map_err(failed)?,
                Piece::Values(values, element_type) => counted
                    .write_all(&values.to_bytes(*element_type))
                    .map_err(failed)?,
            }
            written = offset + counted.len;
        }
        Ok(())
    }
}

struct Counted<'w> {
    out: &'w mut dyn Write,
    len: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Says where a tensor's data is now; its other fields stay.
pub(crate) fn set_external<'a>(
    model: &'a Model,
    edits: &mut Edits<'a>,
    tensor: &TensorProto,
    place: &ExternalData,
) -> Result<(), Error> {
    let mut fields = Some(external_fields(place));
    for run in model.fields(tensor.message).map_err(missing)? {
        if run.number == EXTERNAL_DATA {
            edits.replace_fields(tensor.message, run.span, fields.take().unwrap_or_default());
        }
    }
    Ok(())
}

/// The entries that say where a tensor's data is.
fn external_fields(place: &ExternalData) -> Content<'static> {
    let entries = [
        ("location", Some(place.location.clone())),
        ("offset", Some(place.offset.to_string())),
        ("length", place.length.map(|length| length.to_string())),
    ];
    let mut fields = Content::default();
    for (key, value) in entries {
        if let Some(value) = value {
            // StringStringEntryProto: key = 1, value = 2.
            let entry = Content::default().string(1, key).string(2, &value);
            fields = fields.message(EXTERNAL_DATA, entry);
        }
    }
    fields
}

/// The largest power of two that all offsets are multiples of.
fn alignment(offsets: impl Iterator<Item = u64>) -> u64 {
    let bits = offsets.fold(0, |bits, offset| bits | offset);
    if bits == 0 {
        return DEFAULT_ALIGNMENT;
    }
    (1 << bits.trailing_zeros()).min(MAX_ALIGNMENT)
}

fn missing(error: campana_onnx::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot read the model's external data").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_data_files_are_named_after_the_output() {
        let placement = Placement {
            input_name: "net.onnx".to_owned(),
            output_name: "small.onnx".to_owned(),
            same_folder: true,
        };
        let names = [
            "net.onnx.data",
            "net.bin",
            "weights.pb",
            "data/net.onnx_data",
        ]
        .map(|name| placement.renamed(name));
        assert_eq!(
            names,
            [
                "small.onnx.data",
                "small.bin",
                "small.weights.pb",
                "data/small.onnx_data"
            ]
        );
    }

    #[test]
    fn alignment_is_what_all_offsets_share() {
        assert_eq!(alignment([0, 4096, 12288].into_iter()), 4096);
        assert_eq!(alignment([0, 12].into_iter()), 4);
        assert_eq!(alignment([0].into_iter()), DEFAULT_ALIGNMENT);
    }
}
