//! A model written again with some parts changed and every other byte copied.

use std::collections::BTreeMap;
use std::io::Write;

use crate::content::{Content, put_varint, varint_len};
use crate::message::MessageId;
use crate::source::Span;
use crate::{Error, ErrorKind, Model, Result, Source};

/// Bytes of the largest model that can be written. No protobuf reader accepts
/// more than 2 GiB; larger models keep their weights in external data.
pub const MAX_MODEL_LEN: u64 = i32::MAX as u64;

/// Changes to a model.
///
/// Messages are named by the ids of the parsed model. What is inserted at one
/// place keeps the order of the calls. Contents are whole fields, as
/// [`Content::message`] makes them; whether they fit their parent is the
/// caller's concern.
#[derive(Debug)]
pub struct Edits<'a> {
    model: &'a Model,
    changes: Vec<Change<'a>>,
}

#[derive(Debug)]
struct Change<'a> {
    parent: MessageId,
    /// What is replaced; empty where something is inserted.
    range: Span,
    content: Content<'a>,
}

impl<'a> Edits<'a> {
    /// No changes yet.
    pub fn new(model: &'a Model) -> Self {
        Self {
            model,
            changes: Vec::new(),
        }
    }

    /// Whether nothing was changed so far.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Takes a message out.
    pub fn remove(&mut self, message: MessageId) {
        self.replace(message, Content::default());
    }

    /// Puts other fields in a message's place.
    pub fn replace(&mut self, message: MessageId, content: impl Into<Content<'a>>) {
        let range = self.model.span(message);
        self.change(self.model.parent(message), range, content);
    }

    /// Puts fields before a message.
    pub fn insert_before(&mut self, message: MessageId, content: impl Into<Content<'a>>) {
        let at = self.model.span(message).start;
        self.change(self.model.parent(message), empty(at), content);
    }

    /// Puts fields after a message.
    pub fn insert_after(&mut self, message: MessageId, content: impl Into<Content<'a>>) {
        let at = self.model.span(message).end;
        self.change(self.model.parent(message), empty(at), content);
    }

    /// Puts fields into a message, before all others.
    pub fn prepend(&mut self, message: MessageId, content: impl Into<Content<'a>>) {
        let at = self.model.body(message).start;
        self.change(message, empty(at), content);
    }

    /// Puts fields into a message, after all others.
    pub fn append(&mut self, message: MessageId, content: impl Into<Content<'a>>) {
        let at = self.model.body(message).end;
        self.change(message, empty(at), content);
    }

    /// Puts other fields in the place of a run of fields of `message`, as
    /// [`Model::fields`] gives them.
    pub fn replace_fields(
        &mut self,
        message: MessageId,
        run: Span,
        content: impl Into<Content<'a>>,
    ) {
        self.change(message, run, content);
    }

    fn change(&mut self, parent: MessageId, range: Span, content: impl Into<Content<'a>>) {
        self.changes.push(Change {
            parent,
            range,
            content: content.into(),
        });
    }

    /// Bytes that [`write`](Self::write) will write.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`] where changes overlap or lie outside the message
    /// they were placed in.
    pub fn encoded_len(&self) -> Result<u64> {
        Ok(Plan::new(self.model, &self.changes)?.body_len(MessageId::MODEL))
    }

    /// Writes the changed model and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`] as [`encoded_len`](Self::encoded_len) and where
    /// a payload is not as long as announced, [`ErrorKind::Limit`] before
    /// anything is written where the result exceeds [`MAX_MODEL_LEN`],
    /// [`ErrorKind::Io`] where reading or writing fails or the model's file
    /// changed since it was opened.
    pub fn write(self, out: &mut impl Write) -> Result<u64> {
        let plan = Plan::new(self.model, &self.changes)?;
        let len = plan.body_len(MessageId::MODEL);
        if len > MAX_MODEL_LEN && !self.changes.is_empty() {
            let message = format!(
                "the output would be {len} bytes, more than the {MAX_MODEL_LEN} that readers of \
                 ONNX accept; keep the weights in external data"
            );
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let contents = self.changes.into_iter().map(|c| Some(c.content)).collect();
        let mut writer = PlanWriter {
            plan,
            contents,
            out,
        };
        writer.body(MessageId::MODEL)?;
        let cannot_write = |cause| Error::io("cannot write the output", cause);
        writer.out.flush().map_err(cannot_write)?;
        self.model.source().check_unchanged()?;
        Ok(len)
    }

    /// The changed model in memory, read within the original's limits; its
    /// external data stays where the original's is.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write) and [`Model::parse_within`].
    pub fn into_model(self) -> Result<Model> {
        let (external, limits) = (self.model.external.reopened(), *self.model.limits());
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        let mut model = Model::parse_within(Source::from_bytes(bytes), &limits)?;
        model.external = external;
        Ok(model)
    }
}

fn empty(at: u64) -> Span {
    Span { start: at, end: at }
}

/// What happens inside one message, in the order of places.
#[derive(Clone, Copy, Debug)]
struct Step {
    range: Span,
    action: Action,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    /// The position of a change.
    Change(usize),
    /// A message inside which something changes.
    Enter(MessageId),
}

/// The changes by message, and the new lengths of the messages.
#[derive(Debug)]
struct Plan<'m> {
    model: &'m Model,
    steps: BTreeMap<MessageId, Vec<Step>>,
    body_lens: BTreeMap<MessageId, u64>,
}

