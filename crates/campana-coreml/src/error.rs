//! What cannot be said in Core ML.

use std::fmt;

/// A network that cannot be written as a Core ML package, with the node, input
/// or tensor that is in the way.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The network is valid but has what Core ML lacks.
    Unsupported,
    /// An input leaves extents open that are to be fixed.
    OpenShape,
    /// The network contradicts itself.
    InvalidModel,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// Why one node cannot be converted: half a sentence, which is said behind the
/// node's name.
pub(crate) type Refusal = String;

/// Of a part of a node's conversion.
pub(crate) type Converted<T = ()> = Result<T, Refusal>;
