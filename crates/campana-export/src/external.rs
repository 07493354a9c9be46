//! Models with external data: which files the output has beside it.
//!
//! A file from which no tensor was quantized stays as it is: referred to where
//! the output lies in the input's folder, copied under its name elsewhere where
//! no other file has that name. Any other is written anew, with the codes (or
//! decoded weights) of quantized tensors and the untouched bytes of all others,
//! aligned as the tensors of the input were.
//!
//! A new file is named after the output and a digest of its content
//! ([`Placement::name_with_digest`]): no two contents get one name, so that an
//! older model beside it keeps finding the data it was written with. The digest
//! is known when the file is written, before the model that refers to it:
//! a model is made twice, first for its data files, then with their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

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

/// Digits of a digest in a file's name.
const DIGEST_DIGITS: usize = 16;

/// Bytes that are compared at once.
const COMPARED_AT_ONCE: usize = 1 << 20;

/// A file beside the output model.
#[derive(Debug)]
pub struct DataFile<'a> {
    /// Path relative to the output model's folder. A file that is written anew
    /// has its digest in it where the placement has one.
    pub location: String,
    /// The input's file that it takes the place of.
    pub origin: PathBuf,
    /// The name that a digest is to be put into; `None` where the file is a
    /// copy of [`origin`](Self::origin) and keeps its name.
    pub planned: Option<String>,
    model: &'a Model,
    alignment: u64,
    /// Pieces and where they begin, ascending.
    pieces: Vec<(u64, Piece<'a>)>,
    len: u64,
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
    files: Vec<DataFile<'a>>,
    /// The positions of those that are written anew, by the input's locations.
    written: HashMap<&'a str, usize>,
}

/// Where input and output lie, and what their data files are called.
#[derive(Clone, Debug)]
pub struct Placement {
    /// File name of the input model.
    pub input_name: String,
    /// File name of the output model.
    pub output_name: String,
    /// Whether both are in the same folder.
    pub same_folder: bool,
    /// Folder of the output model.
    folder: PathBuf,
    /// Digests of the data files that are written already, by planned names.
    digests: BTreeMap<String, u64>,
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
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let canonical = |path: &Path| folder(path).canonicalize().ok();
        Self {
            input_name: name(input),
            output_name: name(output),
            same_folder: canonical(input).is_some() && canonical(input) == canonical(output),
            folder: folder(output),
            digests: BTreeMap::new(),
        }
    }

    /// The same, with the digests of data files by their planned names.
    #[must_use]
    pub fn with_digests(self, digests: BTreeMap<String, u64>) -> Self {
        Self { digests, ..self }
    }

    /// A name with a digest before its last dot: what files of other contents
    /// are not called.
    pub fn name_with_digest(name: &str, digest: u64) -> String {
        let (folder, file) = split(name);
        let file = match file.rsplit_once('.') {
            Some((stem, extension)) => format!("{stem}.{digest:016x}.{extension}"),
            None => format!("{file}.{digest:016x}"),
        };
        format!("{folder}{file}")
    }

    /// The digest in the name of a file that was written for this output;
    /// `None` in any other name.
    pub fn digest_in(&self, name: &str) -> Option<u64> {
        let (_, file) = split(name);
        let rest = file.strip_prefix(stem(&self.output_name))?;
        let is_digest = |part: &&str| {
            part.len() == DIGEST_DIGITS && part.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let digest = rest.rsplit('.').take(2).find(is_digest)?;
        u64::from_str_radix(digest, 16).ok()
    }

    /// What a new file in the place of `location` is called.
    fn planned(&self, location: &str) -> String {
        let (folder, name) = split(location);
        let (input_stem, output_stem) = (stem(&self.input_name), stem(&self.output_name));
        let renamed = if let Some(rest) = name.strip_prefix(&self.input_name) {
            format!("{}{rest}", self.output_name)
        } else if let Some(rest) = name
            .strip_prefix(input_stem)
            .filter(|_| !input_stem.is_empty())
        {
            format!("{output_stem}{rest}")
        } else {
            format!("{output_stem}.{name}")
        };
        format!("{folder}{renamed}")
    }

    /// Whether a copy of the input's file `origin` can be called `location`:
    /// nothing else has that name.
    fn is_free(&self, location: &str, origin: &Path) -> bool {
        let path = self.folder.join(location);
        location != self.output_name
            && (path.symlink_metadata().is_err() || is_same_content(&path, origin))
    }
}

