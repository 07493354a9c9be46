//! From bytes to [`Model`].

mod attribute;
mod graph;
mod root;
mod tensor;
mod value_info;

pub(crate) use root::model;

use campana_tensor::{Limits, MemoryBudget};

use crate::message::{Frame, Frames, MessageId};
use crate::source::Span;
use crate::wire::{Field, Reader, Value};
use crate::{Error, ErrorKind, Result, Source};

/// Messages of any kind for each node that the limits allow.
const MESSAGES_PER_NODE: usize = 8;

/// Bytes of a name. Real ones have some hundred at most.
const MAX_NAME_LEN: u64 = 1 << 20;

/// The state of one reading.
struct Parser<'s> {
    reader: Reader<'s>,
    limits: Limits,
    /// What the model may still take: an empty message has two bytes in the
    /// file and some hundred here.
    budget: MemoryBudget,
    frames: Frames,
    /// The messages that are open: field name, position in a repeated field.
    path: Vec<(&'static str, Option<usize>)>,
    /// The innermost open message that has an id.
    current: MessageId,
}

impl<'s> Parser<'s> {
    fn new(source: &'s Source, limits: &Limits) -> Self {
        Self {
            reader: Reader::new(source),
            limits: *limits,
            budget: MemoryBudget::new(limits, source.len()),
            frames: Frames::new(source.span()),
            path: Vec::new(),
            current: MessageId::MODEL,
        }
    }

    /// Reads a message that edits can name.
    fn message<T>(
        &mut self,
        name: &'static str,
        index: impl Into<Option<usize>>,
        field: Field,
        read: impl FnOnce(&mut Self, MessageId, Span) -> Result<T>,
    ) -> Result<T> {
        self.part(name, index, field, |parser, body| {
            let most = parser.limits.max_nodes.saturating_mul(MESSAGES_PER_NODE);
            if parser.frames.len() >= most {
                let message = format!(
                    "the model has more than {most} nodes, attributes, tensors and the like"
                );
                return Err(Error::new(ErrorKind::Limit, message).at(field.span.start));
            }
            parser.budget.take_items::<Frame>(1)?;
            let parent = parser.current;
            let id = parser.frames.push(Frame {
                parent,
                span: field.span,
                tag_len: field.tag_len,
                body,
            });
            parser.current = id;
            let result = read(parser, id, body);
            parser.current = parent;
            result
        })
    }

    /// Reads a message that edits replace only as part of a larger one.
    fn part<T>(
        &mut self,
        name: &'static str,
        index: impl Into<Option<usize>>,
        field: Field,
        read: impl FnOnce(&mut Self, Span) -> Result<T>,
    ) -> Result<T> {
        self.path.push((name, index.into()));
        let depth = self.limits.depth();
        let result = if self.path.len() > depth {
            let message = format!("messages are nested deeper than {depth}");
            Err(Error::new(ErrorKind::Limit, message).at(field.span.start))
        } else {
            self.budget
                .take_items::<T>(1)
                .map_err(Error::from)
                .and_then(|()| read(self, bytes(field)?))
        };
        let result = result.map_err(|error| error.within(|| self.path_name()));
        self.path.pop();
        result
    }

    fn path_name(&self) -> String {
        let parts = self.path.iter().map(|(name, index)| match index {
            Some(index) => format!("{name}[{index}]"),
            None => (*name).to_owned(),
        });
        parts.collect::<Vec<_>>().join(".")
    }

    /// A name. Invalid UTF-8 is refused: names must be compared and shown.
    fn string(&mut self, name: &'static str, field: Field) -> Result<String> {
        let start = field.span.start;
        let span = bytes(field).map_err(|error| error.within(|| self.child_name(name)))?;
        if span.len() > MAX_NAME_LEN {
            let message = format!(
                "a name of {} bytes is longer than the limit of {MAX_NAME_LEN}",
                span.len()
            );
            let error = Error::new(ErrorKind::Limit, message).at(start);
            return Err(error.within(|| self.child_name(name)));
        }
        self.budget.take_items::<String>(1)?;
        self.budget.take(span.len() as usize)?;
        String::from_utf8(self.reader.bytes(span)?).map_err(|_| {
            let error = Error::new(ErrorKind::Malformed, "not valid UTF-8").at(span.start);
            error.within(|| self.child_name(name))
        })
    }

