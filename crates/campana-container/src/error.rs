//! What can be wrong with a container.

use alloc::string::String;
use core::fmt;

/// Why a container cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are of another format, or of none.
    NotContainer,
    /// The container ends before its file does.
    Truncated,
    /// The checksum is not that of the bytes, or they break the format's rules.
    Malformed,
    /// The container is of a later version of the format.
    Unsupported,
    /// The file needs more memory than the limit allows.
    Limit,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    pub(crate) fn truncated(what: &str) -> Self {
        let message = alloc::format!("the container ends within {what}; it was cut off");
        Self::new(ErrorKind::Truncated, message)
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

impl core::error::Error for Error {}
