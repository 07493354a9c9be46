//! A model as it was read, with the bytes that it was read from.

use std::path::{Path, PathBuf};

use campana_tensor::{Limits, MemoryBudget};

use crate::external::ExternalFiles;
use crate::message::{FieldRun, Frames, MessageId, field_runs};
use crate::parse;
use crate::proto::{Function, Graph, Metadata, OpsetImport, TrainingInfo};
use crate::source::Span;
use crate::wire::Reader;
use crate::{Result, Source};

/// An ONNX model: what it says, where each part lies, and its source.
///
/// The weights stay in the source until they are asked for
/// ([`read_f32`](Self::read_f32), [`read_tensor`](Self::read_tensor)). Changes
/// are made by [`Edits`](crate::Edits).
#[derive(Debug)]
pub struct Model {
    /// Version of the ONNX format; files before version 1 lack it.
    pub ir_version: Option<i64>,
    /// Operator sets relied on.
    pub opset_imports: Vec<OpsetImport>,
    /// The tool that wrote the model.
    pub producer_name: String,
    /// That tool's version.
    pub producer_version: String,
    /// The model's name space.
    pub domain: String,
    /// The model's own version.
    pub model_version: i64,
    /// The graph to run.
    pub graph: Graph,
    /// Operators that the model defines.
    pub functions: Vec<Function>,
    /// What is needed to train it further.
    pub training_info: Vec<TrainingInfo>,
    /// Named pieces of metadata.
    pub metadata: Vec<Metadata>,
    pub(crate) frames: Frames,
    pub(crate) limits: Limits,
    /// What reading the model left of its memory.
    pub(crate) budget: MemoryBudget,
    pub(crate) source: Source,
    pub(crate) external: ExternalFiles,
}

impl Model {
    /// Reads the model in a file; external data is looked for beside it.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, is of another format, is cut off, breaks
    /// the rules or exceeds a limit: see [`ErrorKind`](crate::ErrorKind).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_within(path, &Limits::global())
    }

    /// As [`open`](Self::open), within these limits rather than the process's.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_within(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        let path = path.as_ref();
        let mut model = Self::parse_within(Source::open(path)?, limits)?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_path_buf(),
            _ => PathBuf::from("."),
        };
        model.external = ExternalFiles::beside(folder);
        Ok(model)
    }

    /// Reads the model in a source that has no folder: external data cannot
    /// be read.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn parse(source: Source) -> Result<Self> {
        Self::parse_within(source, &Limits::global())
    }

    /// As [`parse`](Self::parse), within these limits rather than the process's.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn parse_within(source: Source, limits: &Limits) -> Result<Self> {
        parse::model(source, limits)
    }

    /// The limits that the model was read within.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The memory that what is made of the model may take: what is left of that
    /// for the model and the files of its external data.
    pub fn memory_budget(&self) -> MemoryBudget {
        let mut budget = self.budget.clone();
        for len in self.external.lens(&self.tensors()) {
            budget.add_file(&self.limits, len);
        }
        budget
    }

    /// The bytes that the model was read from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The whole field that holds a message, tag and length included.
    ///
    /// # Panics
    ///
    /// Where `message` is another model's and this one has fewer.
    pub fn span(&self, message: MessageId) -> Span {
        self.frames.get(message).span
    }

    /// A message without the tag and length before it.
    ///
    /// # Panics
    ///
    /// As [`span`](Self::span).
    pub fn body(&self, message: MessageId) -> Span {
        self.frames.get(message).body
    }

    /// The message that holds this one; the model holds itself.
    ///
    /// # Panics
    ///
    /// As [`span`](Self::span).
    pub fn parent(&self, message: MessageId) -> MessageId {
        self.frames.get(message).parent
    }

    /// The fields of a message in the file's order, unknown ones included;
    /// neighbours of the same number are taken together.
    ///
    /// # Errors
    ///
    /// Where the source cannot be read.
    ///
    /// # Panics
    ///
    /// As [`span`](Self::span).
    pub fn fields(&self, message: MessageId) -> Result<Vec<FieldRun>> {
        field_runs(&mut Reader::new(&self.source), self.body(message))
    }
}
