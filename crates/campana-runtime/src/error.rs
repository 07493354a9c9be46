//! What can go wrong, and where.

use campana_ir::graph::Node;

use crate::ops::Fault;

/// Why a graph cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct PlanError {
    kind: PlanErrorKind,
    place: String,
    message: String,
}

/// Kinds of [`PlanError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanErrorKind {
    /// The graph is valid but uses what is not made here.
    Unsupported,
    /// A node's inputs or attributes contradict its operator's definition.
    Invalid,
    /// A value would take more memory than the [`Limits`](crate::Limits) allow.
    Limit,
    /// The caller asked to stop.
    Interrupted,
}

impl PlanError {
    pub(crate) fn unsupported(node: &Node, message: impl Into<String>) -> Self {
        Self::at(node, Fault::unsupported(message))
    }

    pub(crate) fn at(node: &Node, fault: Fault) -> Self {
        let (kind, message) = match fault {
            Fault::Unsupported(message) => (
                PlanErrorKind::Unsupported,
                format!("not supported: {message}"),
            ),
            Fault::Invalid(message) => (PlanErrorKind::Invalid, message),
            Fault::Limit(message) => (PlanErrorKind::Limit, format!("over the limit: {message}")),
            Fault::Interrupted => (PlanErrorKind::Interrupted, "interrupted".to_owned()),
        };
        Self {
            kind,
            place: place(node),
            message,
        }
    }

    pub(crate) fn graph(message: impl Into<String>) -> Self {
        Self {
            kind: PlanErrorKind::Invalid,
            place: "graph".into(),
            message: message.into(),
        }
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self {
            kind: PlanErrorKind::Limit,
            place: "graph".into(),
            message: message.into(),
        }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> PlanErrorKind {
        self.kind
    }
}

/// How messages name a node.
fn place(node: &Node) -> String {
    let domain = match node.domain.as_str() {
        "" => String::new(),
        domain => format!("{domain}."),
    };
    match (node.name.as_str(), node.outputs.first()) {
        ("", Some(output)) => format!("the node that makes {output:?} ({domain}{})", node.op_type),
        (name, _) => format!("node {name:?} ({domain}{})", node.op_type),
    }
}

/// Why a planned graph cannot run on what it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RunError {
    kind: RunErrorKind,
    message: String,
    #[source]
    source: Option<PlanError>,
}

/// Kinds of [`RunError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunErrorKind {
    /// An input is missing, unknown, given twice, or of the wrong type or shape.
    Input,
    /// The graph cannot run on inputs of these shapes.
    Shape,
    /// A node failed on the values it met.
    Node,
    /// The caller asked to stop.
    Interrupted,
}

impl RunError {
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self {
            kind: RunErrorKind::Input,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn shape(source: PlanError) -> Self {
        Self {
            kind: match source.kind {
                PlanErrorKind::Interrupted => RunErrorKind::Interrupted,
                _ => RunErrorKind::Shape,
            },
            message: format!("the model cannot run on inputs of these shapes: {source}"),
            source: Some(source),
        }
    }

    pub(crate) fn node(node: &Node, fault: Fault) -> Self {
        let kind = match fault {
            Fault::Interrupted => RunErrorKind::Interrupted,
            _ => RunErrorKind::Node,
        };
        let source = PlanError::at(node, fault);
        Self {
            kind,
            message: source.to_string(),
            source: Some(source),
        }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> RunErrorKind {
        self.kind
    }
}
