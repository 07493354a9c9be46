//! What can go wrong between a file of images and the numbers of a report.

use std::io;
use std::path::PathBuf;

use campana_tensor::MemoryExceeded;

/// An error of this crate: what was read, what was expected there, what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A sidecar is not JSON.
    #[error("{file}: not valid JSON")]
    SidecarSyntax {
        /// The sidecar.
        file: String,
        /// Line, column and reason.
        #[source]
        source: serde_json::Error,
    },
    /// A key of a sidecar is missing or has the wrong type or value.
    #[error("{file}: key \"{key}\": expected {expected}, found {found}")]
    SidecarKey {
        /// The sidecar.
        file: String,
        /// The key, with dots between the levels, as `input.size`.
        key: String,
        /// What the key must hold.
        expected: String,
        /// What it holds, or `nothing`.
        found: String,
    },
    /// A dataset does not have the form of any that is understood.
    #[error("dataset {dataset}: {problem}")]
    Dataset {
        /// The file or folder.
        dataset: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A label is no class of the model.
    #[error(
        "dataset {dataset}: {item} has label {label}, expected a label below {class_count}, \
         the number of classes"
    )]
    LabelOutOfRange {
        /// The file or folder.
        dataset: String,
        /// The record, line or class folder.
        item: String,
        /// The label found.
        label: usize,
        /// How many classes there are.
        class_count: usize,
    },
    /// A picture is damaged, truncated or empty.
    #[error("image {image}: {problem}")]
    MalformedImage {
        /// The picture.
        image: String,
        /// What was found.
        problem: String,
    },
    /// A picture is in a format, or uses a feature, that is not decoded.
    #[error("image {image}: {problem}")]
    UnsupportedImage {
        /// The picture.
        image: String,
        /// What was found.
        problem: String,
    },
    /// A picture declares more pixels than any photograph has.
    #[error("image {image}: {width} x {height} pixels, expected at most {max_pixels} pixels")]
    ImageTooLarge {
        /// The picture.
        image: String,
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// The limit.
        max_pixels: usize,
    },
    /// Decoding a picture would take more memory than its file may.
    #[error("image {image}: {exceeded}")]
    ImageMemory {
        /// The picture.
        image: String,
        /// The limit.
        exceeded: MemoryExceeded,
    },
    /// A picture does not come out at the size that the model takes.
    #[error("image {image}: {problem}")]
    ImageSize {
        /// The picture.
        image: String,
        /// The sizes expected and found, and the option that would help.
        problem: String,
    },
    /// A model cannot be read, planned or run.
    #[error("model {model} {problem}")]
    Model {
        /// The model's file.
        model: String,
        /// What cannot be done.
        problem: String,
        /// Why, by the reader or the engine.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A model is sound, but not one that answers images with scores.
    #[error("model {model} {problem}")]
    UnsuitableModel {
        /// The model's file.
        model: String,
        /// What it has or lacks.
        problem: String,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// An argument is out of its domain.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// Its domain.
        expected: String,
        /// The value given.
        found: String,
    },
}

/// Who has to act on an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    Io,
    /// A file is damaged or not what it claims to be.
    Malformed,
    /// The caller gave options that do not fit one another or the data.
    Argument,
    /// The file is sound, but uses something that campana does not read.
    Unsupported,
    /// The file asks for more than is reasonable.
    LimitExceeded,
    /// The user stopped it.
    Interrupted,
}

impl Error {
    pub(crate) fn model(
        model: &str,
        problem: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Model {
            model: model.to_owned(),
            problem: problem.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn unsuitable_model(model: &str, problem: &str) -> Self {
        Self::UnsuitableModel {
            model: model.to_owned(),
            problem: problem.to_owned(),
        }
    }

    /// Who has to act.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::SidecarSyntax { .. }
            | Self::SidecarKey { .. }
            | Self::Dataset { .. }
            | Self::LabelOutOfRange { .. }
            | Self::MalformedImage { .. } => ErrorKind::Malformed,
            Self::ImageSize { .. } | Self::Argument { .. } => ErrorKind::Argument,
            Self::UnsupportedImage { .. } | Self::UnsuitableModel { .. } | Self::Model { .. } => {
                ErrorKind::Unsupported
            }
            Self::Interrupted => ErrorKind::Interrupted,
            Self::ImageTooLarge { .. } | Self::ImageMemory { .. } => ErrorKind::LimitExceeded,
        }
    }

    /// Whether the error concerns one picture that can be left out while the rest is evaluated.
    ///
    /// Options that do not fit the pictures concern all of them and are not skippable.
    #[must_use]
    pub fn is_skippable(&self) -> bool {
        self.kind() != ErrorKind::Argument
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}
