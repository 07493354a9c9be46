//! Files of external data beside an output: written before the model that
//! refers to them, and removed when no model does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use campana_export::{DataFile, OutputModel, Placement, is_same_content};
use campana_onnx::Model;
use campana_tensor::Fingerprint;

use crate::command_files::CommandFiles;
use crate::destination::folder_of;
use crate::error::Context;
use crate::output_file::{OutputFile, Overwrite};
use crate::{Error, ErrorKind, Monitor};

/// The data files of one output, written under temporary names.
pub(crate) struct DataFiles<'a> {
    /// To be moved to their places before the model.
    pub(crate) files: Vec<OutputFile<'a>>,
    /// Digests by planned names.
    pub(crate) digests: BTreeMap<String, u64>,
    /// Bytes of files that are there already.
    pub(crate) len_bytes: u64,
}

impl<'a> DataFiles<'a> {
    /// Writes the data files of a model that goes to `output`; takes them out
    /// of it.
    ///
    /// # Errors
    ///
    /// Where reading or writing fails, another file has a file's name, or
    /// `monitor` says to stop.
    pub(crate) fn write(
        written: &mut OutputModel<'_>,
        output: &Path,
        overwrite: Overwrite,
        files: &CommandFiles,
        monitor: &'a dyn Monitor,
    ) -> Result<Self, Error> {
        let mut all = Self {
            files: Vec::new(),
            digests: BTreeMap::new(),
            len_bytes: 0,
        };
        for data_file in std::mem::take(&mut written.data_files) {
            let path = output.with_file_name(&data_file.location);
            match data_file.planned.clone() {
                Some(planned) => {
                    let file = OutputFile::create_with_folder(&path, overwrite, monitor)?;
                    let (file, digest) = write(data_file, &path, file)?;
                    let name = Placement::name_with_digest(&planned, digest);
                    all.digests.insert(planned, digest);
                    all.add(file, output.with_file_name(name), files)?;
                }
                None if is_same_content(&data_file.origin, &path) => {
                    all.len_bytes += len_bytes(&path);
                }
                None => {
                    files.check_another("the data file", &path)?;
                    let file = OutputFile::create_with_folder(&path, overwrite, monitor)?;
                    all.files.push(write(data_file, &path, file)?.0);
                }
            }
        }
        Ok(all)
    }

    /// Adds a file that was written anew, but for one that is there already.
    fn add(
        &mut self,
        mut file: OutputFile<'a>,
        path: PathBuf,
        files: &CommandFiles,
    ) -> Result<(), Error> {
        file.complete()?;
        let is_known = self.files.iter().any(|other| other.path() == Some(&path));
        if is_known {
            return Ok(());
        }
        if is_same_content(file.temporary_path(), &path) {
            self.len_bytes += len_bytes(&path);
            return Ok(());
        }
        files.check_another("the data file", &path)?;
        self.files.push(file.renamed(path)?);
        Ok(())
    }
}

fn write<'a>(
    data_file: DataFile<'_>,
    path: &Path,
    file: OutputFile<'a>,
) -> Result<(OutputFile<'a>, u64), Error> {
    let mut digesting = Digesting {
        file,
        fingerprint: Fingerprint::default(),
    };
    data_file
        .write(&mut digesting)
        .context(|| format!("cannot write '{}'", path.display()))?;
    Ok((digesting.file, digesting.fingerprint.value()))
}

/// A file and the digest of what was written to it.
struct Digesting<W> {
    file: W,
    fingerprint: Fingerprint,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.fingerprint.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An error where a model with data beside it goes to the standard output, or
/// through a link to another folder, where its data would not be found.
pub(crate) fn check_place(output: &Path, file: &OutputFile<'_>) -> Result<(), Error> {
    let refuse = |reason: &str| {
        let message = format!(
            "the model keeps data in files beside it, and '{}' {reason}",
            output.display()
        );
        Err(Error::new(ErrorKind::InvalidArgument, message))
    };
    let Some(end) = file.path() else {
        return refuse("is the standard output; name a file");
    };
    let canonical = |path: &Path| folder_of(path).canonicalize().ok();
    if canonical(output) != canonical(end) {
        return refuse("is a link into another folder; name the file itself");
    }
    Ok(())
}

/// The data files that an output which is to be replaced refers to, as far as
/// they were written for it: their names have the digests of their contents.
pub(crate) struct OldData {
    output: PathBuf,
    files: BTreeSet<PathBuf>,
}

impl OldData {
    /// Of the model that is at `output` now, if any.
    pub(crate) fn of(output: &Path) -> Self {
        let placement = Placement::of(output, output);
        let has_digest = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let named = placement.digest_in(&name);
            named.is_some() && named == digest(path)
        };
        Self {
            output: output.to_owned(),
            files: Model::open(output)
                .map(|model| references(&model))
                .unwrap_or_default()
                .into_iter()
                .filter(has_digest)
                .collect(),
        }
    }

    /// Removes those that no model of the folder refers to any more. Failing
    /// is no error: the files take room, nothing else.
    pub(crate) fn remove_unused(mut self, monitor: &dyn Monitor) {
        if self.files.is_empty() {
            return;
        }
        let Ok(entries) = std::fs::read_dir(folder_of(&self.output)) else {
            return;
        };
        for entry in entries {
            // What cannot be looked at may refer to any of them.
            let Ok(entry) = entry else { return };
            let path = entry.path();
            // A copy of a model may have any name.
            if self.files.contains(&path) || !path.is_file() {
                continue;
            }
            let is_model = path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
            match Model::open(&path) {
                Ok(model) => {
                    let used = references(&model);
                    self.files.retain(|file| !used.contains(file));
                }
                Err(_) if is_model => return,
                Err(_) => {}
            }
        }
        for file in self.files {
            let _ = monitor.file_system().remove(&file);
        }
    }
}

/// The files that a model's data are in, by their full paths.
fn references(model: &Model) -> BTreeSet<PathBuf> {
    let tensors = model.tensors();
    let files = tensors
        .iter()
        .filter_map(|tensor| model.external_path(tensor).ok().flatten());
    files.collect()
}

fn digest(path: &Path) -> Option<u64> {
    let mut digesting = Digesting {
        file: io::sink(),
        fingerprint: Fingerprint::default(),
    };
    io::copy(&mut std::fs::File::open(path).ok()?, &mut digesting).ok()?;
    Some(digesting.fingerprint.value())
}

fn len_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
