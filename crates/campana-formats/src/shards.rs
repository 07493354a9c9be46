//! A safetensors model in several files, and the index that lists them.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use crate::source::Source;
use crate::{Error, ErrorKind, Result, TensorEntry, safetensors};

/// Bytes of an index at most.
const MAX_INDEX: u64 = 100_000_000;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files that an index names, and their tensors.
pub(crate) fn read(path: &Path, index: &Source) -> Result<(Vec<Source>, Vec<TensorEntry>)> {
    if index.len() > MAX_INDEX {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("it has {} bytes, more than any index has", index.len()),
        ));
    }
    let mut text = vec![0; index.len() as usize];
    index.read_at(0, &mut text)?;
    let Index { weight_map } = serde_json::from_slice(&text).map_err(|error| {
        Error::malformed(format!(
            "it is no index of a sharded safetensors model, an object with a \"weight_map\": {error}"
        ))
    })?;
    let mut shards: Vec<&String> = weight_map.values().collect();
    shards.sort();
    shards.dedup();
    let (mut sources, mut tensors) = (Vec::new(), Vec::new());
    for shard in shards {
        // An index may come from anywhere; it names files beside itself.
        let plain = Path::new(shard)
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        if !plain || shard.is_empty() {
            return Err(Error::malformed(format!(
                "it names the shard '{shard}', expected a file beside it"
            )));
        }
        let file = path.with_file_name(shard);
        if !file.try_exists().unwrap_or(true) {
            return Err(Error::malformed(format!(
                "it names the shard '{shard}', which is not there ('{}')",
                file.display()
            )));
        }
        let source = Source::open(&file)?;
        let (entries, _) = safetensors::read(&source, sources.len())
            .map_err(|error| error.in_file(source.name()))?;
        let listed = |entry: &TensorEntry| weight_map.get(&entry.name) == Some(shard);
        let before = tensors.len();
        tensors.extend(entries.into_iter().filter(listed));
        let expected = weight_map.values().filter(|name| *name == shard).count();
        if tensors.len() - before != expected {
            let found: Vec<_> = tensors[before..].iter().map(|entry| &entry.name).collect();
            let missing = weight_map
                .iter()
                .find(|(name, file)| *file == shard && !found.contains(name))
                .map_or("", |(name, _)| name);
            return Err(Error::malformed(format!(
                "it says that the tensor '{missing}' is in the shard '{shard}', where it is not"
            )));
        }
        sources.push(source);
    }
    Ok((sources, tensors))
}
