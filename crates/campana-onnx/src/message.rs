//! Where each message of a model lies, so that edits can be placed in it.

use crate::Result;
use crate::source::Span;
use crate::wire::Reader;

/// Names a message of one [`Model`](crate::Model): the model itself, a graph,
/// a node, an initializer and so on.
///
/// Only meaningful to the model it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u32);

impl MessageId {
    /// The model itself.
    pub const MODEL: Self = Self(0);
}

/// Consecutive occurrences of one field in a message, tags included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRun {
    /// The field's number in the schema.
    pub number: u32,
    /// From the first occurrence's tag to the last one's end.
    pub span: Span,
}

/// The extent of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) parent: MessageId,
    /// The field that holds the message, tag and length included.
    pub(crate) span: Span,
    pub(crate) tag_len: u8,
    /// The message alone.
    pub(crate) body: Span,
}

/// The extents of all messages of a model; the first is the model's.
#[derive(Clone, Debug)]
pub(crate) struct Frames(Vec<Frame>);

impl Frames {
    pub(crate) fn new(whole: Span) -> Self {
        Self(vec![Frame {
            parent: MessageId::MODEL,
            span: whole,
            tag_len: 0,
            body: whole,
        }])
    }

    pub(crate) fn push(&mut self, frame: Frame) -> MessageId {
        self.0.push(frame);
        MessageId((self.0.len() - 1) as u32)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, id: MessageId) -> &Frame {
        &self.0[id.0 as usize]
    }
}

/// The fields of a message, neighbours of the same number taken together.
pub(crate) fn field_runs(reader: &mut Reader<'_>, body: Span) -> Result<Vec<FieldRun>> {
    let mut runs: Vec<FieldRun> = Vec::new();
    let mut at = body.start;
    while let Some(field) = reader.field(&mut at, body)? {
        match runs.last_mut() {
            Some(run) if run.number == field.number => run.span.end = field.span.end,
            _ => runs.push(FieldRun {
                number: field.number,
                span: field.span,
            }),
        }
    }
    Ok(runs)
}
