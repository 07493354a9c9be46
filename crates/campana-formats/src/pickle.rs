//! The part of Python's pickle that state dicts use. Nothing is executed: a
//! pickle is a program for a stack machine, and this machine knows dicts,
//! lists, tuples, numbers, strings, and the few names that PyTorch's tensors
//! are made with. Any other name is an error that shows it.

mod value;

use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

use campana_tensor::{ElementType, MemoryBudget};

pub(crate) use value::{Global, Items, Pickle, Storage, Tensor, Value};

use crate::error::shown;
use crate::place::MAX_RANK;
use crate::{Error, ErrorKind, Result};

/// Values that a pickle may hold at most; the state dicts of the largest
/// networks have some 100,000.
const MAX_VALUES: usize = 20_000_000;

/// Bytes of a string at most.
const MAX_STRING: usize = 1 << 20;

/// Reads one pickle from a stream, up to and including its end mark; what it
/// makes is charged to `budget`.
pub(crate) fn read(input: &mut dyn Read, budget: &mut MemoryBudget) -> Result<Pickle> {
    let mut machine = Machine {
        input,
        budget,
        stack: Stack::default(),
        marks: Stack::default(),
        memo: HashMap::new(),
        containers: Vec::new(),
        storages: Vec::new(),
        values: 0,
    };
    let value = machine.run()?;
    Ok(Pickle {
        value,
        storages: machine.storages,
        containers: machine.containers,
    })
}

/// A stack whose memory is paid for as it grows, and never given back.
struct Stack<T> {
    items: Vec<T>,
    paid: usize,
}

impl<T> Default for Stack<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            paid: 0,
        }
    }
}

impl<T> Stack<T> {
    fn push(&mut self, item: T, budget: &mut MemoryBudget) -> Result<()> {
        if self.items.len() == self.paid {
            budget.take_items::<T>(1)?;
            self.paid += 1;
        }
        self.items.push(item);
        Ok(())
    }
}

