//! What can go wrong with an ONNX file, and where.

use std::fmt;
use std::io;

use campana_tensor::MemoryExceeded;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error in reading or writing an ONNX model.
///
/// Says what was being read (`graph.initializer[12]`), at which byte, what was
/// expected and what was found; [`kind`](Self::kind) says who must act.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Inner {
    kind: ErrorKind,
    path: String,
    offset: Option<u64>,
    message: String,
    #[source]
    source: Option<io::Error>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to read or write.
    Io,
    /// The file is of another format, or of none.
    NotOnnx,
    /// The file ends before the model does.
    Truncated,
    /// The file is ONNX but breaks the rules of protobuf or of the schema.
    Malformed,
    /// The file is valid but uses something that is not supported.
    Unsupported,
    /// The file or the output exceeds a stated limit.
    Limit,
    /// A tensor's external data is missing, misplaced or of the wrong size.
    ExternalData,
    /// The caller asked for something contradictory.
    Argument,
}

impl Error {
    /// An error of this kind; `message` names the thing, the expected and the
    /// found value.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            path: String::new(),
            offset: None,
            message: message.into(),
            source: None,
        }))
    }

    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::new(ErrorKind::Io, doing).caused_by(source)
    }

    pub(crate) fn caused_by(mut self, source: io::Error) -> Self {
        self.0.source = Some(source);
        self
    }

    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    pub(crate) fn within(mut self, path: impl FnOnce() -> String) -> Self {
        if self.0.path.is_empty() {
            self.0.path = path();
        }
        self
    }

    /// Says before the message whom it is about.
    pub(crate) fn about(mut self, thing: String) -> Self {
        self.0.message = format!("{thing}: {}", self.0.message);
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Byte of the file where the error was found, where there is one.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// What was being read, such as `graph.node[3].attribute[0]`; empty where
    /// it was the file as a whole.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What happened, without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl From<MemoryExceeded> for Error {
    fn from(exceeded: MemoryExceeded) -> Self {
        Self::new(ErrorKind::Limit, exceeded.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.0.path)?;
        }
        f.write_str(&self.0.message)?;
        if let Some(offset) = self.0.offset {
            write!(f, " (at byte {offset})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_place_and_byte_and_keeps_the_cause() {
        let cause = io::Error::other("disk on fire");
        let error = Error::io("cannot read the model", cause)
            .at(7)
            .within(|| "graph.node[3]".into());
        assert_eq!(
            error.to_string(),
            "graph.node[3]: cannot read the model (at byte 7)"
        );
        let cause = std::error::Error::source(&error).expect("a cause");
        assert_eq!(cause.to_string(), "disk on fire");
    }
}
