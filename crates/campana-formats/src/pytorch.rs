//! PyTorch's files: a pickle that refers to storages, and the storages; in a
//! zip archive, or one after another.

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read, Seek};

use campana_tensor::{Limits, MemoryBudget};

use crate::archive::{self, Member};
use crate::pickle::{self, Items, Pickle, Storage, Tensor, Value};
use crate::place::{Bytes, Place, element_len};
use crate::source::Source;
use crate::stream::{drain, stream};
use crate::{Error, ErrorKind, Result, TensorEntry};

/// What a file before version 1.6 begins with, as a pickled number.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Characters of a name that take as long to handle as one more value.
const NAME_CHARS: usize = 16;

/// Values that are looked at for tensors, at most: a dict can hold the same
/// dict many times.
const MAX_VISITS: usize = 5_000_000;

/// Keys under which training scripts keep the state dict of the model, beside
/// that of the optimizer and others.
const STATE_DICT_KEYS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// The tensors of a zipped file.
pub(crate) fn read_zip(source: &Source, limits: &Limits) -> Result<Vec<TensorEntry>> {
    let mut budget = MemoryBudget::new(limits, source.len());
    let members = archive::members(source, limits)?;
    let pickled = members
        .iter()
        .find(|member| member.name == "data.pkl" || member.name.ends_with("/data.pkl"))
        .ok_or_else(|| {
            Error::malformed(
                "it is a zip archive without the data.pkl of a PyTorch file; NumPy archives end in .npz",
            )
        })?;
    let prefix = pickled.name.trim_end_matches("data.pkl").to_owned();
    let members: HashMap<&str, &Member> = members
        .iter()
        .map(|member| (member.name.as_str(), member))
        .collect();
    if let Some(order) = members.get(format!("{prefix}byteorder").as_str()) {
        let mut text = String::new();
        let _ = stream(source, order.bytes)
            .take(16)
            .read_to_string(&mut text);
        if text == "big" {
            return Err(Error::unsupported("it was saved on a big-endian machine"));
        }
    }
    if pickled.bytes.len() > budget.left() as u64 {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "its data.pkl unpacks to {} bytes, more than the limit of {} for a file of {} bytes",
                pickled.bytes.len(),
                budget.left(),
                source.len()
            ),
        ));
    }
    let mut pickled = BufReader::new(stream(source, pickled.bytes));
    let pickle = pickle::read(&mut pickled, &mut budget)?;
    drain(&mut pickled).map_err(|cause| Error::read("its data.pkl cannot be read", cause))?;
    entries(&pickle, limits, &mut budget, |key| {
        let name = format!("{prefix}data/{key}");
        members.get(name.as_str()).map(|member| member.bytes)
    })
}

/// The tensors of a file before version 1.6.
pub(crate) fn read_legacy(source: &Source, limits: &Limits) -> Result<Vec<TensorEntry>> {
    let mut budget = MemoryBudget::new(limits, source.len());
    let mut stream = BufReader::new(source.reader(0, source.len()));
    let mut head = [0; 14];
    let is_legacy = stream.read_exact(&mut head).is_ok()
        && head[2] == 0x8a
        && head[3] == 10
        && head[4..] == LEGACY_MAGIC;
    if !is_legacy {
        // A plain pickle; its first foreign name is the best explanation.
        pickle::read(
            &mut BufReader::new(source.reader(0, source.len())),
            &mut budget,
        )?;
        return Err(Error::unsupported(
            "it is a Python pickle, but not one of torch.save; save `model.state_dict()` with torch.save",
        ));
    }
    stream
        .rewind()
        .map_err(|cause| Error::io("cannot read it", cause))?;
    // The magic number, the protocol's number, facts of the machine.
    for _ in 0..3 {
        pickle::read(&mut stream, &mut budget)?;
    }
    let pickle = pickle::read(&mut stream, &mut budget)?;
    let keys = pickle::read(&mut stream, &mut budget)?;
    let Some(Items::List(order)) = keys.items(&keys.value) else {
        return Err(Error::malformed("it has no list of its storages"));
    };
    let lens = storages(&pickle, &mut budget)?;
    let mut places = HashMap::new();
    let mut at = stream
        .stream_position()
        .map_err(|cause| Error::io("cannot read it", cause))?;
    for key in order {
        let Value::Str(key) = key else {
            return Err(Error::malformed("it has a storage without a key"));
        };
        let Some(&len) = lens.get(key.as_ref()) else {
            return Err(Error::malformed(format!(
                "storage '{key}' is used by no tensor, so its length is not known"
            )));
        };
        // The number of elements, then the elements.
        let start = at.checked_add(8);
        let end = start.and_then(|start| start.checked_add(len));
        let (Some(start), Some(end)) = (start, end.filter(|end| *end <= source.len())) else {
            return Err(Error::malformed(format!(
                "storage '{key}' of {len} bytes leaves the file of {} bytes: it is truncated",
                source.len()
            )));
        };
        let bytes = Bytes::Plain {
            start,
            len,
            crc: None,
        };
        budget.take_items::<(String, Bytes)>(1)?;
        budget.take(key.len())?;
        places.insert(key.to_string(), bytes);
        at = end;
    }
    entries(&pickle, limits, &mut budget, |key| places.get(key).copied())
}

