//! Tensors whose elements are in files beside the model.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::proto::{DataLocation, ExternalData, TensorProto};
use crate::source::Span;
use crate::{Error, ErrorKind, Result, Source};

/// Finds and opens the files that hold external data; each is opened once.
///
/// A model must not make its reader open just any file: a location that leaves
/// the model's folder, by its form or through a symbolic link, is refused.
#[derive(Debug)]
pub(crate) struct ExternalFiles {
    folder: Option<PathBuf>,
    open: Mutex<HashMap<String, Source>>,
}

impl ExternalFiles {
    /// For a model that is in no folder.
    pub(crate) fn none() -> Self {
        Self {
            folder: None,
            open: Mutex::default(),
        }
    }

    pub(crate) fn beside(folder: PathBuf) -> Self {
        Self {
            folder: Some(folder),
            open: Mutex::default(),
        }
    }

    /// The file and the range that hold `len` bytes of elements.
    pub(crate) fn find(&self, external: &ExternalData, len: u64) -> Result<(Source, Span)> {
        let ExternalData {
            location, offset, ..
        } = external;
        if let Some(length) = external.length
            && length != len
        {
            return Err(refuse(format!(
                "its length in {location:?} is given as {length} bytes, but its shape and type \
                 take {len}; the model was written wrongly, export it again"
            )));
        }
        let source = self.source(external)?;
        let end = offset.checked_add(len);
        let Some(end) = end.filter(|&end| end <= source.len()) else {
            return Err(refuse(format!(
                "it should take {len} bytes from byte {offset} on of {location:?}, which has {} \
                 bytes; is it complete, and of the same export?",
                source.len()
            )));
        };
        let span = Span {
            start: *offset,
            end,
        };
        Ok((source, span))
    }

    /// The lengths of the files that hold these tensors; those that cannot be
    /// found count for nothing.
    pub(crate) fn lens(&self, tensors: &[&TensorProto]) -> Vec<u64> {
        let mut seen = HashSet::new();
        let mut lens = Vec::new();
        for tensor in tensors {
            if let DataLocation::External(external) = &tensor.data
                && seen.insert(external.location.as_str())
                && let Ok(source) = self.source(external)
            {
                lens.push(source.len());
            }
        }
        lens
    }

    /// The checked path of a file, canonical.
    pub(crate) fn path(&self, external: &ExternalData) -> Result<PathBuf> {
        let location = &external.location;
        let Some(folder) = &self.folder else {
            return Err(refuse(format!(
                "its elements are in {location:?}, but the model was not read from a folder"
            )));
        };
        if location.is_empty() {
            return Err(refuse(
                "its elements are said to be in another file, but no file is named; export the \
                 model again"
                    .to_owned(),
            ));
        }
        let relative = Path::new(location);
        let is_plain =
            |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if !relative.components().all(is_plain) {
            return Err(refuse(format!(
                "its file {location:?} is outside the model's folder, which is not allowed; put \
                 the file beside the model and export it with a relative path"
            )));
        }
        let joined = folder.join(relative);
        let canonical = |path: &Path| {
            path.canonicalize().map_err(|cause| {
                let message = format!(
                    "its file {} cannot be found; keep it beside the model",
                    path.display()
                );
                refuse(message).caused_by(cause)
            })
        };
        let path = canonical(&joined)?;
        if !path.starts_with(canonical(folder)?) {
            return Err(refuse(format!(
                "its file {} is a link to {}, outside the model's folder, which is not allowed; \
                 copy the file itself beside the model",
                joined.display(),
                path.display()
            )));
        }
        Ok(path)
    }

    fn source(&self, external: &ExternalData) -> Result<Source> {
        let location = &external.location;
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = lock().get(location) {
            return Ok(source.clone());
        }
        let path = self.path(external)?;
        let source = Source::open(path).map_err(|error| {
            let message = format!("its file {location:?} cannot be read");
            refuse(message).caused_by(std::io::Error::other(error))
        })?;
        lock().insert(location.clone(), source.clone());
        Ok(source)
    }
}

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::ExternalData, message)
}
