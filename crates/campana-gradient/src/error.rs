//! What can go wrong, and at which node.

use std::error::Error as StdError;

use campana_ir::graph::Node;

/// Why gradients cannot be computed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A node's operator, or the way that it is used, has no gradient here.
    Unsupported,
    /// The graph contradicts itself, or cannot be run on the inputs.
    Invalid,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn at(node: &Node, fault: &Fault) -> Self {
        let message = format!("{} {:?}: {}", node.op_type, node.label(), fault.message);
        Self::new(fault.kind, message)
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// What is wrong at a node, without its name.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: ErrorKind,
    message: String,
}

impl Fault {
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Unsupported,
            message: message.into(),
        }
    }

    /// An operator that has no rule.
    pub(crate) fn no_gradient() -> Self {
        Self::unsupported("no gradient of this operator is known")
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Invalid,
            message: message.into(),
        }
    }
}