/// The length in bytes of every storage that the pickle refers to.
fn storages<'p>(pickle: &'p Pickle, budget: &mut MemoryBudget) -> Result<HashMap<&'p str, u64>> {
    let len = |storage: &Storage| {
        let element_len = storage.element_type.bits().unwrap_or(8) as u64 / 8;
        storage.len.saturating_mul(element_len)
    };
    budget.take_items::<(&str, u64)>(pickle.storages.len())?;
    let storages = pickle.storages.iter();
    Ok(storages
        .map(|storage| (&*storage.key, len(storage)))
        .collect())
}

/// The tensors of a pickle; `find` says where a storage is.
fn entries(
    pickle: &Pickle,
    limits: &Limits,
    budget: &mut MemoryBudget,
    find: impl Fn(&str) -> Option<Bytes>,
) -> Result<Vec<TensorEntry>> {
    let root = state_dict(pickle);
    let mut collector = Collector {
        pickle,
        budget,
        max_depth: limits.depth(),
        tensors: Vec::new(),
        visits: 0,
    };
    collector.collect(root, &mut String::new(), 0)?;
    if collector.tensors.is_empty() {
        return Err(Error::unsupported(
            "it holds no tensors in a dict; save `model.state_dict()` with torch.save",
        ));
    }
    let mut names = HashSet::new();
    collector
        .tensors
        .into_iter()
        .map(|(name, tensor)| {
            if !names.insert(name.clone()) {
                return Err(Error::malformed(format!("tensor '{name}' is there twice")));
            }
            entry(name, tensor, &find)
        })
        .collect()
}

fn entry(
    name: String,
    tensor: &Tensor,
    find: impl Fn(&str) -> Option<Bytes>,
) -> Result<TensorEntry> {
    let storage = &tensor.storage;
    let bytes = find(&storage.key).ok_or_else(|| {
        Error::malformed(format!(
            "tensor '{name}' refers to the storage '{}', which is not there",
            storage.key
        ))
    })?;
    let len = element_len(&name, storage.element_type)?;
    if storage
        .len
        .checked_mul(len)
        .is_none_or(|len| len > bytes.len())
    {
        return Err(Error::malformed(format!(
            "tensor '{name}' refers to a storage of {} elements, but '{}' has only {} bytes",
            storage.len,
            storage.key,
            bytes.len()
        )));
    }
    let place = Place::view(
        &name,
        0,
        bytes,
        tensor.offset,
        storage.element_type,
        &tensor.shape,
        &tensor.strides,
    )?;
    Ok(TensorEntry {
        element_type: storage.element_type,
        type_name: format!("{:?}", storage.element_type).to_ascii_lowercase(),
        len_bytes: tensor.shape.iter().product::<usize>() as u64 * len,
        shape: tensor.shape.clone(),
        place,
        name,
    })
}

/// The dict of the model's tensors: the whole value, or the part under one of
/// the usual keys.
fn state_dict(pickle: &Pickle) -> &Value {
    if let Some(Items::Dict(items)) = pickle.items(&pickle.value) {
        for wanted in STATE_DICT_KEYS {
            let found = items.iter().find(|(key, value)| {
                matches!(key, Value::Str(key) if &**key == wanted)
                    && matches!(pickle.items(value), Some(Items::Dict(items)) if !items.is_empty())
            });
            if let Some((_, value)) = found {
                return value;
            }
        }
    }
    &pickle.value
}

struct Collector<'a, 'b> {
    pickle: &'a Pickle,
    budget: &'b mut MemoryBudget,
    max_depth: usize,
    tensors: Vec<(String, &'a Tensor)>,
    visits: usize,
}

impl<'a> Collector<'a, '_> {
    /// Collects the tensors in a value; nested names are joined by dots.
    fn collect(&mut self, value: &'a Value, name: &mut String, depth: usize) -> Result<()> {
        self.visits += 1 + name.len() / NAME_CHARS;
        if depth > self.max_depth || self.visits > MAX_VISITS {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "its dicts are nested deeper than {}, or hold more than {MAX_VISITS} values",
                    self.max_depth
                ),
            ));
        }
        let pickle = self.pickle;
        if let Value::Tensor(tensor) = value {
            let name = if name.is_empty() {
                "tensor"
            } else {
                name.as_str()
            };
            // Once here, once in the set of names, once as an entry.
            self.budget.take_items::<(String, &Tensor)>(1)?;
            self.budget.take_items::<String>(1)?;
            self.budget.take_items::<TensorEntry>(1)?;
            let shape_len = size_of_val(&*tensor.shape) + size_of_val(&*tensor.strides);
            self.budget.take(2 * name.len() + shape_len)?;
            self.tensors.push((name.to_owned(), tensor));
        }
        match pickle.items(value) {
            Some(Items::Dict(items)) => {
                for (key, value) in items {
                    let key = match key {
                        Value::Str(key) => key.to_string(),
                        Value::Int(key) => key.to_string(),
                        _ => continue,
                    };
                    self.collect_part(&key, value, name, depth)?;
                }
            }
            Some(Items::List(items) | Items::Tuple(items)) => {
                for (index, value) in items.iter().enumerate() {
                    self.collect_part(&index.to_string(), value, name, depth)?;
                }
            }
            None => {}
        }
        Ok(())
    }

    fn collect_part(
        &mut self,
        key: &str,
        value: &'a Value,
        name: &mut String,
        depth: usize,
    ) -> Result<()> {
        let len = name.len();
        if len > 0 {
            name.push('.');
        }
        name.push_str(key);
        self.collect(value, name, depth + 1)?;
        name.truncate(len);
        Ok(())
    }
}