struct Machine<'a> {
    input: &'a mut dyn Read,
    budget: &'a mut MemoryBudget,
    stack: Stack<Value>,
    marks: Stack<usize>,
    memo: HashMap<u64, Value>,
    containers: Vec<Items>,
    storages: Vec<Rc<Storage>>,
    values: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                // PROTO, FRAME: how the pickle was written.
                0x80 => {
                    self.byte()?;
                }
                0x95 => {
                    self.bytes::<8>()?;
                }
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.items.len(), self.budget)?,
                b'0' => {
                    self.pop()?;
                }
                b'1' => {
                    self.pop_mark()?;
                }
                b'2' => {
                    let top = self.top()?.clone();
                    self.push(top)?;
                }
                // NONE, NEWTRUE, NEWFALSE, BINFLOAT.
                b'N' | 0x88 | 0x89 => self.push(Value::Opaque)?,
                b'G' => {
                    self.bytes::<8>()?;
                    self.push(Value::Opaque)?;
                }
                b'F' => {
                    self.line()?;
                    self.push(Value::Opaque)?;
                }
                // INT, LONG as text.
                b'I' | b'L' => {
                    let text = self.line()?;
                    let number = text.trim_end_matches('L');
                    let number = number.parse().map_err(|_| {
                        malformed(&format!("'{}' is no whole number", shown(&text)))
                    })?;
                    self.push(Value::Int(number))?;
                }
                b'K' => {
                    let number = self.byte()?.into();
                    self.push(Value::Int(number))?;
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.bytes()?).into();
                    self.push(Value::Int(number))?;
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.bytes()?).into();
                    self.push(Value::Int(number))?;
                }
                0x8a => {
                    let len = self.byte()?.into();
                    let bytes = self.string(len)?;
                    self.push(long(&bytes))?;
                }
                // Strings: BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, and the
                // byte strings of Python 2.
                b'X' | b'T' => {
                    let len = u32::from_le_bytes(self.bytes()?).into();
                    self.push_str(len)?;
                }
                0x8c | b'U' => {
                    let len = self.byte()?.into();
                    self.push_str(len)?;
                }
                0x8d => {
                    let len = u64::from_le_bytes(self.bytes()?);
                    self.push_str(len)?;
                }
                // BINBYTES, SHORT_BINBYTES.
                b'B' => {
                    let len = u32::from_le_bytes(self.bytes()?).into();
                    self.string(len)?;
                    self.push(Value::Opaque)?;
                }
                b'C' => {
                    let len = self.byte()?.into();
                    self.string(len)?;
                    self.push(Value::Opaque)?;
                }
                b')' => self.push_container(Items::Tuple(Vec::new()))?,
                b'}' => self.push_container(Items::Dict(Vec::new()))?,
                b']' => self.push_container(Items::List(Vec::new()))?,
                b't' => {
                    let items = self.pop_mark()?;
                    self.push_container(Items::Tuple(items))?;
                }
                b'l' => {
                    let items = self.pop_mark()?;
                    self.push_container(Items::List(items))?;
                }
                b'd' => {
                    let items = pairs(self.pop_mark()?)?;
                    self.push_container(Items::Dict(items))?;
                }
                0x85..=0x87 => {
                    let len = usize::from(opcode - 0x84);
                    let start = self.floor(len)?;
                    let items = self.stack.items.split_off(start);
                    self.push_container(Items::Tuple(items))?;
                }
                b's' => {
                    let start = self.floor(2)?;
                    let items = pairs(self.stack.items.split_off(start))?;
                    self.extend_dict(items)?;
                }
                b'u' => {
                    let items = pairs(self.pop_mark()?)?;
                    self.extend_dict(items)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.extend_list(items)?;
                }
                b'q' => {
                    let key = self.byte()?.into();
                    self.remember(key)?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.bytes()?).into();
                    self.remember(key)?;
                }
                0x94 => self.remember(self.memo.len() as u64)?,
                b'h' => {
                    let key = self.byte()?.into();
                    self.recall(key)?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.bytes()?).into();
                    self.recall(key)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(global(&module, &name)?)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Str(module), Value::Str(name)) = (module, name) else {
                        return Err(malformed("a name that is no string"));
                    };
                    self.push(global(&module, &name)?)?;
                }
                b'R' => {
                    let (arguments, callee) = (self.pop()?, self.pop()?);
                    let made = self.call(&callee, &arguments)?;
                    self.push(made)?;
                }
                // BUILD gives an object its attributes; those of a dict, as
                // state dicts have them, say nothing of tensors.
                b'b' => {
                    self.pop()?;
                    self.top()?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(&id)?;
                    self.push(storage)?;
                }
                other => {
                    let shown = char::from(other).escape_default();
                    return Err(Error::unsupported(format!(
                        "the pickle uses instruction '{shown}' (0x{other:02x}), which no state dict does; save \
                         `model.state_dict()` with torch.save"
                    )));
                }
            }
        }
    }

    /// What a call of a known name makes.
    fn call(&mut self, callee: &Value, arguments: &Value) -> Result<Value> {
        let Value::Global(callee) = callee else {
            return Err(malformed("a call of something that is no name"));
        };
        let Value::Container(index) = *arguments else {
            return Err(malformed("a call without a tuple of arguments"));
        };
        let Some(Items::Tuple(arguments)) = self.containers.get(index) else {
            return Err(malformed("a call without a tuple of arguments"));
        };
        match callee {
            Global::OrderedDict => {
                let content = match arguments.first().cloned() {
                    None => Vec::new(),
                    Some(first) => {
                        let count = self.len_of(&first);
                        self.budget.take_items::<(Value, Value)>(count)?;
                        self.pairs_of(&first)?
                    }
                };
                self.new_container(Items::Dict(content))
            }
            Global::Size => match arguments.first() {
                Some(first) => Ok(first.clone()),
                None => Err(malformed("a torch.Size of nothing")),
            },
            Global::RebuildParameter => match arguments.first() {
                Some(tensor @ Value::Tensor(_)) => Ok(tensor.clone()),
                _ => Err(malformed("a parameter that is no tensor")),
            },
            Global::RebuildTensor => {
                // A shape and its strides, short as they are.
                let lists = 2 * MAX_RANK * size_of::<usize>();
                self.budget.take(size_of::<Tensor>() + lists)?;
                self.tensor(arguments)
            }
            Global::Storage(_) => Err(malformed("a storage that is made rather than referred to")),
        }
    }

    /// Items of a container; 0 for any other value.
    fn len_of(&self, value: &Value) -> usize {
        match value {
            Value::Container(index) => match self.containers.get(*index) {
                Some(Items::Dict(items)) => items.len(),
                Some(Items::List(items) | Items::Tuple(items)) => items.len(),
                None => 0,
            },
            _ => 0,
        }
    }

    /// The pairs of a list of pairs, which old OrderedDicts are made of.
    fn pairs_of(&self, value: &Value) -> Result<Vec<(Value, Value)>> {
        let no_pairs = || malformed("an OrderedDict of something that is no list of pairs");
        let Value::Container(index) = *value else {
            return Err(no_pairs());
        };
        match &self.containers[index] {
            Items::Dict(items) => Ok(items.clone()),
            Items::List(items) | Items::Tuple(items) => items
                .iter()
                .map(|item| match self.sequence(item)?.as_slice() {
                    [key, value] => Ok((key.clone(), value.clone())),
                    _ => Err(no_pairs()),
                })
                .collect(),
        }
    }

    fn tensor(&self, arguments: &[Value]) -> Result<Value> {
        let [
            Value::Storage(storage),
            Value::Int(offset),
            shape,
            strides,
            ..,
        ] = arguments
        else {
            return Err(malformed(
                "a tensor without storage, offset, shape and strides",
            ));
        };
        let offset = u64::try_from(*offset).map_err(|_| malformed("a negative offset"))?;
        let (shape, strides) = (self.extents(shape)?, self.extents(strides)?);
        if shape.len() != strides.len() {
            return Err(malformed(&format!(
                "a tensor of {} axes has {} strides",
                shape.len(),
                strides.len()
            )));
        }
        Ok(Value::Tensor(Rc::new(Tensor {
            storage: Rc::clone(storage),
            offset,
            shape,
            strides,
        })))
    }

    fn extents(&self, value: &Value) -> Result<Vec<usize>> {
        let items = self.sequence(value)?;
        if items.len() > MAX_RANK {
            return Err(malformed(&format!("a tensor of {} axes", items.len())));
        }
        items
            .iter()
            .map(|item| match item {
                Value::Int(extent) => {
                    usize::try_from(*extent).map_err(|_| malformed("a negative extent or stride"))
                }
                _ => Err(malformed("an extent or stride that is no whole number")),
            })
            .collect()
    }

    fn sequence(&self, value: &Value) -> Result<&Vec<Value>> {
        match value {
            Value::Container(index) => match &self.containers[*index] {
                Items::Tuple(items) | Items::List(items) => Ok(items),
                Items::Dict(_) => Err(malformed("a dict where a tuple must be")),
            },
            _ => Err(malformed("a single value where a tuple must be")),
        }
    }

    /// `("storage", class, key, location, len, ..)`.
    fn storage(&mut self, id: &Value) -> Result<Value> {
        self.budget
            .take(size_of::<Storage>() + 2 * size_of::<usize>())?;
        self.budget.take_items::<Rc<Storage>>(1)?;
        let [
            Value::Str(kind),
            Value::Global(Global::Storage(element_type)),
            key,
            _,
            Value::Int(len),
            ..,
        ] = self.sequence(id)?.as_slice()
        else {
            return Err(malformed("a reference to something that is no storage"));
        };
        if &**kind != "storage" {
            return Err(Error::unsupported(format!(
                "the pickle refers to a '{}' outside of it, expected a storage",
                shown(kind)
            )));
        }
        let key: Rc<str> = match key {
            Value::Str(key) => Rc::clone(key),
            Value::Int(key) => key.to_string().into(),
            _ => return Err(malformed("a storage without a key")),
        };
        let storage = Rc::new(Storage {
            element_type: *element_type,
            key,
            len: u64::try_from(*len).map_err(|_| malformed("a storage of negative length"))?,
        });
        self.storages.push(Rc::clone(&storage));
        Ok(Value::Storage(storage))
    }

    fn extend_dict(&mut self, items: Vec<(Value, Value)>) -> Result<()> {
        self.budget.take_items::<(Value, Value)>(items.len())?;
        match *self.top()? {
            Value::Container(index) => match &mut self.containers[index] {
                Items::Dict(dict) => {
                    dict.extend(items);
                    Ok(())
                }
                _ => Err(malformed("items for something that is no dict")),
            },
            _ => Err(malformed("items for something that is no dict")),
        }
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Result<()> {
        self.budget.take_items::<Value>(items.len())?;
        match *self.top()? {
            Value::Container(index) => match &mut self.containers[index] {
                Items::List(list) => {
                    list.extend(items);
                    Ok(())
                }
                _ => Err(malformed("items for something that is no list")),
            },
            _ => Err(malformed("items for something that is no list")),
        }
    }

    fn remember(&mut self, key: u64) -> Result<()> {
        let top = self.top()?.clone();
        if !self.memo.contains_key(&key) {
            // A table is filled to a half at least, and twice there while it grows.
            self.budget.take_items::<(u64, Value)>(2)?;
        }
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<()> {
        let value = self.memo.get(&key).cloned();
        self.push(value.ok_or_else(|| malformed("a value is recalled that was never kept"))?)
    }

    fn push_container(&mut self, items: Items) -> Result<()> {
        let value = self.new_container(items)?;
        self.push(value)
    }

    fn new_container(&mut self, items: Items) -> Result<Value> {
        let len = match &items {
            Items::Tuple(items) | Items::List(items) => items.len(),
            Items::Dict(items) => 2 * items.len(),
        };
        self.budget.take_items::<Items>(1)?;
        self.budget.take(2 * len * size_of::<Value>())?;
        self.containers.push(items);
        Ok(Value::Container(self.containers.len() - 1))
    }

    fn push_str(&mut self, len: u64) -> Result<()> {
        let bytes = self.string(len)?;
        // The string, and the one that is shared.
        self.budget.take(2 * bytes.len() + 2 * size_of::<usize>())?;
        let text = String::from_utf8(bytes).map_err(|_| malformed("a string that is not UTF-8"))?;
        self.push(Value::Str(text.into()))
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("the pickle holds more than {MAX_VALUES} values"),
            ));
        }
        self.stack.push(value, self.budget)
    }

    fn pop(&mut self) -> Result<Value> {
        self.floor(1)?;
        Ok(self.stack.items.pop().unwrap_or(Value::Opaque))
    }

    fn top(&self) -> Result<&Value> {
        self.stack
            .items
            .last()
            .ok_or_else(|| malformed("its stack is empty"))
    }

    /// Where the last `count` values of the stack begin.
    fn floor(&self, count: usize) -> Result<usize> {
        let mark = self.marks.items.last().copied().unwrap_or(0);
        match self.stack.items.len().checked_sub(count) {
            Some(start) if start >= mark => Ok(start),
            _ => Err(malformed("its stack is empty")),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self
            .marks
            .items
            .pop()
            .ok_or_else(|| malformed("its stack has no mark"))?;
        if mark > self.stack.items.len() {
            return Err(malformed("its stack is shorter than its mark"));
        }
        Ok(self.stack.items.split_off(mark))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.bytes::<1>()?[0])
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(ended)?;
        Ok(bytes)
    }

    fn string(&mut self, len: u64) -> Result<Vec<u8>> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_STRING {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("the pickle holds a string of {len} bytes, expected at most {MAX_STRING}"),
            ));
        }
        let mut bytes = vec![0; len];
        self.input.read_exact(&mut bytes).map_err(ended)?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if bytes.len() == MAX_STRING => return Err(malformed("a line without end")),
                byte => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).map_err(|_| malformed("a name that is not UTF-8"))
    }
}