/// A location's folder, with its slash, and its file.
fn split(location: &str) -> (&str, &str) {
    location.split_at(location.rfind('/').map_or(0, |slash| slash + 1))
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Whether two regular files hold the same bytes.
pub fn is_same_content(one: &Path, other: &Path) -> bool {
    let open = |path: &Path| {
        let metadata = std::fs::metadata(path)
            .ok()
            .filter(std::fs::Metadata::is_file)?;
        Some((metadata.len(), File::open(path).ok()?))
    };
    let (Some((len, mut one)), Some((other_len, mut other))) = (open(one), open(other)) else {
        return false;
    };
    if len != other_len {
        return false;
    }
    let mut buffers = [Vec::new(), Vec::new()];
    loop {
        for (buffer, file) in buffers.iter_mut().zip([&mut one, &mut other]) {
            buffer.clear();
            let read = file.take(COMPARED_AT_ONCE as u64).read_to_end(buffer);
            if read.is_err() {
                return false;
            }
        }
        if buffers[0] != buffers[1] {
            return false;
        }
        if buffers[0].is_empty() {
            return true;
        }
    }
}

/// One file of the input and the tensors in it.
#[derive(Default)]
struct InputFile<'a> {
    tensors: Vec<(&'a ExternalData, &'a TensorProto)>,
}

impl<'a> InputFile<'a> {
    /// The files of a model, by path: one file under two spellings is one.
    fn all(model: &'a Model) -> BTreeMap<PathBuf, Self> {
        let mut files: BTreeMap<PathBuf, Self> = BTreeMap::new();
        for tensor in model.tensors() {
            if let DataLocation::External(external) = &tensor.data {
                let found = model.external_path(tensor).ok().flatten();
                let path = found.unwrap_or_else(|| PathBuf::from(&external.location));
                files
                    .entry(path)
                    .or_default()
                    .tensors
                    .push((external, tensor));
            }
        }
        for file in files.values_mut() {
            file.tensors.sort_by_key(|(external, _)| external.offset);
        }
        files
    }

    /// The names under which its tensors refer to it, in their plain form.
    fn locations(&self) -> BTreeSet<String> {
        let locations = self.tensors.iter();
        locations
            .map(|(external, _)| plain_location(&external.location))
            .collect()
    }
}

/// A location without `./` and doubled slashes.
fn plain_location(location: &str) -> String {
    let parts = Path::new(location).components();
    let parts = parts.filter(|part| !matches!(part, Component::CurDir));
    let parts = parts.map(|part| part.as_os_str().to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
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
        let mut output = Self {
            files: Vec::new(),
            written: HashMap::new(),
        };
        let mut planned_names = BTreeSet::new();
        for input in InputFile::all(model).values() {
            let tensors = &input.tensors;
            let is_changed = tensors
                .iter()
                .any(|(_, tensor)| changed.contains(&tensor.message));
            if !is_changed && placement.same_folder {
                continue;
            }
            let origin = model
                .external_path(tensors[0].1)
                .map_err(missing)?
                .expect("the tensor's data is external");
            let locations = input.locations();
            let is_free = |location: &String| placement.is_free(location, &origin);
            if !is_changed && locations.iter().all(is_free) {
                let copies = locations
                    .into_iter()
                    .map(|location| DataFile::copy(model, location, &origin));
                output.files.extend(copies);
                continue;
            }
            let location = locations.first().map(String::as_str).unwrap_or_default();
            let mut planned = placement.planned(location);
            // Digests are by planned names, so these differ.
            while !planned_names.insert(planned.clone()) {
                planned.push('_');
            }
            let mut file = DataFile::new(model, planned, origin, placement);
            file.alignment = alignment(tensors.iter().map(|(external, _)| external.offset));
            file.take_over(edits, tensors, changed)?;
            let position = output.files.len();
            for (external, _) in tensors {
                output.written.insert(&external.location, position);
            }
            output.files.push(file);
        }
        Ok(output)
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
            DataLocation::External(external) => {
                let position = *self.written.get(external.location.as_str())?;
                self.files.get_mut(position)
            }
            _ => None,
        }
    }

    pub(crate) fn into_files(self) -> Vec<DataFile<'a>> {
        self.files
    }
}