    fn child_name(&self, name: &str) -> String {
        let parent = self.path_name();
        if parent.is_empty() {
            name.to_owned()
        } else {
            format!("{parent}.{name}")
        }
    }

    /// One or, packed, any number of integers.
    fn integers(&mut self, field: Field, mut push: impl FnMut(u64)) -> Result<()> {
        match field.value {
            Value::Varint(value) => {
                self.budget.take_items::<u64>(1)?;
                push(value);
            }
            Value::Bytes(span) => {
                // Each takes a byte at least.
                self.budget.take_items::<u64>(span.len() as usize)?;
                let mut at = span.start;
                while at < span.end {
                    push(self.reader.varint(&mut at, span)?);
                }
            }
            _ => return Err(unexpected(field, "an integer")),
        }
        Ok(())
    }

    /// One or, packed, any number of floats.
    fn floats(&mut self, field: Field, mut push: impl FnMut(f32)) -> Result<()> {
        match field.value {
            Value::Fixed32(bits) => {
                self.budget.take_items::<f32>(1)?;
                push(f32::from_bits(bits));
            }
            Value::Bytes(span) => {
                self.budget
                    .take(MemoryBudget::GROWTH * span.len() as usize)?;
                let mut at = span.start;
                while at < span.end {
                    push(f32::from_le_bytes(self.reader.fixed(&mut at, span)?));
                }
            }
            _ => return Err(unexpected(field, "a float")),
        }
        Ok(())
    }

    /// The key and value of an entry.
    fn entry(&mut self, body: Span) -> Result<(String, Span)> {
        use crate::schema::entry::{KEY, VALUE};
        let mut key = String::new();
        let mut value = Span {
            start: body.end,
            end: body.end,
        };
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                KEY => key = self.string("key", field)?,
                VALUE => value = bytes(field)?,
                _ => {}
            }
        }
        Ok((key, value))
    }

    /// The key and value of an entry whose value is a name.
    fn named_entry(&mut self, body: Span) -> Result<(String, String)> {
        use crate::schema::entry::{KEY, VALUE};
        let mut entry = (String::new(), String::new());
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                KEY => entry.0 = self.string("key", field)?,
                VALUE => entry.1 = self.string("value", field)?,
                _ => {}
            }
        }
        Ok(entry)
    }
}

fn unexpected(field: Field, expected: &str) -> Error {
    let message = format!(
        "field {} should be {expected}, found {}",
        field.number,
        field.value.name()
    );
    Error::new(ErrorKind::Malformed, message).at(field.span.start)
}

fn bytes(field: Field) -> Result<Span> {
    match field.value {
        Value::Bytes(span) => Ok(span),
        _ => Err(unexpected(field, "a length and bytes")),
    }
}

fn integer(field: Field) -> Result<i64> {
    match field.value {
        Value::Varint(value) => Ok(value as i64),
        _ => Err(unexpected(field, "an integer")),
    }
}

/// A 32-bit integer; as everywhere, surplus bits of the number are dropped.
fn integer32(field: Field) -> Result<i32> {
    integer(field).map(|value| value as i32)
}

/// Protobuf would merge a second occurrence into the first; no writer makes
/// one, and edits could not be placed.
fn once<T>(slot: &mut Option<T>, value: T, field: Field) -> Result<()> {
    if slot.is_some() {
        let message = format!("field {} occurs a second time", field.number);
        return Err(Error::new(ErrorKind::Unsupported, message).at(field.span.start));
    }
    *slot = Some(value);
    Ok(())
}
