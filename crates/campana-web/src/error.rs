//! What went wrong, in a user's words.

use std::fmt;

use campana_quantize::causes;

/// A sentence for the user, with all causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// With what led to it.
    pub(crate) fn of(what: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        Self(format!("{what}: {}", causes(error)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<campana_quantize::Error> for Error {
    fn from(error: campana_quantize::Error) -> Self {
        Self(causes(&error))
    }
}

impl From<campana_pipeline::Error> for Error {
    fn from(error: campana_pipeline::Error) -> Self {
        Self(causes(&error))
    }
}

impl From<campana_eval::Error> for Error {
    fn from(error: campana_eval::Error) -> Self {
        Self(causes(&error))
    }
}