impl<'a> DataFile<'a> {
    /// A file that is written anew.
    fn new(model: &'a Model, planned: String, origin: PathBuf, placement: &Placement) -> Self {
        let digest = placement.digests.get(&planned).copied();
        Self {
            location: Placement::name_with_digest(&planned, digest.unwrap_or_default()),
            origin,
            planned: Some(planned),
            model,
            alignment: DEFAULT_ALIGNMENT,
            pieces: Vec::new(),
            len: 0,
        }
    }

    /// A copy of a file of the input.
    fn copy(model: &'a Model, location: String, origin: &Path) -> Self {
        Self {
            location,
            origin: origin.to_owned(),
            planned: None,
            model,
            alignment: DEFAULT_ALIGNMENT,
            pieces: Vec::new(),
            len: 0,
        }
    }

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
        if self.planned.is_none() {
            let mut input = File::open(&self.origin).map_err(failed)?;
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
    fn new_data_files_are_named_after_the_output_and_their_content() {
        let placement = Placement::of("net.onnx".as_ref(), "small.onnx".as_ref());
        let names = [
            "net.onnx.data",
            "net.bin",
            "weights.pb",
            "data/net.onnx_data",
            "weights",
        ]
        .map(|name| Placement::name_with_digest(&placement.planned(name), 0xbe11));
        assert_eq!(
            names,
            [
                "small.onnx.000000000000be11.data",
                "small.000000000000be11.bin",
                "small.weights.000000000000be11.pb",
                "data/small.000000000000be11.onnx_data",
                "small.000000000000be11.weights"
            ]
        );
        for name in names {
            assert_eq!(placement.digest_in(&name), Some(0xbe11), "{name}");
        }
    }

    #[test]
    fn other_files_have_no_digest() {
        let placement = Placement::of("net.onnx".as_ref(), "small.onnx".as_ref());
        for name in [
            "small.onnx.data",
            "net.onnx.000000000000be11.data",
            "small.be11.data",
            "small.00000000000xbe11.bin",
        ] {
            assert_eq!(placement.digest_in(name), None, "{name}");
        }
    }

    #[test]
    fn one_file_has_one_plain_location() {
        for location in ["w.bin", "./w.bin", "././/w.bin"] {
            assert_eq!(plain_location(location), "w.bin");
        }
        assert_eq!(plain_location("a/./w.bin"), "a/w.bin");
    }

    #[test]
    fn a_name_is_free_where_nothing_or_the_same_bytes_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let placement = Placement::of("in/net.onnx".as_ref(), &path("out.onnx"));
        std::fs::write(path("origin"), "data").unwrap();
        assert!(placement.is_free("w.bin", &path("origin")));
        assert!(!placement.is_free("out.onnx", &path("origin")));
        std::fs::write(path("w.bin"), "data").unwrap();
        assert!(placement.is_free("w.bin", &path("origin")));
        for other in ["dat!", "data and more", ""] {
            std::fs::write(path("w.bin"), other).unwrap();
            assert!(!placement.is_free("w.bin", &path("origin")), "{other}");
        }
    }

    #[test]
    fn alignment_is_what_all_offsets_share() {
        assert_eq!(alignment([0, 4096, 12288].into_iter()), 4096);
        assert_eq!(alignment([0, 12].into_iter()), 4);
        assert_eq!(alignment([0].into_iter()), DEFAULT_ALIGNMENT);
    }
}
