//! What can go wrong with a file of tensors, and where.

use std::fmt;
use std::io;

use campana_tensor::MemoryExceeded;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that names the file, what was expected in it and what was found.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    file: String,
    message: String,
    source: Option<io::Error>,
}

/// Who can do something about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to read or write.
    Io,
    /// The file is damaged or not what it claims to be.
    Malformed,
    /// The file is sound, but holds something that is not read.
    Unsupported,
    /// The file asks for more than is reasonable.
    LimitExceeded,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            file: String::new(),
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self {
            source: Some(source),
            ..Self::new(ErrorKind::Io, doing)
        }
    }

    /// A failure to read bytes that a file should hold: damage to the file
    /// where they end too early or are not what they must be.
    pub(crate) fn read(doing: impl Into<String>, cause: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match cause.kind() {
            UnexpectedEof => Self::malformed(format!("{}: it ends too early", doing.into())),
            InvalidData | InvalidInput => Self::malformed(format!("{}: {cause}", doing.into())),
            _ => Self::io(doing, cause),
        }
    }

    /// The same error, in this file; the first file named stays.
    pub(crate) fn in_file(mut self, file: &str) -> Self {
        if self.file.is_empty() {
            file.clone_into(&mut self.file);
        }
        self
    }

    /// Who can do something about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<MemoryExceeded> for Error {
    fn from(exceeded: MemoryExceeded) -> Self {
        Self::new(ErrorKind::LimitExceeded, exceeded.to_string())
    }
}

/// The first characters of a text from a file, for an error.
pub(crate) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.file, self.message)
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
