//! Errors of this crate.

/// Why a name could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No method of this name.
    #[error("unknown method {found:?}; expected one of {expected}")]
    UnknownMethod {
        /// The name given.
        found: String,
        /// The names there are, separated by commas.
        expected: String,
    },
    /// No family of distributions of this name.
    #[error("unknown family {found:?}; expected one of {expected}")]
    UnknownFamily {
        /// The name given.
        found: String,
        /// The names there are, separated by commas.
        expected: String,
    },
}

/// Who must act on an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller gave an argument that has no meaning here.
    WrongArgument,
}

impl Error {
    /// Who must act on it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownMethod { .. } | Self::UnknownFamily { .. } => ErrorKind::WrongArgument,
        }
    }
}