impl<'m> Plan<'m> {
    fn new(model: &'m Model, changes: &[Change<'_>]) -> Result<Self> {
        let mut steps: BTreeMap<MessageId, Vec<Step>> = BTreeMap::new();
        for (position, change) in changes.iter().enumerate() {
            let Change { parent, range, .. } = *change;
            if range.start > range.end || !model.body(parent).contains(range) {
                let message = format!("a change of {range:?} lies outside its message");
                return Err(Error::new(ErrorKind::Argument, message));
            }
            let action = Action::Change(position);
            let mut message = parent;
            let mut step = Step { range, action };
            // Up to the first message that is entered anyway.
            loop {
                let siblings = steps.entry(message).or_default();
                let entered = !siblings.is_empty();
                siblings.push(step);
                if entered || message == MessageId::MODEL {
                    break;
                }
                step = Step {
                    range: model.span(message),
                    action: Action::Enter(message),
                };
                message = model.parent(message);
            }
        }
        for siblings in steps.values_mut() {
            // Stable: insertions at one place keep their order, and come
            // before what begins there.
            siblings.sort_by_key(|step| (step.range.start, !step.range.is_empty()));
            let overlap = siblings
                .windows(2)
                .find(|pair| pair[1].range.start < pair[0].range.end);
            if let Some([first, second]) = overlap {
                let message = format!(
                    "changes of {:?} and {:?} overlap",
                    first.range, second.range
                );
                return Err(Error::new(ErrorKind::Argument, message));
            }
        }
        let mut plan = Self {
            model,
            steps,
            body_lens: BTreeMap::new(),
        };
        plan.measure(MessageId::MODEL, changes);
        Ok(plan)
    }

    fn measure(&mut self, message: MessageId, changes: &[Change<'_>]) {
        let mut len = self.model.body(message).len();
        for step in self.steps.get(&message).cloned().unwrap_or_default() {
            len -= step.range.len();
            len += match step.action {
                Action::Change(position) => changes[position].content.len(),
                Action::Enter(child) => {
                    self.measure(child, changes);
                    let body_len = self.body_len(child);
                    self.header_len(child) + body_len
                }
            };
        }
        self.body_lens.insert(message, len);
    }

    fn body_len(&self, message: MessageId) -> u64 {
        self.body_lens[&message]
    }

    /// A length that stays is copied in the form it has, however long.
    fn keeps_header(&self, message: MessageId) -> bool {
        self.body_len(message) == self.model.body(message).len()
    }

    fn header_len(&self, message: MessageId) -> u64 {
        let frame = self.model.frames.get(message);
        if self.keeps_header(message) {
            frame.body.start - frame.span.start
        } else {
            u64::from(frame.tag_len) + varint_len(self.body_len(message))
        }
    }
}

struct PlanWriter<'m, 'a, 'o, W> {
    plan: Plan<'m>,
    contents: Vec<Option<Content<'a>>>,
    out: &'o mut W,
}

impl<W: Write> PlanWriter<'_, '_, '_, W> {
    fn body(&mut self, message: MessageId) -> Result<()> {
        let source = self.plan.model.source();
        let body = self.plan.model.body(message);
        let mut at = body.start;
        for step in self.plan.steps.remove(&message).unwrap_or_default() {
            self.copy(at, step.range.start)?;
            at = step.range.end;
            match step.action {
                Action::Enter(child) => {
                    self.header(child)?;
                    self.body(child)?;
                }
                Action::Change(position) => {
                    if let Some(content) = self.contents[position].take() {
                        content.write(source, self.out)?;
                    }
                }
            }
        }
        self.copy(at, body.end)
    }

    fn header(&mut self, message: MessageId) -> Result<()> {
        let frame = *self.plan.model.frames.get(message);
        if self.plan.keeps_header(message) {
            return self.copy(frame.span.start, frame.body.start);
        }
        self.copy(
            frame.span.start,
            frame.span.start + u64::from(frame.tag_len),
        )?;
        let mut len = Vec::new();
        put_varint(&mut len, self.plan.body_len(message));
        Content::bytes(len).write(self.plan.model.source(), self.out)
    }

    fn copy(&mut self, start: u64, end: u64) -> Result<()> {
        self.plan
            .model
            .source()
            .copy_to(Span { start, end }, self.out)
    }
}
