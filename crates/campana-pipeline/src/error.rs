//! What can go wrong with a whole job.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use campana_quantize::causes;

/// An error with its kind and its causes.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// A message of this crate, with its cause where there is one.
    Message(String, Option<Box<dyn StdError + Send + Sync>>),
    /// Another crate's error, which says all that there is to say.
    Passed(Box<dyn StdError + Send + Sync>),
}

/// Who can do something about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to read or write.
    Io,
    /// A file is damaged or not what it claims to be.
    Malformed,
    /// A choice is out of range, or fits nothing in the model or the data.
    InvalidArgument,
    /// The output exists and may not be replaced.
    Exists,
    /// A file is sound, but needs something that campana does not support.
    Unsupported,
    /// A file asks for more than is reasonable.
    LimitExceeded,
    /// A size or a loss that was asked for cannot be had.
    BoundMissed,
    /// The user stopped it.
    Interrupted,
}

impl Error {
    /// An error of this kind; the message names the thing, what was expected
    /// and what was found.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            content: Content::Message(message.into(), None),
        }
    }

    /// The error of a job that the user stopped.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted; nothing was written")
    }

    /// Who can do something about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error and what caused it, on one line.
    pub fn chain(&self) -> String {
        causes(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Message(message, _) => f.write_str(message),
            Content::Passed(error) => error.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.content {
            Content::Message(_, source) => source.as_ref().map(|source| &**source as _),
            Content::Passed(error) => error.source(),
        }
    }
}

/// The kind that another crate's error is of here.
pub(crate) trait Cause: StdError + Send + Sync + Sized + 'static {
    fn kind(&self) -> ErrorKind;
}

impl Cause for io::Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Io
    }
}

impl Cause for campana_onnx::Error {
    fn kind(&self) -> ErrorKind {
        use campana_onnx::ErrorKind as Onnx;
        match self.kind() {
            Onnx::Io => ErrorKind::Io,
            Onnx::Unsupported => ErrorKind::Unsupported,
            Onnx::Limit => ErrorKind::LimitExceeded,
            Onnx::Argument => ErrorKind::InvalidArgument,
            _ => ErrorKind::Malformed,
        }
    }
}

impl Cause for campana_formats::Error {
    fn kind(&self) -> ErrorKind {
        use campana_formats::ErrorKind as Formats;
        match self.kind() {
            Formats::Io => ErrorKind::Io,
            Formats::Malformed => ErrorKind::Malformed,
            Formats::LimitExceeded => ErrorKind::LimitExceeded,
            _ => ErrorKind::Unsupported,
        }
    }
}

impl Cause for campana_ir::format::Error {
    fn kind(&self) -> ErrorKind {
        use campana_ir::format::ErrorKind as Format;
        match self.kind() {
            Format::File(campana_onnx::ErrorKind::Io) => ErrorKind::Io,
            Format::Unsupported => ErrorKind::Unsupported,
            Format::Limit => ErrorKind::LimitExceeded,
            _ => ErrorKind::Malformed,
        }
    }
}

impl Cause for campana_quantize::Error {
    fn kind(&self) -> ErrorKind {
        use campana_quantize::ErrorKind as Quantize;
        match self.kind() {
            Quantize::InvalidArgument => ErrorKind::InvalidArgument,
            Quantize::InvalidModel => ErrorKind::Malformed,
            Quantize::Io => ErrorKind::Io,
            Quantize::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Unsupported,
        }
    }
}

impl Cause for campana_eval::Error {
    fn kind(&self) -> ErrorKind {
        use campana_eval::ErrorKind as Eval;
        match self.kind() {
            Eval::Io => ErrorKind::Io,
            Eval::Malformed => ErrorKind::Malformed,
            Eval::Argument => ErrorKind::InvalidArgument,
            Eval::LimitExceeded => ErrorKind::LimitExceeded,
            Eval::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Unsupported,
        }
    }
}

impl Cause for campana_firmware::Error {
    fn kind(&self) -> ErrorKind {
        use campana_firmware::ErrorKind as Firmware;
        match self.kind() {
            Firmware::InvalidArgument | Firmware::OpenShape => ErrorKind::InvalidArgument,
            Firmware::InvalidModel => ErrorKind::Malformed,
            _ => ErrorKind::Unsupported,
        }
    }
}

impl Cause for campana_runtime::PlanError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

impl Cause for campana_runtime::RunError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

impl<E: Cause> From<E> for Error {
    fn from(error: E) -> Self {
        Self {
            kind: error.kind(),
            content: Content::Passed(Box::new(error)),
        }
    }
}

/// Says what was being done when an error arose.
pub(crate) trait Context<T> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Cause> Context<T> for Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error {
            kind: error.kind(),
            content: Content::Message(message(), Some(Box::new(error))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_error_keeps_its_words_and_its_cause() {
        let error = campana_quantize::Error::new(campana_quantize::ErrorKind::Io, "outer")
            .with_source(io::Error::other("inner"));
        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.chain(), "outer: inner");
    }

    #[test]
    fn a_context_keeps_the_kind_of_its_cause() {
        let result: Result<(), _> = Err(campana_eval::Error::Interrupted);
        let error = result.context(|| "cannot evaluate".to_owned()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert_eq!(error.chain(), "cannot evaluate: interrupted");
    }
}
