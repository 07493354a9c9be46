//! What can go wrong in making a graph from a file.

use std::fmt;

/// Shorthand for this module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error in making a graph from a model file.
///
/// Names the node, tensor or value that it is about.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug, thiserror::Error)]
enum Inner {
    #[error("{message}")]
    Plain { kind: ErrorKind, message: String },
    #[error("{0}")]
    File(campana_onnx::Error),
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Reading the file failed; says how.
    File(campana_onnx::ErrorKind),
    /// The model contradicts itself.
    Malformed,
    /// The model is valid but uses something that is not supported.
    Unsupported,
    /// The model exceeds a stated limit.
    Limit,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner::Plain { kind, message }))
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Inner::Plain { kind, .. } => *kind,
            Inner::File(error) => ErrorKind::File(error.kind()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Inner::Plain { .. } => None,
            // Shown as this error itself, so its cause comes next.
            Inner::File(error) => error.source(),
        }
    }
}

impl From<campana_onnx::Error> for Error {
    fn from(error: campana_onnx::Error) -> Self {
        Self(Box::new(Inner::File(error)))
    }
}