/// The one of the known names that this is.
fn global(module: &str, name: &str) -> Result<Value> {
    let known = match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "Size") => Global::Size,
        ("torch" | "torch.storage", _) => match storage_type(name) {
            Some(element_type) => Global::Storage(element_type),
            None => return Err(foreign(module, name)),
        },
        _ => return Err(foreign(module, name)),
    };
    Ok(Value::Global(known))
}

fn storage_type(name: &str) -> Option<ElementType> {
    Some(match name {
        "FloatStorage" => ElementType::F32,
        "HalfStorage" => ElementType::F16,
        "BFloat16Storage" => ElementType::Bf16,
        "DoubleStorage" => ElementType::F64,
        "LongStorage" => ElementType::I64,
        "IntStorage" => ElementType::I32,
        "ShortStorage" => ElementType::I16,
        "CharStorage" => ElementType::I8,
        "ByteStorage" => ElementType::U8,
        "BoolStorage" => ElementType::Bool,
        _ => return None,
    })
}

fn foreign(module: &str, name: &str) -> Error {
    Error::unsupported(format!(
        "the pickle refers to `{}.{}`, which is more than tensors; nothing of it is executed. Save \
         `model.state_dict()` with torch.save",
        shown(module),
        shown(name)
    ))
}

fn pairs(items: Vec<Value>) -> Result<Vec<(Value, Value)>> {
    if !items.len().is_multiple_of(2) {
        return Err(malformed("a dict with a key that has no value"));
    }
    let mut items = items.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// A little-endian number of any length; those that carry tensors are short.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

fn malformed(message: &str) -> Error {
    Error::malformed(format!("the pickle is damaged: {message}"))
}

fn ended(cause: std::io::Error) -> Error {
    Error::read("the pickle is damaged", cause)
}

#[cfg(test)]
mod tests;
